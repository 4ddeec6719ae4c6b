//! Why the proxy did not start.

use std::io;
use std::path::PathBuf;

use crate::config::ConfigErrors;
use crate::telemetry::MetricsError;

/// Why the proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port could not be listened on.
    #[error("cannot listen on {address} ({key}): {source}; {remedy}")]
    Listen {
        /// The setting of the address.
        key: &'static str,
        /// The address.
        address: String,
        /// The kernel's error.
        source: io::Error,
        /// What to do.
        remedy: String,
    },
    /// A file that is not an abandoned socket is in the place of the socket.
    #[error(
        "cannot listen on {} (listen.unix): {kind} is there, and only a socket that nobody listens on any more is \
         taken over; remove it, or name another path",
        .path.display()
    )]
    Occupied {
        /// The path of the socket.
        path: PathBuf,
        /// The kind of the file.
        kind: &'static str,
    },
    /// Something that the configuration names cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The metrics could not be declared.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

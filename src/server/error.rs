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
        /// The key that says so.
        key: &'static str,
        /// Where.
        address: String,
        /// What the kernel says.
        source: io::Error,
        /// What to do.
        remedy: String,
    },
    /// Something else is where the socket would be, and is nothing to be removed unasked.
    #[error(
        "cannot listen on {} (listen.unix): {kind} is there, and only a socket that nobody listens on any more is \
         taken over; remove it, or name another path",
        .path.display()
    )]
    Occupied {
        /// Where.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Something that the configuration names cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The metrics could not be declared.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

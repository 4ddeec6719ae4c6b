//! Why a configuration cannot be put to use.

use crate::admission::AuthError;
use crate::config::ConfigErrors;
use crate::net::tls::TlsError;

/// Something that settings name cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A certificate or key of either hop.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A key of `policy.auth`.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

impl From<SnapshotError> for ConfigErrors {
    fn from(error: SnapshotError) -> Self {
        Self::unusable("", error.to_string())
    }
}

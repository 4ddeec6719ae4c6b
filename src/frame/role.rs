//! The two ends of a connection.

use super::masking;

/// One of the two ends of a connection: whose frames these are, or which end we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Its frames must be masked (RFC 6455 §5.1).
    Client,
    /// Its frames must not be.
    Server,
}

impl Role {
    /// The masking key for the next frame that this end sends.
    pub(crate) fn masking_key(self) -> Option<[u8; 4]> {
        match self {
            Self::Client => Some(masking::new_key()),
            Self::Server => None,
        }
    }
}

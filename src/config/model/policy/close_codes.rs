//! Close codes for what the proxy itself ends.

/// `policy.close_codes`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseCodes {
    /// There is no room.
    pub capacity: u16,
    /// Too many handshakes.
    pub rate: u16,
    /// No credentials, wrong ones, or a foreign page.
    pub unauthorized: u16,
    /// The token's time is over.
    pub expired: u16,
    /// The server went away under a living client.
    pub upstream_lost: u16,
    /// The client did not read.
    pub slow_consumer: u16,
    /// The idle timeout passed.
    pub idle: u16,
}

//! How clients are let go at the end.

use std::time::Duration;

/// `drain`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drain {
    /// Not ready, still accepting.
    pub delay: Duration,
    /// Closes are spread evenly over this.
    pub spread: Duration,
    /// From the signal: then whatever is left is cut.
    pub timeout: Duration,
    /// Close code of a drain.
    pub close_code: u16,
}

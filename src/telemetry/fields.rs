//! How values are written into the fields of log lines.

use std::net::SocketAddr;

use tracing::field::{DisplayValue, display};

/// An address, without its port where that is not known (0).
pub(crate) fn client_address(address: SocketAddr) -> DisplayValue<Box<dyn std::fmt::Display>> {
    display(if address.port() == 0 { Box::new(address.ip()) } else { Box::new(address) })
}

/// A count as the field of a line, which has no such field if the count is 0.
pub(crate) fn nonzero(count: u64) -> Option<u64> {
    Some(count).filter(|count| *count > 0)
}

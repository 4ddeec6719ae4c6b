//! How values stand in the fields of log lines.

use std::net::SocketAddr;

use tracing::field::{DisplayValue, display};

/// An address whose port nobody told stands without one.
pub(crate) fn shown(address: SocketAddr) -> DisplayValue<Box<dyn std::fmt::Display>> {
    display(if address.port() == 0 { Box::new(address.ip()) } else { Box::new(address) })
}

/// A count as the field of a line: none has no field.
pub(crate) fn some(count: u64) -> Option<u64> {
    Some(count).filter(|count| *count > 0)
}

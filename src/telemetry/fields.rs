//! How values are written into the fields of log lines.

use std::fmt::{self, Display};
use std::net::SocketAddr;

use tracing::field::{DisplayValue, display};

use super::text::{Decimal, DottedQuad};

/// An address, without its port where that is not known (0).
pub(crate) fn client_address(address: SocketAddr) -> DisplayValue<ClientAddress> {
    display(ClientAddress(address))
}

/// Shows an address as `std` does; made by [`client_address`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(SocketAddr);

impl Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ip, port) = match self.0 {
            SocketAddr::V4(address) => (*address.ip(), address.port()),
            SocketAddr::V6(address) if address.port() == 0 => return Display::fmt(address.ip(), f),
            SocketAddr::V6(address) => return Display::fmt(&address, f),
        };
        // Every line of a connection has one; `std` would write it in eight pieces.
        let quad = DottedQuad::of(ip);
        if port == 0 {
            return f.pad(quad.as_str());
        }
        let mut text = String::with_capacity("255.255.255.255:65535".len());
        text.push_str(quad.as_str());
        text.push(':');
        text.push_str(Decimal::of(port.into()).as_str());
        f.pad(&text)
    }
}

/// A count as the field of a line, which has no such field if the count is 0.
pub(crate) fn nonzero(count: u64) -> Option<u64> {
    Some(count).filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_std_shows_it_and_without_a_port_that_is_not_known() {
        for text in [
            "0.0.0.0:1",
            "127.0.0.1:65535",
            "255.255.255.255:10000",
            "10.1.20.100:9",
            "[::1]:80",
            "[::ffff:1.2.3.4]:5",
            "[fe80::1%7]:443",
        ] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(ClientAddress(address).to_string(), text);
            assert_eq!(format!("{:?}", client_address(address)), text);
            assert_eq!(format!("{:>50}", ClientAddress(address)), format!("{address:>50}"));
            let mut unknown = address;
            unknown.set_port(0);
            assert_eq!(ClientAddress(unknown).to_string(), address.ip().to_string());
        }
    }
}

//! The client of a request, and the address that limits count it by.

use std::net::{IpAddr, SocketAddr};

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// The first address, seen from here, that is not of a trusted proxy. Its port is 0 where no proxy told it. `None`
    /// on a Unix socket.
    pub address: Option<SocketAddr>,
}

impl Client {
    /// The key that limits count by: IPv6 addresses by their /64, since a client that has one address there has all of them.
    pub(crate) fn key(&self) -> AddressKey {
        AddressKey::of(self.address.map(|address| address.ip()))
    }
}

/// An address as limits distinguish them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AddressKey(u64);

impl AddressKey {
    fn of(ip: Option<IpAddr>) -> Self {
        // No address is assigned out of 0::/8 (RFC 4291 §2.4), so that IPv4 has room there.
        match ip.map(|ip| ip.to_canonical()) {
            None => Self(0),
            Some(IpAddr::V4(ip)) => Self(1 << 32 | u64::from(ip.to_bits())),
            Some(IpAddr::V6(ip)) => Self((ip.to_bits() >> 64) as u64),
        }
    }
}

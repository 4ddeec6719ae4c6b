//! Whose statement of the client's address is believed.

use std::net::IpAddr;

use ipnet::IpNet;

/// `trusted_proxies`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// CIDRs, those of the words `private` and `loopback` written out. IPv4 networks stand as IPv4.
    pub nets: Vec<IpNet>,
    /// Whether whoever comes over a Unix socket is trusted: `loopback` says so.
    pub unix: bool,
}

impl TrustedProxies {
    /// Whether `peer` is one of them; `None` is a peer on a Unix socket.
    pub fn contains(&self, peer: Option<IpAddr>) -> bool {
        match peer.map(|ip| ip.to_canonical()) {
            Some(ip) => self.nets.iter().any(|net| net.contains(&ip)),
            None => self.unix,
        }
    }
}

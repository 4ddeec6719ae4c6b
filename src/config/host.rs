//! Hosts, as settings and requests name them, and as they are compared. Pure.

use std::net::IpAddr;

/// Whom a request is for: one name or address, however it is spelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// In lower case and without the root's dot (RFC 9110 §4.2.3, RFC 1034 §3.1).
    Name(String),
    /// In brackets or not, and as IPv4 where it is a mapped one.
    Address(IpAddr),
}

impl Host {
    /// Reads a host that has no port ([`without_port`]).
    pub(crate) fn read(host: &str) -> Self {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(address) => Self::Address(address.to_canonical()),
            Err(_) => Self::Name(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()),
        }
    }
}

/// What a `Host` header says, without its port.
pub(crate) fn without_port(host: &str) -> &str {
    // The colons of an IPv6 address stand inside brackets.
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_not_part_of_a_host() {
        for (host, name) in [
            ("a:80", "a"),
            ("a:", "a"),
            ("a", "a"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("a:b", "a:b"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }

    #[test]
    fn a_host_is_the_same_however_it_is_spelled() {
        for (one, other, is_same) in [
            ("ws.example.com", "WS.Example.COM", true),
            ("ws.example.com", "ws.example.com.", true),
            ("ws.example.com", "ws.example.com..", false),
            ("ws.example.com", "s.example.com", false),
            ("[::1]", "[0:0:0:0:0:0:0:1]", true),
            ("[::1]", "::1", true),
            ("[FE80::1]", "[fe80::1]", true),
            ("[::ffff:10.0.0.1]", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("", ".", true),
        ] {
            assert_eq!(Host::read(one) == Host::read(other), is_same, "{one} {other}");
        }
    }
}

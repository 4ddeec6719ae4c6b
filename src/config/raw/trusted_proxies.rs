//! `trusted_proxies`: who may speak for a client.

use ipnet::{IpNet, Ipv4Net};

use crate::config::error::quoted;
use crate::config::model::TrustedProxies;
use crate::config::problems::Problems;
use crate::config::raw::values::list::List;
use crate::config::raw::values::scalar::Scalar;

/// Every request is compared with each of them.
const MAX_ENTRIES: usize = 256;

/// The networks of `private`: no public address is in them. Shared address space (RFC 6598) is among them because
/// clouds put their load balancers and pods there.
const PRIVATE: [&str; 7] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
];

const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// Checks `trusted_proxies`.
pub(crate) fn validate(List(given): List<String>, problems: &mut Problems) -> TrustedProxies {
    const KEY: &str = "trusted_proxies";
    if given.len() > MAX_ENTRIES {
        problems.refuse(KEY, format!("{} entries", given.len()), format!("at most {MAX_ENTRIES}"));
    }
    let mut trusted = TrustedProxies::default();
    for (index, Scalar(text)) in given.into_iter().enumerate() {
        match text.as_str() {
            "private" => trusted.nets.extend(PRIVATE.into_iter().filter_map(network)),
            "loopback" => {
                trusted.unix = true;
                trusted.nets.extend(LOOPBACK.into_iter().filter_map(network));
            }
            other => match network(other) {
                Some(net) => trusted.nets.push(net),
                None => {
                    let accepted =
                        "an address, a network such as 10.1.0.0/16, or the word private or loopback";
                    problems.within_item(KEY, index, |problems| problems.refuse("", quoted(other), accepted));
                }
            },
        }
    }
    trusted
}

/// Reads a network or a single address. Addresses that are mapped from IPv4 become IPv4, as those of peers do.
fn network(text: &str) -> Option<IpNet> {
    let net: IpNet =
        text.parse().ok().or_else(|| Some(IpNet::from(text.parse::<std::net::IpAddr>().ok()?)))?;
    let net = match net {
        IpNet::V6(v6) => match (v6.network().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
            (Some(v4), Some(length)) => Ipv4Net::new(v4, length).map(IpNet::V4).ok()?,
            _ => net,
        },
        IpNet::V4(_) => net,
    };
    Some(net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_those_mapped_from_ipv4_are_ipv4() {
        for (text, expected) in [
            ("10.1.2.3", Some("10.1.2.3/32")),
            ("10.1.2.3/8", Some("10.0.0.0/8")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("2001:db8::1", Some("2001:db8::1/128")),
            ("2001:db8:1:2::/32", Some("2001:db8::/32")),
            ("::ffff:10.1.2.3", Some("10.1.2.3/32")),
            ("::ffff:10.0.0.0/104", Some("10.0.0.0/8")),
            ("::ffff:0:0/96", Some("0.0.0.0/0")),
            ("::/0", Some("::/0")),
            ("::ffff:0:0/95", Some("::fffe:0:0/95")),
            ("10.0.0.0/33", None),
            ("10.0.0", None),
            ("10.0.0.0/", None),
            ("fe80::1%eth0", None),
            ("proxy.internal", None),
            ("", None),
        ] {
            assert_eq!(network(text).map(|net| net.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn every_network_behind_a_word_is_one() {
        assert!(PRIVATE.into_iter().chain(LOOPBACK).all(|text| network(text).is_some()));
    }
}

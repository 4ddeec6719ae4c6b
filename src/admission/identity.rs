//! Determines the client of a request: the peer, or the client that a trusted proxy names ([`super::forwarded`]).
//!
//! The hint below is for one mistake that nearly every operator makes once: behind an ingress that is not configured
//! as trusted, all clients have the ingress' address, and limits of one address hit all of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use http::header::{self, HeaderMap};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tracing::warn;

use super::address::Client;
use super::check::Check;
use super::context::{RequestContext, User};
use super::forwarded;
use super::refused::Refused;
use crate::config::TrustedProxies;
use crate::net::http::X_FORWARDED_FOR;

/// Whether the hint was logged. Static, so that it is not logged again after a reload.
static HINTED: AtomicBool = AtomicBool::new(false);

/// Networks of ingresses and load balancers. Loopback is not among them: a peer on this machine that sends such headers is
/// a test or a tool.
const PRIVATE: [IpNet; 5] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7)),
];

/// Finds the client behind proxies that are trusted.
#[derive(Debug)]
pub(super) struct Identity {
    trusted: Arc<TrustedProxies>,
    hinted: &'static AtomicBool,
}

impl Identity {
    pub(super) fn new(trusted: Arc<TrustedProxies>) -> Self {
        Self { trusted, hinted: &HINTED }
    }

    fn hint(&self, headers: &HeaderMap, peer: Option<IpAddr>) {
        // One load for each request of a peer that is not trusted; the rest only until the hint was given.
        if self.hinted.load(Relaxed) {
            return;
        }
        let claim = [X_FORWARDED_FOR, header::FORWARDED];
        let claim = claim.into_iter().find(|name| headers.contains_key(name));
        if let (Some(name), Some(network)) = (claim, peer.and_then(private))
            && !self.hinted.swap(true, Relaxed)
        {
            warn!(
                peer_network = %network,
                header = %name,
                "a peer in a private network says whom it asks for, and is not believed: all its clients count as \
                 one. If it is your ingress or load balancer, name its network in trusted_proxies (or say \
                 `private`). This is said once."
            );
        }
    }
}

impl Check for Identity {
    async fn check(&self, context: &mut RequestContext) -> Result<(), Refused> {
        let peer = context.peer.address;
        let ip = peer.map(|address| address.ip());
        if self.trusted.contains(ip) {
            let (address, forwarding) = forwarded::read(&context.head.headers, peer, &self.trusted);
            context.client = Client { address };
            context.forwarding = Some(Box::new(forwarding));
        } else {
            context.client = Client { address: peer };
            self.hint(&context.head.headers, ip);
        }
        context.log_fields.set_client(&context.client);
        context.user = context.peer.subject.clone().map(|name| User { name, expires: None });
        Ok(())
    }
}

/// The private network that `ip` is in.
fn private(ip: IpAddr) -> Option<IpNet> {
    let ip = ip.to_canonical();
    PRIVATE.into_iter().find(|net| net.contains(&ip))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::net::SocketAddr;

    use http::Request;
    use parking_lot::Mutex;

    use super::super::context::Kind;
    use super::*;
    use crate::net::Peer;

    fn context(peer: Peer, headers: &[(&str, &str)]) -> RequestContext {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        RequestContext::new(request.body(()).unwrap().into_parts().0, Kind::Handshake, Arc::new(peer))
    }

    fn peer(address: &str) -> Peer {
        Peer { address: address.parse().ok(), ..Peer::default() }
    }

    fn identity(nets: &[&str], unix: bool) -> Identity {
        let nets = nets.iter().map(|net| net.parse().unwrap()).collect();
        let hinted = Box::leak(Box::new(AtomicBool::new(false)));
        Identity { trusted: Arc::new(TrustedProxies { nets, unix }), hinted }
    }

    #[tokio::test]
    async fn only_a_trusted_peer_can_name_somebody_else() {
        // who is trusted, whether a Unix socket is, the peer, and who is found behind it
        type Case<'a> = (&'a [&'a str], bool, &'a str, Option<&'a str>, bool);
        const CASES: &[Case<'_>] = &[
            (&[], false, "10.0.0.1:1", Some("10.0.0.1:1"), false),
            (&["10.0.0.0/8"], false, "10.0.0.1:1", Some("203.0.113.7:0"), true),
            (&["10.0.0.0/8"], false, "[::ffff:10.0.0.1]:1", Some("203.0.113.7:0"), true),
            (&["10.0.0.0/8"], false, "11.0.0.1:1", Some("11.0.0.1:1"), false),
            (&["10.0.0.1/32"], false, "10.0.0.2:1", Some("10.0.0.2:1"), false),
            (&["fd00::/8"], false, "[fd00::1]:1", Some("203.0.113.7:0"), true),
            (&["fd00::/8"], false, "[fe00::1]:1", Some("[fe00::1]:1"), false),
            (&["0.0.0.0/0"], false, "[2001:db8::1]:1", Some("[2001:db8::1]:1"), false),
            (&[], true, "a Unix socket", Some("203.0.113.7:0"), true),
            (&["0.0.0.0/0", "::/0"], false, "a Unix socket", None, false),
        ];
        for (nets, unix, from, client, is_forwarded) in CASES {
            let mut context = context(peer(from), &[("x-forwarded-for", "198.51.100.9, 203.0.113.7")]);
            identity(nets, *unix).check(&mut context).await.unwrap();
            let expected: Option<SocketAddr> = client.map(|client| client.parse().unwrap());
            assert_eq!(context.client, Client { address: expected }, "{nets:?} {from}");
            assert_eq!(context.forwarding.is_some(), *is_forwarded, "{nets:?} {from}");
        }
    }

    #[tokio::test]
    async fn a_verified_certificate_names_the_user() {
        let mut context = context(Peer { subject: Some("CN=alice".into()), ..peer("10.0.0.1:1") }, &[]);
        identity(&[], false).check(&mut context).await.unwrap();
        assert_eq!(context.user, Some(User { name: "CN=alice".into(), expires: None }));
    }

    #[test]
    fn private_networks_are_those_of_ingresses() {
        const CASES: &[(&str, Option<&str>)] = &[
            ("10.255.0.1", Some("10.0.0.0/8")),
            ("172.16.0.1", Some("172.16.0.0/12")),
            ("172.31.255.255", Some("172.16.0.0/12")),
            ("172.32.0.1", None),
            ("192.168.1.1", Some("192.168.0.0/16")),
            ("100.64.0.1", Some("100.64.0.0/10")),
            ("100.128.0.1", None),
            ("::ffff:10.0.0.1", Some("10.0.0.0/8")),
            ("fd12::1", Some("fc00::/7")),
            ("fe80::1", None),
            ("127.0.0.1", None),
            ("::1", None),
            ("203.0.113.7", None),
        ];
        for (ip, net) in CASES {
            let found = private(ip.parse().unwrap()).map(|net| net.to_string());
            assert_eq!(found.as_deref(), *net, "{ip}");
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_usual_misconfiguration_is_told_once() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let identity = identity(&["192.168.0.0/16"], false);
        let quiet = [
            context(peer("203.0.113.7:1"), &[("x-forwarded-for", "198.51.100.9")]),
            context(peer("127.0.0.1:1"), &[("x-forwarded-for", "198.51.100.9")]),
            context(peer("192.168.0.1:1"), &[("x-forwarded-for", "198.51.100.9")]),
            context(peer("10.0.0.1:1"), &[("x-other", "1")]),
            context(peer("a Unix socket"), &[("forwarded", "for=198.51.100.9")]),
        ];
        for mut context in quiet {
            identity.check(&mut context).await.unwrap();
        }
        assert_eq!(lines.0.lock().as_slice(), b"");
        for from in ["10.0.0.1:1", "10.0.0.1:1", "172.16.3.4:5"] {
            identity.check(&mut context(peer(from), &[("forwarded", "for=198.51.100.9")])).await.unwrap();
        }
        let told = String::from_utf8(lines.0.lock().clone()).unwrap();
        assert_eq!(told.lines().count(), 1, "{told}");
        for word in ["WARN", "trusted_proxies", "peer_network=10.0.0.0/8", "header=forwarded"] {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert!(!told.contains("198.51.100.9"), "what it said is not believed: {told}");
    }
}

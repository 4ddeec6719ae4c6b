//! TLS on either hop: who gets in, what passes, how it ends, and what goes wrong in words.

use std::sync::Arc;
use std::time::Duration;

use crate::support::DEADLINE;
use crate::support::client::RawClient;
use crate::support::link::{Closed, End};
use crate::support::logged::Logged;
use crate::support::pair::Pair;
use crate::support::proxy::Proxy;
use crate::support::tls::{self, Authority, Pem};
use crate::support::upstream::Upstream;
use crate::support::wait::eventually;
use crate::support::wire::{self, Frame};
use outrigger::config::{ClientCertificates, ListenTls, TlsVersion, UpstreamTls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{HandshakeKind, ProtocolVersion, ServerConfig, SupportedProtocolVersion};

const BOTH: [(bool, bool); 3] = [(true, false), (false, true), (true, true)];

fn same(dial: crate::support::client::Dial) -> crate::support::client::Dial {
    dial
}

/// What an ending was, without what came before.
fn said(closed: &Closed) -> (u16, &str, End) {
    (closed.code, &closed.reason, closed.then)
}

async fn failures(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metric(&format!("outrigger_tls_handshake_failures_total{{reason=\"{reason}\"}}")).await
}

#[tokio::test]
async fn frames_pass_over_tls_on_either_hop_and_on_both() {
    for (client, server) in BOTH {
        let mut pair = Pair::secured("", client, server, same).await;
        pair.works().await;
        for size in [0, 1, 125, 126, 16 * 1024 - 10, 16 * 1024 + 10, 70_000, 1 << 20] {
            let payload = Vec::from_iter((0..size).map(|at| (at / 7) as u8));
            pair.client.send_frame(&Frame::binary(&payload)).await;
            assert_eq!(pair.server.next_frame().await.payload, payload, "{size} up, {client} {server}");
            pair.server.send_frame(&Frame::binary(&payload)).await;
            assert_eq!(pair.client.next_frame().await.payload, payload, "{size} down, {client} {server}");
        }
        pair.client.send_frame(&Frame::text("in ").not_final()).await;
        pair.client.send_frame(&Frame::new(wire::CONTINUATION, b"pieces")).await;
        assert_eq!(pair.server.next_frame().await.payload, b"in ");
        assert_eq!(pair.server.next_frame().await.payload, b"pieces");
        // Each byte is a record of its own.
        let frame = Frame::text("byte by byte");
        pair.client.send_in_single_bytes(&frame.encode(wire::Role::Client)).await;
        assert_eq!(pair.server.next_frame().await.payload, b"byte by byte");
        pair.client.send_frame(&Frame::close(1000, "done")).await;
        let closed = pair.server.closed().await;
        assert_eq!(said(&closed), (1000, "done", End::Eof), "an orderly end, {client} {server}");
        assert_eq!(said(&pair.client.closed().await), (1000, "done", End::Eof), "{client} {server}");
        pair.tells("client_close", Some(("client", "1000"))).await;
    }
}

#[tokio::test]
async fn many_messages_at_once_come_whole_and_in_order_both_ways() {
    let mut pair = Pair::secured("", true, true, same).await;
    let size = |at: u32| (at as usize * 997) % 40_000;
    let message = |at: u32| Frame::binary(vec![at as u8; size(at)]);
    let (client, server) = (&mut pair.client, &mut pair.server);
    let up = async {
        for at in 0..300 {
            client.send_frame(&message(at)).await;
        }
        for at in 0..300 {
            assert_eq!(client.next_frame().await.payload, message(at).payload, "{at}");
        }
    };
    let down = async {
        for at in 0..300 {
            let frame = server.next_frame().await;
            assert_eq!(frame.payload, message(at).payload, "{at}");
            server.send_frame(&Frame::binary(frame.payload)).await;
        }
    };
    tokio::join!(up, down);
}

#[tokio::test]
async fn a_client_over_tls_that_does_not_read_is_bounded_and_cut_after_its_time() {
    let yaml = "policy: {heartbeat: null, delivery: {stall_timeout: 1s}}";
    let mut pair = Pair::secured(yaml, true, true, |dial| dial.receive_buffer(16 * 1024)).await;
    pair.client.stop_reading();
    // Most of it is in the kernel's buffers of the server.
    let frame = Frame::binary(vec![7; 16 * 1024]);
    pair.server.fill_until_blocked(&frame, Duration::from_millis(400), 32 << 20).await;
    let buffered = pair.proxy.metric("outrigger_buffered_bytes").await;
    assert!(buffered > 0.0 && buffered < 400.0 * 1024.0, "{buffered} bytes are held");
    pair.tells("slow_consumer", Some(("proxy", "1013"))).await;
}

#[tokio::test]
async fn a_client_over_tls_that_reads_a_little_now_and_then_is_not_cut() {
    let yaml = "policy: {heartbeat: null, delivery: {stall_timeout: 2s}}";
    let mut pair = Pair::secured(yaml, true, false, |dial| dial.receive_buffer(16 * 1024)).await;
    pair.client.stop_reading();
    let frame = Frame::binary(vec![7; 64 * 1024]);
    pair.server.fill_until_blocked(&frame, Duration::from_millis(400), 16 << 20).await;
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(500)).await;
        pair.client.resume_reading();
        pair.client.next_frame().await;
        pair.client.stop_reading();
    }
    assert_eq!(pair.proxy.metric("outrigger_clients{route=\"default\"}").await, 1.0);
}

#[tokio::test]
async fn an_upstream_over_tls_that_does_not_read_is_given_up() {
    let mut pair = Pair::secured("upstream: {stall_timeout: 300ms}", true, true, same).await;
    pair.server.stop_reading();
    let flood = Frame::binary([0; 1000]).encode(wire::Role::Client).repeat(16_000);
    pair.client.send_bytes(&flood).await;
    assert_eq!(said(&pair.client.closed().await), (1012, "upstream lost", End::Eof));
    pair.server.resume_reading();
    assert_eq!(pair.server.discard_to_end().await, End::Reset);
    pair.tells("slow_upstream", Some(("proxy", "1012"))).await;
}

#[tokio::test]
async fn heartbeats_and_the_close_of_a_drain_go_over_tls() {
    let yaml = "policy: {heartbeat: {interval: 200ms, timeout: 5s}}\nupstream: {heartbeat: {interval: 200ms, timeout: 5s}}";
    let mut pair = Pair::secured(yaml, true, true, same).await;
    for link in [&mut *pair.client, &mut *pair.server] {
        let ping = link.next_frame().await;
        assert_eq!(ping.opcode, wire::PING);
        link.send_frame(&Frame::new(wire::PONG, ping.payload)).await;
    }
    eventually(DEADLINE, || async {
        let count = pair.proxy.metric("outrigger_heartbeat_rtt_seconds_count").await;
        if count >= 2.0 { Ok(()) } else { Err(count) }
    })
    .await;
    pair.proxy.drain();
    let (client, server) = tokio::join!(
        async {
            loop {
                let frame = pair.client.next_frame().await;
                if frame.opcode == wire::CLOSE {
                    pair.client.send_frame(&Frame::new(wire::CLOSE, frame.payload.clone())).await;
                    break frame.close_status().0;
                }
            }
        },
        async {
            loop {
                let frame = pair.server.next_frame().await;
                if frame.opcode == wire::CLOSE {
                    break frame.close_status().0;
                }
            }
        },
    );
    assert_eq!((client, server), (1012, 1001));
}

#[tokio::test]
async fn a_client_without_a_pong_is_cut_over_tls() {
    let yaml = "policy: {heartbeat: {interval: 100ms, timeout: 100ms, max_missed: 2}}";
    let mut pair = Pair::secured(yaml, true, false, same).await;
    assert_eq!(pair.server.closed().await.code, 1001);
    pair.tells("heartbeat_timeout", Some(("proxy", "1001"))).await;
}

#[tokio::test]
async fn a_loss_is_a_reset_underneath_tls_too() {
    let mut pair = Pair::secured("", true, true, same).await;
    pair.works().await;
    let Pair { client, mut server, proxy, upstream: _upstream } = pair;
    client.reset();
    assert!(
        matches!(server.discard_to_end().await, End::Eof),
        "a client lost is an orderly end for the server"
    );
    proxy.tells("client_lost", None).await;
}

#[tokio::test]
async fn an_end_without_goodbye_is_a_loss_unless_a_close_was_said() {
    let mut pair = Pair::secured("", true, true, same).await;
    pair.client.finish_without_goodbye().await;
    assert_eq!(said(&pair.server.closed().await), (1006, "", End::Eof));
    pair.tells("client_lost", None).await;

    let mut pair = Pair::secured("", true, true, same).await;
    pair.client.send_frame(&Frame::close(1000, "")).await;
    pair.client.finish_without_goodbye().await;
    assert_eq!(said(&pair.server.closed().await), (1000, "", End::Eof));
    assert_eq!(said(&pair.client.closed_unanswered().await), (1000, "", End::Eof), "it is still answered");
    pair.tells("client_close", Some(("client", "1000"))).await;

    let mut pair = Pair::secured("", true, true, same).await;
    pair.server.finish_without_goodbye().await;
    assert_eq!(said(&pair.client.closed().await), (1012, "upstream lost", End::Eof));
    pair.tells("upstream_lost", Some(("proxy", "1012"))).await;
}

#[tokio::test]
async fn plain_http_goes_over_tls_on_both_hops_and_connections_are_used_again() {
    let upstream = Upstream::builder().tls(tls::server()).spawn().await;
    let proxy = Proxy::to(&upstream).tls(tls::listen()).upstream_tls(tls::upstream()).spawn().await;
    let mut link = proxy.plain().tls(tls::client()).path("/a").connect().await;
    for path in ["/a", "/b"] {
        let request = proxy.plain().path(path).body(vec![b'x'; 100_000]).method("POST").request();
        link.send_bytes(&request).await;
        assert_eq!(link.read_response("POST").await.status(), 200);
    }
    assert_eq!(upstream.requests().len(), 2);
    assert_eq!(upstream.requests()[0].body.len(), 100_000);
    assert_eq!(upstream.accepted(), 1, "the pool's connection was used again");
}

#[tokio::test]
async fn versions_below_the_configured_one_are_refused() {
    let upstream = Upstream::echo().await;
    let mut listen = tls::listen();
    listen.min_version = TlsVersion::V1_3;
    let proxy = Proxy::to(&upstream).tls(listen).spawn().await;
    let old = Authority::known().client(None, &[&TLS12]);
    let refused = proxy.dial().tls(old.clone()).try_connect().await.err().expect("refused").to_string();
    assert!(refused.contains("ProtocolVersion"), "the alert says why: {refused}");
    let new = Authority::known().client(None, &[&TLS13]);
    let client = proxy.dial().tls(new).open().await;
    assert_eq!(client.tls().protocol_version(), Some(ProtocolVersion::TLSv1_3));
    eventually(DEADLINE, || async { failures(&proxy, "protocol").await == 1.0 }).await;

    let proxy = Proxy::to(&upstream).tls(tls::listen()).spawn().await;
    let mut client = proxy.dial().tls(old).open().await;
    assert_eq!(client.tls().protocol_version(), Some(ProtocolVersion::TLSv1_2));
    client.send_frame(&Frame::text("over 1.2")).await;
    assert_eq!(client.next_frame().await.payload, b"over 1.2");
}

#[tokio::test]
async fn client_certificates_are_asked_for_verified_and_told() {
    let upstream = Upstream::echo().await;
    let (mine, foreign) = (Authority::new("mine"), Authority::new("foreign"));
    let known = |identity| Authority::known().client(Some(identity), tls::ANY);
    let (alice, mallory) = (mine.issue(&[], "alice"), foreign.issue(&[], "alice"));
    let without = Authority::known().client(None, tls::ANY);

    let required = Proxy::to(&upstream).tls(tls::listen_for(&mine, true)).spawn().await;
    required.dial().tls(known(&alice)).open().await;
    for (config, what) in [(without.clone(), "none"), (known(&mallory), "foreign")] {
        // In TLS 1.3 a client learns of it when it reads.
        let outcome = async {
            let mut link = required.dial().tls(config).try_connect().await?;
            link.try_send_bytes(&required.dial().request()).await?;
            Ok::<_, std::io::Error>(link.try_read_raw().await)
        };
        let told = match outcome.await {
            Err(error) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(came)) => panic!("{what}: served: {}", came.escape_ascii()),
        };
        assert!(told.contains("ertificate") || told.contains("UnknownCA"), "{what}: {told}");
    }
    eventually(DEADLINE, || async { failures(&required, "certificate").await == 2.0 }).await;
    assert_eq!(upstream.handshakes().len(), 1, "nothing of the others came through");

    let optional = Proxy::to(&upstream).tls(tls::listen_for(&mine, false)).spawn().await;
    optional.dial().tls(without).open().await;
    optional.dial().tls(known(&alice)).open().await;
    let told = optional.dial().tls(known(&mallory)).try_connect().await;
    if let Ok(mut link) = told {
        assert!(link.try_read_raw().await.is_err(), "a foreign certificate is worse than none");
    }
}

#[tokio::test]
async fn without_http_2_only_http_1_is_agreed_upon() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("listen: {http2: false}").tls(tls::listen()).spawn().await;
    let offering = |protocols: &[&str]| {
        let mut config = Authority::known().client(None, tls::ANY);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    };
    let client = proxy.dial().tls(offering(&["h2", "http/1.1"])).open().await;
    assert_eq!(client.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
    let client = proxy.dial().tls(offering(&[])).open().await;
    assert_eq!(client.tls().alpn_protocol(), None);
    let refused = proxy.dial().tls(offering(&["h2"])).try_connect().await;
    assert!(refused.err().expect("refused").to_string().contains("NoApplicationProtocol"));
}

#[tokio::test]
async fn sessions_are_resumed_in_both_versions_and_on_both_hops() {
    let upstream = Upstream::builder().by_hand().tls(tls::server()).spawn().await;
    let proxy = Proxy::to(&upstream).tls(tls::listen()).upstream_tls(tls::upstream()).spawn().await;
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(Authority::known().client(None, &[version]));
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut client = proxy.dial().tls(config.clone()).open().await;
            let mut server = upstream.accept().await;
            server.send_frame(&Frame::text("so that tickets are read")).await;
            client.next_frame().await;
            client.send_frame(&Frame::text("on the other hop too")).await;
            server.next_frame().await;
            let kind = client.tls().handshake_kind().expect("a handshake");
            assert_eq!(kind, expected, "{version:?}");
        }
    }
    let mut client = proxy.dial().tls(tls::client()).open().await;
    let server = upstream.accept().await;
    assert_eq!(server.tls().handshake_kind(), Some(HandshakeKind::Resumed), "towards the upstream");
    client.finish_writing().await;
}

#[tokio::test]
async fn a_server_whose_certificate_is_not_right_is_sent_nothing_and_the_client_told() {
    let stranger = Authority::new("stranger");
    let cases = [
        ("another name", Authority::known().issue(&["other.example"], "u"), tls::upstream()),
        ("another authority", stranger.issue(&["127.0.0.1"], "u"), tls::upstream()),
        (
            "not the name that is wanted",
            Authority::known().issue(&["127.0.0.1"], "u"),
            UpstreamTls { server_name: Some("wanted.example".into()), ..tls::upstream() },
        ),
    ];
    for (what, pem, config) in cases {
        let upstream = Upstream::builder().tls(Authority::server(&pem, None)).spawn().await;
        let proxy = Proxy::to(&upstream).upstream_tls(config).spawn().await;
        let refused = proxy.dial().refused().await;
        assert_eq!(refused.status(), 502, "{what}");
        assert_eq!(refused.header("X-Outrigger-Reason"), Some("upstream_tls"), "{what}");
        let plain = proxy.plain().answer().await.response;
        assert_eq!(
            (plain.status(), plain.header("X-Outrigger-Reason")),
            (502, Some("upstream_tls")),
            "{what}"
        );
        assert_eq!(upstream.handshakes().len() + upstream.requests().len(), 0, "{what}");
        assert_eq!(proxy.metric("outrigger_upstream_errors_total{kind=\"tls\"}").await, 2.0, "{what}");
    }
    // The same ones, where the operator says that any will do, or names what is right.
    for (pem, config) in [
        (stranger.issue(&["other.example"], "u"), UpstreamTls { insecure: true, ..UpstreamTls::default() }),
        (
            Authority::known().issue(&["wanted.example"], "u"),
            UpstreamTls { server_name: Some("wanted.example".into()), ..tls::upstream() },
        ),
    ] {
        let upstream = Upstream::builder().tls(Authority::server(&pem, None)).spawn().await;
        let proxy = Proxy::to(&upstream).upstream_tls(config).spawn().await;
        proxy.dial().open().await;
    }
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_told_apart_and_one_that_says_nothing_is_given_up_in_time() {
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", plain.local_addr().unwrap());
    let proxy = Proxy::to_url(url).upstream_tls(tls::upstream()).spawn().await;
    let serving = async {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    };
    let (refused, _stream) = tokio::join!(proxy.dial().refused(), serving);
    assert_eq!((refused.status(), refused.header("X-Outrigger-Reason")), (502, Some("upstream_tls")));

    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let proxy = Proxy::to_url(url)
        .yaml("upstream: {connect_timeout: 300ms}")
        .upstream_tls(tls::upstream())
        .spawn()
        .await;
    let refused = proxy.dial().refused().await;
    assert_eq!((refused.status(), refused.header("X-Outrigger-Reason")), (504, Some("upstream_timeout")));
}

#[tokio::test]
async fn an_upstream_that_wants_a_certificate_is_shown_ours() {
    let mine = Authority::new("mine");
    let server = Authority::server(&Authority::known().issue(&["127.0.0.1"], "u"), Some(&mine));
    let upstream = Upstream::builder().tls(server).spawn().await;
    let proxy = Proxy::to(&upstream).upstream_tls(tls::upstream()).spawn().await;
    assert_eq!(proxy.dial().refused().await.status(), 502);
    let identity = mine.issue(&[], "the proxy").identity();
    let proxy = Proxy::to(&upstream)
        .upstream_tls(UpstreamTls { identity: Some(identity), ..tls::upstream() })
        .spawn()
        .await;
    proxy.dial().open().await;
    // 2040-01-02, as the support code issues them.
    let expiry =
        proxy.metric("outrigger_tls_certificate_expiry_timestamp_seconds{kind=\"upstream_client\"}").await;
    assert_eq!(expiry, 2_209_075_200.0);
}

#[tokio::test]
async fn the_end_of_our_certificate_is_told() {
    const NAME: &str = "outrigger_tls_certificate_expiry_timestamp_seconds{kind=\"listen\"}";
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).tls(tls::listen()).spawn().await;
    assert_eq!(proxy.metric(NAME).await, 2_209_075_200.0);
    let proxy = Proxy::to(&upstream).spawn().await;
    assert_eq!(proxy.find_metric(NAME).await, None, "there is none");
}

#[tokio::test]
async fn files_that_do_not_fit_are_refused_at_the_start_with_their_names_and_without_their_contents() {
    let upstream = Upstream::echo().await;
    let good = tls::listen();
    let other = Authority::known().issue(&["127.0.0.1"], "other");
    let foreign_key = tls::file("other.key", &other.key);
    let garbage =
        tls::file("garbage.pem", "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n");
    let torn = tls::file("torn.pem", "-----BEGIN PRIVATE KEY-----\nhunter2!\n");
    let empty = tls::file("empty.pem", "");
    let with = |change: &dyn Fn(&mut ListenTls)| {
        let mut listen = good.clone();
        change(&mut listen);
        listen
    };
    let cases = [
        (
            with(&|listen| listen.key = foreign_key.clone()),
            "listen.tls.key_file: the private key in other.key",
        ),
        (with(&|listen| listen.cert = empty.clone()), "listen.tls.cert_file: empty.pem holds no certificate"),
        (
            with(&|listen| listen.cert = good.key.clone()),
            "listen.tls.cert_file: key.pem holds no certificate",
        ),
        (
            with(&|listen| listen.cert = garbage.clone()),
            "listen.tls.cert_file: the certificate in garbage.pem",
        ),
        (
            with(&|listen| listen.key = good.cert.clone()),
            "listen.tls.key_file: cert.pem holds no private key",
        ),
        (with(&|listen| listen.key = torn.clone()), "listen.tls.key_file: the private key in torn.pem"),
        (
            with(&|listen| {
                let ca = ClientCertificates { ca: empty.clone(), required: true };
                listen.clients = Some(ca);
            }),
            "listen.tls.client_ca_file: empty.pem holds no certificate authority",
        ),
    ];
    for (listen, begins) in cases {
        let refused = Proxy::to(&upstream).tls(listen).try_spawn().await.err().expect("refused").to_string();
        assert!(refused.contains(begins), "{begins:?}: {refused}");
        assert!(!refused.contains("hunter2") && !refused.contains("c2Vj"), "{refused}");
    }
    let name = UpstreamTls { server_name: Some("no name".into()), ..tls::upstream() };
    let refused = Proxy::to(&upstream).upstream_tls(name).try_spawn().await.err().expect("refused");
    assert!(refused.to_string().contains("upstream.tls.server_name: \"no name\""), "{refused}");
}

#[tokio::test]
async fn http_in_the_clear_on_the_tls_port_is_answered_in_words() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).tls(tls::listen()).spawn().await;
    let refused = proxy.dial().refused().await;
    assert_eq!((refused.status(), refused.header("X-Outrigger-Reason")), (400, Some("tls_expected")));
    assert!(refused.text().contains("wss://"), "{}", refused.text());
    assert_eq!(failures(&proxy, "plaintext").await, 1.0);
    let mut noise = proxy.plain().connect().await;
    noise.send_bytes(b"\x00\x01\x02\x03\x04\x05\x06\x07").await;
    noise.discard_to_end().await;
    eventually(DEADLINE, || async { failures(&proxy, "protocol").await == 1.0 }).await;
    drop(proxy.plain().connect().await);
    eventually(DEADLINE, || async { failures(&proxy, "lost").await == 1.0 }).await;
}

/// A threat: one peer that is slow with TLS must not make the others wait, and has to go in time.
#[tokio::test]
async fn accept_loop_stall() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("listen: {handshake_timeout: 2s}").tls(tls::listen()).spawn().await;
    let since = Instant::now();
    let mut slow = Vec::new();
    for _ in 0..20 {
        // The beginning of a ClientHello, and then nothing.
        let mut link = proxy.plain().connect().await;
        link.send_bytes(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await;
        slow.push(link);
    }
    // One that takes its time with TLS and then keeps its head to itself: the same clock goes on.
    let mut late = TcpStream::connect(proxy.address()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let mut late = TlsConnector::from(tls::client()).connect(tls::loopback(), &mut late).await.unwrap();
    let asked = Instant::now();
    for _ in 0..10 {
        let mut client = proxy.dial().tls(tls::client()).open().await;
        client.send_frame(&Frame::text("quick")).await;
        assert_eq!(client.next_frame().await.payload, b"quick");
    }
    assert!(asked.elapsed() < Duration::from_secs(1), "ten handshakes took {:?}", asked.elapsed());
    for link in &mut slow {
        link.discard_to_end().await;
    }
    let took = since.elapsed();
    assert!(took > Duration::from_millis(1900) && took < Duration::from_secs(4), "{took:?}");
    assert_eq!(failures(&proxy, "timeout").await, 20.0);
    let mut told = String::new();
    late.read_to_string(&mut told).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 408"), "{told}");
    let took = since.elapsed();
    assert!(took < Duration::from_millis(2900), "counted from accept, not from the end of TLS: {took:?}");
}

#[tokio::test]
async fn a_client_over_tls_that_does_not_read_its_answer_is_given_up() {
    use crate::support::upstream::Plain;
    let body = vec![b'x'; 8 << 20];
    let upstream = Upstream::builder().on_request(Plain::Fixed(200, Vec::new(), body)).spawn().await;
    let proxy =
        Proxy::to(&upstream).yaml("policy: {delivery: {stall_timeout: 1s}}").tls(tls::listen()).spawn().await;
    let mut link = proxy.plain().receive_buffer(16 * 1024).tls(tls::client()).send().await;
    link.stop_reading();
    eventually(DEADLINE, || async { proxy.metric("outrigger_http_connections").await == 0.0 }).await;
}

#[tokio::test]
async fn a_unix_socket_can_have_tls_too() {
    let path = crate::support::files::socket_path();
    let upstream = Upstream::builder()
        .unix()
        .tls(Authority::server(&Authority::known().issue(&["app.example"], "u"), None));
    let upstream = upstream.spawn().await;
    let config = UpstreamTls { server_name: Some("app.example".into()), ..tls::upstream() };
    let proxy = Proxy::to(&upstream)
        .yaml(&format!("listen: {{address: null, unix: \"{}\"}}", path.display()))
        .tls(tls::listen())
        .upstream_tls(config)
        .spawn()
        .await;
    let mut client = RawClient::dial(path).tls(tls::client()).open().await;
    client.send_frame(&Frame::text("round")).await;
    let answer = timeout(DEADLINE, client.next_frame()).await.unwrap();
    assert_eq!(answer.payload, b"round");
    drop(proxy);
}

/// A server that shows this certificate, whether rustls would or not.
fn showing(cert: &str, key: &str, version: &'static SupportedProtocolVersion) -> ServerConfig {
    let provider = Arc::new(default_provider());
    let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let key = provider.key_provider.load_private_key(key).expect("a key of ours");
    let shown = SingleCertAndKey::from(CertifiedKey::new(chain, key));
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown))
}

/// A certificate that signs itself: for these names, with the right to sign others or not, until that year.
fn own(names: &[&str], is_authority: bool, until: i32) -> Pem {
    let names = Vec::from_iter(names.iter().map(|name| (*name).to_owned()));
    let mut params = CertificateParams::new(names).expect("DNS names or addresses");
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(until, 2, 3);
    if is_authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().expect("keys can be made");
    Pem { cert: params.self_signed(&key).expect("a certificate").pem(), key: key.serialize_pem() }
}

/// What `openssl x509 -req` makes by itself, as old devices and old instructions do.
const V1: &str = include_str!("../../tls/x509_v1.pem");

/// Whether the proxy gets through to a server that shows `shown` with `key`; if not, what the log says.
async fn believes(shown: &str, key: &str, config: &UpstreamTls) -> Result<(), String> {
    let mut told = Ok(());
    for version in [&TLS13, &TLS12] {
        let (logged, _logging) = Logged::of_this_thread();
        let upstream = Upstream::builder().tls(showing(shown, key, version)).spawn().await;
        let proxy = Proxy::to(&upstream).upstream_tls(config.clone()).spawn().await;
        let answer = proxy.dial().answer().await;
        let plain = proxy.plain().answer().await.response;
        if answer.response.status() == 101 {
            assert_eq!(plain.status(), 200);
            continue;
        }
        for response in [&answer.response, &plain] {
            let reason = response.header("X-Outrigger-Reason");
            assert_eq!((response.status(), reason), (502, Some("upstream_tls")), "{version:?}");
        }
        let text = logged.text();
        for words in ["InvalidCertificate", "invalid peer certificate", "Context", "CaUsed", "received "] {
            assert!(!text.contains(words), "{words}: {text}");
        }
        told = Err(text);
    }
    told
}

fn pinned(pem: &str) -> UpstreamTls {
    UpstreamTls { ca: Some(tls::file("server.pem", pem)), ..UpstreamTls::default() }
}

#[tokio::test]
async fn a_server_that_shows_the_very_certificate_that_was_named_is_believed() {
    for (what, pem) in [
        ("for this address", own(&["127.0.0.1"], false, 2100)),
        ("with the right to sign others", own(&["127.0.0.1"], true, 2100)),
        ("without a name", own(&[], false, 2100)),
        ("without a name, with the right to sign others", own(&[], true, 2100)),
        ("issued by somebody else", Authority::new("stranger").issue(&["127.0.0.1"], "u")),
        ("of an old form", Pem { cert: V1.into(), key: V1.into() }),
    ] {
        let told = believes(&pem.cert, &pem.key, &pinned(&pem.cert)).await;
        assert_eq!(told, Ok(()), "{what}");
    }
    let named = own(&["app.example"], true, 2100);
    let config = UpstreamTls { server_name: Some("app.example".into()), ..pinned(&named.cert) };
    assert_eq!(believes(&named.cert, &named.key, &config).await, Ok(()));
}

/// A certificate for this name, with this common name too, that is signed with the key of `signer`, which is one of
/// [`own`]: all of these have the same name as subjects.
fn signed_with(signer: &Pem, name: &str) -> Pem {
    let key = KeyPair::from_pem(&signer.key).expect("a key");
    let issuer = Issuer::new(CertificateParams::new(Vec::new()).expect("no names"), key);
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("keys can be made");
    let cert = params.signed_by(&key, &issuer).expect("a certificate");
    Pem { cert: cert.pem(), key: key.serialize_pem() }
}

#[tokio::test]
async fn a_servers_own_certificate_that_was_named_vouches_for_no_other() {
    let (this, other) = (own(&["127.0.0.1"], false, 2100), own(&["other.example"], false, 2100));
    let both = pinned(&format!("{}{}", this.cert, other.cert));
    assert_eq!(believes(&this.cert, &this.key, &both).await, Ok(()));
    let forged = signed_with(&other, "127.0.0.1");
    let told = believes(&forged.cert, &forged.key, &both).await.expect_err("it may sign nothing");
    assert!(told.contains("an authority that is not believed"), "{told}");
    // Who may sign does.
    let authority = own(&["other.example"], true, 2100);
    let issued = signed_with(&authority, "127.0.0.1");
    assert_eq!(believes(&issued.cert, &issued.key, &pinned(&authority.cert)).await, Ok(()));
}

#[tokio::test]
async fn a_clients_own_certificate_that_was_named_lets_it_in_and_vouches_for_no_other() {
    let upstream = Upstream::echo().await;
    let known = |identity: &Pem| Authority::known().client(Some(identity), tls::ANY);
    for is_authority in [false, true] {
        let alice = own(&["alice"], is_authority, 2100);
        let old = own(&["old"], is_authority, 2020);
        let clients = ClientCertificates {
            ca: tls::file("clients.pem", &format!("{}{}", alice.cert, old.cert)),
            required: true,
        };
        let listen = ListenTls { clients: Some(clients), ..tls::listen() };
        let proxy = Proxy::to(&upstream).tls(listen).spawn().await;
        proxy.dial().tls(known(&alice)).open().await;
        let bob = signed_with(&alice, "bob");
        for (what, refused) in [("forged", (!is_authority).then_some(&bob)), ("expired", Some(&old))] {
            let Some(refused) = refused else {
                proxy.dial().tls(known(&bob)).open().await;
                continue;
            };
            // In TLS 1.3 a client learns of it when it reads.
            let outcome = async {
                let mut link = proxy.dial().tls(known(refused)).try_connect().await?;
                link.try_send_bytes(&proxy.dial().request()).await?;
                link.try_read_raw().await
            };
            assert!(outcome.await.is_err(), "{what}: served");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_servers_certificate_is_told_with_what_to_do() {
    let stranger = own(&["127.0.0.1"], false, 2100);
    let elsewhere = own(&["a.example", "b.example"], true, 2100);
    let old = own(&["127.0.0.1"], false, 2020);
    let known = own(&["127.0.0.1"], true, 2100);
    let v1 = Pem { cert: V1.into(), key: V1.into() };
    let cases = [
        (&stranger, &stranger, pinned(&known.cert), "this very certificate if it signs itself"),
        (
            &stranger,
            &stranger,
            UpstreamTls::default(),
            "name that authority's certificate in upstream.tls.ca_file",
        ),
        (
            &elsewhere,
            &elsewhere,
            pinned(&elsewhere.cert),
            "is not for 127.0.0.1 but for a.example, b.example; set upstream.tls.server_name",
        ),
        (&old, &old, pinned(&old.cert), "its certificate has expired on 2020-02-03: renew it"),
        (&v1, &v1, pinned(&known.cert), "(X.509 v1)"),
        // Whoever shows it has to have its key.
        (&known, &stranger, pinned(&known.cert), "what is signed with its certificate does not hold"),
        (&v1, &stranger, pinned(V1), "what is signed with its certificate does not hold"),
    ];
    for (shown, key, config, words) in cases {
        let told = believes(&shown.cert, &key.key, &config).await.expect_err(words);
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[tokio::test]
async fn insecure_takes_any_certificate_and_still_asks_for_its_key() {
    let any = UpstreamTls { insecure: true, ..UpstreamTls::default() };
    let old = own(&["other.example"], true, 2020);
    let v1 = Pem { cert: V1.into(), key: V1.into() };
    for pem in [&old, &v1] {
        assert_eq!(believes(&pem.cert, &pem.key, &any).await, Ok(()));
    }
    let stranger = own(&[], false, 2100);
    for pem in [&old, &v1] {
        let told = believes(&pem.cert, &stranger.key, &any).await.expect_err("it has not the key");
        assert!(told.contains("what is signed with its certificate does not hold"), "{told}");
    }
}

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const PEER: &str = "10.0.0.1:40000";

/// 10/8, fd00::/8 and loopback are proxies of ours.
fn trusted() -> TrustedProxies {
    let nets = ["10.0.0.0/8", "fd00::/8", "127.0.0.0/8", "::1/128"];
    TrustedProxies { nets: nets.iter().map(|net| net.parse().unwrap()).collect(), unix: true }
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn found(pairs: &[(&'static str, &str)]) -> String {
    client(&headers(pairs), PEER.parse().ok(), &trusted()).unwrap().to_string()
}

#[test]
fn x_forwarded_for_is_read_from_the_right_as_far_as_it_is_trusted() {
    // each string is a header; and the client
    const CASES: &[(&[&str], &str)] = &[
        // nothing that could be believed: the peer
        (&[], PEER),
        (&[""], PEER),
        (&[" , ,"], PEER),
        (&["unknown"], PEER),
        (&["_hidden"], PEER),
        (&["example.com"], PEER),
        (&["203.0.113.7, nonsense"], PEER),
        // one entry, in every form
        (&["203.0.113.7"], "203.0.113.7:0"),
        (&["  203.0.113.7\t"], "203.0.113.7:0"),
        (&["203.0.113.7:4711"], "203.0.113.7:4711"),
        (&["203.0.113.7:0"], "203.0.113.7:0"),
        (&["2001:db8::7"], "[2001:db8::7]:0"),
        (&["[2001:db8::7]"], "[2001:db8::7]:0"),
        (&["[2001:db8::7]:4711"], "[2001:db8::7]:4711"),
        (&["2001:DB8::7"], "[2001:db8::7]:0"),
        (&["::ffff:203.0.113.7"], "203.0.113.7:0"),
        (&["[::ffff:203.0.113.7]:4711"], "203.0.113.7:4711"),
        (&["::ffff:cb00:7107"], "203.0.113.7:0"),
        // what looks like one and is none
        (&["203.0.113.7:"], PEER),
        (&["203.0.113.7:65536"], PEER),
        (&["203.0.113.7:+80"], PEER),
        (&["203.0.113.7:http"], PEER),
        (&["203.0.113.7 10.0.0.2"], PEER),
        (&["203.0.113"], PEER),
        (&["203.0.113.007"], PEER),
        (&["0xcb.0.113.7"], PEER),
        (&["3405803783"], PEER),
        (&["[203.0.113.7]"], PEER),
        (&["[2001:db8::7"], PEER),
        (&["2001:db8::7]"], PEER),
        (&["[2001:db8::7]4711"], PEER),
        (&["[2001:db8::7]:"], PEER),
        (&["fe80::1%eth0"], PEER),
        (&["\"203.0.113.7\""], PEER),
        (&["for=203.0.113.7"], PEER),
        (&["203.0.113.7;10.0.0.1"], PEER),
        (&["203.0.113.7\u{e9}"], PEER),
        // what the client says itself stands left of it
        (&["198.51.100.9, 203.0.113.7"], "203.0.113.7:0"),
        (&["10.0.0.9, 203.0.113.7"], "203.0.113.7:0"),
        (&["127.0.0.1, 203.0.113.7"], "203.0.113.7:0"),
        (&["nonsense, 203.0.113.7"], "203.0.113.7:0"),
        (&["\", 203.0.113.7"], "203.0.113.7:0"),
        (&["198.51.100.9", "203.0.113.7"], "203.0.113.7:0"),
        // a row of trusted proxies
        (&["198.51.100.9, 203.0.113.7, 10.0.0.2"], "203.0.113.7:0"),
        (&["198.51.100.9, 203.0.113.7", "10.0.0.2"], "203.0.113.7:0"),
        (&["198.51.100.9", "203.0.113.7, 10.0.0.2, fd00::2, 127.0.0.1"], "203.0.113.7:0"),
        (&["203.0.113.7,,10.0.0.2,"], "203.0.113.7:0"),
        (&["203.0.113.7, ::ffff:10.0.0.2"], "203.0.113.7:0"),
        (&["203.0.113.7, [fd00::2]:443"], "203.0.113.7:0"),
        // all are trusted: the outermost
        (&["10.0.0.3, 10.0.0.2"], "10.0.0.3:0"),
        (&["10.0.0.3:99"], "10.0.0.3:99"),
        // garbage among them: the last that was good
        (&["203.0.113.7, nonsense, 10.0.0.2"], "10.0.0.2:0"),
        (&["203.0.113.7, unknown, 10.0.0.3, 10.0.0.2"], "10.0.0.3:0"),
    ];
    for (values, expected) in CASES {
        let pairs: Vec<_> = values.iter().map(|value| ("x-forwarded-for", *value)).collect();
        assert_eq!(found(&pairs), *expected, "{values:?}");
    }
}

#[test]
fn forwarded_is_read_the_same_way() {
    const CASES: &[(&[&str], &str)] = &[
        (&["for=203.0.113.7"], "203.0.113.7:0"),
        (&["FOR = 203.0.113.7"], "203.0.113.7:0"),
        (&["for=\"203.0.113.7:4711\""], "203.0.113.7:4711"),
        (&["for=\"[2001:db8::1]:4711\""], "[2001:db8::1]:4711"),
        (&["for=\"[2001:db8::1]\""], "[2001:db8::1]:0"),
        (&["for=\"203.0.113.7:_port\""], "203.0.113.7:0"),
        (&["for=\"\\203.0.113.7\""], "203.0.113.7:0"),
        (&["proto=https;for=203.0.113.7;host=\"a,b;for=1.2.3.4\""], "203.0.113.7:0"),
        (&["by=10.0.0.1; for=203.0.113.7 ; proto=http"], "203.0.113.7:0"),
        (&["for=198.51.100.9, for=203.0.113.7"], "203.0.113.7:0"),
        (&["for=203.0.113.7, for=10.0.0.2;host=\"a\\\"b, for=1.2.3.4\""], "203.0.113.7:0"),
        (&["for=203.0.113.7, for=10.0.0.2;host=\"a\\\\\""], "203.0.113.7:0"),
        (&["for=198.51.100.9", "for=203.0.113.7,for=\"[fd00::2]:1\""], "203.0.113.7:0"),
        (&["for=10.0.0.3, for=10.0.0.2"], "10.0.0.3:0"),
        // hidden, missing, twice, or garbage: the last that was good
        (&["for=unknown"], PEER),
        (&["for=_hidden"], PEER),
        (&["for=\"_hidden\""], PEER),
        (&["proto=https"], PEER),
        (&["for=203.0.113.7;for=203.0.113.7"], PEER),
        (&["for=203.0.113.7;FOR=198.51.100.9"], PEER),
        (&["for=\"203.0.113.7"], PEER),
        (&["for=\"203.0.113.7\"x"], PEER),
        (&["for=\"\\"], PEER),
        (&["for"], PEER),
        (&["="], PEER),
        (&["203.0.113.7"], PEER),
        (&["for=203.0.113.7, for=unknown, for=10.0.0.2"], "10.0.0.2:0"),
        // quotes that a client left open on purpose
        (&["for=\", for=203.0.113.7"], "203.0.113.7:0"),
        (&["for=\"x\\, for=203.0.113.7"], "203.0.113.7:0"),
        (&["for=198.51.100.9;host=\", for=203.0.113.7, for=\"10.0.0.2\""], "203.0.113.7:0"),
        (&["for=\"198.51.100.9", "for=203.0.113.7"], "203.0.113.7:0"),
    ];
    for (values, expected) in CASES {
        let pairs: Vec<_> = values.iter().map(|value| ("forwarded", *value)).collect();
        assert_eq!(found(&pairs), *expected, "{values:?}");
    }
}

#[test]
fn x_forwarded_for_counts_where_both_are_there() {
    let both = |x: &str| found(&[("forwarded", "for=198.51.100.9"), ("x-forwarded-for", x)]);
    assert_eq!(both("203.0.113.7"), "203.0.113.7:0");
    assert_eq!(both("nonsense"), PEER, "a header that is there counts, even if it says nothing");
    assert_eq!(both(""), PEER);
    assert_eq!(found(&[("x-real-ip", "203.0.113.7"), ("x-client-ip", "203.0.113.7")]), PEER);
}

#[test]
fn behind_a_unix_socket_there_may_be_nobody_to_name() {
    let named = headers(&[("x-forwarded-for", "203.0.113.7")]);
    assert_eq!(client(&named, None, &trusted()), "203.0.113.7:0".parse().ok());
    assert_eq!(client(&HeaderMap::new(), None, &trusted()), None);
    assert_eq!(client(&headers(&[("x-forwarded-for", "unix:")]), None, &trusted()), None);
}

#[test]
fn a_long_row_of_proxies_is_not_read_to_its_end() {
    let row = |count: usize| format!("203.0.113.7{}", ", 10.9.9.9".repeat(count));
    assert_eq!(found(&[("x-forwarded-for", &row(MAX_ENTRIES - 1))]), "203.0.113.7:0");
    assert_eq!(found(&[("x-forwarded-for", &row(MAX_ENTRIES))]), "10.9.9.9:0");
    let empty = format!("203.0.113.7{}", ",".repeat(100_000));
    assert_eq!(found(&[("x-forwarded-for", &empty)]), PEER, "empty ones are looked at too");
}

proptest! {
    /// Invariant 1: the client cannot change what stands right of it, whatever it sends.
    #[test]
    fn whatever_a_client_says_of_itself_its_address_is_the_one_that_was_seen(said in "[ -~]{0,80}|(, ?(for=)?[1-9][0-9]?(\\.[1-9][0-9]?){3}){1,4}") {
        let own = format!("{said}, 203.0.113.7, 10.0.0.2");
        prop_assert_eq!(found(&[("x-forwarded-for", &own)]), "203.0.113.7:0");
        let own = format!("{said}, for=203.0.113.7;host=\"a,b\\\"c\", for=\"10.0.0.2:80\"");
        prop_assert_eq!(found(&[("forwarded", &own)]), "203.0.113.7:0");
    }

    #[test]
    fn bytes_from_the_wire_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
        for name in ["x-forwarded-for", "forwarded"] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.clone());
            let _ = client(&headers, None, &trusted());
        }
    }
}

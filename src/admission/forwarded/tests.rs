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
    read(&headers(pairs), PEER.parse().ok(), &trusted()).0.unwrap().to_string()
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

/// Scheme, host, port and prefix as they are read.
fn road(pairs: &[(&'static str, &str)]) -> [String; 4] {
    let told = read(&headers(pairs), PEER.parse().ok(), &trusted()).1;
    let text = |value: Option<HeaderValue>| {
        value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    };
    let port = told.port.map_or_else(String::new, |port| port.to_string());
    [text(told.scheme), text(told.host), port, told.prefix.unwrap_or_default().into()]
}

#[test]
fn of_a_value_that_is_given_more_than_once_the_last_counts_and_what_cannot_be_read_is_not_said() {
    const CASES: &[(&str, &[&str], &str)] = &[
        ("proto", &["https"], "https"),
        ("proto", &[" HTTPS\t"], "https"),
        ("proto", &["wss"], "wss"),
        ("proto", &["https, http"], "http"),
        ("proto", &["https", "http"], "http"),
        ("proto", &["http", "https, "], "https"),
        ("proto", &["https, \"http\""], ""),
        ("proto", &["https, on"], "on"),
        ("proto", &[""], ""),
        ("proto", &["1http"], ""),
        ("proto", &["ht tp"], ""),
        ("proto", &["https;x"], ""),
        ("proto", &["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"], ""),
        ("host", &["app.example.com"], "app.example.com"),
        ("host", &["app.example.com:8443"], "app.example.com:8443"),
        ("host", &["[2001:db8::1]:8443"], "[2001:db8::1]:8443"),
        ("host", &["evil, app.example.com"], "app.example.com"),
        ("host", &["evil", "app.example.com"], "app.example.com"),
        ("host", &["app.example.com, evil/x"], ""),
        ("host", &["2001:db8::1"], ""),
        ("host", &["me@app.example.com"], ""),
        ("host", &["_hidden"], "_hidden"),
        ("host", &["a b"], ""),
        ("port", &["443"], "443"),
        ("port", &["80, 8443"], "8443"),
        ("port", &["0"], ""),
        ("port", &["65536"], ""),
        ("port", &["+80"], ""),
        ("port", &["80 "], "80"),
        ("port", &["https"], ""),
        ("prefix", &["/app"], "/app"),
        ("prefix", &["/app/"], "/app"),
        ("prefix", &["/"], ""),
        ("prefix", &["/app, /api"], "/app/api"),
        ("prefix", &["/app", "/api/, /v1"], "/app/api/v1"),
        ("prefix", &["app"], ""),
        ("prefix", &["//evil.test"], ""),
        ("prefix", &["/app, evil"], ""),
        ("prefix", &["/app, /../admin"], ""),
        ("prefix", &["/app/%2E./admin"], ""),
        ("prefix", &["/app/./x"], ""),
        ("prefix", &["/.app/..x"], "/.app/..x"),
        ("prefix", &["/a b"], ""),
        ("prefix", &["/a?b"], ""),
        ("prefix", &["/a\"b"], ""),
        ("prefix", &["https://evil.test"], ""),
        ("prefix", &["/\u{e9}"], ""),
    ];
    for (what, values, expected) in CASES {
        let at = ["proto", "host", "port", "prefix"].iter().position(|name| name == what).unwrap();
        let name = ["x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix"][at];
        let pairs: Vec<_> = values.iter().map(|value| (name, *value)).collect();
        let mut all: [String; 4] = Default::default();
        all[at] = (*expected).to_owned();
        assert_eq!(road(&pairs), all, "{what} {values:?}");
        // The address says which kind counts, and nothing of this.
        assert_eq!(
            road(&[pairs, vec![("x-forwarded-for", "203.0.113.7")]].concat()),
            all,
            "{what} {values:?}"
        );
    }
}

#[test]
fn of_elements_that_are_believed_the_outermost_tells_scheme_and_host() {
    const CASES: &[(&[&str], &str, &str)] = &[
        (&["for=203.0.113.7;proto=https;host=app.example.com"], "https", "app.example.com"),
        (&["for=203.0.113.7;Proto=\"HTTPS\";HOST=\"app.example.com:8443\""], "https", "app.example.com:8443"),
        (&["for=\"[2001:db8::7]:1\";host=\"[2001:db8::1]:8443\""], "", "[2001:db8::1]:8443"),
        // The client's own words stand left of whom it is.
        (&["for=10.0.0.9;proto=gopher;host=evil, for=203.0.113.7;proto=https"], "https", ""),
        (&["for=203.0.113.7;proto=https;host=a, for=10.0.0.2;proto=http;host=b"], "https", "a"),
        (&["for=203.0.113.7;host=a", "for=10.0.0.2;proto=http;host=b"], "http", "a"),
        // Hidden clients are clients: whoever hides them is believed.
        (&["for=10.0.0.9;host=evil, for=unknown;proto=https;host=a"], "https", "a"),
        (&["for=_hidden;proto=https"], "https", ""),
        (&["proto=https;host=a"], "https", "a"),
        // Twice is not at all, and what is garbage says nothing.
        (&["for=203.0.113.7;proto=https;proto=http;host=a"], "", "a"),
        (&["for=203.0.113.7;proto=https;host=a;HOST=b"], "https", ""),
        (&["for=203.0.113.7;proto=https;host=a b"], "https", ""),
        (&["for=203.0.113.7;proto=\"ht tps\";host=\"a,b\""], "", ""),
        (&["for=203.0.113.7;proto=https;host=\"a"], "", ""),
        (&["for=203.0.113.7;proto=https;host=\"a\"b"], "", ""),
        (&["for=x;proto=gopher;host=\", for=203.0.113.7;proto=https"], "https", ""),
    ];
    for (values, scheme, host) in CASES {
        let pairs: Vec<_> = values.iter().map(|value| ("forwarded", *value)).collect();
        assert_eq!(road(&pairs), [*scheme, *host, "", ""].map(str::to_owned), "{values:?}");
    }
}

#[test]
fn one_kind_counts_for_all_that_is_said() {
    let forwarded = ("forwarded", "for=198.51.100.9;proto=https;host=a");
    let x = [
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "b"),
        ("x-forwarded-port", "81"),
        ("x-forwarded-prefix", "/p"),
    ];
    let of_x = ["http", "b", "81", "/p"].map(str::to_owned);
    assert_eq!(road(&[&x[..], &[forwarded, ("x-forwarded-for", "203.0.113.7")]].concat()), of_x);
    assert_eq!(road(&[("x-forwarded-for", "203.0.113.7"), forwarded]), ["", "", "", ""].map(str::to_owned));
    assert_eq!(road(&[&x[..], &[forwarded]].concat()), ["https", "a", "", "/p"].map(str::to_owned));
    assert_eq!(road(&x), of_x, "an address is not needed");
}

#[test]
fn behind_a_unix_socket_there_may_be_nobody_to_name() {
    let named = headers(&[("x-forwarded-for", "203.0.113.7")]);
    assert_eq!(read(&named, None, &trusted()).0, "203.0.113.7:0".parse().ok());
    assert_eq!(read(&HeaderMap::new(), None, &trusted()).0, None);
    assert_eq!(read(&headers(&[("x-forwarded-for", "unix:")]), None, &trusted()).0, None);
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
        for name in ["x-forwarded-for", "forwarded", "x-forwarded-host", "x-forwarded-prefix", "x-forwarded-port"] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.clone());
            let _ = read(&headers, None, &trusted());
        }
    }
}

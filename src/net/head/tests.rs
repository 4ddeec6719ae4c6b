use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Version, header};
use proptest::prelude::*;

use super::*;

fn head(method: &str, target: &str, version: Version, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(target).version(version);
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    request.body(()).unwrap().into_parts().0
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    headers
}

/// The one `Host` that is left, or the fault.
fn host_of(target: &str, version: Version, hosts: &[&str]) -> Result<Option<String>, HeadFault> {
    let lines: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
    let mut head = head("GET", target, version, &lines);
    check_request(&mut head)?;
    let mut left = head.headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap().to_owned());
    let host = left.next();
    assert_eq!(left.next(), None, "{target} {hosts:?}");
    Ok(host)
}

#[test]
fn the_target_decides_over_the_host_and_there_is_one() {
    use HeadFault as Fault;
    use Version as V;
    let one = |host: &str| Ok(Some(host.to_owned()));
    let cases = [
        ("/", V::HTTP_11, &["a"][..], one("a")),
        ("/", V::HTTP_11, &[], Err(Fault::NoHost)),
        ("/", V::HTTP_10, &[], Ok(None)),
        ("/", V::HTTP_2, &[], Err(Fault::NoHost)),
        ("/", V::HTTP_11, &[""], one("")),
        ("/", V::HTTP_10, &[""], one("")),
        ("/", V::HTTP_2, &[""], Err(Fault::NoHost)),
        ("/", V::HTTP_11, &["a", "b"], Err(Fault::SeveralHosts)),
        ("/", V::HTTP_11, &["a", "a"], Err(Fault::SeveralHosts)),
        ("/", V::HTTP_10, &["a", ""], Err(Fault::SeveralHosts)),
        ("/", V::HTTP_11, &["a/b"], Err(Fault::BadHost)),
        ("http://a/", V::HTTP_11, &["b"], one("a")),
        ("http://a/", V::HTTP_11, &["a:80"], one("a")),
        ("http://a/", V::HTTP_11, &[], Err(Fault::NoHost)),
        ("http://a/", V::HTTP_10, &[], one("a")),
        ("http://a/", V::HTTP_11, &[""], Err(Fault::EmptyHost)),
        ("http://a/", V::HTTP_11, &["b c"], Err(Fault::BadHost)),
        ("http://a/", V::HTTP_11, &["a", "a"], Err(Fault::SeveralHosts)),
        ("http://u@a/", V::HTTP_11, &["a"], Err(Fault::BadAuthority)),
        ("http://a,b/", V::HTTP_11, &["a"], Err(Fault::BadAuthority)),
        ("http://a/", V::HTTP_2, &[], one("a")),
        ("http://a/", V::HTTP_2, &["A"], one("a")),
        ("http://a/", V::HTTP_2, &["a:80"], one("a")),
        ("http://a:80/", V::HTTP_2, &["a"], one("a:80")),
        ("https://a/", V::HTTP_2, &["a:443"], one("a")),
        ("https://a/", V::HTTP_2, &["a:80"], one("a")),
        ("http://[::1]/", V::HTTP_2, &["[::1]:80"], one("[::1]")),
        ("http://[::1]/", V::HTTP_2, &["[::2]"], one("[::1]")),
        ("http://a/", V::HTTP_2, &["b"], one("a")),
        ("http://a/", V::HTTP_2, &["a:81"], one("a")),
        ("http://a/", V::HTTP_2, &[""], Err(Fault::EmptyHost)),
        ("http://a/", V::HTTP_2, &["a", "a"], Err(Fault::SeveralHosts)),
        ("http://u@a/", V::HTTP_2, &[], Err(Fault::BadAuthority)),
    ];
    for (target, version, hosts, expected) in cases {
        assert_eq!(host_of(target, version, hosts), expected, "{target} {version:?} {hosts:?}");
    }
}

#[test]
fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
    for good in [
        "a",
        "A.b-c_d~e.",
        "1.2.3.4",
        "a:",
        "a:0",
        "a:00080",
        "a:65535",
        "[::]",
        "[::1]:1",
        "[1:2:3:4:5:6:7:8]",
        "[::ffff:1.2.3.4]",
        "[v1.a:b]",
        "[V1f.x]",
        "*.a",
        "a;b=c",
    ] {
        assert!(is_host(good.as_bytes()), "{good}");
    }
    for bad in [
        "",
        ":",
        ":80",
        "a:65536",
        "a:99999999999",
        "a:+1",
        "a:1a",
        "a:1:2",
        "a:b",
        "::1",
        "[",
        "[]",
        "[]:1",
        "[a]",
        "[::1",
        "::1]",
        "[::1]]",
        "[[::1]]",
        "[::1]x",
        "[::1]:x",
        "x[::1]",
        "[::1%25eth0]",
        "[::g]",
        "[v.a]",
        "[v1.]",
        "[vg.a]",
        "[v1]",
        "a,b",
        "a, b",
        " a",
        "a ",
        "a b",
        "a\tb",
        "a/b",
        "a?b",
        "a#b",
        "a@b",
        "a\\b",
        "a%41",
        "a%",
        "\"a\"",
        "<a>",
        "a|b",
        "a^b",
        "`a`",
        "{a}",
        "é",
        "a\u{0}b",
    ] {
        assert!(!is_host(bad.as_bytes()), "{bad:?}");
    }
}

#[test]
fn a_target_has_the_form_that_its_method_may_have() {
    for (method, target, is_good) in [
        ("GET", "/", true),
        ("GET", "*", false),
        ("OPTIONS", "*", true),
        ("OPTIONS", "/*", true),
        ("GET", "a", false),
        ("GET", "a:80", false),
        ("OPTIONS", "a:80", false),
        ("CONNECT", "a:80", true),
        ("GET", "http://a", true),
    ] {
        let verdict = check_request(&mut head(method, target, Version::HTTP_11, &[("host", "a")]));
        assert_eq!(verdict.is_ok(), is_good, "{method} {target}: {verdict:?}");
        assert!(is_good || verdict == Err(HeadFault::TargetForm), "{method} {target}: {verdict:?}");
    }
}

/// What is said about a message's end, and what becomes of it: the length that is left, if any, or the fault.
type Row<'a> = (&'a [(&'a str, &'a str)], Result<Option<&'a str>, FramingFault>);

const TE: &str = "transfer-encoding";
const CL: &str = "content-length";

const ROWS: &[Row<'_>] = &[
    (&[], Ok(None)),
    (&[(TE, "chunked")], Ok(None)),
    (&[(TE, "cHUNKED")], Ok(None)),
    (&[(TE, "")], Err(FramingFault::Coding)),
    (&[(TE, "chunked"), (TE, "chunked")], Err(FramingFault::Coding)),
    (&[(TE, "chunked, chunked")], Err(FramingFault::Coding)),
    (&[(TE, "gzip, chunked")], Err(FramingFault::Coding)),
    (&[(TE, "chunked, gzip")], Err(FramingFault::Coding)),
    (&[(TE, "gzip"), (TE, "chunked")], Err(FramingFault::Coding)),
    (&[(TE, "identity")], Err(FramingFault::Coding)),
    (&[(TE, ",chunked")], Err(FramingFault::Coding)),
    (&[(TE, "chunked,")], Err(FramingFault::Coding)),
    (&[(TE, "chunked;a=b")], Err(FramingFault::Coding)),
    (&[(TE, "chunked\u{a0}")], Err(FramingFault::Coding)),
    (&[(TE, "chunked"), (CL, "3")], Err(FramingFault::Both)),
    (&[(CL, "3"), (TE, "chunked")], Err(FramingFault::Both)),
    (&[(TE, "gzip"), (CL, "3")], Err(FramingFault::Coding)),
    (&[(CL, "3")], Ok(Some("3"))),
    (&[(CL, "003")], Ok(Some("3"))),
    (&[(CL, "0")], Ok(Some("0"))),
    (&[(CL, "3"), (CL, "3")], Ok(Some("3"))),
    (&[(CL, "3, 3,\t3")], Ok(Some("3"))),
    (&[(CL, "3"), (CL, "03, 3")], Ok(Some("3"))),
    (&[(CL, "18446744073709551615")], Ok(Some("18446744073709551615"))),
    (&[(CL, "18446744073709551616")], Err(FramingFault::Length)),
    (&[(CL, "3"), (CL, "4")], Err(FramingFault::Length)),
    (&[(CL, "3, 4")], Err(FramingFault::Length)),
    (&[(CL, "3,")], Err(FramingFault::Length)),
    (&[(CL, "")], Err(FramingFault::Length)),
    (&[(CL, "+3")], Err(FramingFault::Length)),
    (&[(CL, "-3")], Err(FramingFault::Length)),
    (&[(CL, "0x3")], Err(FramingFault::Length)),
    (&[(CL, "3 3")], Err(FramingFault::Length)),
    (&[(CL, "3.0")], Err(FramingFault::Length)),
    (&[(CL, "\u{663}")], Err(FramingFault::Length)),
];

#[test]
fn one_table_says_where_requests_and_answers_end() {
    for (lines, expected) in ROWS {
        let expected = expected.map(|length| length.map(str::to_owned));
        let left = |headers: &HeaderMap| {
            let mut lengths = headers.get_all(CL).iter();
            let length = lengths.next().map(|length| length.to_str().unwrap().to_owned());
            assert!(lengths.next().is_none(), "{lines:?}");
            length
        };
        let with_host = [&[("host", "a")], *lines].concat();
        let mut request = head("POST", "/", Version::HTTP_11, &with_host);
        let verdict = check_request(&mut request).map(|()| left(&request.headers));
        assert_eq!(verdict, expected.clone().map_err(HeadFault::Framing), "a request: {lines:?}");
        for status in [StatusCode::OK, StatusCode::NOT_MODIFIED, StatusCode::BAD_GATEWAY] {
            let mut answer = headers(lines);
            let verdict = check_answer(status, Version::HTTP_11, &mut answer).map(|may_go_on| {
                assert!(may_go_on, "{lines:?}");
                left(&answer)
            });
            assert_eq!(verdict, expected, "an answer: {lines:?}");
        }
        for status in [StatusCode::NO_CONTENT, StatusCode::SWITCHING_PROTOCOLS] {
            let mut answer = headers(lines);
            let may_go_on = check_answer(status, Version::HTTP_11, &mut answer).unwrap();
            assert!(answer.is_empty(), "{status} says nothing of a body: {answer:?}");
            assert_eq!(may_go_on, lines.iter().all(|line| *line == (CL, "0")), "{status}: {lines:?}");
        }
    }
    for version in [Version::HTTP_10, Version::HTTP_2] {
        let mut request = head("POST", "http://a/", version, &[("host", "a"), (TE, "chunked")]);
        assert_eq!(check_request(&mut request), Err(FramingFault::CodingVersion.into()), "{version:?}");
        let mut answer = headers(&[(TE, "chunked")]);
        assert_eq!(check_answer(StatusCode::OK, version, &mut answer), Err(FramingFault::CodingVersion));
    }
}

fn found_in(line: &[u8]) -> Option<Character> {
    let mut whole = RequestLine::default();
    whole.read(line);
    let whole = whole.found();
    for cut in 0..=line.len() {
        let mut pieces = RequestLine::default();
        pieces.read(&line[..cut]);
        pieces.read(&line[cut..]);
        assert_eq!(pieces.found(), whole, "cut at {cut}: {}", line.escape_ascii());
    }
    whole
}

fn found_in_target(target: &[u8]) -> Option<Character> {
    found_in(&[b"\r\n\nGET ", target, b" HTTP/1.1\r\nX: <\"\xff\r\n\r\n"].concat())
}

#[test]
fn each_byte_of_a_path_and_a_query_is_judged_as_the_library_judges_it() {
    for byte in (0..=0xff).filter(|byte| !b" \r\n#".contains(byte)) {
        for before in [&b"/a"[..], b"/a?b="] {
            let target = [before, &[byte], b"c"].concat();
            let is_taken = PathAndQuery::try_from(&target[..]).is_ok();
            let expected = (!is_taken).then_some(Character(byte));
            assert_eq!(found_in_target(&target), expected, "{}", target.escape_ascii());
            let url = [b"http://a", &target[..]].concat();
            assert_eq!(found_in_target(&url), expected, "{}", url.escape_ascii());
        }
    }
}

#[test]
fn the_first_character_that_must_not_be_there_is_found_and_nothing_else_is() {
    let cases: [(&[u8], Option<u8>); 22] = [
        (b"GET /<\"> HTTP/1.1\r\n", Some(b'<')),
        (b"GET /\" HTTP/1.1\r\n", None),
        (b"GET /?\"< HTTP/1.1\r\n", Some(b'"')),
        (b"GET /?`{}|^\\[] HTTP/1.1\r\n", None),
        (b"GET /` HTTP/1.1\r\n", Some(b'`')),
        (b"GET /\xc3\xbc?\xf0\x9f\x98\x80 HTTP/1.1\r\n", None),
        (b"GET /\xc3 HTTP/1.1\r\n", Some(0xc3)),
        (b"GET /\xc3a HTTP/1.1\r\n", Some(0xc3)),
        (b"GET /\xc3< HTTP/1.1\r\n", Some(0xc3)),
        (b"GET /\xff\xfe HTTP/1.1\r\n", Some(0xff)),
        (b"GET /\xf0\x9f\x98 HTTP/1.1\r\n", Some(0xf0)),
        (b"GET /\xed\xa0\x80 HTTP/1.1\r\n", Some(0xed)),
        (b"GET /\xf4\x90\x80\x80 HTTP/1.1\r\n", Some(0xf4)),
        (b"GET /a#<\" HTTP/1.1\r\n", None),
        (b"GET http://a?< HTTP/1.1\r\n", Some(b'<')),
        (b"GET http://<a>/ HTTP/1.1\r\n", None),
        (b"GET /a\tb HTTP/1.1\r\n", Some(b'\t')),
        (b"G<T /< HTTP/1.1\r\n", None),
        (b"GET  /< HTTP/1.1\r\n", None),
        (b" /< HTTP/1.1\r\n", None),
        (b"GET /\r\nX: /<\r\n", None),
        (b"", None),
    ];
    for (line, expected) in cases {
        assert_eq!(found_in(line), expected.map(Character), "{}", line.escape_ascii());
    }
}

#[test]
fn a_character_is_named_so_that_it_can_be_told_and_typed() {
    for (byte, told, typed) in [
        (b'<', "the character <", "%3C"),
        (b'"', "the character \"", "%22"),
        (0xff, "the byte 0xFF, which is no UTF-8 there", "%FF"),
        (b'\t', "the control character 0x09", "%09"),
        (0x7f, "the control character 0x7F", "%7F"),
    ] {
        let text = HeadFault::Character(Character(byte)).to_string();
        assert!(text.contains(told) && text.contains(typed), "{text}");
    }
}

proptest! {
    #[test]
    fn a_path_in_which_nothing_is_found_is_one_that_the_library_takes(
        rest in proptest::collection::vec(any::<u8>().prop_filter("ends it", |byte| !b" \r\n#".contains(byte)), 0..40)
    ) {
        let target = [&b"/"[..], &rest].concat();
        let is_taken = PathAndQuery::try_from(&target[..]).is_ok();
        prop_assert_eq!(found_in_target(&target).is_none(), is_taken, "{}", target.escape_ascii());
    }

    #[test]
    fn what_is_taken_for_a_host_reads_as_one_in_a_url(host in "[a-z0-9.:@,%/ \\[\\]_-]{0,12}") {
        if is_host(host.as_bytes()) {
            let url: Uri = format!("http://{host}/").parse().unwrap();
            prop_assert_eq!(url.authority().unwrap().as_str(), &host);
            prop_assert!(!host.contains(['@', ',', '%', '/', ' ']));
        }
    }
}

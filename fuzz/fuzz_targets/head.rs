//! Any head of a request, and of an answer: what is taken says one host and one end, however it was written, and what
//! is found in a target is what the library refuses it for.
//!
//! The input is a head: `METHOD target HTTP/1.1`, and lines `name: value`. Its lines are also read as an answer's.

#![no_main]

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use libfuzzer_sys::fuzz_target;
use outrigger::internals::{RequestLine, check_answer, check_request};

fuzz_target!(|input: &[u8]| {
    line(input);
    let mut lines = input.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default().trim_ascii_end();
    let headers = headers(lines);
    answer(&headers);
    let mut words = first.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next().unwrap_or_default(), words.next());
    let (Ok(method), Ok(uri)) = (Method::from_bytes(method.unwrap_or_default()), Uri::try_from(target)) else {
        return;
    };
    let version = match version {
        Some(b"HTTP/1.0") => Version::HTTP_10,
        Some(b"HTTP/2") => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    let mut request = Request::builder().method(method).uri(uri).version(version).body(()).expect("a request");
    *request.headers_mut() = headers;
    let (mut head, ()) = request.into_parts();
    if check_request(&mut head).is_err() {
        return;
    }
    let hosts = all(&head.headers, "host");
    assert!(hosts.len() == 1 || hosts.is_empty() && version == Version::HTTP_10, "{hosts:?}");
    if let Some(authority) = head.uri.authority() {
        assert_eq!(hosts, [authority.as_str().as_bytes()], "the target decides");
    }
    for host in hosts {
        let is_odd = |byte: &u8| !byte.is_ascii_graphic() || b"@,/?#%\\\"<>^`{|}".contains(byte);
        assert!(!host.iter().any(is_odd), "{}", host.escape_ascii());
    }
    assert_one_end(&head.headers);
    let once = head.headers.clone();
    assert_eq!(check_request(&mut head), Ok(()), "what was taken is taken again");
    assert_eq!(once, head.headers, "and stays as it is");
});

/// However the first line is cut, the same is found in it, and it is what the library finds.
fn line(input: &[u8]) {
    let found = |pieces: [&[u8]; 2]| {
        let mut line = RequestLine::default();
        for piece in pieces {
            line.read(piece);
        }
        line.found()
    };
    let whole = found([input, b""]);
    for cut in 0..input.len().min(300) {
        assert_eq!(whole, found([&input[..cut], &input[cut..]]), "cut at {cut}");
    }
    let path: Vec<u8> = input.iter().copied().filter(|byte| !b" \r\n#".contains(byte)).take(60_000).collect();
    let path = [b"/", &path[..]].concat();
    let mut line = RequestLine::default();
    line.read(b"GET ");
    line.read(&path);
    line.read(b" ");
    assert_eq!(line.found().is_none(), PathAndQuery::try_from(&path[..]).is_ok(), "{}", path.escape_ascii());
}

fn answer(headers: &HeaderMap) {
    for (status, version) in [
        (StatusCode::OK, Version::HTTP_11),
        (StatusCode::OK, Version::HTTP_10),
        (StatusCode::NO_CONTENT, Version::HTTP_11),
        (StatusCode::NOT_MODIFIED, Version::HTTP_11),
    ] {
        let mut headers = headers.clone();
        if check_answer(status, version, &mut headers).is_err() {
            continue;
        }
        assert_one_end(&headers);
        assert!(status != StatusCode::NO_CONTENT || !headers.contains_key("content-length"));
        assert!(version == Version::HTTP_11 || !headers.contains_key("transfer-encoding"));
        let once = headers.clone();
        assert_eq!(check_answer(status, version, &mut headers), Ok(true), "what was taken is taken again");
        assert_eq!(once, headers, "and stays as it is");
    }
}

fn assert_one_end(headers: &HeaderMap) {
    let (codings, lengths) = (all(headers, "transfer-encoding"), all(headers, "content-length"));
    assert!(codings.len() + lengths.len() <= 1, "{codings:?} {lengths:?}");
    assert!(codings.iter().all(|coding| coding.eq_ignore_ascii_case(b"chunked")), "{codings:?}");
    let is_number = |length: &&[u8]| {
        length.iter().all(u8::is_ascii_digit) && std::str::from_utf8(length).is_ok_and(|n| n.parse::<u64>().is_ok())
    };
    assert!(lengths.iter().all(is_number), "{lengths:?}");
}

fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

fn headers<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.take(100) {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else { continue };
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii()))
        {
            headers.append(name, value);
        }
    }
    headers
}

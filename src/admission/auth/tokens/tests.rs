use http::Request;
use proptest::prelude::*;

use super::*;

fn head(target: &str, headers: &[(&str, &[u8])]) -> Parts {
    let mut request = Request::builder().uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn taken(sources: &[TokenSource], head: &mut Parts) -> Result<String, AuthFailure> {
    let own = OwnProtocols::take(&mut head.headers);
    take(sources, head, own.as_deref()).map(|token| String::from_utf8(token.0).unwrap())
}

#[test]
fn authorization_counts_if_it_is_one_bearer() {
    use AuthFailure::{Ambiguous, Missing};
    type Case = (&'static [&'static str], Result<&'static str, AuthFailure>);
    const CASES: &[Case] = &[
        (&["Bearer abc"], Ok("abc")),
        (&["bearer abc"], Ok("abc")),
        (&["BEARER   abc "], Ok("abc")),
        (&["Bearer abc", "Bearer abc"], Ok("abc")),
        (&["Bearer abc", "Bearer abd"], Err(Ambiguous)),
        // The server might read the other one.
        (&["Basic cm9vdDpyb290", "Bearer abc"], Err(Ambiguous)),
        (&["Bearer abc", "Basic cm9vdDpyb290"], Err(Ambiguous)),
        (&["Basic cm9vdDpyb290"], Err(Missing)),
        (&["Bearer"], Err(Missing)),
        (&["Bearer "], Err(Missing)),
        (&["Bearerabc"], Err(Missing)),
        (&[""], Err(Missing)),
        (&[], Err(Missing)),
    ];
    for (lines, expected) in CASES {
        let lines: Vec<_> = lines.iter().map(|line| ("authorization", line.as_bytes())).collect();
        let mut head = head("/", &lines);
        let found = taken(&[TokenSource::Header], &mut head);
        assert_eq!(found.as_deref(), expected.as_ref().copied(), "{lines:?}");
        assert_eq!(head.headers.get_all("authorization").iter().count(), lines.len(), "it passes on");
    }
}

#[test]
fn a_cookie_is_found_among_others() {
    use AuthFailure::{Ambiguous, Missing};
    type Case = (&'static [&'static str], Result<&'static str, AuthFailure>);
    const CASES: &[Case] = &[
        (&["sid=abc"], Ok("abc")),
        (&["a=1; sid=abc; b=2"], Ok("abc")),
        (&["a=1;sid=abc"], Ok("abc")),
        (&["a=1", "sid=\"abc\""], Ok("abc")),
        (&["sid=a=b="], Ok("a=b=")),
        (&["sid=; a=1"], Err(Missing)),
        (&["xsid=abc; SID=abc; sid"], Err(Missing)),
        (&["sid=abc; sid=abc"], Ok("abc")),
        (&["sid=abc; sid=abd"], Err(Ambiguous)),
        (&["sid=abc", "sid=abd"], Err(Ambiguous)),
    ];
    for (lines, expected) in CASES {
        let lines: Vec<_> = lines.iter().map(|line| ("cookie", line.as_bytes())).collect();
        let found = taken(&[TokenSource::Cookie("sid".into())], &mut head("/", &lines));
        assert_eq!(found.as_deref(), expected.as_ref().copied(), "{lines:?}");
    }
}

#[test]
fn a_query_loses_the_token_and_nothing_else() {
    use AuthFailure::{Ambiguous, Missing};
    type Case = (&'static str, Result<&'static str, AuthFailure>, &'static str);
    const CASES: &[Case] = &[
        ("/ws?token=abc", Ok("abc"), "/ws"),
        ("/ws?a=1&token=abc&b=%2F+x&&c", Ok("abc"), "/ws?a=1&b=%2F+x&&c"),
        ("/ws?token=abc&a=1", Ok("abc"), "/ws?a=1"),
        ("/ws?a=1&token=abc", Ok("abc"), "/ws?a=1"),
        ("/ws?t%6fke%6E=a%62c", Ok("abc"), "/ws"),
        ("/ws?token=abc&token=abc", Ok("abc"), "/ws"),
        ("/ws?token=abc&token=ab%63", Ok("abc"), "/ws"),
        ("/ws?token=abc&x=1&token=abd", Err(Ambiguous), "/ws?x=1"),
        ("/ws?token=", Err(Missing), "/ws"),
        ("/ws?token", Err(Missing), "/ws"),
        ("/ws?token=&token=abc", Ok("abc"), "/ws"),
        ("/ws?Token=abc&tokens=abc", Err(Missing), "/ws?Token=abc&tokens=abc"),
        ("/ws?", Err(Missing), "/ws?"),
        ("/ws", Err(Missing), "/ws"),
        ("/ws?token=a%zz%4", Ok("a%zz%4"), "/ws"),
        ("http://a.example:81/ws?token=abc&x", Ok("abc"), "http://a.example:81/ws?x"),
        ("/?token=a/b?c=d", Ok("a/b?c=d"), "/"),
    ];
    for (target, expected, rest) in CASES {
        let mut head = head(target, &[]);
        let found = taken(&[TokenSource::Query("token".into())], &mut head);
        assert_eq!(found.as_deref(), expected.as_ref().copied(), "{target}");
        assert_eq!(head.uri.to_string(), *rest, "{target}");
    }
}

#[test]
fn a_subprotocol_entry_and_its_token_go_and_no_empty_header_stays() {
    use AuthFailure::{Ambiguous, Missing};
    type Case = (&'static [&'static [u8]], Result<&'static str, AuthFailure>, bool, Option<&'static [u8]>);
    const CASES: &[Case] = &[
        (&[b"outrigger.bearer, abc"], Ok("abc"), true, None),
        (&[b"outrigger.bearer,abc,chat"], Ok("abc"), true, Some(b"chat")),
        (&[b"chat, outrigger.bearer, abc, soap"], Ok("abc"), true, Some(b"chat, soap")),
        (&[b"chat", b"outrigger.bearer", b"abc", b"soap"], Ok("abc"), true, Some(b"chat, soap")),
        (&[b"outrigger.bearer"], Err(Missing), true, None),
        (&[b"chat, outrigger.bearer"], Err(Missing), true, Some(b"chat")),
        (&[b"outrigger.bearer, abc, outrigger.bearer, abc"], Ok("abc"), true, None),
        (&[b"outrigger.bearer, abc, outrigger.bearer, abd, chat"], Err(Ambiguous), true, Some(b"chat")),
        (&[b"outrigger.bearer, outrigger.bearer, abc"], Ok("abc"), true, None),
        (&[b"outrigger.bearer, outrigger.v1"], Err(Missing), true, None),
        (&[b"chat"], Err(Missing), false, Some(b"chat")),
        (&[b"Outrigger.Bearer, abc"], Err(Missing), false, Some(b"Outrigger.Bearer, abc")),
        (&[b"outrigger.bearer, abc, \xff"], Ok("abc"), true, Some(b"\xff")),
        (&[b", ,"], Err(Missing), false, Some(b", ,")),
        (&[], Err(Missing), false, None),
    ];
    for (lines, expected, was_found, rest) in CASES {
        let lines: Vec<_> = lines.iter().map(|line| ("sec-websocket-protocol", *line)).collect();
        let mut head = head("/", &lines);
        let own = OwnProtocols::take(&mut head.headers);
        let found = take(&[TokenSource::Subprotocol], &mut head, own.as_deref());
        let found = found.map(|token| String::from_utf8(token.0).unwrap());
        assert_eq!(found.as_deref(), expected.as_ref().copied(), "{lines:?}");
        assert_eq!(own.is_some_and(|own| own.answer_of_tunnel().is_some()), *was_found, "{lines:?}");
        let left: Vec<_> =
            head.headers.get_all("sec-websocket-protocol").iter().map(http::HeaderValue::as_bytes).collect();
        assert_eq!(left, Vec::from_iter(*rest), "{lines:?}");
    }
}

#[test]
fn the_first_source_wins_and_all_are_cleaned() {
    let all = [
        TokenSource::Cookie("sid".into()),
        TokenSource::Header,
        TokenSource::Query("token".into()),
        TokenSource::Subprotocol,
    ];
    let request = |query: &str| {
        let headers: [(&str, &[u8]); 3] = [
            ("authorization", b"Bearer from-header"),
            ("cookie", b"sid=from-cookie"),
            ("sec-websocket-protocol", b"outrigger.bearer, from-protocol, chat"),
        ];
        head(&format!("/ws?x=1&token={query}"), &headers)
    };
    let mut head = request("from-query");
    assert_eq!(taken(&all, &mut head).unwrap(), "from-cookie");
    assert_eq!(head.uri, "/ws?x=1");
    assert_eq!(head.headers["sec-websocket-protocol"], "chat");
    assert_eq!(taken(&all[1..], &mut request("from-query")).unwrap(), "from-header");
    assert_eq!(taken(&all[2..], &mut request("from-query")).unwrap(), "from-query");
    assert_eq!(taken(&all[3..], &mut request("from-query")).unwrap(), "from-protocol");
    let twice = taken(&all, &mut request("a&token=b"));
    assert_eq!(twice, Err(AuthFailure::Ambiguous), "even where another source wins");
    let mut untouched = request("from-query");
    taken(&all[..2], &mut untouched).unwrap();
    assert_eq!(untouched.uri, "/ws?x=1&token=from-query", "not a source of this route");
}

#[test]
fn a_token_has_a_longest_length_and_no_debug() {
    let with =
        |length: usize| head("/", &[("authorization", format!("Bearer {}", "x".repeat(length)).as_bytes())]);
    assert!(take(&[TokenSource::Header], &mut with(MAX_TOKEN), None).is_ok());
    let long = take(&[TokenSource::Header], &mut with(MAX_TOKEN + 1), None);
    assert_eq!(long, Err(AuthFailure::Malformed));
    assert_eq!(format!("{:?}", Token(b"abc".to_vec())), "Token(***)");
}

proptest! {
    #[test]
    fn whatever_a_query_is_the_token_is_gone_from_it(
        before in "[a-z=&%+;0-9]{0,12}", after in "[a-z=&%+;0-9]{0,12}",
    ) {
        let target = format!("/ws?{before}&token=SECRET&{after}");
        let mut head = head(&target, &[]);
        let _ = take(&[TokenSource::Query("token".into())], &mut head, None);
        prop_assert!(!head.uri.to_string().contains("SECRET"), "{target} became {}", head.uri);
    }
}

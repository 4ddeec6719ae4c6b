use http::Request;

use super::*;

const TICKET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const OTHER: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

fn take(endpoint: Endpoint, uri: &str, headers: &[(&str, &str)]) -> (Asked, Parts) {
    let mut request = Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut head = request.body(()).unwrap().into_parts().0;
    let asked = Asked::take(&mut head, endpoint, "/ws/a");
    (asked, head)
}

fn ticket_of(endpoint: Endpoint, query: &str, headers: &[(&str, &str)]) -> Ticket {
    let (asked, head) = take(endpoint, &format!("/ws/a/poll?{query}"), headers);
    let left = format!("{:?}", head.headers);
    assert!(!left.contains(TICKET) && !left.contains(OTHER), "{left}");
    asked.ticket
}

#[test]
fn the_head_becomes_that_of_a_handshake_for_the_websocket() {
    let (asked, head) = take(
        Endpoint::Poll,
        "/ws/a/poll?room=1&afterSequence=7&protocol=chat,outrigger.v1",
        &[
            ("host", "app.example.com"),
            ("accept", "*/*"),
            ("connection", "keep-alive, x-hop"),
            ("content-length", "0"),
            ("if-match", "\"a\""),
            ("if-modified-since", "Tue, 01 Dec 2026 00:00:00 GMT"),
            ("if-none-match", "\"a\""),
            ("if-range", "\"a\""),
            ("if-unmodified-since", "Tue, 01 Dec 2026 00:00:00 GMT"),
            ("range", "bytes=0-1"),
            ("sec-websocket-protocol", "forged"),
            ("sec-websocket-key", "AA=="),
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
        ],
    );
    assert_eq!(asked.position_in_session(), Some(Position::Number(7)));
    assert_eq!(head.uri, "/ws/a?room=1");
    let mut left: Vec<String> =
        head.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    left.sort();
    assert_eq!(
        left,
        [
            "authorization: Bearer x",
            "connection: Upgrade",
            "connection: keep-alive, x-hop",
            "cookie: a=b",
            "host: app.example.com",
            "sec-websocket-protocol: chat, outrigger.v1",
            "sec-websocket-version: 13",
            "upgrade: websocket",
        ]
    );
    let (_, head) = take(Endpoint::Poll, "http://h:1/ws/a/poll?afterSequence=x", &[]);
    assert_eq!(head.uri, "http://h:1/ws/a", "what cannot be read is no more the server's");
}

#[test]
fn a_ticket_is_of_the_last_event_else_of_the_header_or_the_query() {
    let ticket = |text: &str| Ticket::Read(TicketText::read(text.as_bytes()).unwrap());
    let (query, id) = (format!("session={TICKET}"), format!("{OTHER}.7"));
    for endpoint in [Endpoint::Poll, Endpoint::Send, Endpoint::Events] {
        assert_eq!(ticket_of(endpoint, "", &[]), Ticket::Missing);
        assert_eq!(ticket_of(endpoint, &query, &[]), ticket(TICKET));
        assert_eq!(ticket_of(endpoint, "", &[("x-outrigger-session", TICKET)]), ticket(TICKET));
        assert_eq!(ticket_of(endpoint, &query, &[("x-outrigger-session", TICKET)]), ticket(TICKET));
        assert_eq!(ticket_of(endpoint, &query, &[("x-outrigger-session", OTHER)]), Ticket::Malformed);
        assert_eq!(ticket_of(endpoint, "session=mine", &[]), Ticket::Missing);
        assert_eq!(ticket_of(endpoint, &query, &[("x-outrigger-session", "short")]), Ticket::Malformed);
        let twice = [("x-outrigger-session", OTHER), ("x-outrigger-session", OTHER)];
        assert_eq!(ticket_of(endpoint, "", &twice), Ticket::Malformed);
    }
    assert_eq!(ticket_of(Endpoint::Events, "", &[("last-event-id", &id)]), ticket(OTHER));
    // Whatever its first request said, an EventSource says it again with each.
    assert_eq!(ticket_of(Endpoint::Events, &query, &[("last-event-id", &id)]), ticket(OTHER));
    let header = ("x-outrigger-session", TICKET);
    assert_eq!(ticket_of(Endpoint::Events, &query, &[("last-event-id", &id), header]), ticket(OTHER));
    let (asked, _) = take(Endpoint::Poll, &format!("/ws/a/poll?session={OTHER}&limit=5"), &[header]);
    assert_eq!(asked.parameters, Err(BadParameter::Ticket), "whatever else it asks");
    let short = ("x-outrigger-session", "short");
    assert_eq!(ticket_of(Endpoint::Events, "", &[("last-event-id", &id), short]), Ticket::Malformed);
    assert_eq!(ticket_of(Endpoint::Poll, "", &[("last-event-id", &id)]), Ticket::Missing);
}

#[test]
fn the_last_event_says_where_a_stream_goes_on() {
    let (session, feed) = (format!("{TICKET}.7"), "00000000000000ff.9");
    for (query, id, expected) in [
        // In a session, in a feed.
        ("", None, [None; 2]),
        ("afterSequence=3", None, [Some(Position::Number(3)); 2]),
        ("afterSequence=3", Some(&*session), [Some(Position::Number(7)), Some(Position::Unknown)]),
        ("", Some(feed), [Some(Position::Unknown), Some(Position::Of { epoch: 255, sequence: 9 })]),
        // An id that is none of ours: it had something.
        ("", Some("7"), [Some(Position::Unknown); 2]),
        ("", Some("abc"), [Some(Position::Unknown); 2]),
        ("afterSequence=3", Some("abc.7"), [Some(Position::Unknown); 2]),
        ("afterSequence=3", Some(""), [Some(Position::Number(3)); 2]),
    ] {
        let headers: Vec<_> = id.iter().map(|id| ("last-event-id", *id)).collect();
        let (asked, head) = take(Endpoint::Events, &format!("/ws/a/events?{query}"), &headers);
        let found = [asked.position_in_session(), asked.position_in_feed()];
        assert_eq!(found, expected, "{query} {id:?}");
        assert!(!head.headers.contains_key("last-event-id"));
    }
    let (asked, _) = take(Endpoint::Poll, "/ws/a/poll", &[("last-event-id", feed)]);
    assert_eq!(asked.position_in_feed(), None, "a poll says it in its query");
}

#[test]
fn a_request_takes_a_place_only_if_it_is_to_be_answered_with_messages() {
    let of = |endpoint, method: &str, headers: &[(&str, &str)]| {
        let mut request = Request::builder().method(method).uri("/ws/a/poll");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut head = request.body(()).unwrap().into_parts().0;
        Asked::take(&mut head, endpoint, "/ws/a").takes
    };
    let preflight = [("origin", "https://a"), ("access-control-request-method", "GET")];
    assert_eq!(of(Endpoint::Poll, "GET", &[]), FallbackUse::Place);
    assert_eq!(of(Endpoint::Events, "GET", &[]), FallbackUse::Place);
    for (endpoint, method) in [
        (Endpoint::Replay, "GET"),
        (Endpoint::Send, "POST"),
        (Endpoint::Poll, "POST"),
        (Endpoint::Events, "HEAD"),
        (Endpoint::Poll, "OPTIONS"),
    ] {
        assert_eq!(of(endpoint, method, &[]), FallbackUse::Answer, "{endpoint:?} {method}");
    }
    assert_eq!(of(Endpoint::Poll, "OPTIONS", &preflight), FallbackUse::Preflight);
    assert_eq!(of(Endpoint::Poll, "GET", &preflight), FallbackUse::Place, "that is none");
}

#[test]
fn the_log_that_a_client_has_read_is_known_before_anything_is_opened() {
    let epoch = |endpoint, query: &str| take(endpoint, &format!("/ws/a/x?{query}"), &[]).0.epoch();
    assert_eq!(epoch(Endpoint::Poll, "afterSequence=00000000000000ff.9"), Some(255));
    assert_eq!(epoch(Endpoint::Replay, "fromSequence=00000000000000ff.9"), Some(255));
    assert_eq!(epoch(Endpoint::Poll, "afterSequence=9"), None);
    assert_eq!(epoch(Endpoint::Poll, ""), None);
    assert_eq!(epoch(Endpoint::Poll, "afterSequence=00000000000000ff.9&limit=0"), None);
}

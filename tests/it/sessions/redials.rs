//! What the server answers to a redial, and what that means; what a redial says of the client.

use crate::support::DEADLINE;
use crate::support::http::Head;
use crate::support::link::End;
use crate::support::logged::Logged;
use crate::support::session::{Death, Session, hears, said};
use crate::support::upstream::{Answer, Upstream};
use crate::support::wait::eventually;

/// How the next handshakes are answered.
fn answering(answer: Answer) -> crate::support::upstream::Builder {
    Upstream::builder().answering(answer).by_hand()
}

#[tokio::test]
async fn a_redial_says_what_the_first_handshake_said() {
    let dial = |dial: crate::support::client::Dial| {
        dial.path("/rooms/a%20b?x=1&y=2")
            .header("Host", "chat.example.com")
            .header("Cookie", "sid=0; other=1")
            .header("Authorization", "Bearer abc")
            .header("Origin", "https://app.example.com")
            .header("Sec-WebSocket-Extensions", "permessage-deflate")
            .header("X-Custom", "kept")
            .header("X-Request-Id", "of the client")
    };
    let mut session = Session::shaped("", dial, |proxy| proxy).await;
    let told = |head: &Head| {
        let own = ["sec-websocket-key", "x-request-id"];
        let headers = head.headers.0.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
        let mut headers = Vec::from_iter(headers.filter(|(name, _)| !own.contains(&&**name)));
        headers.sort();
        (head.first_line.clone(), headers)
    };
    let first = told(&session.server().request.head);
    let mut ids = vec![session.server().request.head.header("X-Request-Id").map(str::to_owned)];
    assert_eq!(ids[0].as_deref(), Some("of the client"));
    for death in [Death::Reset, Death::Close(1012), Death::Fin] {
        session.die(death).await;
        session.next_link().await;
        let head = session.server().request.head.clone();
        assert_eq!(told(&head), first);
        let id = head.header("X-Request-Id").map(str::to_owned);
        assert!(!ids.contains(&id), "it is another request than {ids:?}: {head:#?}");
        ids.push(id);
    }
}

#[tokio::test]
async fn cookies_that_redials_are_given_are_said_by_the_next_ones() {
    let sets = |cookies: &[&str]| {
        let headers = Vec::from_iter(cookies.iter().map(|cookie| ("Set-Cookie", *cookie)));
        answering(Answer::accept_with(&headers))
    };
    let upstream = sets(&["sid=for the client; HttpOnly"]);
    let dial = |dial: crate::support::client::Dial| dial.header("Cookie", "sid=0; theme=dark");
    let mut session = Session::before(upstream, "", dial, |proxy| proxy).await;
    let cookies = |session: &mut Session| {
        let head = &session.server().request.head;
        let line = head.headers.all("Cookie").join("; ");
        let mut cookies = Vec::from_iter(line.split("; ").filter(|one| !one.is_empty()).map(str::to_owned));
        cookies.sort();
        cookies.join("; ")
    };
    assert_eq!(session.client.response.head.headers.all("Set-Cookie"), ["sid=for the client; HttpOnly"]);
    for (given, said) in [
        // The client knows of the first answer's as well, but no server's next connection waits for what it does with it.
        (&["sid=1; Path=/; HttpOnly", "csrf=a"][..], "sid=for the client; theme=dark"),
        (&["sid=2; Max-Age=3600"], "csrf=a; sid=1; theme=dark"),
        (&["theme=; Max-Age=0", "csrf=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], "csrf=a; sid=2; theme=dark"),
        (&[], "sid=2"),
        (&["sid=gone; Max-Age=-1"], "sid=2"),
        (&[], ""),
    ] {
        session.upstream.change(sets(given));
        session.die(Death::Reset).await;
        session.next_link().await;
        assert_eq!(cookies(&mut session), said, "before {given:?}");
    }
    session.works().await;
}

#[tokio::test]
async fn a_redial_that_is_refused_for_who_the_client_is_closes_it() {
    for (status, policy, code) in
        [(401, "", 1008), (403, "", 1008), (403, "close_codes: {unauthorized: 4401}", 4401)]
    {
        let (logged, _logging) = Logged::of_this_thread();
        let mut session = Session::open(policy).await;
        session.server().text("last words").await;
        session.upstream.change(answering(Answer::refuse(status, &[], "no")));
        session.die(Death::Reset).await;
        session.client.expect_text("last words").await;
        let closed = session.client.closed().await;
        assert_eq!(said(&closed), (code, "unauthorized", End::Eof), "{status}");
        let metrics = session.proxy.metrics().await;
        assert_eq!(
            metrics.get("outrigger_session_ends_total{route=\"chat\",why=\"unauthorized\"}"),
            Some(1.0)
        );
        assert_eq!(session.proxy.redials("refused").await, 1.0);
        session.proxy.attached(0.0).await;
        assert_eq!(session.upstream.accepted(), 2, "it is not asked again");
        let line = logged.line("a session's server refused the handshake");
        assert_eq!(line["status"], status, "{line}");
    }
}

#[tokio::test]
async fn a_redial_that_is_refused_for_another_reason_is_tried_again() {
    for status in [400, 404, 429, 500, 502, 503, 200] {
        let mut session = Session::open("").await;
        session.upstream.change(answering(Answer::refuse(status, &[("Retry-After", "1")], "not yet")));
        session.die(Death::Reset).await;
        session.says_meanwhile(&["meanwhile"]).await;
        eventually(DEADLINE, || async { session.upstream.handshakes().len() >= 3 }).await;
        assert_eq!(session.proxy.redials("ok").await, 0.0);
        session.upstream.change(answering(Answer::Accept));
        session.next_link().await;
        hears(session.server(), &["meanwhile"]).await;
        session.works().await;
        let refused = session.proxy.redials("refused").await;
        assert!(refused >= 2.0, "{status}: {refused}");
        assert_eq!(session.proxy.chat("connections_total").await, 1.0, "{status}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_answer_is_tried_again() {
    for answer in [
        Answer::WrongAccept,
        Answer::NoAccept,
        Answer::NoUpgrade,
        Answer::Raw(b"HTTP/1.1 not at all\r\n\r\n".to_vec()),
        Answer::accept_with(&[("Sec-WebSocket-Extensions", "permessage-deflate")]),
    ] {
        let mut session = Session::open("").await;
        // Whoever is answered so is nobody that the test could talk to.
        session.upstream.change(Upstream::builder().answering(answer));
        session.die(Death::Reset).await;
        eventually(DEADLINE, || async { session.proxy.redials("failed").await >= 2.0 }).await;
        session.upstream.change(answering(Answer::Accept));
        session.next_link().await;
        session.works().await;
        assert_eq!(session.proxy.redials("ok").await, 1.0);
    }
}

/// Answers with this subprotocol, if any, without looking at the offer.
fn choosing(protocol: Option<&'static str>) -> crate::support::upstream::Builder {
    match protocol {
        Some(protocol) => answering(Answer::accept_with(&[("Sec-WebSocket-Protocol", protocol)])),
        None => answering(Answer::Accept),
    }
}

#[tokio::test]
async fn another_subprotocol_than_the_client_was_told_ends_the_session() {
    for (first, then) in
        [(Some("chat.v1"), Some("chat.v2")), (Some("chat.v1"), None), (None, Some("chat.v1"))]
    {
        let dial =
            |dial: crate::support::client::Dial| dial.header("Sec-WebSocket-Protocol", "chat.v2, chat.v1");
        let mut session = Session::before(choosing(first), "", dial, |proxy| proxy).await;
        assert_eq!(session.client.response.header("Sec-WebSocket-Protocol"), first);
        session.upstream.change(choosing(then));
        session.die(Death::Reset).await;
        let closed = session.client.closed().await;
        assert_eq!(said(&closed), (1012, "upstream lost", End::Eof), "{first:?}, {then:?}");
        session.is_over("upstream_lost", "upstream_lost").await;
    }
}

#[tokio::test]
async fn the_same_subprotocol_goes_on() {
    for protocol in [Some("chat.v1"), None] {
        let dial =
            |dial: crate::support::client::Dial| dial.header("Sec-WebSocket-Protocol", "chat.v2, chat.v1");
        let mut session = Session::before(choosing(protocol), "", dial, |proxy| proxy).await;
        for _ in 0..3 {
            session.die(Death::Reset).await;
            session.next_link().await;
            let offered = session.server().request.head.header("Sec-WebSocket-Protocol").unwrap_or_default();
            let offered = Vec::from_iter(offered.split(',').map(str::trim));
            assert!(protocol.is_none_or(|protocol| offered.contains(&protocol)), "{offered:?}");
            session.works().await;
        }
    }
}

#[tokio::test]
async fn redials_neither_ask_the_breaker_nor_feed_it() {
    let policy = "breaker: {min_calls: 3, open_for: 60s}, redial: {base: 10ms, cap: 20ms}";
    let mut session = Session::open(policy).await;
    session.lose(Death::Reset).await;
    eventually(DEADLINE, || async { session.proxy.redials("failed").await >= 10.0 }).await;
    // Had they been counted, it would be open by now.
    session.upstream.start().await;
    session.next_link().await;
    let mut newcomer = session.proxy.connect("/new").await;
    let mut server = session.upstream.accept().await;
    newcomer.text("hello").await;
    server.expect_text("hello").await;
    // And one that handshakes have opened holds no session up.
    session.upstream.stop().await;
    for _ in 0..5 {
        let refused = session.proxy.dial().refused().await;
        assert!(matches!(refused.status(), 502 | 503), "{refused:?}");
    }
    assert_eq!(session.proxy.dial().refused().await.header("X-Outrigger-Reason"), Some("breaker_open"));
    session.die(Death::Reset).await;
    session.proxy.connected(1.0).await;
    session.back().await;
    session.works().await;
}

#[tokio::test]
async fn a_redial_waits_for_a_handshake_that_takes_its_time_and_the_client_talks_meanwhile() {
    let mut session = Session::open("").await;
    session.upstream.change(answering(Answer::HandOver));
    session.die(Death::Reset).await;
    let mut server = session.upstream.accept().await;
    session.says_meanwhile(&["one", "two"]).await;
    server.accept_websocket().await;
    hears(&mut server, &["one", "two"]).await;
    server.text("here").await;
    session.client.expect_text("here").await;
    assert_eq!(session.proxy.redials("failed").await, 0.0);
}

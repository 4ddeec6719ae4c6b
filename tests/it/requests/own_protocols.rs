//! Subprotocols that are this proxy's own: no server sees any of them, and a client that offers some is answered one where it
//! would fail otherwise.

use std::sync::Arc;

use outrigger::config::{OnRefuse, TokenSource};

use crate::support::client::Dial;
use crate::support::feed::feed;
use crate::support::http::{self, Head};
use crate::support::proxy::Proxy;
use crate::support::token::{by_secret, for_user};
use crate::support::upstream::{Answer, Plain, Upstream};

const PROTOCOL: &str = "Sec-WebSocket-Protocol";
const TICKET: &str = "AQ-_56789012345678901234567890123456789012345678901234567890";
const NONCE: &str = "outrigger.nonce.abcdefghijklmnopqrstuv";

/// What a client that knows this proxy offers, behind what its application does.
fn ours() -> String {
    format!("outrigger.plain, outrigger.v1, {NONCE}, outrigger.resume.{TICKET}.41")
}

/// Opens it as browsers do (WHATWG, "establish a WebSocket connection"): it fails if something was offered and nothing is
/// chosen, or something that was not offered.
async fn as_browser(dial: Dial, offer: &str) -> Option<String> {
    let client = dial.header(PROTOCOL, offer).open().await;
    let chosen = client.response.header(PROTOCOL).map(str::to_owned);
    let offered: Vec<&str> = offer.split(',').map(str::trim).collect();
    match &chosen {
        Some(chosen) => assert!(offered.contains(&chosen.as_str()), "{chosen} was not offered: {offer}"),
        None => panic!("a browser fails, since nothing was chosen of {offer}"),
    }
    chosen
}

/// Chooses the first subprotocol whatever it is, as Node's `ws` does.
fn first() -> Answer {
    Answer::With(Arc::new(|head: &Head| {
        let offer = head.header(PROTOCOL).unwrap_or_default();
        let first = offer.split(',').next().map(str::trim).filter(|first| !first.is_empty());
        let mut answer = String::from_utf8(http::switching(head)).unwrap();
        if let Some(first) = first {
            answer.insert_str(answer.len() - 2, &format!("{PROTOCOL}: {first}\r\n"));
        }
        answer.into_bytes()
    }))
}

#[tokio::test]
async fn a_tunnel_answers_an_entry_of_ours_only_where_the_server_chooses_nothing() {
    let all = ours();
    let (with_chat, bearer) = (format!("chat, soap, {all}"), "outrigger.bearer, TOKEN".to_owned());
    // what is offered, how the server answers, what it sees, what the client is answered
    let cases = [
        (all.clone(), first(), None, "outrigger.plain"),
        ("outrigger.v1".into(), first(), None, "outrigger.v1"),
        (format!("{bearer}, outrigger.v2"), first(), None, "outrigger.bearer"),
        (with_chat.clone(), first(), Some("chat, soap"), "chat"),
        (with_chat, Answer::Accept, Some("chat, soap"), "outrigger.plain"),
        (
            "chat, outrigger.v1, soap".into(),
            Answer::accept_with(&[(PROTOCOL, "soap")]),
            Some("chat, soap"),
            "soap",
        ),
    ];
    for (offer, answer, seen, chosen) in cases {
        let upstream = Upstream::builder().answering(answer).spawn().await;
        let proxy = Proxy::to(&upstream).spawn().await;
        assert_eq!(as_browser(proxy.dial(), &offer).await.as_deref(), Some(chosen), "{offer}");
        assert_eq!(upstream.handshakes()[0].head.header(PROTOCOL), seen, "{offer}");
    }
    // A server that has heard of ours from elsewhere cannot choose one of them.
    let upstream =
        Upstream::builder().answering(Answer::accept_with(&[(PROTOCOL, "outrigger.v1")])).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let refused = proxy.dial().header(PROTOCOL, &format!("chat, {all}")).refused().await;
    assert_eq!(refused.status(), 502, "it was not offered to it");
}

#[tokio::test]
async fn no_server_sees_an_entry_of_ours_whatever_the_route() {
    let upstream = Upstream::builder().on_request(Plain::fixed(200, &[], "")).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let offers = [
        ours(),
        format!("{}, {}", ours(), ours()),
        "outrigger.resume.broken".into(),
        "outrigger.".into(),
        "outrigger.bearer".into(),
        format!("outrigger.bearer, {}", ours()),
    ];
    for offer in &offers {
        let client = proxy.dial().header(PROTOCOL, "chat").also(PROTOCOL, offer).open().await;
        drop(client);
        let request = proxy.plain().header(PROTOCOL, &format!("{offer}, chat"));
        assert_eq!(request.answer().await.response.status(), 200);
    }
    for handshake in upstream.handshakes() {
        assert_eq!(handshake.head.headers.all(PROTOCOL), ["chat"]);
    }
    for request in upstream.requests() {
        assert!(!format!("{:?}", request.head).contains("outrigger."), "{:?}", request.head);
    }

    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "").spawn().await;
    let client = proxy.dial().path("/feed/a").header(PROTOCOL, &ours()).open();
    let (_client, server) = (client.await, upstream.accept().await);
    assert!(!format!("{:?}", server.request.head).contains("outrigger."), "{:?}", server.request.head);
}

#[tokio::test]
async fn no_server_sees_a_ticket_in_a_header_whatever_the_route() {
    const ROUTES: &str = "routes: [{name: chat, path: '/chat/{*r}', mode: session}, \
                          {name: feed, path: '/feed/{*r}', mode: broadcast}]";
    let upstream = Upstream::builder().on_request(Plain::fixed(200, &[], "")).spawn().await;
    let proxy = Proxy::to(&upstream).yaml(ROUTES).spawn().await;
    for name in ["X-Outrigger-Session", "x-outrigger-session", "X_Outrigger_Session"] {
        for path in ["/tunnel", "/chat/a", "/feed/a"] {
            // Naming it in Connection takes nothing out, and puts nothing back.
            let dial = proxy.dial().path(path).header("X-App", "1").header(name, TICKET);
            drop(dial.header("Connection", "Upgrade, X-Outrigger-Session").open().await);
        }
        let request = proxy.plain().path("/plain").header("X-App", "1").header(name, TICKET);
        assert_eq!(request.answer().await.response.status(), 200);
    }
    let heads = upstream.handshakes().into_iter().map(|handshake| handshake.head);
    let heads: Vec<_> = heads.chain(upstream.requests().into_iter().map(|request| request.head)).collect();
    assert!(heads.len() >= 10, "a feed is asked for once: {}", heads.len());
    for head in heads {
        assert!(!format!("{head:?}").contains(TICKET), "{head:?}");
    }
}

#[tokio::test]
async fn a_token_is_found_among_the_others_and_one_that_nobody_asks_for_reaches_nobody() {
    let upstream = Upstream::echo().await;
    let auth = by_secret(&[TokenSource::Subprotocol]);
    let guarded = Proxy::to(&upstream).policy(move |policy| policy.auth = Some(auth.clone())).spawn().await;
    let token = for_user("ann", 60);
    let offer = format!("chat, {}, outrigger.bearer, {token}", ours());
    let mut client = guarded.dial().header(PROTOCOL, &offer).open().await;
    client.text("hi").await;
    client.expect_text("hi").await;
    let open = Proxy::to(&upstream).spawn().await;
    let offer = format!("outrigger.bearer, {token}, chat");
    let _client = open.dial().header(PROTOCOL, &offer).open().await;
    let seen = upstream.handshakes();
    assert_eq!(seen[0].head.header("X-Outrigger-User"), Some("ann"));
    for handshake in &seen {
        assert_eq!(handshake.head.headers.all(PROTOCOL), ["chat"]);
        assert!(!format!("{:?}", handshake.head).contains(&token));
    }
}

#[tokio::test]
async fn a_page_that_is_refused_by_a_close_is_answered_one_that_it_offered() {
    let upstream = Upstream::echo().await;
    let auth = by_secret(&[TokenSource::Subprotocol]);
    let proxy = Proxy::to(&upstream)
        .policy(move |policy| {
            policy.auth = Some(auth.clone());
            policy.on_refuse = OnRefuse::Close;
        })
        .spawn()
        .await;
    for (offer, expected) in [
        (format!("{}, outrigger.bearer, WRONG", ours()), "outrigger.plain"),
        (format!("{}, chat", ours()), "chat"),
        ("outrigger.bearer, WRONG".into(), "outrigger.bearer"),
    ] {
        assert_eq!(as_browser(proxy.dial(), &offer).await.as_deref(), Some(expected), "{offer}");
    }
}

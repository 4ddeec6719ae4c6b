//! The hello, member by member, and who gets one.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::DEADLINE;
use crate::support::feed::FEED;
use crate::support::link::Message;
use crate::support::proxy::Proxy;
use crate::support::session::session;
use crate::support::ticket_client::{Cut, TicketClient};
use crate::support::ticketed::Ticketed;
use crate::support::upstream::{Act, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::Frame;

fn text<'a>(hello: &'a Value, member: &str) -> &'a str {
    hello[member].as_str().unwrap_or_else(|| panic!("{member} is a text: {hello}"))
}

#[tokio::test]
async fn a_hello_comes_before_anything_the_server_says_and_has_all_its_members() {
    let policy = "max_message: 5000, max_frame: 5000, session: {resume_window: 7s}, \
                  heartbeat: {interval: 20s, timeout: 5s, max_missed: 2}";
    let upstream = Upstream::builder().on_open([Act::Send(Frame::text("at once"))]);
    let mut session = Ticketed::before(upstream, policy, |dial| dial, |proxy| proxy).await;
    let hello = session.hello.clone();
    session.client.hears(&["at once"]).await;
    let constant = json!({
        "v": 1, "resumed": false, "sequence": 0, "received": 0, "lost": 0, "window": 7000, "maxMessage": 5000,
        "heartbeat": {"interval": 20_000, "timeout": 5000, "misses": 2},
    });
    for (member, expected) in constant.as_object().unwrap() {
        assert_eq!(&hello[member], expected, "{member}: {hello}");
    }
    assert_eq!(text(&hello, "nonce"), session.client.nonces[0]);
    assert_eq!(text(&hello, "session").len(), 60, "{hello}");
    let control = text(&hello, "control");
    assert!(control.len() == 16 && control.starts_with('~'), "{hello}");
    assert!(hello.get("previous").is_none(), "{hello}");

    // Over all links: what is the link's is new, what is the session's stays.
    session.works().await;
    session.server().text("missed").await;
    session.lose_client(Cut::Reset).await;
    let next = session.client.resume().await;
    assert_eq!(next["epoch"], hello["epoch"], "numbers mean the same");
    assert_eq!(
        (&next["sequence"], &next["head"], &next["received"]),
        (&json!(2), &json!(3), &json!(2)),
        "{next}"
    );
    assert_eq!(text(&next, "nonce"), session.client.nonces[1]);
    for member in ["nonce", "session", "control"] {
        assert_ne!(next[member], hello[member], "{member}");
    }
    assert!(next.get("previous").is_none(), "{next}");
    session.client.hears(&["missed"]).await;

    // Another session has numbers of its own.
    session.client.ticket = None;
    let other = session.client.begin_anew().await;
    assert_ne!(other["epoch"], hello["epoch"]);
}

#[tokio::test]
async fn a_client_without_a_nonce_gets_a_hello_without_one() {
    let upstream = Upstream::by_hand().await;
    let proxy = session(&upstream, "").spawn().await;
    let mut client = proxy.dial().header("Sec-WebSocket-Protocol", "outrigger.v1").open().await;
    assert_eq!(client.response.header("Sec-WebSocket-Protocol"), Some("outrigger.v1"));
    let Message::Text(hello) = client.next_message().await else { panic!("a text is due") };
    let hello: Value = serde_json::from_str(&hello).unwrap();
    assert!(hello["outrigger"].get("nonce").is_none() && hello["outrigger"]["v"] == 1, "{hello}");
}

#[tokio::test]
async fn who_does_not_offer_the_protocol_gets_no_hello() {
    let upstream = Upstream::by_hand().await;
    let proxy = session(&upstream, "").spawn().await;
    for offer in ["chat", "outrigger.plain", "outrigger.v2"] {
        let mut client = proxy.dial().header("Sec-WebSocket-Protocol", offer).open().await;
        let mut server = upstream.accept().await;
        server.text("first").await;
        client.expect_text("first").await;
        // Nobody could come back.
        client.reset();
        assert_eq!(server.closed().await.code, 1001, "{offer}");
    }
}

/// How a session with three messages of its client, two of them known to be received, ends; why that is told.
async fn end(session: &mut Ticketed, why: &str) {
    match why {
        "server" => {
            session.server().close(4000, "over").await;
            assert_eq!(session.client.let_go().await.0, 4000);
        }
        "window" => {
            session.client.cut(Cut::Reset).await;
            let closed = session.server().closed().await;
            assert_eq!((closed.code, &*closed.reason), (1001, "client did not come back"));
        }
        "fault" => {
            session.client.control("no JSON").await;
            assert_eq!(session.client.let_go().await.0, 1002);
        }
        "overflow" => {
            session.client.cut(Cut::Reset).await;
            session.proxy.away(1.0).await;
            for _ in 0..11 {
                session.server().text("more than is kept").await;
            }
            session.server().closed().await;
        }
        "idle" => assert_eq!(session.client.let_go().await.0, 1001),
        _ => panic!("{why}"),
    }
}

#[tokio::test]
async fn after_each_kind_of_end_the_client_is_told_what_had_been_received_and_why() {
    for why in ["server", "client", "window", "fault", "overflow", "idle"] {
        let window = if why == "window" { "300ms" } else { "20s" };
        let mut policy = format!("history: {{messages: 10}}, session: {{resume_window: {window}}}");
        if why == "idle" {
            policy.push_str(", idle_timeout: 500ms");
        }
        let mut session = Ticketed::open(&policy).await;
        for text in ["one", "two", "three"] {
            session.client.say(text).await;
        }
        for text in ["one", "two", "three"] {
            session.server().expect_text(text).await;
        }
        // Beside it, so that "client" has both ends.
        if why == "client" {
            let mut server = session.take_server();
            let (closed, server) = tokio::join!(session.client.close(1000), server.closed());
            assert_eq!((closed.code, server.code), (1000, 1000));
        } else {
            end(&mut session, why).await;
        }
        session.proxy.ends_sessions(why, 1.0).await;
        let hello = session.client.begin_anew().await;
        assert_eq!(hello["previous"], json!({"received": 3, "why": why}), "{hello}");
        assert_eq!(hello["lost"], Value::Null, "{why}: it is not known: {hello}");
        assert_eq!(session.proxy.resumes("gone").await, 1.0, "{why}");
        session.next_server().await;
        session.works().await;
    }
}

#[tokio::test]
async fn without_a_window_there_is_a_hello_and_no_ticket() {
    let mut session = Ticketed::open("session: {resume_window: 0s}").await;
    assert_eq!((&session.hello["session"], &session.hello["window"]), (&Value::Null, &json!(0)));
    session.works().await;
    session.client.control(r#"{"ping":5}"#).await;
    assert_eq!(session.client.is_told("pong").await, 5);
    session.client.cut(Cut::Reset).await;
    assert_eq!(session.server().closed().await.code, 1001, "nobody can come back");
    session.client.begin_anew().await;
}

#[tokio::test]
async fn with_no_memory_left_there_is_no_ticket_and_the_session_goes_as_a_plain_one() {
    let upstream = Upstream::by_hand().await;
    let mut away = Upstream::by_hand().await;
    let routes = format!(
        "routes: [{{name: chat, path: /chat, mode: session}}, {{name: hog, path: /hog, mode: session, \
         upstream: {{url: '{}'}}, policy: {{session: {{queue: {{bytes: 16MiB}}}}}}}}]",
        away.url()
    );
    let proxy = Proxy::to(&upstream).yaml(&routes).yaml("memory: {max_buffered: 1MiB}").spawn().await;
    let mut hog = TicketClient::new(proxy.dial().path("/hog"));
    hog.begin_anew().await;
    let server = away.accept().await;
    away.stop().await;
    server.reset();
    assert_eq!(hog.is_told("server").await, "lost");
    // What waits for a server fills it: nobody's delivery makes room of that.
    for _ in 0..40 {
        hog.say_frame(Frame::binary(vec![1; 64 << 10])).await;
    }
    eventually(DEADLINE, || async {
        let held = proxy.metric("outrigger_memory_buffered_bytes").await;
        if held > 1_048_576.0 { Ok(()) } else { Err(held) }
    })
    .await;
    let mut client = TicketClient::new(proxy.dial().path("/chat"));
    let hello = client.begin_anew().await;
    assert_eq!(hello["session"], Value::Null, "{hello}");
    let mut server = upstream.accept().await;
    server.text("hello").await;
    client.hears(&["hello"]).await;
    client.cut(Cut::Reset).await;
    assert_eq!(server.closed().await.code, 1001, "nobody can come back");
}

/// Threat: the server, or a member of a chat through it, says a hello of its own on a route where there is none.
#[tokio::test]
async fn threat_a_forged_hello_on_a_tunnel_is_a_message_as_any() {
    let upstream = Upstream::by_hand().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let mut client = TicketClient::new(proxy.dial());
    let nobodys = json!({"outrigger": {"v": 1, "nonce": "AAAAAAAAAAAAAAAAAAAAAA", "session": "x".repeat(60),
        "resumed": false, "sequence": 0, "received": 1000, "control": "~AAAAAAAAAAAAAA:"}});
    let serving = async {
        let mut server = upstream.accept().await;
        let protocols = server.request.head.header("Sec-WebSocket-Protocol");
        assert_eq!(protocols, None, "the server is never shown the nonce");
        server.text(&nobodys.to_string()).await;
        server
    };
    let (connected, mut server) = tokio::join!(client.try_connect(), serving);
    assert_eq!(connected.unwrap(), None);
    assert_eq!(client.first, Some(Message::Text(nobodys.to_string())), "it is the application's");
    assert_eq!((client.ticket.clone(), client.prefix.clone()), (None, None));
    // And nothing that comes later is believed.
    client.say("kept").await;
    server.text(r#"~AAAAAAAAAAAAAA:{"ack":1}"#).await;
    client.hears(&[r#"~AAAAAAAAAAAAAA:{"ack":1}"#]).await;
    assert_eq!(client.unacknowledged(), 1);
    server.expect_text("kept").await;
    tokio::time::timeout(Duration::from_millis(50), client.next()).await.expect_err("nothing else comes");
}

#[tokio::test]
async fn a_ticket_of_a_session_means_nothing_to_a_feed_and_to_a_tunnel() {
    let mut session = Ticketed::open("").await;
    session.works().await;
    let upstream = Upstream::by_hand().await;
    let feed = Proxy::to(&upstream).yaml(FEED).spawn().await;
    let mut client = TicketClient::new(feed.dial().path("/feed/1"));
    client.ticket = session.client.ticket.clone();
    let (hello, mut server) = tokio::join!(client.connect(), upstream.accept());
    assert_eq!((&hello["session"], &hello["resumed"]), (&Value::Null, &json!(false)), "{hello}");
    server.text("hello").await;
    client.hears(&["hello"]).await;
}

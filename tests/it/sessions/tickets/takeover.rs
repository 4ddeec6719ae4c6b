//! The newest link of a client has its session, and the one before is told so.

use std::time::Duration;

use serde_json::json;

use crate::support::link::Message;
use crate::support::ticket_client::{Cut, Event, TicketClient};
use crate::support::ticketed::Ticketed;

/// The same client in another tab: it has the ticket, and has seen as much.
fn duplicate(session: &Ticketed) -> TicketClient {
    let mut other = TicketClient::new(session.proxy.dial());
    other.ticket = session.client.ticket.clone();
    (other.seen, other.said) = (session.client.seen, session.client.said);
    other
}

#[tokio::test]
async fn the_link_before_is_told_and_what_it_says_then_is_not_received() {
    let mut session = Ticketed::open("").await;
    session.works().await;
    let mut newer = duplicate(&session);
    newer.resume().await;
    let prefix = session.client.prefix.clone();
    session.client.say("too late").await;
    let (code, reason, bye) = session.client.let_go().await;
    assert_eq!((code, &*reason), (1008, "taken over"), "{prefix:?}");
    assert_eq!(bye, Some(json!({"why": "taken_over", "resume": false, "ack": 2})));
    newer.say("in time").await;
    session.server().expect_text("in time").await;
    session.server().text("hello").await;
    newer.hears(&["hello"]).await;
    assert_eq!(session.upstream.handshakes().len(), 1);
    session.server().expect_silence(Duration::from_millis(30)).await;
    let metrics = session.proxy.metrics().await;
    let taken_over = "outrigger_disconnections_total{route=\"chat\",reason=\"taken_over\"}";
    assert_eq!(metrics.get(taken_over), Some(1.0));
    // The one that lost it drops its ticket, and there is no fight.
    session.client.ticket = None;
    session.client.begin_anew().await;
    newer.say("still here").await;
    session.server().expect_text("still here").await;
}

#[tokio::test]
async fn a_link_whose_client_reads_nothing_is_taken_over_all_the_same() {
    // Neither of them is ever too far behind.
    let lag = "max_lag: {messages: 100000, bytes: 64MiB}";
    let policy = format!("close_timeout: 300ms, history: {{bytes: 64MiB}}, delivery: {{{lag}}}");
    let mut session = Ticketed::open(&policy).await;
    session.works().await;
    let mut newer = duplicate(&session);
    session.client.cut(Cut::Silence).await;
    for round in 0..200_u32 {
        session.server().binary(&vec![0; 16 << 10]).await;
        if round == 0 {
            newer.seen = session.client.seen;
        }
    }
    newer.resume().await;
    for _ in 0..200 {
        assert!(matches!(newer.next_message().await, Message::Binary(_)));
    }
    session.server().text("hello").await;
    newer.hears(&["hello"]).await;
    // The one before does not answer its Close: it is gone after close_timeout.
    session.proxy.becomes_soon("outrigger_clients{route=\"chat\"}", 1.0).await;
}

/// Threat: two handshakes with one ticket at the same moment.
#[tokio::test]
async fn threat_of_two_attaches_at_the_same_moment_one_wins_and_each_message_arrives_once() {
    let mut session = Ticketed::open("limits: {control_rate: null}").await;
    let (mut up, mut down) = (0_u64, 0_u64);
    let rounds = 1000;
    for round in 0..rounds {
        let mut left = duplicate(&session);
        let mut right = duplicate(&session);
        session.client.cut(Cut::Reset).await;
        session.server().text(&down.to_string()).await;
        down += 1;
        let (first, second) = tokio::join!(left.try_connect(), right.try_connect());
        let mut winners = Vec::new();
        for (client, connected) in [(left, first), (right, second)] {
            // Each was let in, was let in and put out again before its hello, or came with a ticket that was worth
            // nothing by then: then it is a session of its own.
            match connected {
                Ok(Some(hello)) if hello["resumed"] == true => winners.push(client),
                Ok(Some(hello)) => panic!("{round}: {hello}"),
                Ok(None) => panic!("{round}: a hello comes first"),
                Err(_) => {}
            }
        }
        assert!(!winners.is_empty(), "{round}: nobody got in");
        // Who had it for a moment is told; who has it says something and is heard.
        let mut owner = None;
        for mut client in winners {
            client.say(&up.to_string()).await;
            client.control(r#"{"ping":1}"#).await;
            let mut heard = 0;
            let stays = loop {
                match client.next().await {
                    Event::Message(message) => {
                        heard += 1;
                        assert_eq!(message, Message::Text((down - 1).to_string()), "{round}");
                    }
                    Event::Control(control) if control.get("pong").is_some() => break true,
                    Event::Control(_) => {}
                    Event::Close(code, _) => {
                        assert_eq!(code, 1008, "{round}");
                        break false;
                    }
                    Event::End(_) => break false,
                }
            };
            if stays {
                assert_eq!(heard, 1, "{round}");
                assert!(owner.replace(client).is_none(), "{round}: two of them have the session");
            }
        }
        session.client = owner.unwrap_or_else(|| panic!("{round}: nobody has the session"));
        // Said by the owner, once, whoever else has said it in vain.
        session.server().expect_text(&up.to_string()).await;
        up += 1;
        session.client.confirm().await;
    }
    assert_eq!(session.upstream.handshakes().len(), 1, "the server has seen one connection");
    session.works().await;
}

//! What a lost server may have taken: told, or said again; what it surely has: never again; and messages that end server
//! after server.

use std::time::Duration;

use crate::support::A_MOMENT;
use crate::support::link::{Message, Received};
use crate::support::session::{Death, LOST, RESTORED, Session, hears};
use crate::support::wire::{self, Frame};

const AGAIN: &str = "session: {queue: {replay: unacknowledged}}";

/// What a client is told of messages that a server may have taken.
fn uncertain(messages: u64) -> String {
    format!(r#"{{"type":"outrigger","event":"uncertain","messages":{messages}}}"#)
}

/// The next data messages, whose receipts are never given.
async fn hears_without_receipts(session: &mut Session, texts: &[&str]) {
    for text in texts {
        loop {
            let frame = session.server().next_frame().await;
            match frame.opcode {
                wire::PING => {}
                wire::TEXT => break assert_eq!(frame.as_text(), *text),
                _ => panic!("{frame:?}"),
            }
        }
    }
}

/// Nothing but pings comes, which nobody answers.
async fn hears_nothing(session: &mut Session) {
    let until = tokio::time::Instant::now() + A_MOMENT;
    loop {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        match session.server().receive_within(left).await {
            None => return,
            Some(Received::Frame(frame)) if frame.opcode == wire::PING => {}
            Some(other) => panic!("nothing was due, but: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_a_server_may_have_taken_is_told_and_not_said_again_by_default() {
    for notices in [true, false] {
        let mut session = Session::open(&format!("notices: {notices}")).await;
        session.client.text("one").await;
        session.client.text("two").await;
        hears_without_receipts(&mut session, &["one", "two"]).await;
        session.lose(Death::Reset).await;
        session.proxy.loses_messages("uncertain", 2.0).await;
        session.says_meanwhile(&["three"]).await;
        session.back().await;
        hears(session.server(), &["three"]).await;
        if notices {
            session.is_told(&[&uncertain(2), LOST], RESTORED).await;
        }
        session.works().await;
        assert_eq!(session.proxy.metrics().await.sum("outrigger_messages_lost_total"), 2.0);
        assert_eq!(session.proxy.chat("messages_replayed_total").await, 0.0);
    }
}

#[tokio::test]
async fn where_it_is_asked_for_what_a_server_may_have_taken_is_said_again_before_all_else() {
    let mut session = Session::open(AGAIN).await;
    session.client.text("one").await;
    session.client.binary(b"\x00two").await;
    hears_without_receipts(&mut session, &["one"]).await;
    session.lose(Death::Reset).await;
    session.says_meanwhile(&["three"]).await;
    session.back().await;
    session.server().expect_text("one").await;
    session.server().expect_binary(b"\x00two").await;
    session.server().expect_text("three").await;
    session.works().await;
    let metrics = session.proxy.metrics().await;
    assert_eq!(metrics.sum("outrigger_messages_replayed_total"), 2.0);
    assert_eq!(metrics.sum("outrigger_messages_lost_total"), 0.0);
}

#[tokio::test]
async fn what_a_server_has_answered_for_is_never_said_again_nor_told() {
    for policy in ["notices: true", &format!("notices: true, {AGAIN}")] {
        let mut session = Session::open(policy).await;
        session.client.text("taken").await;
        session.server().expect_text("taken").await;
        session.proves().await;
        session.lose(Death::Reset).await;
        session.back().await;
        session.client.expect_text(LOST).await;
        session.client.expect_text(RESTORED).await;
        hears_nothing(&mut session).await;
        session.works().await;
        let metrics = session.proxy.metrics().await;
        assert_eq!(metrics.sum("outrigger_messages_replayed_total"), 0.0, "{policy}");
        assert_eq!(metrics.sum("outrigger_messages_lost_total"), 0.0, "{policy}");
    }
}

#[tokio::test]
async fn what_a_server_says_proves_nothing() {
    let mut session = Session::open(AGAIN).await;
    session.client.text("asked").await;
    hears_without_receipts(&mut session, &["asked"]).await;
    // A pong that nobody asked for is none either.
    session.server().send_frame(&Frame::pong(b"outrigger")).await;
    session.server().text("answered").await;
    session.client.expect_text("answered").await;
    session.lose(Death::Reset).await;
    session.back().await;
    session.server().expect_text("asked").await;
}

#[tokio::test]
async fn receipts_are_few_whatever_a_client_says() {
    let mut session = Session::open("").await;
    let (client, server) = session.ends();
    let since = tokio::time::Instant::now();
    let talking = async {
        for n in 0..1000 {
            client.text(&n.to_string()).await;
        }
    };
    let mut pings = 0.0;
    let listening = async {
        let mut heard = 0;
        while heard < 1000 {
            let frame = server.next_frame().await;
            match frame.opcode {
                wire::TEXT => {
                    assert_eq!(frame.as_text(), heard.to_string());
                    heard += 1;
                }
                wire::PING => {
                    pings += 1.0;
                    server.send_frame(&Frame::pong(frame.payload)).await;
                }
                _ => panic!("{frame:?}"),
            }
        }
    };
    tokio::join!(talking, listening);
    let most = 2.0 + 4.0 * since.elapsed().as_secs_f64();
    assert!(pings <= most, "{pings} in {:?}", since.elapsed());
}

#[tokio::test]
async fn without_receipts_nobody_is_pinged_and_nothing_is_proven() {
    let mut session = Session::open("session: {receipts: false}").await;
    session.client.text("one").await;
    let frame = session.server().next_frame().await;
    assert_eq!(frame.as_text(), "one");
    session.server().expect_silence(Duration::from_millis(500)).await;
    session.lose(Death::Reset).await;
    session.proxy.loses_messages("uncertain", 1.0).await;
    session.back().await;
    session.works().await;
}

#[tokio::test]
async fn of_what_has_not_left_nothing_is_lost_and_nothing_is_said_twice() {
    for (policy, is_again) in [("", false), (AGAIN, true)] {
        // The client says it as fast as it is taken; a server that does not read leaves some of it here.
        let policy = format!("{policy}{}notices: true", if policy.is_empty() { "" } else { ", " });
        let mut session = Session::open(&policy).await;
        session.server().stop_reading();
        let message = |n: u32| [&n.to_be_bytes()[..], &[0; 16 * 1024]].concat();
        let mut said = 0_u32;
        while session.proxy.metric("outrigger_buffered_bytes").await < 16.0 * 1024.0 {
            session.client.binary(&message(said)).await;
            said += 1;
            assert!(said < 2000, "32 MiB went to a server that does not read");
        }
        let more = said + 3;
        while said < more {
            session.client.binary(&message(said)).await;
            said += 1;
        }
        session.lose(Death::Reset).await;
        session.client.text("the end").await;
        session.back().await;
        let mut heard = Vec::new();
        loop {
            match session.server().next_message().await {
                Message::Binary(bytes) => {
                    heard.push(u32::from_be_bytes(*bytes.first_chunk().unwrap()));
                    assert_eq!(bytes.len(), 4 + 16 * 1024, "it is whole");
                }
                Message::Text(text) => break assert_eq!(text, "the end"),
            }
        }
        let uncertain = session.proxy.messages_lost("uncertain").await as u32;
        assert_eq!(heard.len() as u32, said - uncertain, "what is not told is said");
        let first = heard.first().copied().unwrap_or(said);
        assert_eq!(heard, Vec::from_iter(first..said), "in order, from some message on");
        assert_eq!(uncertain, first, "and what was before it was told");
        assert!(!heard.is_empty(), "what waited here had surely not left");
        if is_again {
            assert_eq!(uncertain, 0);
        } else {
            assert!(uncertain > 0, "the kernel had taken some");
        }
        session.works_after_notices().await;
    }
}

impl Session {
    /// As [`Session::works`], whatever was told before.
    async fn works_after_notices(&mut self) {
        let (client, server) = self.ends();
        server.text("now").await;
        while client.next_message().await != Message::Text("now".to_owned()) {}
        self.works().await;
    }
}

#[tokio::test]
async fn a_message_that_ends_server_after_server_is_said_alone_and_then_not_any_more() {
    let mut session = Session::open(AGAIN).await;
    session.client.text("poison").await;
    session.client.text("harmless").await;
    hears_without_receipts(&mut session, &["poison", "harmless"]).await;
    session.die(Death::Reset).await;
    session.next_link().await;
    hears_without_receipts(&mut session, &["poison", "harmless"]).await;
    session.die(Death::Reset).await;
    session.next_link().await;
    hears_without_receipts(&mut session, &["poison"]).await;
    hears_nothing(&mut session).await;
    session.die(Death::Reset).await;
    let closed = session.client.closed().await;
    assert_eq!(closed.code, 1011, "{closed:?}");
    session.is_over("poison", "poison").await;
    assert_eq!(session.upstream.accepted(), 3);
}

#[tokio::test]
async fn a_message_that_was_suspected_and_is_taken_after_all_lets_the_others_go_on_and_soon() {
    let mut session = Session::open(AGAIN).await;
    let texts = Vec::from_iter((0..40).map(|n| n.to_string()));
    let texts = Vec::from_iter(texts.iter().map(String::as_str));
    for text in &texts {
        session.client.text(text).await;
    }
    for _ in 0..2 {
        hears_without_receipts(&mut session, &texts).await;
        session.die(Death::Reset).await;
        session.next_link().await;
    }
    session.client.text("of this link").await;
    let since = tokio::time::Instant::now();
    // This answers pings: each message is said when the one before it was taken.
    hears(session.server(), &texts).await;
    session.server().expect_text("of this link").await;
    // At four receipts a second it would take ten.
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    session.works().await;
}

#[tokio::test]
async fn by_default_no_message_is_said_to_a_second_server_that_might_have_ended_the_first() {
    let mut session = Session::open("").await;
    for round in 1..=5 {
        session.client.text("poison").await;
        hears_without_receipts(&mut session, &["poison"]).await;
        session.die(Death::Reset).await;
        session.next_link().await;
        session.proxy.loses_messages("uncertain", f64::from(round)).await;
        hears_nothing(&mut session).await;
    }
    session.works().await;
}

#[tokio::test]
async fn deaths_without_anything_uncertain_end_no_session() {
    let mut session = Session::open(AGAIN).await;
    for _ in 0..6 {
        session.client.text("hello").await;
        session.server().expect_text("hello").await;
        session.proves().await;
        session.die(Death::Reset).await;
        session.next_link().await;
    }
    session.works().await;
}

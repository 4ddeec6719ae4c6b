//! What a client says while its server is away: how much of it is kept, for how long, and what is told of the rest.

use std::time::Duration;

use crate::support::logged::Logged;
use crate::support::session::{Death, Session, hears};

#[tokio::test]
async fn beyond_so_many_messages_the_oldest_go() {
    let (logged, _logging) = Logged::of_this_thread();
    let mut session = Session::open("session: {queue: {messages: 3}}").await;
    session.lose(Death::Reset).await;
    session.says_meanwhile(&["1", "2", "3", "4", "5"]).await;
    session.proxy.loses_messages("queue", 2.0).await;
    session.back().await;
    hears(session.server(), &["3", "4", "5"]).await;
    session.works().await;
    assert_eq!(session.proxy.metrics().await.sum("outrigger_messages_lost_total"), 2.0);
    let line = logged.line("messages of a session's client did not surely reach its server");
    assert_eq!((&line["route"], &line["why"]), (&"chat".into(), &"queue".into()), "{line}");
}

#[tokio::test]
async fn beyond_so_many_bytes_the_oldest_go() {
    let mut session = Session::open("session: {queue: {bytes: 3000, messages: 100}}").await;
    session.lose(Death::Fin).await;
    let texts = ["a", "b", "c", "d", "e"].map(|text| text.repeat(900));
    session.says_meanwhile(&texts.each_ref().map(String::as_str)).await;
    let lost = session.proxy.messages_lost("queue").await;
    // Three of them fit, or two beside what it costs to keep them.
    assert!((2.0..=3.0).contains(&lost), "{lost}");
    session.back().await;
    let kept = texts[lost as usize..].iter().map(String::as_str);
    hears(session.server(), &Vec::from_iter(kept)).await;
    session.works().await;
    assert_eq!(session.proxy.messages_lost("queue").await, lost);
}

#[tokio::test]
async fn a_message_that_is_larger_than_the_queue_is_counted_and_the_others_stay() {
    let mut session = Session::open("session: {queue: {bytes: 3000}}").await;
    session.lose(Death::Fin).await;
    let large = "x".repeat(5000);
    session.says_meanwhile(&["before", &large, "after"]).await;
    let lost = session.proxy.messages_lost("queue").await;
    session.back().await;
    // The newest is kept in any case, the large one never.
    match lost as u64 {
        1 => hears(session.server(), &["before", "after"]).await,
        2 => hears(session.server(), &["after"]).await,
        _ => panic!("{lost} lost"),
    }
    session.works().await;
}

#[tokio::test]
async fn what_has_waited_too_long_is_dropped() {
    let mut session = Session::open("session: {queue: {age: 300ms}}").await;
    session.lose(Death::Reset).await;
    session.says_meanwhile(&["old", "older than that"]).await;
    session.proxy.loses_messages("age", 2.0).await;
    session.says_meanwhile(&["fresh"]).await;
    session.back().await;
    hears(session.server(), &["fresh"]).await;
    session.works().await;
    assert_eq!(session.proxy.metrics().await.sum("outrigger_messages_lost_total"), 2.0);
}

#[tokio::test]
async fn what_is_not_worth_keeping_is_left_out_while_the_server_is_away_only() {
    let skip = "session: {queue: {messages: 3, skip: {pointer: /type, values: [ping]}}}";
    let mut session = Session::open(skip).await;
    let ping = r#"{"type":"ping"}"#;
    let (client, server) = session.ends();
    client.text(ping).await;
    server.expect_text(ping).await;
    session.proves().await;
    session.lose(Death::Reset).await;
    session.says_meanwhile(&[ping, "one", ping, ping, "two", ping, r#"{"type":"pong"}"#]).await;
    session.back().await;
    hears(session.server(), &["one", "two", r#"{"type":"pong"}"#]).await;
    session.works().await;
    // It was asked for: none of it is told as lost.
    assert_eq!(session.proxy.metrics().await.sum("outrigger_messages_lost_total"), 0.0);
}

#[tokio::test]
async fn text_and_bytes_keep_their_kinds_and_their_order() {
    let mut session = Session::open("").await;
    session.lose(Death::Reset).await;
    let long = vec![9; 200_000];
    let before = session.proxy.metric("outrigger_messages_in_total").await;
    session.client.text("").await;
    session.client.binary(b"").await;
    session.client.binary(&long).await;
    session.client.text("ä").await;
    session.proxy.becomes("outrigger_messages_in_total", before + 4.0).await;
    assert!(session.proxy.metric("outrigger_buffered_bytes").await > 200_000.0, "what is kept is counted");
    session.back().await;
    let server = session.server();
    server.expect_text("").await;
    server.expect_binary(b"").await;
    server.expect_binary(&long).await;
    server.expect_text("ä").await;
    session.proves_and_frees().await;
}

impl Session {
    /// When the server has taken all, nothing is kept.
    async fn proves_and_frees(&mut self) {
        self.proves().await;
        self.proxy.becomes("outrigger_buffered_bytes", 0.0).await;
    }
}

#[tokio::test]
async fn a_thousand_messages_wait_in_order_where_they_may() {
    let mut session = Session::open("session: {queue: {messages: 1000}}").await;
    session.lose(Death::Reset).await;
    let texts = Vec::from_iter((0..1000).map(|n| n.to_string()));
    let texts = Vec::from_iter(texts.iter().map(String::as_str));
    session.says_meanwhile(&texts).await;
    session.back().await;
    hears(session.server(), &texts).await;
    session.works().await;
    assert_eq!(session.proxy.metrics().await.sum("outrigger_messages_lost_total"), 0.0);
}

#[tokio::test]
async fn a_server_that_is_there_but_slow_is_waited_for_and_the_queue_says_nothing_about_that() {
    let mut session = Session::open("session: {queue: {messages: 1, bytes: 1KiB, age: 100ms}}").await;
    let (client, server) = session.ends();
    server.stop_reading();
    let message = crate::support::wire::Frame::binary(vec![1; 16 * 1024]);
    let taken = client.fill_until_blocked(&message, Duration::from_millis(300), 32 << 20).await;
    assert!(taken > 0, "the client waits, as it would without us");
    let whole = taken.div_ceil(message.encode(crate::support::wire::Role::Client).len());
    let reading = async {
        server.resume_reading();
        for _ in 0..whole {
            server.expect_binary(&message.payload).await;
        }
        server.text("all here").await;
    };
    // Writing an empty frame finishes the one that was blocked.
    let (sent, ()) = tokio::join!(client.try_send_bytes(b""), reading);
    sent.expect("the client is connected");
    client.expect_text("all here").await;
    assert_eq!(session.proxy.metrics().await.sum("outrigger_messages_lost_total"), 0.0);
}

//! What an operator publishes reaches sessions, between two messages of the server, and also while there is none.

use serde_json::{Value, json};

use crate::support::A_MOMENT;
use crate::support::session::{Death, Session};
use crate::support::wire::{self, Frame};

async fn publish(session: &Session, what: &Value) -> u64 {
    let answer = session.proxy.publish(what).await;
    answer["recipients"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

#[tokio::test]
async fn what_is_published_reaches_the_clients_and_no_server() {
    let mut session = Session::open("").await;
    let mut other = session.proxy.connect("/other").await;
    let mut others_server = session.upstream.accept().await;
    session.proxy.attached(2.0).await;
    assert_eq!(publish(&session, &json!({ "route": "chat", "text": "hello" })).await, 2);
    assert_eq!(publish(&session, &json!({ "route": "chat", "base64": "AP8=" })).await, 2);
    for client in [&mut session.client, &mut other] {
        client.expect_text("hello").await;
        client.expect_binary(b"\x00\xff").await;
    }
    others_server.expect_silence(A_MOMENT).await;
    session.server().expect_silence(A_MOMENT).await;
    session.works().await;
    let published = session.proxy.metric("outrigger_injections_total{outcome=\"ok\"}").await;
    assert_eq!(published, 4.0);
}

#[tokio::test]
async fn while_the_server_is_away_clients_can_be_told_why() {
    let mut session = Session::open("").await;
    session.lose(Death::Reset).await;
    assert_eq!(publish(&session, &json!({ "route": "chat", "text": "we are working on it" })).await, 1);
    session.client.expect_text("we are working on it").await;
    session.back().await;
    session.works().await;
}

#[tokio::test]
async fn within_a_message_of_the_server_it_waits_for_nothing_and_tears_nothing() {
    let mut session = Session::open("").await;
    session.server().send_frame(&Frame::text("the first half, ").not_final()).await;
    assert_eq!(publish(&session, &json!({ "route": "chat", "text": "between" })).await, 1);
    session.client.expect_text("between").await;
    session.server().send_frame(&Frame::new(wire::CONTINUATION, b"the second half")).await;
    session.client.expect_text("the first half, the second half").await;
    session.works().await;
}

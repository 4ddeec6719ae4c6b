//! A drain: each client is told what was received of it, and those who are away are not waited for.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::support::DEADLINE;
use crate::support::ticket_client::{Cut, TicketClient};
use crate::support::ticketed::Ticketed;
use crate::support::upstream::{Plain, ServerConn, Upstream};
use crate::support::wait::eventually;

/// A drain that has begun, and a plain request that keeps the proxy there for long enough to be asked what it saw.
async fn draining(drain: &str) -> (Ticketed, (impl Sized, ServerConn)) {
    let upstream = Upstream::builder().on_request(Plain::HandOver);
    let drain = drain.to_owned();
    let mut session = Ticketed::before(upstream, "", |dial| dial, |proxy| proxy.yaml(&drain)).await;
    session.works().await;
    let straggler = (session.proxy.plain().send().await, session.upstream.accept().await);
    (session, straggler)
}

async fn begin(session: &Ticketed) {
    session.proxy.drain();
    eventually(DEADLINE, || async { session.proxy.metric("outrigger_draining").await == 1.0 }).await;
}

#[tokio::test]
async fn a_client_is_told_what_was_received_of_it_after_all_that_its_server_said() {
    let (mut session, _straggler) = draining("drain: {spread: 300ms, close_code: 4013}").await;
    begin(&session).await;
    session.client.say("three").await;
    session.server().expect_text("three").await;
    session.server().text("last words").await;
    session.client.hears(&["last words"]).await;
    let (code, reason, bye) = session.client.let_go().await;
    assert_eq!((code, &*reason), (4013, "server is restarting"));
    let bye = bye.unwrap();
    assert_eq!(
        (&bye["why"], &bye["resume"], &bye["ack"]),
        (&json!("drain"), &json!(false), &json!(3)),
        "{bye}"
    );
    assert!(bye["after"].as_u64().is_some_and(|after| after <= 1000), "{bye}");
    assert_eq!(session.client.unacknowledged(), 0);
    assert_eq!(session.server().closed().await.code, 1001);
    session.proxy.ends_sessions("drain", 1.0).await;
}

#[tokio::test]
async fn a_client_that_is_away_may_come_back_until_closes_begin() {
    let (mut session, _straggler) = draining("drain: {delay: 1s, spread: 0s, timeout: 8s}").await;
    session.lose_client(Cut::Reset).await;
    begin(&session).await;
    session.server().text("meanwhile").await;
    session.client.resume().await;
    session.client.hears(&["meanwhile"]).await;
    let (code, _, bye) = session.client.let_go().await;
    assert_eq!(code, 1012);
    assert_eq!(bye.unwrap()["why"], "drain");
}

#[tokio::test]
async fn sessions_without_their_clients_end_when_closes_begin_and_hold_up_no_drain() {
    let upstream = Upstream::by_hand().await;
    let proxy = crate::support::session::session(&upstream, "");
    let proxy = proxy.yaml("drain: {delay: 300ms, spread: 0s, timeout: 60s}").spawn().await;
    let mut servers = Vec::new();
    for _ in 0..5 {
        let mut client = TicketClient::new(proxy.dial());
        client.begin_anew().await;
        servers.push(upstream.accept().await);
        client.cut(Cut::Reset).await;
    }
    proxy.away(5.0).await;
    let since = Instant::now();
    proxy.drain();
    for server in &mut servers {
        let closed = server.closed().await;
        assert_eq!((closed.code, &*closed.reason), (1001, "proxy is draining"));
    }
    assert!(since.elapsed() >= Duration::from_millis(290), "not before: {:?}", since.elapsed());
    proxy.ended_within(DEADLINE).await;
}

#[tokio::test]
async fn a_client_that_goes_while_closes_are_under_way_holds_up_no_drain() {
    for cut in [Cut::Reset, Cut::Fin] {
        let (mut session, straggler) = draining("drain: {spread: 60s, timeout: 90s}").await;
        begin(&session).await;
        let since = Instant::now();
        session.client.cut(cut).await;
        let closed = session.server().closed().await;
        assert_eq!((closed.code, &*closed.reason), (1001, "proxy is draining"), "{cut:?}");
        assert!(since.elapsed() < Duration::from_secs(5), "{cut:?}: {:?}", since.elapsed());
        drop(straggler);
        session.proxy.ended_within(DEADLINE).await;
    }
}

#[tokio::test]
async fn a_server_that_is_lost_in_a_drain_is_dialled_for_nobody() {
    let (mut session, _straggler) = draining("drain: {delay: 500ms, spread: 0s}").await;
    begin(&session).await;
    session.client.say("before it is lost").await;
    session.server().expect_text("before it is lost").await;
    let handshakes = session.upstream.handshakes().len();
    session.take_server().reset();
    let (code, _, bye) = session.client.let_go().await;
    assert_eq!(code, 1012);
    let bye = bye.unwrap();
    assert_eq!((&bye["why"], &bye["ack"]), (&json!("drain"), &json!(3)), "{bye}");
    assert_eq!(session.upstream.handshakes().len(), handshakes);
}

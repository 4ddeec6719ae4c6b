//! A drain lets connections go one by one: the client is told, the upstream hears it to its end, and an
//! upstream that goes away meanwhile changes nothing.

use std::time::Duration;

use crate::support::DEADLINE;
use crate::support::link::{Closed, End, Received};
use crate::support::pair::{Pair, send_half_a_frame};
use crate::support::proxy::Proxy;
use crate::support::upstream::{Plain, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::Role;

fn said(closed: &Closed) -> (u16, &str, End) {
    (closed.code, &closed.reason, closed.then)
}

/// A connection, a drain that has begun, and a plain request that keeps the proxy there for long enough
/// to be asked what it saw.
async fn draining(yaml: &str) -> (Pair, impl Sized) {
    let upstream = Upstream::builder().on_request(Plain::HandOver);
    let pair = Pair::shaped(yaml, upstream, |dial| dial).await;
    let straggler = (pair.proxy.plain().send().await, pair.upstream.accept().await);
    pair.proxy.drain();
    eventually(DEADLINE, || async { pair.proxy.metric("outrigger_draining").await == 1.0 }).await;
    (pair, straggler)
}

#[tokio::test]
async fn a_drain_closes_the_client_and_the_upstream_hears_it_to_the_end() {
    let (mut pair, _straggler) = draining("drain: {close_code: 4013}").await;
    let close = pair.client.next_frame().await;
    assert_eq!(close.close_status(), (4013, "server is restarting".to_owned()));
    pair.client.text("last words").await;
    pair.server.expect_text("last words").await;
    pair.server.text("nobody will hear this").await;
    pair.client.close(4013, "").await;
    assert_eq!(said(&pair.server.closed().await), (1001, "proxy is draining", End::Eof));
    assert_eq!(pair.client.receive().await, Received::End(End::Eof));
    pair.tells("drained", Some(("proxy", "4xxx"))).await;
}

#[tokio::test]
async fn a_client_that_does_not_answer_a_drain_has_its_upstream_told_after_close_timeout() {
    let (mut pair, _straggler) = draining("policy: {close_timeout: 300ms}").await;
    assert_eq!(said(&pair.server.closed().await), (1001, "proxy is draining", End::Eof));
    assert_eq!(said(&pair.client.closed_unanswered().await), (1012, "server is restarting", End::Eof));
    pair.tells("drained", Some(("proxy", "1012"))).await;
}

#[tokio::test]
async fn an_upstream_that_stops_during_a_drain_changes_nobodys_schedule() {
    for code in [1001, 1012, 1006] {
        let (mut pair, _straggler) = draining("drain: {spread: 1s}").await;
        if code == 1006 {
            pair.server.finish_writing().await;
        } else {
            pair.server.close(code, "going").await;
            let answer = pair.server.closed().await;
            assert_eq!((answer.code, answer.then), (code, End::Eof));
        }
        let client = pair.client.closed().await;
        assert_eq!(said(&client), (1012, "server is restarting", End::Eof), "upstream ended with {code}");
        pair.tells("drained", Some(("proxy", "1012"))).await;
    }
}

#[tokio::test]
async fn an_upstream_that_ends_a_conversation_during_a_drain_is_heard() {
    let (mut pair, _straggler) = draining("drain: {spread: 4s}").await;
    pair.server.close(4000, "game over").await;
    let (client, server) = tokio::join!(pair.client.closed(), pair.server.closed());
    assert_eq!(said(&client), (4000, "game over", End::Eof));
    assert_eq!(said(&server), (4000, "game over", End::Eof));
    pair.tells("upstream_close", Some(("upstream", "4xxx"))).await;
}

#[tokio::test]
async fn what_is_left_at_the_end_of_a_drain_is_cut() {
    let mut pair = Pair::open("drain: {timeout: 300ms}\npolicy: {close_timeout: 60s}").await;
    let (mut stuck, mut behind) = pair.another().await;
    send_half_a_frame(&mut behind, Role::Server, &mut stuck).await;
    pair.proxy.drain();
    // Told, and without an answer: there is nothing left to cut but the upstream.
    assert_eq!(said(&pair.client.closed_unanswered().await), (1012, "server is restarting", End::Eof));
    assert_eq!(said(&pair.server.closed_unanswered().await), (1006, "", End::Reset));
    // Could not be told.
    assert_eq!(said(&stuck.closed_unanswered().await), (1006, "", End::Reset));
    assert_eq!(said(&behind.closed_unanswered().await), (1006, "", End::Reset));
    pair.proxy.ended_within(DEADLINE).await;
}

#[tokio::test]
async fn a_handshake_that_is_with_the_upstream_is_let_in_and_then_closed_in_order() {
    let upstream = Upstream::builder().after(Duration::from_millis(500)).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let opening = tokio::spawn(proxy.dial().open());
    eventually(DEADLINE, || async { upstream.accepted() == 1 }).await;
    proxy.drain();
    let mut client = opening.await.expect("a 101");
    // Asked on the operators' port, which goes when the drain is over.
    assert_eq!(proxy.metric("outrigger_draining").await, 1.0, "the drain has waited");
    assert_eq!(said(&client.closed().await), (1012, "server is restarting", End::Eof));
    proxy.ended_within(DEADLINE).await;
}

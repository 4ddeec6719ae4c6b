//! Users at their limit: refused, or let in for the oldest connection that they have.

use std::time::Duration;

use outrigger::config::{ApiKeys, Auth, OnUserLimit};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::support::DEADLINE;
use crate::support::client::{Dial, RawClient};
use crate::support::http::assert_ours;
use crate::support::http2::Client;
use crate::support::proxy::{self, Proxy};
use crate::support::token;
use crate::support::upstream::{Answer, Upstream};
use crate::support::wait::eventually;

const REPLACED: (u16, &str) = (1008, "replaced by a newer connection");

fn keys_of(users: &[&str]) -> Auth {
    let line = |user: &&str| format!("{user}:{}\n", token::sha256_hex(&format!("key-{user}")));
    let list: String = users.iter().map(line).collect();
    Auth::ApiKeys(ApiKeys { file: token::file("keys", list), header: "x-api-key".into() })
}

/// So many connections for each user, of which the oldest goes.
fn replacing(proxy: proxy::Builder, per_user: u32) -> proxy::Builder {
    proxy.policy(move |policy| {
        policy.auth = Some(keys_of(&["ann", "bob"]));
        policy.limits.per_user = Some(per_user);
        policy.limits.on_user_limit = OnUserLimit::ReplaceOldest;
    })
}

fn by(proxy: &Proxy, user: &str) -> Dial {
    proxy.dial().header("X-Api-Key", &format!("key-{user}"))
}

async fn clients(proxy: &Proxy) -> f64 {
    proxy.metrics().await.sum("outrigger_clients")
}

async fn replaced(proxy: &Proxy) -> f64 {
    let metrics = proxy.metrics().await;
    let lines = metrics.0.lines().filter(|line| {
        line.starts_with("outrigger_disconnections_total") && line.contains("reason=\"replaced\"")
    });
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// The client is told that it was replaced, and answers.
async fn is_replaced(client: &mut RawClient) {
    let closed = client.closed().await;
    assert_eq!((closed.code, closed.reason.as_str()), REPLACED);
}

#[tokio::test]
async fn a_user_whose_only_connection_is_dead_is_back_at_once() {
    let upstream = Upstream::echo().await;
    let proxy = replacing(Proxy::to(&upstream).yaml("policy: {close_timeout: 60s}"), 1).spawn().await;
    // It reads nothing and answers nothing from here on: a phone that has lost its network.
    let dead = by(&proxy, "ann").open().await;
    // Its heartbeat would take a minute and more to notice, and so would its Close.
    let since = Instant::now();
    let mut back = by(&proxy, "ann").open().await;
    back.text("back").await;
    back.expect_text("back").await;
    assert!(since.elapsed() < DEADLINE, "after {:?}", since.elapsed());
    // Once more, while the first is still being closed: it is not waited for either.
    let mut again = by(&proxy, "ann").open().await;
    again.text("again").await;
    again.expect_text("again").await;
    is_replaced(&mut back).await;
    eventually(DEADLINE, || async { (clients(&proxy).await, replaced(&proxy).await) == (1.0, 2.0) }).await;
    assert!(since.elapsed() < Duration::from_secs(60), "no close_timeout was waited for");
    drop(dead);
    again.text("still here").await;
    again.expect_text("still here").await;
}

#[tokio::test]
async fn the_oldest_connection_goes_and_other_users_keep_theirs() {
    let upstream = Upstream::echo().await;
    let proxy = replacing(Proxy::to(&upstream), 2).spawn().await;
    let mut bob = by(&proxy, "bob").open().await;
    let mut first = by(&proxy, "ann").open().await;
    let mut second = by(&proxy, "ann").open().await;
    let mut third = by(&proxy, "ann").open().await;
    is_replaced(&mut first).await;
    let mut fourth = by(&proxy, "ann").open().await;
    is_replaced(&mut second).await;
    // A place that was given back is taken before anybody has to go.
    third.close(1000, "").await;
    third.closed().await;
    eventually(DEADLINE, || async { clients(&proxy).await == 2.0 }).await;
    let mut fifth = by(&proxy, "ann").open().await;
    for client in [&mut bob, &mut fourth, &mut fifth] {
        client.text("here").await;
        client.expect_text("here").await;
    }
    assert_eq!(replaced(&proxy).await, 2.0);
    let refused = "outrigger_handshakes_total{route=\"default\",outcome=\"at_capacity\"}";
    assert_eq!(proxy.metric(refused).await, 0.0);
    assert_eq!(proxy.metric("outrigger_closes_total{by=\"proxy\",code=\"1008\"}").await, 2.0);
}

#[tokio::test]
async fn a_handshake_that_comes_to_nothing_costs_no_connection() {
    let upstream = Upstream::echo().await;
    let proxy = replacing(Proxy::to(&upstream), 1).spawn().await;
    let mut there = by(&proxy, "ann").open().await;
    upstream.change(Upstream::builder().answering(Answer::refuse(403, &[], "no")));
    assert_eq!(by(&proxy, "ann").refused().await.status(), 403);
    upstream.change(Upstream::builder().answering(Answer::Silent));
    // One that is under way has nothing yet that could be closed: a second one has to wait for it.
    let waiting = by(&proxy, "ann").send().await;
    eventually(DEADLINE, || async { upstream.handshakes().len() == 3 }).await;
    assert_ours(&by(&proxy, "ann").refused().await, 503, "capacity_per_user");
    waiting.reset();
    there.text("still here").await;
    there.expect_text("still here").await;
    eventually(DEADLINE, || async { upstream.open() == 1 }).await;
    upstream.change(Upstream::builder());
    let mut next = by(&proxy, "ann").open().await;
    is_replaced(&mut there).await;
    next.text("next").await;
    next.expect_text("next").await;
}

#[tokio::test]
async fn a_thousand_handshakes_of_one_user_at_once_leave_a_bounded_number_of_connections() {
    const LIMIT: f64 = 2.0;
    let upstream = Upstream::echo().await;
    // Nobody who is told to go goes by himself.
    let proxy = replacing(Proxy::to(&upstream).yaml("policy: {close_timeout: 60s}"), 2).spawn().await;
    let mut storm = JoinSet::new();
    for _ in 0..1000 {
        let dial = by(&proxy, "ann");
        storm.spawn(async move { dial.answer().await });
    }
    let (mut opened, mut kept) = (0.0, Vec::new());
    while let Some(client) = storm.join_next().await {
        let Ok(client) = client else { panic!("a handshake was not answered") };
        match client.response.status() {
            101 => {
                opened += 1.0;
                kept.push(client);
            }
            status => assert_eq!(status, 503),
        }
        if kept.len() % 20 == 19 {
            let there = clients(&proxy).await;
            // Two, and as many each that come and that were told to go or are being cut.
            assert!(there <= 3.0 * LIMIT, "{there} connections of one user");
        }
    }
    assert!(opened >= LIMIT, "{opened}");
    let settled = || async { (clients(&proxy).await, replaced(&proxy).await) };
    // Those that have been told to go and did not answer were cut for others, but for the last two.
    eventually(DEADLINE, || async {
        let (there, gone) = settled().await;
        if there <= 2.0 * LIMIT && there + gone == opened {
            Ok(())
        } else {
            Err(format!("{there}, {gone}, {opened}"))
        }
    })
    .await;
    drop(kept);
    eventually(DEADLINE, || async { clients(&proxy).await == 0.0 }).await;
    // Nothing of it is left in the count.
    let mut next = by(&proxy, "ann").open().await;
    next.text("next").await;
    next.expect_text("next").await;
}

#[tokio::test]
async fn clients_of_a_feed_are_replaced_too() {
    let upstream = Upstream::builder().spawn().await;
    let feed = Proxy::to(&upstream).yaml("routes: [{name: feed, path: '/feed', mode: broadcast}]");
    let proxy = replacing(feed, 1).spawn().await;
    let mut old = by(&proxy, "ann").path("/feed").open().await;
    let _new = by(&proxy, "ann").path("/feed").open().await;
    is_replaced(&mut old).await;
    eventually(DEADLINE, || async { (clients(&proxy).await, replaced(&proxy).await) == (1.0, 1.0) }).await;
    assert_eq!(upstream.accepted(), 1, "the channel has gone on");
}

#[tokio::test]
async fn a_stream_of_http2_is_replaced_by_itself() {
    let upstream = Upstream::echo().await;
    let proxy = replacing(Proxy::to(&upstream), 1).spawn().await;
    let client = Client::connect(proxy.address()).await;
    let handshake = |user: &str| {
        let mut request = Client::handshake("/");
        let Ok(key) = format!("key-{user}").parse() else { panic!("a header") };
        request.headers_mut().insert("x-api-key", key);
        request
    };
    let mut bob =
        timeout(DEADLINE, client.try_open(handshake("bob"))).await.expect("in time").expect("a stream");
    let mut old =
        timeout(DEADLINE, client.try_open(handshake("ann"))).await.expect("in time").expect("a stream");
    let mut new =
        timeout(DEADLINE, client.try_open(handshake("ann"))).await.expect("in time").expect("a stream");
    let close = old.frame().await.close_status();
    assert_eq!((close.0, close.1.as_str()), REPLACED);
    new.echoes("new").await;
    bob.echoes("bob").await;
}

#[tokio::test]
async fn without_it_a_user_at_the_limit_is_refused() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream)
        .policy(|policy| {
            policy.auth = Some(keys_of(&["ann"]));
            policy.limits.per_user = Some(1);
        })
        .spawn()
        .await;
    let mut there = by(&proxy, "ann").open().await;
    assert_ours(&by(&proxy, "ann").refused().await, 503, "capacity_per_user");
    there.text("still here").await;
    there.expect_text("still here").await;
}

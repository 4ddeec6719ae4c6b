//! Several workers: who is served by which, and what one does to another.

use std::sync::mpsc;

use serde_json::json;
use tokio::sync::oneshot;

use crate::support::client::RawClient;
use crate::support::feed::{feed, joined};
use crate::support::http::assert_ours;
use crate::support::proxy::Proxy;
use crate::support::upstream::{Answer, Upstream};
use crate::support::wait::eventually;
use crate::support::workers::Threads;
use crate::support::{A_MOMENT, DEADLINE};

async fn echoes(client: &mut RawClient, text: &str) {
    client.text(text).await;
    client.expect_text(text).await;
}

#[tokio::test]
async fn connections_are_spread_evenly_and_one_that_ends_makes_room_on_its_worker() {
    let threads = Threads::start(3);
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).workers(threads.workers()).spawn().await;
    let have = async |expected: [usize; 3]| {
        eventually(
            DEADLINE,
            async || if threads.tasks() == expected { Ok(()) } else { Err(threads.tasks()) },
        )
        .await;
    };
    let mut clients = Vec::new();
    for round in 1..=3 {
        for _ in 0..3 {
            clients.push(proxy.connect("/").await);
        }
        // A tunnel is one task; what was HTTP before it has ended.
        have([round; 3]).await;
    }
    for client in &mut clients {
        echoes(client, "hello").await;
    }
    let mut last = clients.pop().unwrap();
    last.close(1000, "").await;
    last.closed().await;
    eventually(DEADLINE, async || threads.tasks().iter().sum::<usize>() == 8).await;
    clients.push(proxy.connect("/").await);
    have([3; 3]).await;
    proxy.drain();
    for client in &mut clients {
        assert_eq!(client.closed().await.code, 1012);
    }
    proxy.stop().await;
    have([0; 3]).await;
}

#[tokio::test]
async fn a_worker_that_is_blocked_holds_up_its_own_connections_alone() {
    let threads = Threads::start(2);
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).workers(threads.workers()).spawn().await;
    let settled = async || {
        eventually(DEADLINE, async || threads.tasks().iter().sum::<usize>() == 1).await;
        threads.tasks().iter().position(|tasks| *tasks == 1).unwrap()
    };
    let mut held_up = proxy.connect("/").await;
    let blocked = settled().await;
    let mut client = proxy.connect("/").await;
    eventually(DEADLINE, async || threads.tasks() == [1, 1]).await;

    let (release, released) = mpsc::channel::<()>();
    let (begin, begun) = oneshot::channel();
    threads.runtime(blocked).spawn(async move {
        let _ = begin.send(());
        let _ = released.recv();
    });
    begun.await.unwrap();
    held_up.text("later").await;
    echoes(&mut client, "now").await;
    // Operators are answered, and whoever comes goes to the worker that has less to do.
    assert_eq!(proxy.metric("outrigger_clients{route=\"default\"}").await, 2.0);
    let mut third = proxy.connect("/").await;
    echoes(&mut third, "now").await;
    held_up.expect_silence(A_MOMENT).await;

    release.send(()).unwrap();
    held_up.expect_text("later").await;
}

#[tokio::test]
async fn max_handshakes_holds_for_all_workers_together() {
    let threads = Threads::start(2);
    let upstream = Upstream::builder().answering(Answer::HandOver).spawn().await;
    let proxy = Proxy::to(&upstream).yaml("listen: {max_handshakes: 3}").workers(threads.workers());
    let proxy = proxy.spawn().await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(proxy.dial().send().await);
    }
    proxy.becomes("outrigger_handshakes_in_progress", 3.0).await;
    for _ in 0..10 {
        let mut link = proxy.dial().send().await;
        assert_ours(&link.read_response("GET").await, 503, "too_many_handshakes");
    }
}

#[tokio::test]
async fn the_clients_of_a_feed_are_served_by_all_workers_and_hear_all_that_is_said() {
    const CLIENTS: usize = 150;
    let threads = Threads::start(2);
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "handshake_rate: {global: null}").config(|config| config.listen.workers = 2);
    let proxy = proxy.workers(threads.workers()).spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", CLIENTS).await;
    // A shard on each, and the channel's task on one of them.
    eventually(DEADLINE, async || {
        let mut tasks = threads.tasks();
        tasks.sort_unstable();
        if tasks == [1, 2] { Ok(()) } else { Err(tasks) }
    })
    .await;
    server.text("hello").await;
    for client in &mut clients {
        client.expect_text("hello").await;
    }
    let published = proxy.publish(&json!({ "route": "feed", "text": "and more" })).await;
    assert_eq!(published["recipients"], CLIENTS);
    for client in &mut clients {
        client.expect_text("and more").await;
    }
    proxy.drain();
    for client in &mut clients {
        assert_eq!(client.closed().await.code, 1012);
    }
    drop(clients);
    proxy.stop().await;
    eventually(DEADLINE, async || threads.tasks() == [0, 0]).await;
}

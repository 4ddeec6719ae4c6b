//! Clients that connect and drop as fast as handshakes are let in: nothing is left of them, here or at the server.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::DEADLINE;
use crate::support::client::RawClient;
use crate::support::proxy::Proxy;
use crate::support::session::session;
use crate::support::upstream::{Act, Upstream};
use crate::support::wait::eventually;

const FOR: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 50;

/// Comes and goes, in one of several ways, until the time is over. Answers how often it was let in.
async fn come_and_go(proxy: Arc<Proxy>, until: Instant) -> usize {
    let mut times = 0;
    while Instant::now() < until {
        let dial = proxy.dial();
        match fastrand::u8(..6) {
            // Before it is answered.
            0 => drop(dial.send().await),
            1 => dial.send().await.reset(),
            way => {
                let mut client: RawClient = dial.answer().await;
                if client.response.status() != 101 {
                    // As fast as it is let in, and no faster.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                times += 1;
                match way {
                    2 => drop(client),
                    3 => client.reset(),
                    // While its server dies of what it said.
                    4 => {
                        client.text("die").await;
                        drop(client);
                    }
                    _ => {
                        client.text("hello").await;
                        client.expect_text("hello").await;
                        client.reset();
                    }
                }
            }
        }
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_and_goes_at_the_full_rate_leaves_nothing() {
    let _alone = crate::alone().await;
    let upstream = Upstream::builder().on_text("die", [Act::Reset]).spawn().await;
    let proxy = session(&upstream, "close_timeout: 500ms").spawn().await;
    let mut stays = proxy.connect("/").await;
    stays.text("here").await;
    stays.expect_text("here").await;
    let proxy = Arc::new(proxy);
    let until = Instant::now() + FOR;
    let mut clients = JoinSet::new();
    for _ in 0..AT_ONCE {
        clients.spawn(come_and_go(Arc::clone(&proxy), until));
    }
    let mut most = 0;
    while Instant::now() < until {
        most = most.max(upstream.open());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let times: usize = clients.join_all().await.into_iter().sum();
    eprintln!("{times} were let in, and the server had {most} connections at most");
    assert!(times > 200, "{times}");
    // What each client that is there may have, and what the Close of the one before it still has.
    assert!(most <= 20 * AT_ONCE, "{most} connections at the server for {AT_ONCE} clients");
    eventually(DEADLINE, || async {
        let metrics = proxy.metrics().await;
        let left = [
            metrics.sum("outrigger_sessions"),
            metrics.sum("outrigger_sessions_connected"),
            metrics.sum("outrigger_clients"),
            upstream.open() as f64,
        ];
        let sums = (metrics.sum("outrigger_session_ends_total"), metrics.sum("outrigger_connections_total"));
        if left == [1.0; 4] && sums.0 + 1.0 == sums.1 { Ok(()) } else { Err(format!("{left:?}, {sums:?}")) }
    })
    .await;
    stays.text("still here").await;
    stays.expect_text("still here").await;
    drop(stays);
    eventually(DEADLINE, || async {
        let metrics = proxy.metrics().await;
        let left = [
            metrics.sum("outrigger_sessions"),
            metrics.sum("outrigger_buffered_bytes"),
            metrics.sum("outrigger_history_bytes"),
            upstream.open() as f64,
        ];
        if left == [0.0; 4] { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

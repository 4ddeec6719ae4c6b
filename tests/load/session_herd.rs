//! Two thousand sessions whose server is away for twenty seconds: one of them asks for all, and when it is back they
//! come in a row, and soon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::session_server::{Orders, Server};
use crate::support::DEADLINE;
use crate::support::client::RawClient;
use crate::support::files::Folder;
use crate::support::proxy::Proxy;
use crate::support::wait::eventually;

const CLIENTS: usize = 2000;
const AWAY: Duration = Duration::from_secs(20);

/// Waits for the first word of the next server. Answers when that came.
async fn wait_for(mut link: RawClient, is_over: Arc<AtomicBool>) -> Option<(Instant, RawClient)> {
    while !is_over.load(Relaxed) {
        match link.text_within(Duration::from_secs(1)).await.as_deref() {
            None | Some("0 0") => {}
            Some(text) => {
                assert_eq!(text, "1 0");
                return Some((Instant::now(), link));
            }
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_come_back_to_a_server_that_was_away_for_long() {
    let _alone = crate::alone().await;
    let descriptors = outrigger::internals::raise_descriptor_limit();
    assert!(descriptors >= 3 * CLIENTS as u64 + 500, "three descriptors for each client: {descriptors}");
    let folder = Folder::new("herd");
    let orders = Orders { port: 0, life: 0, every: Duration::ZERO, notes: folder.path("notes") };
    let server = Server::start(&orders).await;
    let orders = Orders { port: server.address.port(), life: 1, ..orders };
    let proxy = Proxy::to_url(format!("http://{}", server.address))
        .yaml("routes: [{name: chat, path: '/{*rest}', mode: session}]")
        .policy(|policy| policy.handshake_rate.global = None);
    let proxy = proxy.spawn().await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let link = proxy.connect("/").await;
        clients.spawn(wait_for(link, Arc::clone(&is_over)));
    }
    proxy.connected(CLIENTS as f64).await;

    server.kill().await;
    proxy.connected(0.0).await;
    // Newcomers meanwhile are refused as anywhere, and open the breaker: that holds nobody up who was there.
    let until = Instant::now() + AWAY;
    while Instant::now() < until {
        let refused = proxy.dial().refused().await;
        assert!(matches!(refused.status(), 502 | 503), "{refused:?}");
        sleep(Duration::from_millis(200)).await;
    }
    let failed = proxy.redials("failed").await;
    let start = Instant::now();
    let server = Server::start(&orders).await;
    let listens = Instant::now();
    let mut times = Vec::new();
    let mut links = Vec::new();
    while times.len() < CLIENTS {
        let back = clients.join_next().await.expect("all of them are there").expect("no client fails");
        let (at, link) = back.expect("it is not over");
        times.push(at - start);
        links.push(link);
    }
    times.sort_unstable();
    let (first, last) = (times[0], times[CLIENTS - 1]);
    let all_failed = proxy.redials("failed").await;
    eprintln!(
        "{failed} failed dials in {AWAY:?}, {all_failed} in all; the server took {:?} to start; first back after \
         {first:?}, half after {:?}, last after {last:?}",
        listens - start,
        times[CLIENTS / 2]
    );
    assert!(failed >= 10.0, "somebody has asked: {failed}");
    assert!(all_failed <= 80.0, "{all_failed} failed dials");
    let started = listens - start;
    assert!(first < started + Duration::from_secs(1), "{first:?}");
    assert!(last < started + Duration::from_secs(5), "{last:?}");
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("outrigger_disconnections_total"), 0.0, "nobody was let go");
    assert_eq!(metrics.get("outrigger_redials_total{route=\"chat\",outcome=\"ok\"}"), Some(CLIENTS as f64));
    is_over.store(true, Relaxed);
    drop(links);
    eventually(DEADLINE, || async {
        let metrics = proxy.metrics().await;
        let left = (metrics.sum("outrigger_sessions"), metrics.sum("outrigger_sessions_connected"));
        if left == (0.0, 0.0) { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    server.kill().await;
}

//! An application that is deployed anew beside a proxy that lives on: its container is stopped and started by a kubelet
//! (`kubelet`), in order or killed, and no client notices.
//!
//! The server is Node's `ws`, so this runs with `OUTRIGGER_INTEROP=1` only (`support::peer`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::kubelet::Pod;
use crate::support::DEADLINE;
use crate::support::client::RawClient;
use crate::support::peer::skipped;
use crate::support::wait::eventually;
use crate::support::wire::Frame;

const CLIENTS: usize = 50;
/// Each client says something this often, and its server says it back.
const TALK: Duration = Duration::from_millis(100);

/// What became of what a client said.
#[derive(Debug, Default)]
struct Talk {
    said: u64,
    answered: u64,
    /// The longest time between two answers.
    worst: Duration,
}

/// Talks until all is over. What a server took and did not answer is lost with it, and nothing else is.
async fn live(mut link: RawClient, is_over: Arc<AtomicBool>) -> Talk {
    let mut talk = Talk::default();
    let (mut newest, mut heard_at) = (None, Instant::now());
    let mut next = Instant::now() + TALK.mul_f64(fastrand::f64());
    while !is_over.load(Relaxed) || newest != talk.said.checked_sub(1) {
        if next <= Instant::now() {
            next += TALK;
            link.try_send_frame(&Frame::text(talk.said.to_string())).await.expect("the client stays");
            talk.said += 1;
            continue;
        }
        let Some(text) = link.text_within(next - Instant::now()).await else { continue };
        let number = text.parse::<u64>().unwrap();
        assert!(newest.is_none_or(|newest| number > newest), "{number} after {newest:?}");
        newest = Some(number);
        talk.answered += 1;
        talk.worst = talk.worst.max(heard_at.elapsed());
        heard_at = Instant::now();
    }
    link.close(1000, "").await;
    link.closed().await;
    talk
}

#[tokio::test]
async fn an_application_that_is_deployed_anew_beside_its_sidecar_is_a_pause_and_no_more() {
    let _alone = crate::alone().await;
    if skipped() {
        return;
    }
    let routes = "[{name: chat, path: '/{*rest}', mode: session}]";
    let settings = [("ROUTES", routes), ("LISTEN__WORKERS", "1"), ("DRAIN", "{spread: 0s}")];
    let mut pod = Pod::start("rollout_server.mjs", &settings).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let link = RawClient::connect(pod.sidecar.address(), "/").await;
        clients.spawn(live(link, Arc::clone(&is_over)));
    }
    const CONNECTED: &str = "outrigger_sessions_connected{route=\"chat\"}";
    let mut restarts = 0.0;
    for signal in ["TERM", "KILL", "TERM", "KILL"] {
        eventually(DEADLINE, || async { pod.sidecar.metrics().await.get(CONNECTED) == Some(CLIENTS as f64) })
            .await;
        sleep(Duration::from_millis(500)).await;
        pod.restart_app(signal).await;
        restarts += 1.0;
    }
    eventually(DEADLINE, || async { pod.sidecar.metrics().await.get(CONNECTED) == Some(CLIENTS as f64) })
        .await;
    let metrics = pod.sidecar.metrics().await;
    assert_eq!(metrics.sum("outrigger_disconnections_total"), 0.0, "no client noticed");
    assert_eq!(
        metrics.get("outrigger_redials_total{route=\"chat\",outcome=\"ok\"}"),
        Some(restarts * CLIENTS as f64)
    );
    is_over.store(true, Relaxed);
    let talks = clients.join_all().await;
    let lost: u64 = talks.iter().map(|talk| talk.said - talk.answered).sum();
    let said: u64 = talks.iter().map(|talk| talk.said).sum();
    let worst = talks.iter().map(|talk| talk.worst).max().unwrap_or_default();
    eprintln!(
        "{restarts} restarts: {lost} of {said} words were not answered, the longest pause was {worst:?}"
    );
    // One, or two on a bad day, that were with a server as it died.
    assert!(lost <= 3 * restarts as u64 * CLIENTS as u64, "{lost} of {said}");
    assert!(worst < Duration::from_secs(5), "{worst:?}");
}

//! A pod that is replaced, as a kubelet does it (`kubelet`), under clients with tickets: each is told that it has to go and what
//! was received of it, says the rest of it to the next pod, and nothing is heard twice.
//!
//! The server is Node's `ws`, so this runs with `OUTRIGGER_INTEROP=1` only (`support::peer`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::kubelet::{Ended, Pod, Sidecar};
use crate::support::client::RawClient;
use crate::support::link::Message;
use crate::support::peer::skipped;
use crate::support::ticket_client::{Event, TicketClient};

const CLIENTS: usize = 50;
/// Each client says something this often, and its server says it back.
const TALK: Duration = Duration::from_millis(20);
/// `drain.delay` + `drain.spread` + 1s.
const APP_SLEEP: Duration = Duration::from_millis(3500);
const GRACE: Duration = Duration::from_secs(20);
const GOOD: Ended = Ended { app: Some(0), hook: Some(0), sidecar: Some(0), stayed: true, killed: false };

/// What became of a client.
#[derive(Debug, Default)]
struct Life {
    said: u64,
    /// How often each of its messages came back.
    echoes: BTreeMap<u64, u32>,
    /// Messages that it said again to the second pod.
    again: u64,
}

async fn live(first: SocketAddr, second: SocketAddr, is_over: Arc<AtomicBool>) -> Life {
    let mut life = Life::default();
    let mut client = TicketClient::new(RawClient::dial(first));
    client.begin_anew().await;
    let mut has_moved = false;
    let mut next = Instant::now() + TALK.mul_f64(fastrand::f64());
    // At the end it says nothing more, and hears what is under way.
    let mut until = None;
    while until.is_none_or(|until| Instant::now() < until) {
        if next <= Instant::now() {
            next += TALK;
            if is_over.load(Relaxed) {
                until.get_or_insert_with(|| Instant::now() + Duration::from_secs(1));
            } else {
                client.say(&life.said.to_string()).await;
                life.said += 1;
            }
            continue;
        }
        match client.next_within(next - Instant::now()).await {
            None | Some(Event::Control(_)) => {}
            Some(Event::Message(Message::Text(text))) => {
                *life.echoes.entry(text.parse().unwrap()).or_default() += 1;
            }
            Some(Event::Close(code, _)) => {
                assert!(!has_moved, "the second pod lets nobody go");
                let bye = client.bye.clone().expect("there are last words");
                assert_eq!(
                    (code, bye["why"].as_str(), bye["resume"].as_bool()),
                    (1012, Some("drain"), Some(false))
                );
                let wait = bye["after"].as_u64().expect("it is told when to come back");
                sleep(Duration::from_millis(wait)).await;
                client.redial(RawClient::dial(second));
                client.begin_anew().await;
                has_moved = true;
                for frame in std::mem::take(&mut client.unsaid) {
                    life.again += 1;
                    client.say_frame(frame).await;
                }
                next = Instant::now();
            }
            Some(other) => panic!("{other:?}"),
        }
    }
    assert!(has_moved, "each was let go once");
    client.close(1000).await;
    life
}

async fn pod() -> Pod {
    let settings = [
        ("ROUTES", "[{name: chat, path: '/{*rest}', mode: session}]"),
        ("LISTEN__WORKERS", "1"),
        ("DRAIN", "{delay: 500ms, spread: 2s, timeout: 10s}"),
    ];
    Pod::start("rollout_server.mjs", &settings).await
}

#[tokio::test]
async fn a_pod_that_is_replaced_tells_each_client_what_it_received_and_nothing_of_that_is_said_again() {
    let _alone = crate::alone().await;
    if skipped() {
        return;
    }
    for kind in [Sidecar::Native, Sidecar::Ordinary] {
        let (first, second) = tokio::join!(pod(), pod());
        let is_over = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (from, to) = (first.sidecar.address(), second.sidecar.address());
            clients.spawn(live(from, to, Arc::clone(&is_over)));
        }
        // And some who are away: nobody waits for them.
        for _ in 0..10 {
            let mut client = TicketClient::new(RawClient::dial(first.sidecar.address()));
            client.begin_anew().await;
            client.cut(crate::support::ticket_client::Cut::Reset).await;
        }
        sleep(Duration::from_secs(1)).await;
        let since = Instant::now();
        let (ended, _) = first.terminate(kind, Some(APP_SLEEP), GRACE).await;
        assert_eq!(ended, GOOD, "{kind:?}");
        let took = since.elapsed();
        sleep(Duration::from_secs(2)).await;
        is_over.store(true, Relaxed);
        let lives = clients.join_all().await;
        let said: u64 = lives.iter().map(|life| life.said).sum();
        let again: u64 = lives.iter().map(|life| life.again).sum();
        let heard: usize = lives.iter().map(|life| life.echoes.len()).sum();
        eprintln!(
            "{kind:?}: gone after {took:?}; of {said} messages {again} were said again, {heard} came back"
        );
        for life in &lives {
            let twice = Vec::from_iter(life.echoes.iter().filter(|(_, times)| **times > 1));
            assert!(twice.is_empty(), "{kind:?}: heard twice: {twice:?}");
        }
        // An answer may be on its way when its client is let go; a message is not.
        assert!(said - heard as u64 <= 2 * CLIENTS as u64, "{heard} of {said}");
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

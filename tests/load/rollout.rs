//! A rollout as Kubernetes does it, seen by the clients: pods of a real server and a real sidecar, stopped by a
//! kubelet (`kubelet`), behind a service that sends clients to pods that say they are ready.
//!
//! The server is Node's `ws`, so these run with `OUTRIGGER_INTEROP=1` only (`support::peer`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::kubelet::{Ended, Pod, Sidecar};
use crate::support::DEADLINE;
use crate::support::client::{Dial, RawClient};
use crate::support::link::{Link, Received};
use crate::support::peer::skipped;
use crate::support::wait::eventually;
use crate::support::wire::{self, Frame};

const CLIENTS: usize = 200;
const DELAY: Duration = Duration::from_millis(500);
const SPREAD: Duration = Duration::from_secs(2);
const DRAIN: &str = "{delay: 500ms, spread: 2s, timeout: 10s}";
/// `drain.delay` + `drain.spread` + 1s: the application's preStop hook.
const APP_SLEEP: Duration = Duration::from_millis(3500);
const GRACE: Duration = Duration::from_secs(20);
/// Within this a client is back on another pod.
const BACK: Duration = Duration::from_secs(3);
/// Every client says something this often, and its server says it back.
const TALK: Duration = Duration::from_millis(750);
/// What is not said back within this never is. A busy machine takes less.
const SILENCE: Duration = Duration::from_secs(2);
/// How often the service asks each pod.
const PROBE: Duration = Duration::from_millis(100);

const GOOD: Ended = Ended { app: Some(0), hook: Some(0), sidecar: Some(0), stayed: true, killed: false };

#[tokio::test]
async fn a_rollout_lets_every_client_go_in_an_orderly_way_and_none_is_without_a_server() {
    let _alone = crate::alone().await;
    if skipped() {
        return;
    }
    let service = Service::default();
    let (first, second) = tokio::join!(pod(), pod());
    let names = [service.add(&first), service.add(&second)];
    let crowd = Crowd::connect(&service).await;
    assert!(names.iter().all(|name| crowd.on(*name) > CLIENTS / 4), "both pods have clients");

    // One after the other, each when its successor is ready; in the two ways that there are to be a sidecar.
    let mut successors = Vec::new();
    for (pod_before, name, kind) in
        [(first, names[0], Sidecar::Native), (second, names[1], Sidecar::Ordinary)]
    {
        let successor = pod().await;
        service.add(&successor);
        successors.push(successor);
        let clients = crowd.on(name);
        let (ended, server_told) = pod_before.terminate(kind, Some(APP_SLEEP), GRACE).await;
        assert_eq!(ended, GOOD, "{kind:?}");
        crowd.all_back().await;

        let closes = crowd.closes_by(name);
        assert!(closes.len() >= clients, "{} of {clients} were on {kind:?}", closes.len());
        for close in &closes {
            assert_eq!(close.code, 1012, "{kind:?}: {close:?}");
            assert!(close.at < server_told, "{kind:?}: the server was told to stop before: {close:?}");
            assert!(close.unanswered < SILENCE, "{kind:?}: the server said nothing any more: {close:?}");
            assert!(close.back_after < BACK, "{kind:?}: {close:?}");
            assert_ne!(close.back_on, name, "{kind:?}: {close:?}");
        }
        let tenths = tenths(&closes, SPREAD);
        // A machine that is busy may hold some up, but not most of them into one tenth.
        assert!(tenths.iter().all(|count| *count <= closes.len() / 2), "{kind:?}: {tenths:?}");
        assert!(tenths.iter().filter(|count| **count > 0).count() >= 5, "{kind:?}: {tenths:?}");
    }
    let (closes, clients) = crowd.leave().await;
    assert!(clients.iter().all(|closes| (1..=2).contains(closes)), "each old pod was left once: {clients:?}");
    assert!(closes.iter().all(|close| names.contains(&close.by)), "the new pods keep their clients");
}

#[tokio::test]
async fn without_the_sleep_of_the_application_everybody_is_closed_by_it_at_once() {
    let _alone = crate::alone().await;
    if skipped() {
        return;
    }
    let service = Service::default();
    let (old, new) = tokio::join!(pod(), pod());
    let name = service.add(&old);
    service.add(&new);
    let crowd = Crowd::connect(&service).await;
    let clients = crowd.on(name);
    // SIGTERM reaches the server while the sidecar's hook is still being started.
    let (ended, _) = old.terminate(Sidecar::Native, None, GRACE).await;
    assert_eq!(ended, GOOD);
    crowd.all_back().await;

    let closes = crowd.closes_by(name);
    let by_server = closes.iter().filter(|close| close.code == 1001).count();
    assert!(by_server >= clients && clients > CLIENTS / 4, "{by_server} of {clients}: {closes:?}");
    // In less time than the drain would have waited before the first of them.
    let first = closes.iter().map(|close| close.at).min().expect("there are some");
    let at_once = closes.iter().filter(|close| close.at - first < DELAY).count();
    assert!(at_once > clients / 2, "{at_once} of {clients}: {:?}", tenths(&closes, SPREAD));
    crowd.leave().await;
}

async fn pod() -> Pod {
    Pod::start("rollout_server.mjs", &[("DRAIN", DRAIN), ("LISTEN__WORKERS", "1")]).await
}

/// How many closes came in each tenth of `window`, from the first of them on.
fn tenths(closes: &[Close], window: Duration) -> [usize; 10] {
    let first = closes.iter().map(|close| close.at).min().expect("there are some");
    let mut tenths = [0; 10];
    for close in closes {
        let place = (close.at - first).as_secs_f64() / window.as_secs_f64();
        tenths[((place * 10.0) as usize).min(9)] += 1;
    }
    tenths
}

/// Sends clients to pods, as a Service of Kubernetes does: to any whose readiness probe succeeded last time.
#[derive(Clone, Default)]
struct Service(Arc<Mutex<Vec<Endpoint>>>);

struct Endpoint {
    address: SocketAddr,
    ready: bool,
}

impl Service {
    /// Takes a pod in that is ready; its name is its place in the list.
    fn add(&self, pod: &Pod) -> usize {
        let mut endpoints = lock(&self.0);
        let name = endpoints.len();
        let readiness = RawClient::plain(pod.sidecar.admin).path("/readyz").header("Connection", "close");
        let probed = Arc::clone(&self.0);
        // Ends with the test's runtime.
        tokio::spawn(async move {
            loop {
                sleep(PROBE).await;
                let ready = matches!(timeout(DEADLINE, asked(&readiness)).await, Ok(Some(200)));
                lock(&probed)[name].ready = ready;
            }
        });
        endpoints.push(Endpoint { address: pod.sidecar.address(), ready: true });
        name
    }

    fn choose(&self) -> Option<(usize, SocketAddr)> {
        let endpoints = lock(&self.0);
        let ready = endpoints.iter().enumerate().filter(|(_, endpoint)| endpoint.ready);
        let ready: Vec<_> = ready.map(|(name, endpoint)| (name, endpoint.address)).collect();
        fastrand::choice(ready)
    }

    /// An open connection to a pod, however often it takes.
    async fn connect(&self) -> (usize, Link) {
        loop {
            if let Some((name, address)) = self.choose()
                && let Some(link) = open(&RawClient::dial(address)).await
            {
                return (name, link);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The status of an answer, if one came.
async fn asked(dial: &Dial) -> Option<u16> {
    let mut link = dial.clone().try_connect().await.ok()?;
    link.try_send_bytes(&dial.request()).await.ok()?;
    Some(link.try_read_head().await.ok()?.status())
}

async fn open(dial: &Dial) -> Option<Link> {
    let mut link = dial.clone().try_connect().await.ok()?;
    link.try_send_bytes(&dial.request()).await.ok()?;
    (link.try_read_head().await.ok()?.status() == 101).then_some(link)
}

/// One connection's end that the client did not want, and what came after it.
#[derive(Debug, Clone)]
struct Close {
    /// The pod.
    by: usize,
    /// 1006 where no Close came.
    code: u16,
    at: Instant,
    /// For how long nothing that was said had been answered.
    unanswered: Duration,
    back_on: usize,
    back_after: Duration,
}

/// Clients that talk all the time, and come back whenever they are sent away.
struct Crowd {
    told: Arc<Told>,
    clients: JoinSet<usize>,
}

#[derive(Default)]
struct Told {
    /// The pod that each client is on; `None` between two.
    places: Mutex<Vec<Option<usize>>>,
    closes: Mutex<Vec<Close>>,
    over: AtomicBool,
}

impl Crowd {
    async fn connect(service: &Service) -> Self {
        let told = Arc::new(Told::default());
        lock(&told.places).resize(CLIENTS, None);
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            clients.spawn(live(client, service.clone(), Arc::clone(&told)));
        }
        let crowd = Self { told, clients };
        crowd.all_back().await;
        crowd
    }

    fn on(&self, pod: usize) -> usize {
        lock(&self.told.places).iter().filter(|place| **place == Some(pod)).count()
    }

    async fn all_back(&self) {
        let are_back = || async { lock(&self.told.places).iter().all(Option::is_some) };
        eventually(DEADLINE, are_back).await;
    }

    fn closes_by(&self, pod: usize) -> Vec<Close> {
        lock(&self.told.closes).iter().filter(|close| close.by == pod).cloned().collect()
    }

    /// Ends all of it: every close there was, and how many each client saw.
    async fn leave(self) -> (Vec<Close>, Vec<usize>) {
        self.told.over.store(true, SeqCst);
        let clients = self.clients.join_all().await;
        (lock(&self.told.closes).clone(), clients)
    }
}

/// The life of a client. Returns how often it was sent away.
async fn live(client: usize, service: Service, told: Arc<Told>) -> usize {
    let mut closes = 0;
    let (mut pod, mut link) = service.connect().await;
    loop {
        lock(&told.places)[client] = Some(pod);
        let Some((code, unanswered)) = talk(&mut link, &told.over).await else { return closes };
        closes += 1;
        let at = Instant::now();
        lock(&told.places)[client] = None;
        let by = pod;
        (pod, link) = service.connect().await;
        let back_after = at.elapsed();
        lock(&told.closes).push(Close { by, code, at, unanswered, back_on: pod, back_after });
    }
}

/// Talks until the connection ends: with which code, and how long the server had said nothing then. `None` when
/// all is over and the client leaves by itself.
async fn talk(link: &mut Link, over: &AtomicBool) -> Option<(u16, Duration)> {
    let mut waiting: Option<Instant> = None;
    // Not all of them in one beat.
    let mut next = Instant::now() + TALK.mul_f64(fastrand::f64());
    loop {
        let unanswered = |waiting: Option<Instant>| waiting.map_or(Duration::ZERO, |since| since.elapsed());
        match link.receive_within(next.saturating_duration_since(Instant::now())).await {
            Some(Received::Frame(frame)) if frame.opcode == wire::CLOSE => {
                let (code, _) = frame.close_status();
                // It may have gone by then; what it said stands.
                let _ = link.try_send_frame(&Frame::close(code, "")).await;
                return Some((code, unanswered(waiting)));
            }
            Some(Received::Frame(frame)) if frame.opcode == wire::TEXT => waiting = None,
            Some(Received::Frame(frame)) => panic!("nobody says {frame:?} here"),
            Some(Received::End(_)) => return Some((1006, unanswered(waiting))),
            None if over.load(SeqCst) => {
                link.close(1000, "").await;
                return None;
            }
            None => {
                next = Instant::now() + TALK;
                waiting.get_or_insert_with(Instant::now);
                // What cannot be written ends the connection, which is read next.
                let _ = link.try_send_frame(&Frame::text("are you there?")).await;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

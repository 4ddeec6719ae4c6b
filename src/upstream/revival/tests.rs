use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::task::Wake;
use std::time::Duration;

use tokio::task::{JoinSet, yield_now};
use tokio::time::{advance, sleep};

use super::*;
use crate::config::Redial;
use crate::stage::{millis, secs};

mod uneven;

/// The defaults.
const RULES: Redial =
    Redial { base: millis(100), factor: 2.0, cap: secs(5), give_up: Some(secs(60)), reset_after: secs(10) };
const MAX_DIALS: usize = 64;

/// A server that is away in a part of the time.
struct Server {
    revival: Arc<Revival>,
    begin: Instant,
    is_away: fn(Duration) -> bool,
    /// What a dial takes that fails, and one that does not.
    failure: Duration,
    handshake: Duration,
    failed: AtomicU64,
    turns: AtomicUsize,
    most: AtomicUsize,
}

impl Server {
    fn new(failure: Duration, handshake: Duration, is_away: fn(Duration) -> bool) -> Arc<Self> {
        Arc::new(Self {
            revival: Revival::new(RULES, MAX_DIALS),
            begin: Instant::now(),
            is_away,
            failure,
            handshake,
            failed: AtomicU64::new(0),
            turns: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        })
    }

    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// One dial.
    async fn dial(&self) -> bool {
        if (self.is_away)(self.now()) {
            sleep(self.failure).await;
            return false;
        }
        sleep(self.handshake).await;
        !(self.is_away)(self.now())
    }

    /// A session that has lost it: how long that takes.
    async fn relink(&self) -> Duration {
        let lost_at = Instant::now();
        loop {
            let mut waiting = self.revival.wait(0);
            let turn = poll_fn(|cx| waiting.poll_turn(cx)).await;
            self.most.fetch_max(self.turns.fetch_add(1, SeqCst) + 1, SeqCst);
            let is_up = self.dial().await;
            self.turns.fetch_sub(1, SeqCst);
            if is_up {
                turn.succeeded();
                return lost_at.elapsed();
            }
            self.failed.fetch_add(1, SeqCst);
            turn.failed(Blame::Server);
        }
    }

    /// How long each of `n` sessions takes that lose it now, the shortest first.
    async fn relink_all(self: &Arc<Self>, n: usize) -> Vec<Duration> {
        let mut sessions = JoinSet::new();
        for _ in 0..n {
            let server = Arc::clone(self);
            sessions.spawn(async move { server.relink().await });
        }
        let mut took = sessions.join_all().await;
        took.sort_unstable();
        let state = self.revival.0.lock();
        assert!(state.wakers.is_empty() && state.gate.is_at_rest(), "{state:?}");
        // A second after their begin dials do not count any more.
        let hanging = if self.failure > secs(1) { 4 } else { 0 };
        assert!(self.most.load(SeqCst) <= MAX_DIALS + hanging);
        took
    }
}

#[tokio::test(start_paused = true)]
async fn after_twenty_seconds_two_thousand_come_back_as_fast_as_the_server_takes_them() {
    const AWAY: Duration = secs(20);
    const HANDSHAKE: Duration = millis(5);
    // A server that refuses, and one whose address swallows what is sent to it.
    for failure in [millis(1), secs(2)] {
        for seed in 0..10 {
            fastrand::seed(seed);
            let server = Server::new(failure, HANDSHAKE, |at| at < AWAY);
            let took = server.relink_all(2000).await;
            let failed = server.failed.load(SeqCst);
            assert!((20..=80).contains(&failed), "seed {seed}: {failed} dials have failed");
            let (first, last) = (took[0] - AWAY, took[1999] - AWAY);
            assert!(first <= secs(1) + HANDSHAKE + millis(2), "seed {seed}: {first:?}");
            // Timers have milliseconds: a handshake lasts up to one more.
            let rounds = 1999_u32.div_ceil(MAX_DIALS as u32);
            let mut needed = (HANDSHAKE + millis(1)) * rounds;
            if failure > HANDSHAKE {
                // Dials that hang when the server is back do so for as long as they may; then they wait as the first ones.
                needed += failure + RULES.base;
            }
            assert!(last - first <= needed, "seed {seed}: {last:?} after {first:?}");
            assert!(server.most.load(SeqCst) >= MAX_DIALS);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_back_at_once_is_hardly_missed() {
    let mut took = Vec::new();
    for seed in 0..200 {
        fastrand::seed(seed);
        let server = Server::new(millis(1), millis(2), |at| at < millis(5));
        took.extend(server.relink_all(50).await);
        assert_eq!(server.failed.load(SeqCst), 0);
    }
    took.sort_unstable();
    let (median, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    assert!(median < millis(100) && p99 < millis(400), "{median:?} {p99:?}");
    assert!(took[0] >= millis(10), "not at the very moment of the loss");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_over_and_over_is_not_waited_for_longer_each_time() {
    let (mut took, mut failed) = (Vec::new(), 0);
    for seed in 0..20 {
        fastrand::seed(seed);
        // It is away for 50 ms of each 500 ms.
        let server = Server::new(millis(1), millis(2), |at| at.as_millis() % 500 < 50);
        for _ in 0..40 {
            assert_eq!(server.now().as_millis() % 500, 0);
            let next = Instant::now() + millis(500);
            took.extend(server.relink_all(50).await);
            sleep_until(next).await;
        }
        failed += server.failed.load(SeqCst);
    }
    took.sort_unstable();
    // One that asks just before the server is back, and then the longest second wait. Few ask twice before that.
    let longest = millis(50 + 200 + 10);
    assert!(took[took.len() * 95 / 100] <= longest, "{:?}", took[took.len() * 95 / 100]);
    assert!(took[took.len() / 2] < millis(200));
    assert!((200..=1600).contains(&failed), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn sessions_that_the_server_refuses_keep_nobody_back() {
    let server = Server::new(millis(1), millis(2), |_| false);
    let mut refused = JoinSet::new();
    for _ in 0..1000 {
        let server = Arc::clone(&server);
        refused.spawn(async move {
            let mut waiting = server.revival.wait(0);
            let turn = poll_fn(|cx| waiting.poll_turn(cx)).await;
            sleep(server.handshake).await;
            turn.failed(Blame::Session);
        });
    }
    yield_now().await;
    let took = server.relink().await;
    assert!(took < millis(100) + millis(3) * 1001_u32.div_ceil(MAX_DIALS as u32) + millis(5), "{took:?}");
    refused.join_all().await;
}

/// Notes that it was woken.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// One who waits, polled only when it was woken.
struct Waiter {
    waiting: Waiting,
    flag: Arc<Flag>,
}

/// Those who wait by the order in which they came, and turns that they got.
struct Crowd {
    revival: Arc<Revival>,
    waiters: BTreeMap<usize, Waiter>,
    turns: Vec<Turn>,
    came: usize,
}

impl Crowd {
    fn new(max_dials: usize) -> Self {
        let revival = Revival::new(RULES, max_dials);
        Self { revival, waiters: BTreeMap::new(), turns: Vec::new(), came: 0 }
    }

    fn join(&mut self) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        self.waiters.insert(self.came, Waiter { waiting: self.revival.wait(0), flag });
        self.came += 1;
    }

    /// Polls those who were woken, until nobody is any more.
    async fn turn(&mut self) {
        let mut quiet = 0;
        while quiet < 2 {
            yield_now().await;
            let woken = self.waiters.iter().filter(|(_, waiter)| waiter.flag.0.swap(false, SeqCst));
            let woken: Vec<_> = woken.map(|(nth, _)| *nth).collect();
            quiet = if woken.is_empty() { quiet + 1 } else { 0 };
            for nth in woken {
                let waiter = self.waiters.get_mut(&nth).unwrap();
                let waker = Waker::from(Arc::clone(&waiter.flag));
                if let Poll::Ready(turn) = waiter.waiting.poll_turn(&mut Context::from_waker(&waker)) {
                    self.waiters.remove(&nth);
                    self.turns.push(turn);
                }
            }
        }
    }

    fn waiting(&self) -> usize {
        self.waiters.len()
    }
}

#[tokio::test(start_paused = true)]
async fn no_turn_and_no_waker_is_lost_whoever_leaves_and_whatever_comes_of_it() {
    for seed in 0..150 {
        fastrand::seed(seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        let max_dials = rng.usize(1..5);
        let mut crowd = Crowd::new(max_dials);
        for step in 0..100 {
            match rng.u8(0..8) {
                0..3 => crowd.join(),
                3 if crowd.waiting() > 0 => {
                    let nth = *crowd.waiters.keys().nth(rng.usize(0..crowd.waiting())).unwrap();
                    crowd.waiters.remove(&nth);
                }
                4 | 5 if !crowd.turns.is_empty() => {
                    let turn = crowd.turns.swap_remove(rng.usize(0..crowd.turns.len()));
                    match rng.u8(0..5) {
                        0 => turn.succeeded(),
                        1 => turn.failed(Blame::Server),
                        2 => turn.failed(Blame::Session),
                        3 => turn.failed(Blame::Nobody),
                        _ => drop(turn),
                    }
                }
                _ => advance(millis(rng.u64(0..300))).await,
            }
            // Some things happen before those whom the last one has woken are polled.
            if rng.bool() {
                continue;
            }
            crowd.turn().await;
            {
                let state = crowd.revival.0.lock();
                assert_eq!(state.wakers.len(), crowd.waiting(), "seed {seed}, step {step}");
                assert!(crowd.turns.len() <= 4 * max_dials, "seed {seed}, step {step}");
            }
            if rng.u8(0..4) == 0 && crowd.waiting() > 0 && crowd.turns.len() < max_dials {
                let before = crowd.turns.len();
                advance(millis(1001)).await;
                crowd.turn().await;
                assert!(crowd.turns.len() > before, "seed {seed}, step {step}: nobody asks");
            }
        }
        crowd.waiters.clear();
        crowd.turns.clear();
        let state = crowd.revival.0.lock();
        assert!(state.wakers.is_empty() && state.gate.is_at_rest(), "seed {seed}: {state:?}");
        assert_eq!(Arc::strong_count(&crowd.revival), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_anew_with_the_same_handle_waits_behind_those_who_failed_less() {
    let revival = Revival::new(RULES, 1);
    let mut cx = Context::from_waker(Waker::noop());
    let mut one = revival.wait(1);
    assert!(one.poll_turn(&mut cx).is_pending());
    advance(millis(101)).await;
    let Poll::Ready(turn) = one.poll_turn(&mut cx) else { panic!("it is the first") };
    let mut other = revival.wait(0);
    assert!(other.poll_turn(&mut cx).is_pending());
    turn.succeeded();
    assert!(one.poll_turn(&mut cx).is_pending());
    let Poll::Ready(turn) = other.poll_turn(&mut cx) else { panic!("the server is there") };
    assert!(one.poll_turn(&mut cx).is_pending());
    turn.succeeded();
}

/// A waker whom a waiter belongs to.
struct Owner {
    _waiting: Waiting,
}

impl Wake for Owner {
    fn wake(self: Arc<Self>) {}
}

#[tokio::test(start_paused = true)]
async fn wakers_that_own_waiters_lock_nothing_twice() {
    let revival = Revival::new(RULES, 1);
    let mut waiting: Vec<_> = (0..3).map(|_| revival.wait(0)).collect();
    for waiter in &mut waiting {
        // Each poll drops the waker of the one before, and with it a waiter.
        for _ in 0..3 {
            let mut owned = revival.wait(0);
            assert!(owned.poll_turn(&mut Context::from_waker(Waker::noop())).is_pending());
            let waker = Waker::from(Arc::new(Owner { _waiting: owned }));
            assert!(waiter.poll_turn(&mut Context::from_waker(&waker)).is_pending());
        }
    }
    drop(waiting);
    let state = revival.0.lock();
    assert!(state.wakers.is_empty() && state.gate.is_at_rest(), "{state:?}");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_are_no_more_work_each_than_a_hundred() {
    fastrand::seed(1);
    let server = Server::new(millis(1), millis(2), |at| at < millis(300));
    let took = server.relink_all(10_000).await;
    // Each is woken for its turn, and the first ones for their dates: who is far behind sleeps.
    assert!(took[9_999] < secs(2), "{:?}", took[9_999]);
}

//! The bucket of all handshakes, the line before it, and what those are told who cannot wait in it.
//!
//! # Invariants
//! 1. Who waits is served in the order of coming; who comes while somebody waits gets into line.
//! 2. At most `max_queued` wait, and nobody who would not get a token within `queue`: such a one is refused at
//!    once, while it can still use the time.
//! 3. A handshake that is given up while it waits leaves its place to the next.
//! 4. Whoever is refused is promised a free moment of its own: at the rate, behind all that were promised
//!    before. So a storm comes back at the pace it can be let in, not all after a second.
//!
//! # Not here
//! Addresses and users ([`super::keyed`]).
//!
//! # Why is a promise not kept as a token?
//! Nobody says who it is when it comes back. Promises that are not kept cost nothing: time passes them by.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use super::rate::{Ticks, quota};
use crate::config::Rate;
use crate::telemetry::Metrics;

/// Nothing is promised further ahead. Who would come later than that is sent somewhere into its second half,
/// and asks again.
const HORIZON: Duration = Duration::from_secs(60);

pub(super) type Limiter = RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Nanos>>;

/// The bucket and the line before it.
#[derive(Debug)]
pub(super) struct Queue {
    limiter: Limiter,
    /// From one token to the next.
    period: Duration,
    /// How long anybody may wait.
    longest: Duration,
    max_queued: usize,
    /// How many are in line, its first included.
    queued: AtomicUsize,
    /// Held by the first in line; it is handed on in the order of asking.
    first: tokio::sync::Mutex<()>,
    book: Mutex<Book>,
    metrics: Arc<Metrics>,
}

impl Queue {
    /// `longest`: how long anybody may wait in line; zero: nobody does. `max_queued`: how many may.
    pub(super) fn new(rate: Rate, longest: Duration, max_queued: usize, metrics: Arc<Metrics>) -> Self {
        let quota = quota(rate);
        let now = Instant::now();
        Self {
            limiter: RateLimiter::direct_with_clock(quota, Ticks::new()),
            period: quota.replenish_interval(),
            longest,
            max_queued,
            queued: AtomicUsize::new(0),
            first: tokio::sync::Mutex::new(()),
            book: Mutex::new(Book { free: now, promised: now }),
            metrics,
        }
    }

    /// Takes a token, if need be after a wait, or says when to come back.
    pub(super) async fn pass(&self) -> Result<(), Duration> {
        let arrived = Instant::now();
        if self.queued.load(Relaxed) == 0 && self.take().is_ok() {
            return Ok(());
        }
        match self.line_up(arrived) {
            Some(place) => {
                let passed = timeout_at(arrived + self.longest, self.wait()).await.is_ok();
                drop(place);
                if passed { Ok(()) } else { Err(self.promise()) }
            }
            None => Err(self.promise()),
        }
    }

    /// A token at once, or in how long there will be one; that is noted.
    fn take(&self) -> Result<(), Duration> {
        self.limiter.check().map_err(|until| {
            let wait = until.wait_time_from(self.limiter.clock().now());
            self.book().free = Instant::now() + wait;
            wait
        })
    }

    /// A place in line, unless there is none or it is not worth waiting in.
    fn line_up(&self, now: Instant) -> Option<Place<'_>> {
        if self.longest.is_zero() {
            return None;
        }
        let (place, ahead) = Place::new(self);
        let served = self.free_behind(ahead);
        (ahead < self.max_queued && served <= now + self.longest).then_some(place)
    }

    /// When there will be a token for who stands behind `ahead` others.
    fn free_behind(&self, ahead: usize) -> Instant {
        let behind = self.period.saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX));
        later(self.book().free, behind)
    }

    /// Until it is this one's turn and there is a token.
    async fn wait(&self) {
        let _first = self.first.lock().await;
        while let Err(wait) = self.take() {
            sleep(wait).await;
        }
    }

    fn promise(&self) -> Duration {
        let now = Instant::now();
        let free = self.free_behind(self.queued.load(Relaxed));
        self.book().promise(now, free, self.period)
    }

    fn book(&self) -> parking_lot::MutexGuard<'_, Book> {
        self.book.lock()
    }
}

/// `at`, so much later; for ever, if no clock can tell.
fn later(at: Instant, by: Duration) -> Instant {
    at.checked_add(by).unwrap_or_else(|| at + FOR_EVER)
}

/// A hundred years.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A place in line. Given back when it is dropped, by whom ever.
struct Place<'a>(&'a Queue);

impl<'a> Place<'a> {
    /// The last place, and how many are ahead of it.
    fn new(queue: &'a Queue) -> (Self, usize) {
        queue.metrics.handshakes_queued.inc();
        (Self(queue), queue.queued.fetch_add(1, Relaxed))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Relaxed);
        self.0.metrics.handshakes_queued.dec();
    }
}

/// What is known of the time to come.
#[derive(Debug)]
struct Book {
    /// When there is a token for the first in line.
    free: Instant,
    /// The last moment that was promised to somebody.
    promised: Instant,
}

impl Book {
    /// A moment of its own for somebody who is sent away, from `free` on, as a time from `now`.
    fn promise(&mut self, now: Instant, free: Instant, period: Duration) -> Duration {
        let moment = later(self.promised, period).max(free).max(now);
        // At the least the next token can be promised, however slow the rate.
        let horizon = later(now, HORIZON).max(free);
        if moment > horizon {
            let ahead = horizon - now;
            return ahead.mul_f64(fastrand::f64().mul_add(0.5, 0.5));
        }
        self.promised = moment;
        moment - now
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use tokio::time::advance;

    use super::*;

    fn queue_of(per_second: f64, burst: u32, longest: Duration, max_queued: usize) -> Arc<Queue> {
        let metrics = Metrics::new("outrigger").unwrap();
        Arc::new(Queue::new(Rate { per_second, burst }, longest, max_queued, metrics))
    }

    const NO_WAIT: Duration = Duration::ZERO;

    /// When each of `count` who come at once was let in, in the order of coming; `None`: refused.
    async fn storm(queue: &Arc<Queue>, count: usize) -> Vec<Option<Duration>> {
        let start = Instant::now();
        let tasks = Vec::from_iter((0..count).map(|_| {
            let queue = Arc::clone(queue);
            tokio::spawn(async move { queue.pass().await.ok().map(|()| start.elapsed()) })
        }));
        let mut times = Vec::new();
        for task in tasks {
            times.push(task.await.unwrap());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_served_in_the_order_of_coming_at_the_rate() {
        let queue = queue_of(100.0, 5, Duration::from_secs(1), 1000);
        let times = storm(&queue, 50).await;
        for (place, time) in times.iter().enumerate() {
            let expected = Duration::from_millis(10 * (place.saturating_sub(4)) as u64);
            let time = time.unwrap();
            assert!(time >= expected && time <= expected + Duration::from_millis(2), "{place}: {time:?}");
        }
        assert_eq!((queue.queued.load(Relaxed), queue.metrics.handshakes_queued.get()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_too_long_is_refused_at_once() {
        let queue = queue_of(10.0, 1, Duration::from_millis(500), 1000);
        let start = Instant::now();
        let holders = Vec::from_iter((0..6).map(|_| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move { queue.pass().await })
        }));
        tokio::task::yield_now().await;
        assert_eq!(queue.metrics.handshakes_queued.get(), 5);
        let wait = queue.pass().await.unwrap_err();
        assert_eq!(start.elapsed(), Duration::ZERO, "it was not kept");
        assert_eq!(wait, Duration::from_millis(600), "behind all who wait");
        for holder in holders {
            holder.await.unwrap().unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_is_bounded() {
        let queue = queue_of(10.0, 1, Duration::from_secs(3600), 7);
        let times = storm(&queue, 20).await;
        assert_eq!(times.iter().flatten().count(), 1 + 7);
        assert!(times[8..].iter().all(Option::is_none), "{times:?}");
        assert_eq!(queue.metrics.handshakes_queued.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn late_comers_do_not_overtake() {
        let queue = queue_of(10.0, 1, Duration::from_secs(10), 1000);
        queue.pass().await.unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut early = Box::pin(queue.pass());
        assert!(early.as_mut().poll(&mut cx).is_pending());
        advance(Duration::from_millis(100)).await;
        // There is a token now, and the early one has not been told yet.
        let mut late = Box::pin(queue.pass());
        assert!(late.as_mut().poll(&mut cx).is_pending(), "it got the token of the one before it");
        assert_eq!(early.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
        late.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_away_leaves_its_place_to_the_next() {
        let queue = queue_of(10.0, 1, Duration::from_secs(10), 1000);
        queue.pass().await.unwrap();
        let start = Instant::now();
        let waiting = Vec::from_iter((0..5).map(|_| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move { queue.pass().await.map(|()| Instant::now()) })
        }));
        tokio::task::yield_now().await;
        // The first in line and two others give up.
        for gone in [0, 1, 3] {
            waiting[gone].abort();
        }
        let mut times = Vec::new();
        for task in waiting {
            if let Ok(time) = task.await {
                times.push(time.unwrap() - start);
            }
        }
        let millis = Vec::from_iter(times.iter().map(|time| time.as_millis() / 10));
        assert_eq!(millis, [10, 20], "nobody waits for those who left");
        assert_eq!((queue.queued.load(Relaxed), queue.metrics.handshakes_queued.get()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_refused_of_a_storm_are_sent_back_at_the_rate() {
        let queue = queue_of(200.0, 100, NO_WAIT, 0);
        let mut waits = Vec::new();
        for _ in 0..5000 {
            if let Err(wait) = queue.pass().await {
                waits.push(wait.as_secs_f64());
            }
        }
        assert_eq!(waits.len(), 4900);
        for (place, wait) in waits.iter().enumerate() {
            let expected = (place + 1) as f64 / 200.0;
            assert!((wait - expected).abs() < 1e-3, "{place}: {wait}");
        }
        // Time passes promises by: ten seconds later ten seconds less are spoken for.
        advance(Duration::from_secs(10)).await;
        while queue.pass().await.is_ok() {}
        let wait = queue.pass().await.unwrap_err().as_secs_f64();
        assert!((wait - 14.51).abs() < 0.01, "{wait}");
        advance(Duration::from_secs(60)).await;
        while queue.pass().await.is_ok() {}
        let wait = queue.pass().await.unwrap_err();
        assert!(wait < Duration::from_millis(20), "{wait:?}: all promises are over");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_promised_beyond_the_horizon() {
        let queue = queue_of(10.0, 1, NO_WAIT, 0);
        queue.pass().await.unwrap();
        let mut beyond = Vec::new();
        for place in 1..2000_u32 {
            let wait = queue.pass().await.unwrap_err();
            assert!(wait <= HORIZON, "{wait:?}");
            if place > 600 {
                beyond.push(wait);
            }
        }
        assert!(beyond.iter().all(|wait| *wait >= HORIZON / 2));
        beyond.sort();
        assert!(beyond[beyond.len() / 4] < Duration::from_secs(40), "they are spread too");
        // A slow rate has nothing nearer to offer.
        let slow = queue_of(0.001, 1, NO_WAIT, 0);
        slow.pass().await.unwrap();
        assert_eq!(slow.pass().await.unwrap_err(), Duration::from_secs(1000));
        assert!(slow.pass().await.unwrap_err() >= Duration::from_secs(500));
    }
}

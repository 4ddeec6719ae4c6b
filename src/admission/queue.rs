//! The global bucket of handshakes, the queue before it, and `Retry-After` of handshakes that are refused.
//!
//! # Invariants
//! 1. Handshakes leave the queue in the order in which they entered it; while one waits, none passes it.
//! 2. At most `max_queued` wait, and none that would not get a token within `queue`: it is refused at once, while its
//!    client can still use the time.
//! 3. A handshake that is given up while it waits frees its place in the queue.
//! 4. Each refused handshake gets its own time to retry at: at the rate, after all that were given before. So the clients
//!    of a storm come back at the rate at which they can be admitted, and not all after a second.
//!
//! # Not here
//! Addresses and users ([`super::keyed`]).
//!
//! # Why is a time to retry at not reserved as a token?
//! A client that comes back cannot be recognized, and a time at which no client comes back costs nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::Rate;
use crate::resilience::{ArrivalTime, Gcra};
use crate::telemetry::Metrics;

/// The longest `Retry-After`: instead of a longer one a client gets a random time in the second half of this.
const HORIZON: Duration = Duration::from_secs(60);

/// The bucket and the queue before it.
#[derive(Debug)]
pub(super) struct Queue {
    gcra: Gcra,
    /// How long a handshake may wait.
    max_wait: Duration,
    max_queued: usize,
    /// How many wait, the first included.
    queued: AtomicUsize,
    /// Held by the first handshake in the queue. It is fair: those that wait for it get it in the order in which they asked.
    first: tokio::sync::Mutex<()>,
    schedule: Mutex<Schedule>,
    metrics: Arc<Metrics>,
}

impl Queue {
    /// `max_wait`: how long a handshake may wait; with zero none does. `max_queued`: how many may wait.
    pub(super) fn new(rate: Rate, max_wait: Duration, max_queued: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            gcra: Gcra::new(rate),
            max_wait,
            max_queued,
            queued: AtomicUsize::new(0),
            first: tokio::sync::Mutex::new(()),
            schedule: Mutex::new(Schedule::new(Instant::now())),
            metrics,
        }
    }

    /// Takes a token, if need be after a wait, or answers in how long to retry.
    pub(super) async fn take(&self) -> Result<(), Duration> {
        let arrived = Instant::now();
        if self.queued.load(Relaxed) == 0 && self.try_take(arrived).is_ok() {
            return Ok(());
        }
        let Some(place) = self.enqueue(arrived) else { return Err(self.retry_after()) };
        let is_taken = timeout_at(arrived + self.max_wait, self.wait()).await.is_ok();
        drop(place);
        if is_taken { Ok(()) } else { Err(self.retry_after()) }
    }

    /// Takes a token if there is one, or answers in how long there will be.
    fn try_take(&self, now: Instant) -> Result<(), Duration> {
        self.schedule.lock().take(self.gcra, now)
    }

    /// A place in the queue, unless it is full or the wait would be too long.
    fn enqueue(&self, now: Instant) -> Option<QueueSlot<'_>> {
        if self.max_wait.is_zero() {
            return None;
        }
        let (place, ahead) = QueueSlot::new(self);
        let served = self.schedule.lock().next_token_behind(ahead, self.gcra);
        (ahead < self.max_queued && served <= now + self.max_wait).then_some(place)
    }

    /// Waits until this handshake is the first in the queue, and there is a token.
    async fn wait(&self) {
        let _first = self.first.lock().await;
        while let Err(wait) = self.try_take(Instant::now()) {
            sleep(wait).await;
        }
    }

    fn retry_after(&self) -> Duration {
        let queued = self.queued.load(Relaxed);
        self.schedule.lock().retry_after(Instant::now(), queued, self.gcra)
    }
}

/// A place in the queue, free again when this is dropped, whether the wait succeeded or was given up.
struct QueueSlot<'a>(&'a Queue);

impl<'a> QueueSlot<'a> {
    /// The last place in the queue, and how many handshakes are ahead of it.
    fn new(queue: &'a Queue) -> (Self, usize) {
        queue.metrics.admission.handshakes_queued.inc();
        (Self(queue), queue.queued.fetch_add(1, Relaxed))
    }
}

impl Drop for QueueSlot<'_> {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Relaxed);
        self.0.metrics.admission.handshakes_queued.dec();
    }
}

/// Which tokens are taken, and which times to retry at were given. Pure.
#[derive(Debug)]
struct Schedule {
    bucket: ArrivalTime,
    /// When there will be a token for the first in the queue, as of the last time that there was none.
    next_token: Instant,
    /// The last time that a client was given to retry at.
    retry_at: Instant,
}

impl Schedule {
    fn new(now: Instant) -> Self {
        Self { bucket: ArrivalTime::default(), next_token: now, retry_at: now }
    }

    fn take(&mut self, gcra: Gcra, now: Instant) -> Result<(), Duration> {
        self.bucket.take(gcra, now).inspect_err(|wait| self.next_token = add_saturating(now, *wait))
    }

    /// When there will be a token for a handshake that has `ahead` others before it.
    fn next_token_behind(&self, ahead: usize, gcra: Gcra) -> Instant {
        add_saturating(
            self.next_token,
            gcra.interval().saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX)),
        )
    }

    /// The time to retry at for a handshake that is refused while `queued` wait, as a duration from `now`.
    fn retry_after(&mut self, now: Instant, queued: usize, gcra: Gcra) -> Duration {
        let next_token = self.next_token_behind(queued, gcra);
        let at = add_saturating(self.retry_at, gcra.interval()).max(next_token).max(now);
        // The next token can always be waited for, however slow the rate.
        let horizon = add_saturating(now, HORIZON).max(next_token);
        if at > horizon {
            let ahead = horizon - now;
            return ahead.mul_f64(fastrand::f64().mul_add(0.5, 0.5));
        }
        self.retry_at = at;
        at - now
    }
}

/// `at + by`, or [`FAR_FUTURE`] where that overflows.
fn add_saturating(at: Instant, by: Duration) -> Instant {
    at.checked_add(by).unwrap_or_else(|| at + FAR_FUTURE)
}

/// A hundred years.
const FAR_FUTURE: Duration = Duration::from_secs(100 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use tokio::time::advance;

    use super::*;

    fn queue_of(per_second: f64, burst: u32, max_wait: Duration, max_queued: usize) -> Arc<Queue> {
        let metrics = Metrics::new("outrigger").unwrap();
        Arc::new(Queue::new(Rate { per_second, burst }, max_wait, max_queued, metrics))
    }

    const NO_WAIT: Duration = Duration::ZERO;

    /// When each of `count` who come at once was let in, in the order of coming; `None`: refused.
    async fn storm(queue: &Arc<Queue>, count: usize) -> Vec<Option<Duration>> {
        let start = Instant::now();
        let tasks = Vec::from_iter((0..count).map(|_| {
            let queue = Arc::clone(queue);
            tokio::spawn(async move { queue.take().await.ok().map(|()| start.elapsed()) })
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
        assert_eq!((queue.queued.load(Relaxed), queue.metrics.admission.handshakes_queued.get()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_too_long_is_refused_at_once() {
        let queue = queue_of(10.0, 1, Duration::from_millis(500), 1000);
        let start = Instant::now();
        let holders = Vec::from_iter((0..6).map(|_| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move { queue.take().await })
        }));
        tokio::task::yield_now().await;
        assert_eq!(queue.metrics.admission.handshakes_queued.get(), 5);
        let wait = queue.take().await.unwrap_err();
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
        assert_eq!(queue.metrics.admission.handshakes_queued.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn late_comers_do_not_overtake() {
        let queue = queue_of(10.0, 1, Duration::from_secs(10), 1000);
        queue.take().await.unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut early = Box::pin(queue.take());
        assert!(early.as_mut().poll(&mut cx).is_pending());
        advance(Duration::from_millis(100)).await;
        // There is a token now, and the early one has not been told yet.
        let mut late = Box::pin(queue.take());
        assert!(late.as_mut().poll(&mut cx).is_pending(), "it got the token of the one before it");
        assert_eq!(early.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
        late.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_goes_away_leaves_its_place_to_the_next() {
        let queue = queue_of(10.0, 1, Duration::from_secs(10), 1000);
        queue.take().await.unwrap();
        let start = Instant::now();
        let waiting = Vec::from_iter((0..5).map(|_| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move { queue.take().await.map(|()| Instant::now()) })
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
        assert_eq!((queue.queued.load(Relaxed), queue.metrics.admission.handshakes_queued.get()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_refused_of_a_storm_are_sent_back_at_the_rate() {
        let queue = queue_of(200.0, 100, NO_WAIT, 0);
        let mut waits = Vec::new();
        for _ in 0..5000 {
            if let Err(wait) = queue.take().await {
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
        while queue.take().await.is_ok() {}
        let wait = queue.take().await.unwrap_err().as_secs_f64();
        assert!((wait - 14.51).abs() < 0.01, "{wait}");
        advance(Duration::from_secs(60)).await;
        while queue.take().await.is_ok() {}
        let wait = queue.take().await.unwrap_err();
        assert!(wait < Duration::from_millis(20), "{wait:?}: all promises are over");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_promised_beyond_the_horizon() {
        let queue = queue_of(10.0, 1, NO_WAIT, 0);
        queue.take().await.unwrap();
        let mut beyond = Vec::new();
        for place in 1..2000_u32 {
            let wait = queue.take().await.unwrap_err();
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
        slow.take().await.unwrap();
        assert_eq!(slow.take().await.unwrap_err(), Duration::from_secs(1000));
        assert!(slow.take().await.unwrap_err() >= Duration::from_secs(500));
    }
}

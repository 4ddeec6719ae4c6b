//! The lifecycle of the process: one small value that every task may watch.
//!
//! # Invariants
//! 1. The state only ever moves forward: a drain cannot be taken back, and what has drained stays so.
//! 2. Exactly one [`Lifecycle::request_drain`] answers `true`: the first, which starts the drain. The same goes for
//!    [`Lifecycle::request_stop`].
//! 3. A stop implies a drain, but not the other way round: a process that has drained keeps running until a stop.
//!
//! # Why does a drain not end the process?
//! A supervisor restarts a process that ends by itself, and clients come back to it: a kubelet does so with a sidecar.
//! Only a signal says that the supervisor wants it to end.
//!
//! # Not here
//! What a drain does to clients (the server's business), and who may ask for one (the admin port's).

use std::sync::Arc;

use tokio::sync::watch;

/// The states of the process, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Not listening yet.
    Starting,
    /// Clients are accepted.
    Ready,
    /// A drain was requested: connections are closed, and no new clients should be sent here.
    Draining,
    /// The last client has gone; the process ends with a stop. Terminal.
    Drained,
}

impl State {
    /// The state as a word, the same wherever it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Drained => "drained",
        }
    }
}

/// A handle on the process's [`State`]. Clones share it.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    state: Arc<watch::Sender<State>>,
    stop: Arc<watch::Sender<bool>>,
}

impl Lifecycle {
    /// A process that is starting: [`State::Starting`].
    pub fn new() -> Self {
        Self { state: Arc::new(watch::Sender::new(State::Starting)), stop: Arc::default() }
    }

    /// The ports are open. Changes nothing once a drain has begun, however the two raced.
    pub fn ready(&self) {
        self.advance(State::Ready);
    }

    /// Starts the drain. `true` when it was this call that did, `false` when it was under way already.
    pub fn request_drain(&self) -> bool {
        self.advance(State::Draining)
    }

    /// Has the process end when it has drained, and starts the drain unless one is under way. `true` when it
    /// was this call that asked for the end, `false` when that was asked for already.
    pub fn request_stop(&self) -> bool {
        // In this order: a task that sees the drain sees the stop too.
        let is_first = !self.stop.send_replace(true);
        self.request_drain();
        is_first
    }

    /// Whether the end was asked for.
    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until the end was asked for. Cancel safe.
    pub async fn until_stop(&self) {
        // Fails only without a sender, and `self` is one.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// The drain is over.
    pub fn drained(&self) {
        self.advance(State::Drained);
    }

    /// Where the process is now.
    pub fn state(&self) -> State {
        *self.state.borrow()
    }

    /// Whether new clients should be sent here.
    pub fn is_ready(&self) -> bool {
        self.state() == State::Ready
    }

    /// Whether a drain was asked for; stays true when it is over.
    pub fn is_draining(&self) -> bool {
        self.state() >= State::Draining
    }

    /// Waits until the process is in `state` or beyond. Cancel safe.
    pub async fn until(&self, state: State) {
        // Fails only without a sender, and `self` is one.
        let _ = self.state.subscribe().wait_for(|now| *now >= state).await;
    }

    fn advance(&self, to: State) -> bool {
        self.state.send_if_modified(|now| {
            let forward = *now < to;
            if forward {
                *now = to;
            }
            forward
        })
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[test]
    fn the_state_only_moves_forward() {
        let life = Lifecycle::new();
        assert_eq!(life.state(), State::Starting);
        assert!(!life.is_ready() && !life.is_draining());
        life.ready();
        assert!(life.is_ready() && !life.is_draining());
        assert!(life.request_drain());
        life.ready();
        assert_eq!(life.state(), State::Draining);
        assert!(!life.is_ready() && life.is_draining());
        life.drained();
        life.ready();
        assert!(!life.request_drain());
        assert_eq!(life.state(), State::Drained);
        assert!(life.is_draining());
    }

    #[test]
    fn a_stop_is_a_drain_and_a_drain_is_no_stop() {
        let life = Lifecycle::new();
        assert!(life.request_drain() && !life.is_stopping());
        life.drained();
        assert!(life.request_stop() && life.is_stopping(), "it is the first, whatever was drained before");
        assert!(!life.request_stop() && life.is_stopping());
        assert_eq!(life.state(), State::Drained);

        let life = Lifecycle::new();
        assert!(life.request_stop());
        assert!(life.is_draining() && !life.request_drain());
    }

    #[test]
    fn of_many_drain_requests_one_started_it() {
        let life = Lifecycle::new();
        let started = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..8).map(|_| scope.spawn(|| life.request_drain())).collect();
            asking.into_iter().map(|each| each.join().unwrap()).filter(|started| *started).count()
        });
        assert_eq!(started, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn until_waits_for_a_state_or_a_later_one() {
        let life = Lifecycle::new();
        life.until(State::Starting).await;
        let limit = Duration::from_secs(3600);
        assert!(timeout(limit, life.until(State::Ready)).await.is_err(), "nobody said ready");

        let waiting = tokio::spawn({
            let life = life.clone();
            async move { life.until(State::Ready).await }
        });
        tokio::task::yield_now().await;
        life.drained();
        timeout(limit, waiting).await.expect("skipping a state wakes those who wait for it").unwrap();
        timeout(limit, life.until(State::Draining)).await.expect("what is past is not waited for");
    }
}

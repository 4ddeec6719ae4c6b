//! The streams of one HTTP/2 connection: how many are in use, since when none is, and whether its client
//! asks only to go away again.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::server::http::idle_slot::IdleSlot;

/// Requests that a client may reset before they were answered, more than it lets be answered: a page that
/// is left cancels what it has asked for, at most a stream for each; whoever goes on so makes us dial for
/// nothing (rapid reset, CVE-2023-44487).
const ABANDONED: u32 = 200;

/// Counts the streams of one connection.
#[derive(Debug)]
pub(super) struct Streams {
    state: Mutex<State>,
    /// The first one began, the last one ended, or the client went too far.
    pub(super) changed: Notify,
    /// The connection's place among the idle ones, which it has while no stream is in use.
    idle: Option<IdleSlot>,
}

#[derive(Debug)]
struct State {
    in_use: usize,
    /// When a connection without streams has to end.
    until: Instant,
    /// How long it may be without one.
    idle_timeout: Duration,
    abandoned: u32,
}

impl Streams {
    /// No stream is in use yet. The first has to come by `until`, later ones within `idle_timeout`.
    pub(super) fn new(until: Instant, idle_timeout: Duration, idle: Option<IdleSlot>) -> Arc<Self> {
        let state = State { in_use: 0, until, idle_timeout, abandoned: 0 };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new(), idle })
    }

    /// One more, until the answer is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> InUse {
        let mut state = self.state.lock();
        state.in_use += 1;
        if state.in_use == 1 {
            if let Some(idle) = &self.idle {
                idle.leave();
            }
            self.changed.notify_one();
        }
        InUse(Arc::clone(self))
    }

    /// Returns when the connection has no stream, and is evicted for others that have none either.
    pub(super) async fn is_evicted(&self) {
        match &self.idle {
            Some(idle) => idle.is_evicted().await,
            None => std::future::pending().await,
        }
    }

    /// When the connection has to end, if nothing comes until then.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = self.state.lock();
        (state.in_use == 0).then_some(state.until)
    }

    /// From now on: no longer than this without a stream.
    pub(super) fn shorten_idle(&self, idle_timeout: Duration, now: Instant) {
        let mut state = self.state.lock();
        state.idle_timeout = idle_timeout;
        state.until = now + idle_timeout;
        self.changed.notify_one();
    }

    /// A request was answered, or its client has reset it.
    pub(super) fn on_end(&self, is_answered: bool) {
        let mut state = self.state.lock();
        if is_answered {
            state.abandoned = state.abandoned.saturating_sub(1);
        } else {
            state.abandoned += 1;
            if state.abandoned == ABANDONED {
                self.changed.notify_one();
            }
        }
    }

    /// Whether the client has reset more requests than any client needs to.
    pub(super) fn is_abused(&self) -> bool {
        self.state.lock().abandoned >= ABANDONED
    }
}

/// A stream in use: a request, or a WebSocket.
#[derive(Debug)]
pub(super) struct InUse(Arc<Streams>);

impl Drop for InUse {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.in_use -= 1;
        if state.in_use == 0 {
            let pressure = self.0.idle.as_ref().map(IdleSlot::enter);
            let idle_timeout = state.idle_timeout;
            state.until =
                Instant::now() + pressure.map_or(idle_timeout, |pressure| pressure.shorten(idle_timeout));
            self.0.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_may_live_as_long_as_it_is_used() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let streams = Streams::new(at(10), Duration::from_secs(75), None);
        assert_eq!(streams.deadline(), Some(at(10)));
        let (first, second) = (streams.enter(), streams.enter());
        assert_eq!(streams.deadline(), None);
        drop(first);
        assert_eq!(streams.deadline(), None);
        tokio::time::advance(Duration::from_secs(100)).await;
        drop(second);
        assert_eq!(streams.deadline(), Some(at(175)));
        streams.shorten_idle(Duration::from_secs(2), at(100));
        assert_eq!(streams.deadline(), Some(at(102)));
    }

    #[test]
    fn who_takes_back_what_it_asks_for_is_noticed_and_who_reads_answers_is_not() {
        let now = Instant::now();
        let streams = Streams::new(now, Duration::ZERO, None);
        for _ in 0..10 * ABANDONED {
            streams.on_end(false);
            streams.on_end(true);
        }
        assert!(!streams.is_abused());
        for _ in 0..ABANDONED {
            streams.on_end(false);
        }
        assert!(streams.is_abused());
    }
}

//! The streams of one HTTP/2 connection: how many are in use, until when it may have none, and whether its client resets
//! too many of them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::server::http::idle_slot::IdleSlot;

/// How many more requests a client may reset before they were answered than it lets be answered. A page that is left
/// cancels its requests, at most all streams at once; a client that goes on resetting makes us dial for nothing (rapid
/// reset, CVE-2023-44487).
const MAX_ABANDONED: u32 = 200;

/// Counts the streams of one connection.
#[derive(Debug)]
pub(super) struct Streams {
    state: Mutex<State>,
    /// Notified when the first stream begins, the last one ends, or the client has reset too many.
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

    /// Counts a stream until the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> StreamGuard {
        let mut state = self.state.lock();
        state.in_use += 1;
        if state.in_use == 1 {
            if let Some(idle) = &self.idle {
                idle.leave();
            }
            self.changed.notify_one();
        }
        StreamGuard(Arc::clone(self))
    }

    /// Completes when the connection is evicted: it has no stream, and neither have others.
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

    /// From now on the connection may have no stream for at most `idle_timeout`.
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
            if state.abandoned == MAX_ABANDONED {
                self.changed.notify_one();
            }
        }
    }

    /// Whether the client has reset more requests than any client needs to.
    pub(super) fn is_abused(&self) -> bool {
        self.state.lock().abandoned >= MAX_ABANDONED
    }
}

/// A stream in use: a request, or a WebSocket.
#[derive(Debug)]
pub(super) struct StreamGuard(Arc<Streams>);

impl Drop for StreamGuard {
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
        for _ in 0..10 * MAX_ABANDONED {
            streams.on_end(false);
            streams.on_end(true);
        }
        assert!(!streams.is_abused());
        for _ in 0..MAX_ABANDONED {
            streams.on_end(false);
        }
        assert!(streams.is_abused());
    }
}

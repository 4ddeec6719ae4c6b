//! What is remembered of sessions that are over, for clients that come back too late: they need not say again what was
//! received. Pure.
//!
//! # Invariants
//! 1. At most [`MAX_GRAVES`], each for [`KEPT`].

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::connections::{EndedSession, SessionId};

/// With 40 bytes each: what a process forgets at once when it restarts may be small.
const MAX_GRAVES: usize = 4096;
/// Longer than a client waits before it tries again.
const KEPT: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
pub(super) struct Graves {
    by_id: HashMap<SessionId, EndedSession>,
    /// The oldest first.
    dates: VecDeque<(Instant, SessionId)>,
}

impl Graves {
    /// A session is over. No id comes twice.
    pub(super) fn add(&mut self, id: SessionId, ended: EndedSession, now: Instant) {
        self.expire(now);
        if self.dates.len() >= MAX_GRAVES
            && let Some((_, oldest)) = self.dates.pop_front()
        {
            self.by_id.remove(&oldest);
        }
        self.by_id.insert(id, ended);
        self.dates.push_back((now, id));
    }

    /// What is known of this session.
    pub(super) fn find(&mut self, id: &SessionId, now: Instant) -> Option<EndedSession> {
        self.expire(now);
        self.by_id.get(id).copied()
    }

    fn expire(&mut self, now: Instant) {
        while let Some((_, id)) = self.dates.front().filter(|(at, _)| *at + KEPT <= now) {
            self.by_id.remove(id);
            self.dates.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> SessionId {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&n.to_be_bytes());
        SessionId(id)
    }

    #[test]
    fn a_session_is_remembered_for_two_minutes_and_only_so_many_are() {
        let start = Instant::now();
        let mut graves = Graves::default();
        let ended = |received| EndedSession { received, why: "window" };
        graves.add(id(0), ended(7), start);
        assert_eq!(graves.find(&id(0), start + KEPT - Duration::from_millis(1)), Some(ended(7)));
        assert_eq!(graves.find(&id(1), start), None);
        assert_eq!(graves.find(&id(0), start + KEPT), None);
        assert_eq!((graves.by_id.len(), graves.dates.len()), (0, 0));
        for n in 0..5000 {
            graves.add(id(n), ended(u64::from(n)), start);
        }
        assert_eq!((graves.by_id.len(), graves.dates.len()), (MAX_GRAVES, MAX_GRAVES));
        assert_eq!(graves.find(&id(5000 - 4096), start), Some(ended(904)));
        assert_eq!(graves.find(&id(5000 - 4097), start), None, "the oldest made room");
    }
}

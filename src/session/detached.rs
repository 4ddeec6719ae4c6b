//! The sessions of one route whose clients are away, in the order in which those went.
//!
//! # Invariants
//! 1. There are no more of them than the route allows: the one that has been there for longest is ended for a new one.
//! 2. Each step costs the logarithm of how many there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::handle::Handle;
use super::request::EndRequest;

#[derive(Debug, Default)]
pub(super) struct Detached {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By a number that grows.
    sessions: BTreeMap<u64, Arc<Handle>>,
    next: u64,
}

/// The place of one session among them, which is given back with this.
#[derive(Debug)]
pub(super) struct DetachedPlace {
    among: Arc<Detached>,
    number: u64,
}

impl Detached {
    /// The client of this session is away. Beyond `max` the oldest one is ended.
    pub(super) fn enter(self: &Arc<Self>, session: &Arc<Handle>, max: usize) -> DetachedPlace {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.sessions.insert(number, Arc::clone(session));
        let oldest = if state.sessions.len() > max { state.sessions.pop_first() } else { None };
        drop(state);
        // Without the lock: the task that this wakes gives its place back.
        if let Some((_, oldest)) = oldest {
            oldest.end(EndRequest::Evicted);
        }
        DetachedPlace { among: Arc::clone(self), number }
    }

    /// Ends all that are there.
    pub(super) fn end_all(&self, why: EndRequest) {
        let sessions = std::mem::take(&mut self.state.lock().sessions);
        for session in sessions.into_values() {
            session.end(why);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.state.lock().sessions.len()
    }
}

impl Drop for DetachedPlace {
    fn drop(&mut self) {
        // Gone already if it was ended from here.
        let session = self.among.state.lock().sessions.remove(&self.number);
        drop(session);
    }
}

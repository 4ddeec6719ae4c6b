//! The sessions of one route whose clients are away.
//!
//! # Invariants
//! 1. There are no more of them than the route allows: for a new one, one is ended of the caller who has most of them there,
//!    the one that has been there for longest. So nobody can end those of others by going away often.
//! 2. Each step costs the logarithm of how many there are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::handle::Handle;
use super::request::EndRequest;
use crate::resilience::Caller;

#[derive(Debug, Default)]
pub(super) struct Detached {
    places: Mutex<Places<Arc<Handle>>>,
}

/// The place of one session among them, which is given back with this.
#[derive(Debug)]
pub(super) struct DetachedPlace {
    among: Arc<Detached>,
    key: Key,
}

impl Detached {
    /// The client of this session is away. Beyond `max` one is ended.
    pub(super) fn enter(self: &Arc<Self>, session: &Arc<Handle>, max: usize) -> DetachedPlace {
        let (key, evicted) = self.places.lock().enter(session.identity().caller, Arc::clone(session), max);
        // Without the lock: the task that this wakes gives its place back.
        if let Some(evicted) = evicted {
            evicted.end(EndRequest::Evicted);
        }
        DetachedPlace { among: Arc::clone(self), key }
    }

    /// Ends all that are there.
    pub(super) fn end_all(&self, why: EndRequest) {
        let sessions = self.places.lock().take_all();
        for session in sessions {
            session.end(why);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.places.lock().sessions.len()
    }
}

impl Drop for DetachedPlace {
    fn drop(&mut self) {
        // Gone already if it was ended from here.
        let session = self.among.places.lock().leave(self.key);
        drop(session);
    }
}

/// Whose session it is, and its number, which is never used again, not even after all were ended.
type Key = (Caller, u64);

/// How many sessions a caller has there, since when the oldest, and who it is: the greatest one is who has most of them,
/// and of those who have equally many whose oldest has been there for longest.
type Rank = (usize, Reverse<u64>, Caller);

/// Who is there, of whom one goes for another. Pure.
#[derive(Debug)]
struct Places<T> {
    sessions: BTreeMap<Key, T>,
    counts: BTreeMap<Caller, usize>,
    ranks: BTreeSet<Rank>,
    next: u64,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { sessions: BTreeMap::new(), counts: BTreeMap::new(), ranks: BTreeSet::new(), next: 0 }
    }
}

impl<T> Places<T> {
    /// Answers its place, and who has lost one for it.
    fn enter(&mut self, caller: Caller, session: T, max: usize) -> (Key, Option<T>) {
        let key = (caller, self.next);
        self.next += 1;
        self.change(caller, |sessions, count| {
            sessions.insert(key, session);
            *count += 1;
        });
        let evicted = if self.sessions.len() > max { self.evicted() } else { None };
        (key, evicted.and_then(|key| self.leave(key)))
    }

    /// Gives a place back. `None`: it is not there any more.
    fn leave(&mut self, key: Key) -> Option<T> {
        if !self.sessions.contains_key(&key) {
            return None;
        }
        self.change(key.0, |sessions, count| {
            *count -= 1;
            sessions.remove(&key)
        })
    }

    fn take_all(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.counts.clear();
        self.ranks.clear();
        std::mem::take(&mut self.sessions).into_values()
    }

    /// Who goes next.
    fn evicted(&self) -> Option<Key> {
        let (_, Reverse(oldest), caller) = self.ranks.last()?;
        Some((*caller, *oldest))
    }

    /// Changes what a caller has, and ranks it anew.
    fn change<R>(
        &mut self,
        caller: Caller,
        change: impl FnOnce(&mut BTreeMap<Key, T>, &mut usize) -> R,
    ) -> R {
        let mut count = self.counts.remove(&caller).unwrap_or_default();
        if let Some(rank) = self.rank(caller, count) {
            self.ranks.remove(&rank);
        }
        let changed = change(&mut self.sessions, &mut count);
        if let Some(rank) = self.rank(caller, count) {
            self.ranks.insert(rank);
            self.counts.insert(caller, count);
        }
        changed
    }

    fn rank(&self, caller: Caller, count: usize) -> Option<Rank> {
        let ((of, oldest), _) = self.sessions.range((caller, 0)..).next()?;
        (*of == caller).then_some((count, Reverse(*oldest), caller))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_oldest_goes_of_the_caller_who_has_most_and_of_all_if_each_has_one() {
        // Who comes, in this order, where there is room for four; and who has gone of them, by when they came.
        for (come, gone) in [
            (&[1, 2, 3, 4][..], &[][..]),
            (&[1, 2, 3, 4, 5], &[0]),
            (&[1, 2, 3, 4, 5, 6, 7], &[0, 1, 2]),
            (&[1, 1, 1, 1, 1, 1], &[0, 1]),
            // Somebody goes away again and again beside one who has gone once: that one stays.
            (&[1, 2, 2, 2, 2, 2, 2, 2], &[1, 2, 3, 4]),
            (&[2, 2, 2, 2, 1, 2], &[0, 1]),
            // Two have equally many.
            (&[1, 2, 1, 2, 3], &[0]),
            (&[2, 1, 2, 1, 3, 4], &[0, 1]),
            (&[2, 2, 1, 1, 3, 3], &[0, 2]),
        ] {
            let mut places = Places::default();
            let evicted: Vec<usize> = come
                .iter()
                .enumerate()
                .filter_map(|(nth, caller)| places.enter(Caller(*caller), nth, 4).1)
                .collect();
            assert_eq!(evicted, gone, "{come:?}");
        }
    }

    /// The same, looked at one by one.
    #[derive(Default)]
    struct Model(Vec<(u64, Key)>);

    impl Model {
        fn count(&self, caller: u64) -> usize {
            self.0.iter().filter(|(of, _)| *of == caller).count()
        }

        fn enter(&mut self, caller: u64, key: Key, max: usize) -> Option<Key> {
            self.0.push((caller, key));
            if self.0.len() <= max {
                return None;
            }
            let most = self.0.iter().map(|(caller, _)| self.count(*caller)).max()?;
            let oldest = self.0.iter().position(|(caller, _)| self.count(*caller) == most)?;
            Some(self.0.remove(oldest).1)
        }
    }

    proptest! {
        /// Beside a plain list; `None`: one of those there leaves.
        #[test]
        fn a_plain_list_says_the_same(
            steps in prop::collection::vec((prop::option::weighted(0.7, 0..6_u64), 0..100_usize), 1..300),
            max in 1..12_usize,
        ) {
            let (mut places, mut model) = (Places::default(), Model::default());
            let mut next = 0;
            for (caller, nth) in steps {
                match caller {
                    Some(caller) => {
                        let key = (Caller(caller), next);
                        next += 1;
                        let (entered, evicted) = places.enter(Caller(caller), key, max);
                        prop_assert_eq!(entered, key);
                        prop_assert_eq!(evicted, model.enter(caller, key, max));
                        if let Some(evicted) = evicted {
                            prop_assert_eq!(places.leave(evicted), None);
                        }
                    }
                    None if model.0.is_empty() => {}
                    None => {
                        let (_, key) = model.0.remove(nth % model.0.len());
                        prop_assert_eq!(places.leave(key), Some(key));
                    }
                }
                prop_assert_eq!(places.sessions.len(), model.0.len());
                prop_assert_eq!(places.counts.values().sum::<usize>(), model.0.len());
                prop_assert_eq!(places.ranks.len(), places.counts.len(), "nothing of whoever has left");
            }
        }
    }
}

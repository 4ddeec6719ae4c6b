//! The connections of each user on one route: how many there are, which is the oldest, and which have to go.
//! Pure: `T` is how one of them is reached.
//!
//! Where the oldest is replaced, it goes when the newcomer is open and not before: a handshake that comes to
//! nothing costs nobody a connection. Who was told to go keeps a place of its own kind until it is gone, so
//! that the newcomer need not wait for the Close of a peer that is dead.
//!
//! # Invariants
//! 1. With a limit of N and `replace_oldest` a user has at most N open connections (beyond it only those that
//!    were there before the limit was), and at most 2 N that come or are ending.
//! 2. Of those that are ending at most N are waited for; the others were cut, and end without anybody's help.
//! 3. A handshake that is under way has nothing that could be closed: the next one beyond N is refused.
//! 4. A user is kept as long as there is a place of theirs, and no longer. No step looks at the connections
//!    of others.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use crate::config::OnUserLimit;

/// All users of a route.
#[derive(Debug)]
pub(super) struct Users<T> {
    shares: HashMap<Arc<str>, Share>,
    /// Those that may stay, by user and then by age: the lower number is the older.
    open: BTreeMap<(Arc<str>, u64), T>,
    /// Those that were told to go; `None`: cut as well.
    ending: BTreeMap<(Arc<str>, u64), Option<T>>,
}

/// What one user has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Share {
    /// Handshakes under way.
    coming: u32,
    /// Connections that may stay.
    open: u32,
    /// Connections that were told to go.
    ending: u32,
}

/// Which connections have to make room for one that was just opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Displaced<T> {
    /// It is closed.
    pub(super) oldest: Option<T>,
    /// It was told to go for another one, did not yet, and is waited for no longer.
    pub(super) overdue: Option<T>,
}

impl<T> Default for Users<T> {
    fn default() -> Self {
        Self { shares: HashMap::new(), open: BTreeMap::new(), ending: BTreeMap::new() }
    }
}

impl<T: Clone> Users<T> {
    /// A handshake of `user` takes a place, if there is one or can be made one.
    pub(super) fn reserve(&mut self, user: &Arc<str>, limit: Option<u32>, beyond: OnUserLimit) -> bool {
        let share = self.shares.get(user).copied().unwrap_or_default();
        let has_room = limit.is_none_or(|limit| match beyond {
            OnUserLimit::Refuse => share.all() < limit,
            // Each that comes may make one more end: together they have as many places again.
            OnUserLimit::ReplaceOldest => {
                share.coming < limit && share.coming + share.ending < limit.saturating_mul(2)
            }
        });
        if has_room {
            self.shares.entry(Arc::clone(user)).or_default().coming += 1;
        }
        has_room
    }

    /// A handshake of `user` has become connection `id`, the newest so far. `limit`: the oldest one beyond it
    /// has to go.
    pub(super) fn open(&mut self, user: &Arc<str>, id: u64, it: T, limit: Option<u32>) -> Displaced<T> {
        let mut displaced = Displaced { oldest: None, overdue: None };
        let share = self.shares.entry(Arc::clone(user)).or_default();
        share.coming = share.coming.saturating_sub(1);
        share.open += 1;
        self.open.insert((Arc::clone(user), id), it);
        let Some(limit) = limit.filter(|limit| share.open > *limit) else { return displaced };
        let all = (Arc::clone(user), 0)..=(Arc::clone(user), u64::MAX);
        if let Some((key, _)) = self.open.range(all.clone()).next() {
            let key = key.clone();
            displaced.oldest = self.open.remove(&key);
            self.ending.insert(key, displaced.oldest.clone());
            share.open -= 1;
            share.ending += 1;
        }
        if share.ending > limit {
            let mut waited_for = self.ending.range_mut(all).filter(|(_, it)| it.is_some());
            // Never the one that has only just been told.
            let overdue = waited_for.next().map(|(_, it)| it);
            displaced.overdue = overdue.filter(|_| waited_for.next().is_some()).and_then(Option::take);
        }
        displaced
    }

    /// A place of `user` is given back: that of connection `id`, or of a handshake.
    pub(super) fn release(&mut self, user: Arc<str>, id: Option<u64>) {
        let key = id.map(|id| (Arc::clone(&user), id));
        let was_open = key.as_ref().is_some_and(|key| self.open.remove(key).is_some());
        let was_ending = !was_open && key.is_some_and(|key| self.ending.remove(&key).is_some());
        if let Entry::Occupied(mut entry) = self.shares.entry(user) {
            let share = entry.get_mut();
            let count = match (was_open, was_ending) {
                (true, _) => &mut share.open,
                (_, true) => &mut share.ending,
                _ => &mut share.coming,
            };
            *count = count.saturating_sub(1);
            if share.all() == 0 {
                entry.remove();
            }
        }
        shrink(&mut self.shares);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.shares.len()
    }

    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.shares.capacity()
    }
}

impl Share {
    fn all(self) -> u32 {
        self.coming + self.open + self.ending
    }
}

/// Below so many entries there is nothing to gain by giving memory back.
pub(super) const SMALL: usize = 64;

/// A burst must not leave its table behind.
pub(super) fn shrink<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    if table.capacity() > SMALL && table.len() < table.capacity() / 4 {
        let room = table.len() * 2;
        table.shrink_to(room);
    }
}

#[cfg(test)]
mod tests;

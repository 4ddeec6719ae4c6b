//! The connections of each user on one route: how many there are, which is the oldest, and which are replaced.
//! Pure: `T` is the handle of a connection.
//!
//! The oldest connection is replaced when the new one is open and not before: a handshake that fails costs no
//! connection. A connection that is being closed is counted separately until it is gone, so that the new one need not
//! wait for the Close of a peer that is dead.
//!
//! # Invariants
//! 1. With a limit of N and `replace_oldest` a user has at most N open connections (beyond it only those that
//!    were there before the limit was), and at most 2 N that come or are ending.
//! 2. At most N of those that are ending are waited for; the others were cut.
//! 3. A handshake cannot be closed: the next one beyond N is refused.
//! 4. A user is kept only while it has a handshake or a connection. No step looks at the connections of other users.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use crate::config::OnUserLimit;

/// All users of a route.
#[derive(Debug)]
pub(super) struct Users<T> {
    shares: HashMap<Arc<str>, Share>,
    /// Open connections, by user and then by age: the lower number is the older.
    open: BTreeMap<(Arc<str>, u64), T>,
    /// Connections that are being closed; `None`: that were cut as well.
    ending: BTreeMap<(Arc<str>, u64), Option<T>>,
}

/// The counts of one user.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Share {
    /// Handshakes in progress.
    pending: u32,
    /// Open connections.
    open: u32,
    /// Connections that are being closed.
    ending: u32,
}

/// The connections that a new one replaces.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Displaced<T> {
    /// To be closed.
    pub(super) oldest: Option<T>,
    /// To be cut: it was closed for an earlier one, and has not ended yet.
    pub(super) overdue: Option<T>,
}

impl<T> Default for Users<T> {
    fn default() -> Self {
        Self { shares: HashMap::new(), open: BTreeMap::new(), ending: BTreeMap::new() }
    }
}

impl<T: Clone> Users<T> {
    /// Counts a handshake of `user`, if the limit has room for it or a connection can be replaced.
    pub(super) fn reserve(&mut self, user: &Arc<str>, limit: Option<u32>, beyond: OnUserLimit) -> bool {
        let share = self.shares.get(user).copied().unwrap_or_default();
        let has_room = limit.is_none_or(|limit| match beyond {
            OnUserLimit::Refuse => share.all() < limit,
            // Each handshake may replace a connection: together they may be as many again.
            OnUserLimit::ReplaceOldest => {
                share.pending < limit && share.pending + share.ending < limit.saturating_mul(2)
            }
        });
        if has_room {
            self.shares.entry(Arc::clone(user)).or_default().pending += 1;
        }
        has_room
    }

    /// A handshake of `user` has become connection `id`, the newest so far. Beyond `limit` the oldest is replaced.
    pub(super) fn open(&mut self, user: &Arc<str>, id: u64, it: T, limit: Option<u32>) -> Displaced<T> {
        let mut displaced = Displaced { oldest: None, overdue: None };
        let share = self.shares.entry(Arc::clone(user)).or_default();
        share.pending = share.pending.saturating_sub(1);
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
            // Never the one that is closed just now.
            let overdue = waited_for.next().map(|(_, it)| it);
            displaced.overdue = overdue.filter(|_| waited_for.next().is_some()).and_then(Option::take);
        }
        displaced
    }

    /// Takes connection `id` of `user`, or one of its handshakes, out of the counts.
    pub(super) fn release(&mut self, user: Arc<str>, id: Option<u64>) {
        let key = id.map(|id| (Arc::clone(&user), id));
        let was_open = key.as_ref().is_some_and(|key| self.open.remove(key).is_some());
        let was_ending = !was_open && key.is_some_and(|key| self.ending.remove(&key).is_some());
        if let Entry::Occupied(mut entry) = self.shares.entry(user) {
            let share = entry.get_mut();
            let count = match (was_open, was_ending) {
                (true, _) => &mut share.open,
                (_, true) => &mut share.ending,
                _ => &mut share.pending,
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
        self.pending + self.open + self.ending
    }
}

/// Tables are shrunk only above this capacity: below it there is no memory to gain.
pub(super) const SHRINK_ABOVE: usize = 64;

/// A burst must not leave its table behind.
pub(super) fn shrink<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    if table.capacity() > SHRINK_ABOVE && table.len() < table.capacity() / 4 {
        let room = table.len() * 2;
        table.shrink_to(room);
    }
}

#[cfg(test)]
mod tests;

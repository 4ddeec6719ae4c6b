//! How many: the places of a route, of an address on it, of a user on it.
//!
//! # Invariants
//! 1. Every connection is counted, also where nothing is limited: a limit that a reload switches on finds right counts.
//! 2. A place is taken with the handshake and given back by the drop of its [`QuotaPermit`], whatever ends the
//!    handshake or the connection.
//! 3. An address or a user is kept as long as it has a place, and no longer.
//! 4. A connection is replaced by one that is open, never by a handshake: see [`Permit::on_open`].
//!
//! # Not here
//! How fast they come ([`super::rate`]); which connections of a user have to go ([`super::users`]); the
//! layer that asks ([`super::quota_check`]).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::num::NonZeroU64;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::warn;

use super::address::AddressKey;
use super::refused::Bound;
use super::users::{Users, shrink};
use crate::config::{Limits, OnUserLimit};
use crate::connections::{Command, ConnectionPermit, Handle};

/// The connections of one route, counted. Outlives the configuration that made it: connections do too.
#[derive(Debug)]
pub(crate) struct ConnectionQuota {
    route: Box<str>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: u32,
    /// Of these: handshakes that have become connections.
    open: u32,
    by_address: HashMap<AddressKey, u32>,
    by_user: Users<Arc<Handle>>,
    /// Since it was last well below the limit.
    is_warned: bool,
}

impl ConnectionQuota {
    /// Without connections.
    pub(crate) fn new(route: &str) -> Arc<Self> {
        Arc::new(Self { route: route.into(), taken: Mutex::default() })
    }

    /// How many are in.
    pub(crate) fn taken(&self) -> u32 {
        self.taken.lock().all
    }

    /// Whether a handshake has become a connection that is still there.
    pub(super) fn has_open(&self) -> bool {
        self.taken.lock().open > 0
    }

    /// A place, if these limits leave one.
    pub(super) fn take(
        self: &Arc<Self>,
        limits: &Limits,
        address: AddressKey,
        user: Option<Arc<str>>,
    ) -> Result<Permit, Bound> {
        let mut taken = self.taken.lock();
        let is_below = |limit: Option<u32>, count: u32| limit.is_none_or(|limit| count < limit);
        if !is_below(limits.connections, taken.all) {
            return Err(Bound::Route);
        }
        if !is_below(limits.per_ip, taken.by_address.get(&address).copied().unwrap_or(0)) {
            return Err(Bound::PerIp);
        }
        if let Some(user) = &user
            && !taken.by_user.reserve(user, limits.per_user, limits.on_user_limit)
        {
            return Err(Bound::PerUser);
        }
        *taken.by_address.entry(address).or_default() += 1;
        taken.all += 1;
        let (count, is_news) = (taken.all, taken.nears(limits.connections));
        drop(taken);
        if is_news {
            let (route, limit) = (&*self.route, limits.connections);
            warn!(
                route,
                connections = count,
                limit,
                "four fifths of policy.limits.connections are taken; beyond it handshakes are refused"
            );
        }
        let limit = limits.per_user.filter(|_| limits.on_user_limit == OnUserLimit::ReplaceOldest);
        Ok(Permit { quota: Arc::clone(self), address, user, limit, id: None })
    }
}

impl Taken {
    /// Whether 80 % of `limit` are taken, for the first time since it was less than 70 %.
    fn nears(&mut self, limit: Option<u32>) -> bool {
        let Some(limit) = limit.map(u64::from) else { return false };
        let all = u64::from(self.all);
        if all * 10 < limit * 7 {
            self.is_warned = false;
        }
        all * 10 >= limit * 8 && !std::mem::replace(&mut self.is_warned, all * 10 >= limit * 8)
    }
}

/// Boxed, since requests carry it through their layers. Given back by its drop.
pub(crate) type QuotaPermit = Box<Permit>;

/// One place; held by the handshake, and then by the connection until it ends.
#[derive(Debug)]
pub(crate) struct Permit {
    quota: Arc<ConnectionQuota>,
    address: AddressKey,
    user: Option<Arc<str>>,
    /// Beyond so many connections of the user the oldest goes.
    limit: Option<u32>,
    /// The connection's number, once the handshake has become one: the higher, the younger. None of them is 0.
    id: Option<NonZeroU64>,
}

impl ConnectionPermit for Permit {
    /// If that is one more than its user may have, the user's oldest is closed for it
    /// (`policy.limits.on_user_limit: replace_oldest`).
    fn on_open(&mut self, handle: &Arc<Handle>) {
        let mut taken = self.quota.taken.lock();
        let was_open = self.id.is_some();
        self.id = NonZeroU64::new(handle.id);
        taken.open += u32::from(self.id.is_some() && !was_open);
        let Some(user) = &self.user else { return };
        let displaced = taken.by_user.open(user, handle.id, Arc::clone(handle), self.limit);
        drop(taken);
        // Without the lock: the task that is woken by this may be about to give its place back.
        if let Some(oldest) = displaced.oldest {
            oldest.send(Command::Replace);
        }
        if let Some(overdue) = displaced.overdue {
            overdue.send(Command::Cut);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.quota.taken.lock();
        taken.all -= 1;
        taken.open -= u32::from(self.id.is_some());
        give_back(&mut taken.by_address, self.address);
        if let Some(user) = self.user.take() {
            taken.by_user.release(user, self.id.map(NonZeroU64::get));
        }
    }
}

fn give_back<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: K) {
    if let Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
    shrink(counts);
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::address::Client;
    use super::super::users::SMALL;
    use super::*;
    use crate::config::OnUserLimit;

    const NONE: Limits =
        Limits { connections: None, per_ip: None, per_user: None, on_user_limit: OnUserLimit::Refuse };

    fn address(n: u16) -> AddressKey {
        let address = SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 1));
        Client { address: Some(address) }.key()
    }

    fn take(
        quota: &Arc<ConnectionQuota>,
        limits: Limits,
        from: u16,
        user: Option<&str>,
    ) -> Result<Permit, Option<Bound>> {
        quota.take(&limits, address(from), user.map(Arc::from)).map_err(Some)
    }

    #[test]
    fn each_bound_holds_by_itself_and_a_place_that_is_given_back_is_free() {
        // limits, what is taken in turn (address, user), what the last one meets
        let cases = [
            (Limits { connections: Some(2), ..NONE }, &[(1, None), (2, None), (3, None)][..], Bound::Route),
            (Limits { per_ip: Some(2), ..NONE }, &[(1, None), (1, Some("a")), (1, Some("b"))], Bound::PerIp),
            (Limits { per_user: Some(1), ..NONE }, &[(1, Some("a")), (2, Some("a"))], Bound::PerUser),
            (
                Limits { connections: Some(3), per_ip: Some(2), per_user: Some(2), ..NONE },
                &[(1, Some("a")), (2, Some("a")), (2, None), (2, None)],
                Bound::Route,
            ),
        ];
        for (limits, visits, bound) in cases {
            let quota = ConnectionQuota::new("r");
            let (last, before) = visits.split_last().unwrap();
            let mut held =
                Vec::from_iter(before.iter().map(|(from, user)| take(&quota, limits, *from, *user).unwrap()));
            assert_eq!(take(&quota, limits, last.0, last.1).err(), Some(Some(bound)), "{limits:?}");
            assert_eq!(quota.taken() as usize, before.len(), "who is refused takes nothing");
            // Someone who is what the last one is goes.
            held.pop();
            assert!(take(&quota, limits, last.0, last.1).is_ok(), "{limits:?}");
            drop(held);
            let taken = quota.taken.lock();
            assert_eq!((taken.all, taken.by_address.len(), taken.by_user.count()), (0, 0, 0));
        }
    }

    #[test]
    fn a_limit_that_is_switched_on_knows_who_is_there() {
        let quota = ConnectionQuota::new("r");
        let held = Vec::from_iter((0..5).map(|_| take(&quota, NONE, 1, Some("a")).unwrap()));
        let cases = [
            (Limits { connections: Some(5), ..NONE }, Bound::Route),
            (Limits { per_ip: Some(5), ..NONE }, Bound::PerIp),
            (Limits { per_user: Some(3), ..NONE }, Bound::PerUser),
        ];
        for (limits, bound) in cases {
            assert_eq!(take(&quota, limits, 1, Some("a")).err(), Some(Some(bound)));
        }
        drop(held);
        for (limits, _) in cases {
            assert!(take(&quota, limits, 1, Some("a")).is_ok());
        }
    }

    #[test]
    fn the_maps_shrink_after_a_burst() {
        let quota = ConnectionQuota::new("r");
        let held =
            Vec::from_iter((0..20_000).map(|n| take(&quota, NONE, n, Some(&format!("user {n}"))).unwrap()));
        assert!(quota.taken.lock().by_address.capacity() >= 20_000);
        drop(held);
        let taken = quota.taken.lock();
        assert!(taken.by_address.capacity() <= 2 * SMALL, "{}", taken.by_address.capacity());
        assert!(taken.by_user.room() <= 2 * SMALL, "{}", taken.by_user.room());
    }

    #[test]
    fn four_fifths_are_news_once_until_it_has_been_less() {
        let limit = Some(100);
        let mut taken = Taken::default();
        let mut news = |all| {
            taken.all = all;
            taken.nears(limit)
        };
        let cases = [(79, false), (80, true), (81, false), (100, false), (75, false), (80, false)];
        for (all, expected) in cases {
            assert_eq!(news(all), expected, "{all}");
        }
        assert!(!news(69));
        assert!(news(80));
        assert!(!Taken { all: 5, ..Taken::default() }.nears(None));
        assert!(Taken { all: 1, ..Taken::default() }.nears(Some(1)));
    }

    #[test]
    fn a_place_is_small_since_every_idle_connection_holds_one() {
        // An allocation of 48 bytes, as those are made.
        assert!(size_of::<Permit>() <= 48, "{}", size_of::<Permit>());
    }
}

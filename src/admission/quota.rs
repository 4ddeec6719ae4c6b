//! How many connections: of a route, of an address on it, of a user on it.
//!
//! # Invariants
//! 1. Every connection is counted, also where nothing is limited: a limit that a reload sets finds correct counts.
//! 2. A handshake is counted until its [`QuotaPermit`] is dropped, whatever ends it or the connection that it becomes.
//! 3. An address or a user is kept only while it has a permit.
//! 4. A connection is replaced by one that is open, never by a handshake: see [`Permit::on_open`].
//!
//! # Not here
//! Rates ([`super::rate`]); which connections of a user are replaced ([`super::users`]); the layer
//! ([`super::quota_check`]).

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
use crate::connections::{Command, ConnectionPermit, PermitHolder};

/// The connections of one route, counted. Outlives the configuration that made it: connections do too.
#[derive(Debug)]
pub(crate) struct ConnectionQuota {
    route: Box<str>,
    state: Mutex<QuotaState>,
}

#[derive(Debug, Default)]
struct QuotaState {
    all: u32,
    /// Of these: handshakes that have become connections.
    open: u32,
    by_address: HashMap<AddressKey, u32>,
    by_user: Users<Arc<dyn PermitHolder>>,
    /// Whether the log has warned since the count was last well below the limit.
    is_warned: bool,
}

impl ConnectionQuota {
    /// Without connections.
    pub(crate) fn new(route: &str) -> Arc<Self> {
        Arc::new(Self { route: route.into(), state: Mutex::default() })
    }

    /// How many permits there are.
    pub(crate) fn count(&self) -> u32 {
        self.state.lock().all
    }

    /// Whether any connection is open.
    pub(super) fn has_open(&self) -> bool {
        self.state.lock().open > 0
    }

    /// A permit, if these limits allow one more.
    pub(super) fn take(
        self: &Arc<Self>,
        limits: &Limits,
        address: AddressKey,
        user: Option<Arc<str>>,
    ) -> Result<Permit, Bound> {
        let mut state = self.state.lock();
        let is_below = |limit: Option<u32>, count: u32| limit.is_none_or(|limit| count < limit);
        if !is_below(limits.connections, state.all) {
            return Err(Bound::Route);
        }
        if !is_below(limits.per_ip, state.by_address.get(&address).copied().unwrap_or(0)) {
            return Err(Bound::PerIp);
        }
        if let Some(user) = &user
            && !state.by_user.reserve(user, limits.per_user, limits.on_user_limit)
        {
            return Err(Bound::PerUser);
        }
        *state.by_address.entry(address).or_default() += 1;
        state.all += 1;
        let (count, should_warn) = (state.all, state.is_newly_near(limits.connections));
        drop(state);
        if should_warn {
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

impl QuotaState {
    /// Whether 80 % of `limit` are taken, for the first time since it was less than 70 %.
    fn is_newly_near(&mut self, limit: Option<u32>) -> bool {
        let Some(limit) = limit.map(u64::from) else { return false };
        let all = u64::from(self.all);
        if all * 10 < limit * 7 {
            self.is_warned = false;
        }
        all * 10 >= limit * 8 && !std::mem::replace(&mut self.is_warned, all * 10 >= limit * 8)
    }
}

/// Boxed, since requests carry it through the layers. Its drop takes it out of the counts.
pub(crate) type QuotaPermit = Box<Permit>;

/// One connection of the quota; held by the handshake, and then by the connection or the session until it ends.
#[derive(Debug)]
pub(crate) struct Permit {
    quota: Arc<ConnectionQuota>,
    address: AddressKey,
    user: Option<Arc<str>>,
    /// With more connections of the user than this the oldest is replaced.
    limit: Option<u32>,
    /// The connection's number, once the handshake has become one: the higher, the younger. None of them is 0.
    id: Option<NonZeroU64>,
}

impl ConnectionPermit for Permit {
    /// If that is one more than its user may have, the user's oldest is closed for it
    /// (`policy.limits.on_user_limit: replace_oldest`).
    fn on_open(&mut self, id: u64, holder: Arc<dyn PermitHolder>) {
        let mut state = self.quota.state.lock();
        let was_open = self.id.is_some();
        self.id = NonZeroU64::new(id);
        state.open += u32::from(self.id.is_some() && !was_open);
        let Some(user) = &self.user else { return };
        let displaced = state.by_user.open(user, id, holder, self.limit);
        drop(state);
        // Without the lock: the task that this wakes may be dropping its own permit.
        if let Some(oldest) = displaced.oldest {
            oldest.command(Command::Replace);
        }
        if let Some(overdue) = displaced.overdue {
            overdue.command(Command::Cut);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.quota.state.lock();
        state.all -= 1;
        state.open -= u32::from(self.id.is_some());
        decrement(&mut state.by_address, self.address);
        if let Some(user) = self.user.take() {
            state.by_user.release(user, self.id.map(NonZeroU64::get));
        }
    }
}

fn decrement<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: K) {
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
    use super::super::users::SHRINK_ABOVE;
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
            assert_eq!(quota.count() as usize, before.len(), "who is refused takes nothing");
            // Someone who is what the last one is goes.
            held.pop();
            assert!(take(&quota, limits, last.0, last.1).is_ok(), "{limits:?}");
            drop(held);
            let state = quota.state.lock();
            assert_eq!((state.all, state.by_address.len(), state.by_user.count()), (0, 0, 0));
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
        assert!(quota.state.lock().by_address.capacity() >= 20_000);
        drop(held);
        let state = quota.state.lock();
        assert!(state.by_address.capacity() <= 2 * SHRINK_ABOVE, "{}", state.by_address.capacity());
        assert!(state.by_user.room() <= 2 * SHRINK_ABOVE, "{}", state.by_user.room());
    }

    #[test]
    fn four_fifths_are_news_once_until_it_has_been_less() {
        let limit = Some(100);
        let mut state = QuotaState::default();
        let mut news = |all| {
            state.all = all;
            state.is_newly_near(limit)
        };
        let cases = [(79, false), (80, true), (81, false), (100, false), (75, false), (80, false)];
        for (all, expected) in cases {
            assert_eq!(news(all), expected, "{all}");
        }
        assert!(!news(69));
        assert!(news(80));
        assert!(!QuotaState { all: 5, ..QuotaState::default() }.is_newly_near(None));
        assert!(QuotaState { all: 1, ..QuotaState::default() }.is_newly_near(Some(1)));
    }

    #[test]
    fn a_place_is_small_since_every_idle_connection_holds_one() {
        // An allocation of 48 bytes, as those are made.
        assert!(size_of::<Permit>() <= 48, "{}", size_of::<Permit>());
    }
}

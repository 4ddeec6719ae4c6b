//! How many HTTP connections may ask nothing: `listen.max_idle_http` and `listen.max_idle_http_per_ip`.
//!
//! A connection of HTTP/1.1 is *idle* between an answer and the first byte of the next request, one of HTTP/2
//! while it has no stream, after its first one. Until its first request it is busy ([`super::handshakes`]), and
//! has `listen.handshake_timeout` for that.
//!
//! # Invariants
//! 1. Each connection is here at most once, and only while it is idle: a connection with a request is not evicted.
//! 2. Beyond a bound the connection that has been idle longest is evicted, of all or of its address, without a look at
//!    the others.
//! 3. Nobody waits: a connection is notified, and ends itself in order.
//!
//! # Not here
//! How it ends ([`super::super::connection`]); the clock of `keep_alive` ([`super::super::http::timeouts`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use std::time::Duration;

use tokio::sync::Notify;

use crate::admission::AddressKey;
use crate::config::Listen;
use crate::telemetry::{IdleBound, Metrics};

/// The least time that a connection is kept, however many there are: a page that is being loaded sends its next request
/// within it.
const MIN_KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The map of addresses is shrunk only above this capacity: below it there is no memory to gain.
const SHRINK_ABOVE: usize = 64;

/// The connections that are idle now.
#[derive(Debug)]
pub(in crate::server) struct IdleLimit {
    idle: Mutex<IdleSet<Arc<Notify>>>,
    metrics: Arc<Metrics>,
}

/// The result of [`IdleLimit::enter`].
#[derive(Debug)]
pub(in crate::server) struct Entered {
    /// The connections that are evicted for it.
    pub(in crate::server) evicted: Vec<(Arc<Notify>, IdleBound)>,
    pub(in crate::server) pressure: IdlePressure,
}

impl IdleLimit {
    pub(in crate::server) fn new(metrics: Arc<Metrics>) -> Self {
        Self { idle: Mutex::default(), metrics }
    }

    /// Enters a connection; `notify` is notified when it is evicted. `ticket` is the number by which it leaves, or 0; it is
    /// written under the lock, so that whoever is notified finds the number that was evicted.
    pub(in crate::server) fn enter(
        &self,
        ticket: &AtomicU64,
        address: AddressKey,
        notify: &Arc<Notify>,
        listen: &Listen,
    ) -> Entered {
        let Listen { max_idle_http: max, max_idle_http_per_ip: per_ip, .. } = *listen;
        let mut idle = self.idle.lock();
        idle.leave(ticket.load(Relaxed));
        let (number, evicted) = idle.enter(address, Arc::clone(notify), max, per_ip);
        ticket.store(number, Relaxed);
        self.metrics.server.http_idle.set(gauge(idle.len()));
        Entered { evicted, pressure: IdlePressure::of(idle.len(), max) }
    }

    /// Takes out a connection that is not idle any more.
    pub(in crate::server) fn leave(&self, ticket: u64) {
        let mut idle = self.idle.lock();
        idle.leave(ticket);
        self.metrics.server.http_idle.set(gauge(idle.len()));
    }

    /// Whether it is idle and has not been evicted.
    pub(in crate::server) fn contains(&self, ticket: u64) -> bool {
        self.idle.lock().by_age.contains_key(&ticket)
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What share of `listen.keep_alive` a connection gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::server) struct IdlePressure(f64);

impl IdlePressure {
    /// All of it up to half of `max`; from there on less and less.
    fn of(idle: usize, max: usize) -> Self {
        let left = max.saturating_sub(idle) as f64 / max.max(1) as f64;
        Self((2.0 * left).min(1.0))
    }

    /// How long a connection is kept now.
    pub(in crate::server) fn shorten(self, keep_alive: Duration) -> Duration {
        keep_alive.mul_f64(self.0).max(MIN_KEEP_ALIVE.min(keep_alive))
    }
}

/// The idle connections by age and by address. Pure.
#[derive(Debug)]
struct IdleSet<T> {
    last: u64,
    /// The lower number has been idle longer.
    by_age: BTreeMap<u64, (AddressKey, T)>,
    by_address: HashMap<AddressKey, BTreeSet<u64>>,
}

impl<T> Default for IdleSet<T> {
    fn default() -> Self {
        Self { last: 0, by_age: BTreeMap::new(), by_address: HashMap::new() }
    }
}

impl<T> IdleSet<T> {
    fn len(&self) -> usize {
        self.by_age.len()
    }

    /// Enters a connection. Answers its number, and the connections that are evicted for it.
    fn enter(
        &mut self,
        address: AddressKey,
        value: T,
        max: usize,
        per_ip: Option<usize>,
    ) -> (u64, Vec<(T, IdleBound)>) {
        self.last += 1;
        let ticket = self.last;
        self.by_age.insert(ticket, (address, value));
        let of_address = self.by_address.entry(address).or_default();
        of_address.insert(ticket);
        let mut evicted = Vec::new();
        // More than one where a reload has lowered the bound.
        let excess = per_ip.map_or(0, |per_ip| of_address.len().saturating_sub(per_ip));
        let oldest: Vec<u64> = of_address.iter().copied().take(excess).collect();
        evicted
            .extend(oldest.into_iter().filter_map(|ticket| Some((self.leave(ticket)?, IdleBound::Address))));
        while self.by_age.len() > max {
            let oldest = self.by_age.keys().next().copied();
            let Some(value) = oldest.and_then(|oldest| self.leave(oldest)) else { break };
            evicted.push((value, IdleBound::All));
        }
        (ticket, evicted)
    }

    /// Takes out a connection.
    fn leave(&mut self, ticket: u64) -> Option<T> {
        let (address, value) = self.by_age.remove(&ticket)?;
        if let Some(of_address) = self.by_address.get_mut(&address) {
            of_address.remove(&ticket);
            if of_address.is_empty() {
                self.by_address.remove(&address);
            }
        }
        // A burst must not leave its table behind.
        let addresses = &mut self.by_address;
        if addresses.capacity() > SHRINK_ABOVE && addresses.len() < addresses.capacity() / 4 {
            let room = addresses.len() * 2;
            addresses.shrink_to(room);
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use IdleBound::{Address, All};

    use crate::admission::Client;

    fn address(n: u8) -> AddressKey {
        Client { address: Some(([10, 0, 0, n], 1).into()) }.key()
    }

    #[test]
    fn the_one_that_has_waited_longest_goes_of_all_and_of_its_address() {
        let mut idle_set = IdleSet::default();
        let mut enter = |value: &'static str, from: u8| idle_set.enter(address(from), value, 4, Some(2)).1;
        assert_eq!(enter("a1", 1), []);
        assert_eq!(enter("b1", 2), []);
        assert_eq!(enter("a2", 1), []);
        assert_eq!(enter("a3", 1), [("a1", Address)]);
        assert_eq!(enter("c1", 3), []);
        assert_eq!(enter("d1", 4), [("b1", All)]);
        assert_eq!(enter("a4", 1), [("a2", Address)]);
        assert_eq!(idle_set.by_address.len(), 3, "who has none is forgotten");
    }

    #[test]
    fn a_bound_that_is_lowered_lets_go_what_is_beyond_it_and_nothing_is_left_behind() {
        let mut idle_set = IdleSet::default();
        let tickets: Vec<u64> =
            (0..200).map(|n| idle_set.enter(address(n), usize::from(n), 1000, None).0).collect();
        assert_eq!(idle_set.leave(tickets[0]), Some(0));
        assert_eq!(idle_set.leave(tickets[0]), None, "once");
        let (last, evicted) = idle_set.enter(address(1), 200, 3, None);
        assert_eq!(evicted.len(), 197);
        assert_eq!(evicted[0], (1, All));
        let (_, evicted) = idle_set.enter(address(1), 201, 3, Some(1));
        assert_eq!(evicted, [(200, Address)]);
        assert_eq!(idle_set.leave(last), None, "it has gone");
        for ticket in tickets {
            idle_set.leave(ticket);
        }
        assert_eq!((idle_set.len(), idle_set.by_address.len()), (1, 1));
        assert!(idle_set.by_address.capacity() <= SHRINK_ABOVE * 2, "{}", idle_set.by_address.capacity());
    }

    #[test]
    fn connections_are_kept_for_less_time_the_more_there_are() {
        let secs = Duration::from_secs;
        // idle, of so many, keep_alive, and what is left of it
        let cases = [
            (1, 100, secs(75), secs(75)),
            (50, 100, secs(75), secs(75)),
            (75, 100, secs(80), secs(40)),
            (99, 100, secs(1000), secs(20)),
            (100, 100, secs(75), MIN_KEEP_ALIVE),
            (150, 100, secs(75), MIN_KEEP_ALIVE),
            (100, 100, secs(2), secs(2)),
            (1, 1, secs(75), MIN_KEEP_ALIVE),
        ];
        for (idle, max, keep_alive, expected) in cases {
            let left = IdlePressure::of(idle, max).shorten(keep_alive);
            assert!(left.abs_diff(expected) < Duration::from_millis(1), "{idle} of {max}: {left:?}");
        }
    }
}

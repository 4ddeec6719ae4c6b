//! How many HTTP connections may ask nothing: `listen.max_idle_http` and `listen.max_idle_http_per_ip`.
//!
//! A connection of HTTP/1.1 is *idle* between an answer and the first byte of the next request, one of HTTP/2
//! while it has no stream, after its first one. Until its first request it is busy ([`super::crowd`]), and
//! has `listen.handshake_timeout` for that.
//!
//! # Invariants
//! 1. Each connection is here at most once, and not for longer than it is idle: whoever asks for something is
//!    not let go for having asked nothing.
//! 2. Beyond a bound the one that has been idle longest goes, of all or of its address. No step looks at the
//!    others.
//! 3. Nobody waits: a connection is told, and ends itself in order.
//!
//! # Not here
//! How it ends ([`super::connection`], [`super::http2`]); the clock of `keep_alive` ([`super::patience`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use super::state::State;
use crate::admission::{AddressKey, Client};
use crate::config::Listen;
use crate::net::Peer;
use crate::telemetry::{IdleBound, some};

/// However many there are: as long as the next request of a page takes that is just being loaded.
const SHORTEST: Duration = Duration::from_secs(5);

/// Below so many addresses there is nothing to gain by giving memory back.
const SMALL: usize = 64;

/// Those that are idle now.
#[derive(Debug, Default)]
pub(super) struct Idle {
    resting: Mutex<Resting<Arc<Notify>>>,
}

impl Idle {
    pub(super) fn new() -> Self {
        Self::default()
    }
}

/// One connection, as far as it may be idle.
#[derive(Debug)]
pub(super) struct Rest {
    state: Arc<State>,
    address: AddressKey,
    /// 0: it is not idle.
    ticket: AtomicU64,
    bell: Arc<Notify>,
}

impl Rest {
    /// Of a connection from this peer, which is not idle.
    pub(super) fn new(state: &Arc<State>, peer: &Peer) -> Self {
        let address = Client { address: peer.address }.key();
        Self { state: Arc::clone(state), address, ticket: AtomicU64::new(0), bell: Arc::new(Notify::new()) }
    }

    /// It is idle from now on. Answers how crowded it is.
    pub(super) fn begin(&self) -> Crowding {
        let State { idle, metrics, .. } = &*self.state;
        let table = self.state.table();
        let Listen { max_idle_http: max, max_idle_http_per_ip: per_ip, .. } = table.listen;
        let (gone, crowding) = {
            let mut resting = idle.resting.lock();
            resting.leave(self.ticket.load(Relaxed));
            let (ticket, gone) = resting.enter(self.address, Arc::clone(&self.bell), max, per_ip);
            self.ticket.store(ticket, Relaxed);
            metrics.http_idle.set(gauge(resting.len()));
            (gone, Crowding::of(resting.len(), max))
        };
        for (bell, bound) in &gone {
            metrics.on_idle_closed(*bound);
            bell.notify_one();
        }
        if gone.iter().any(|(_, bound)| *bound == IdleBound::All)
            && let Some(left_out) = self.state.lines.warnings.may("max_idle_http", Instant::now())
        {
            warn!(
                left_out = some(left_out),
                max_idle_http = max,
                "more HTTP connections ask nothing than listen.max_idle_http: those that have waited longest are \
                 let go; outrigger_http_idle_closed_total counts them"
            );
        }
        crowding
    }

    /// Something is asked on it, or it has ended.
    pub(super) fn end(&self) {
        let State { idle, metrics, .. } = &*self.state;
        let ticket = self.ticket.swap(0, Relaxed);
        if ticket != 0 {
            let mut resting = idle.resting.lock();
            resting.leave(ticket);
            metrics.http_idle.set(gauge(resting.len()));
        }
    }

    /// Has whoever waits for [`Rest::is_let_go`] look again at whatever it looks at.
    pub(super) fn wake(&self) {
        self.bell.notify_one();
    }

    /// Returns when it has to go, and is still idle.
    pub(super) async fn is_let_go(&self) {
        loop {
            self.bell.notified().await;
            let ticket = self.ticket.load(Relaxed);
            // Rung for a time that it was idle before, it is not meant now.
            if ticket != 0 && !self.state.idle.resting.lock().by_age.contains_key(&ticket) {
                return;
            }
        }
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.end();
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What share of `listen.keep_alive` a connection gets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Crowding(f64);

impl Crowding {
    /// All of it up to half of `max`; from there on less and less.
    fn of(idle: usize, max: usize) -> Self {
        let left = max.saturating_sub(idle) as f64 / max.max(1) as f64;
        Self((2.0 * left).min(1.0))
    }

    /// How long a connection is kept now.
    pub(super) fn shorten(self, keep_alive: Duration) -> Duration {
        keep_alive.mul_f64(self.0).max(SHORTEST.min(keep_alive))
    }
}

/// Who is idle since when, and from where. Pure.
#[derive(Debug)]
struct Resting<T> {
    last: u64,
    /// The lower number has been idle longer.
    by_age: BTreeMap<u64, (AddressKey, T)>,
    by_address: HashMap<AddressKey, BTreeSet<u64>>,
}

impl<T> Default for Resting<T> {
    fn default() -> Self {
        Self { last: 0, by_age: BTreeMap::new(), by_address: HashMap::new() }
    }
}

impl<T> Resting<T> {
    fn len(&self) -> usize {
        self.by_age.len()
    }

    /// One more. Answers its number, and who has to go for it.
    fn enter(
        &mut self,
        address: AddressKey,
        it: T,
        max: usize,
        per_ip: Option<usize>,
    ) -> (u64, Vec<(T, IdleBound)>) {
        self.last += 1;
        let ticket = self.last;
        self.by_age.insert(ticket, (address, it));
        let same = self.by_address.entry(address).or_default();
        same.insert(ticket);
        let mut gone = Vec::new();
        // More than one where a reload has lowered the bound.
        let beyond = per_ip.map_or(0, |per_ip| same.len().saturating_sub(per_ip));
        let oldest: Vec<u64> = same.iter().copied().take(beyond).collect();
        gone.extend(oldest.into_iter().filter_map(|ticket| Some((self.leave(ticket)?, IdleBound::Address))));
        while self.by_age.len() > max {
            let oldest = self.by_age.keys().next().copied();
            let Some(it) = oldest.and_then(|oldest| self.leave(oldest)) else { break };
            gone.push((it, IdleBound::All));
        }
        (ticket, gone)
    }

    /// It is not idle any more.
    fn leave(&mut self, ticket: u64) -> Option<T> {
        let (address, it) = self.by_age.remove(&ticket)?;
        if let Some(same) = self.by_address.get_mut(&address) {
            same.remove(&ticket);
            if same.is_empty() {
                self.by_address.remove(&address);
            }
        }
        // A burst must not leave its table behind.
        let table = &mut self.by_address;
        if table.capacity() > SMALL && table.len() < table.capacity() / 4 {
            let room = table.len() * 2;
            table.shrink_to(room);
        }
        Some(it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use IdleBound::{Address, All};

    fn address(n: u8) -> AddressKey {
        Client { address: Some(([10, 0, 0, n], 1).into()) }.key()
    }

    #[test]
    fn the_one_that_has_waited_longest_goes_of_all_and_of_its_address() {
        let mut resting = Resting::default();
        let mut enter = |it: &'static str, from: u8| resting.enter(address(from), it, 4, Some(2)).1;
        assert_eq!(enter("a1", 1), []);
        assert_eq!(enter("b1", 2), []);
        assert_eq!(enter("a2", 1), []);
        assert_eq!(enter("a3", 1), [("a1", Address)]);
        assert_eq!(enter("c1", 3), []);
        assert_eq!(enter("d1", 4), [("b1", All)]);
        assert_eq!(enter("a4", 1), [("a2", Address)]);
        assert_eq!(resting.by_address.len(), 3, "who has none is forgotten");
    }

    #[test]
    fn a_bound_that_is_lowered_lets_go_what_is_beyond_it_and_nothing_is_left_behind() {
        let mut resting = Resting::default();
        let tickets: Vec<u64> =
            (0..200).map(|n| resting.enter(address(n), usize::from(n), 1000, None).0).collect();
        assert_eq!(resting.leave(tickets[0]), Some(0));
        assert_eq!(resting.leave(tickets[0]), None, "once");
        let (last, gone) = resting.enter(address(1), 200, 3, None);
        assert_eq!(gone.len(), 197);
        assert_eq!(gone[0], (1, All));
        let (_, gone) = resting.enter(address(1), 201, 3, Some(1));
        assert_eq!(gone, [(200, Address)]);
        assert_eq!(resting.leave(last), None, "it has gone");
        for ticket in tickets {
            resting.leave(ticket);
        }
        assert_eq!((resting.len(), resting.by_address.len()), (1, 1));
        assert!(resting.by_address.capacity() <= SMALL * 2, "{}", resting.by_address.capacity());
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
            (100, 100, secs(75), SHORTEST),
            (150, 100, secs(75), SHORTEST),
            (100, 100, secs(2), secs(2)),
            (1, 1, secs(75), SHORTEST),
        ];
        for (idle, max, keep_alive, expected) in cases {
            let left = Crowding::of(idle, max).shorten(keep_alive);
            assert!(left.abs_diff(expected) < Duration::from_millis(1), "{idle} of {max}: {left:?}");
        }
    }
}

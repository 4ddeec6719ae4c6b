//! The dates at which a connection is closed whatever its peers do: the nearest one holds.
//!
//! # Invariants
//! 1. A drain replaces the date of a drain before it, and no other: it keeps no connection beyond the end of its
//!    lifetime or credentials.
//! 2. Credentials end by whichever clock reaches their end first. The monotonic one stands still while a machine is
//!    suspended, the wall clock may be set back: neither makes them last longer than [`WALL_CLOCK_INTERVAL`] beyond the other.
//! 3. A connection without dates needs no memory for them.
//!
//! # Not here
//! How a client is closed then.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// How often the wall clock is read: credentials that ended while the machine was suspended end so much later
/// at the most. As long as the default interval of heartbeats, which wake a connection anyway.
const WALL_CLOCK_INTERVAL: Duration = Duration::from_secs(30);

/// When credentials end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry {
    at: Instant,
    wall: SystemTime,
}

impl Expiry {
    /// In `left`, counted from `now` and `wall`, which are the same moment. `None` if no clock goes that far.
    pub(crate) fn after(left: Duration, now: Instant, wall: SystemTime) -> Option<Self> {
        Some(Self { at: now.checked_add(left)?, wall: wall.checked_add(left)? })
    }

    /// Whether they have ended by either clock.
    pub(crate) fn has_ended(&self, now: Instant, wall: SystemTime) -> bool {
        self.at <= now || self.wall <= wall
    }

    /// How long they hold still, by the clock that is further.
    pub(crate) fn left(&self, now: Instant, wall: SystemTime) -> Duration {
        self.at.saturating_duration_since(now).min(self.wall.duration_since(wall).unwrap_or_default())
    }
}

/// A date that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Date {
    /// `policy.max_lifetime`
    Lifetime,
    /// The end of the client's credentials.
    Expired,
    /// The end of its place in a drain, with the close code.
    Drained(u16),
}

/// The dates of one connection. One pointer wide: most have none.
#[derive(Debug, Default)]
pub(crate) struct Dates(Option<Box<Known>>);

#[derive(Debug, Default)]
struct Known {
    lifetime: Option<Instant>,
    expiry: Option<Expiry>,
    drain: Option<(Instant, u16)>,
    /// When the wall clock is to be read again.
    check_wall_at: Option<Instant>,
}

impl Dates {
    /// Those that are known from the beginning.
    pub(crate) fn new(lifetime: Option<Instant>, expiry: Option<Expiry>, now: Instant) -> Self {
        if lifetime.is_none() && expiry.is_none() {
            return Self::default();
        }
        let check_wall_at = expiry.map(|_| now + WALL_CLOCK_INTERVAL);
        Self(Some(Box::new(Known { lifetime, expiry, drain: None, check_wall_at })))
    }

    /// A drain gives it a date.
    pub(crate) fn set_drain(&mut self, at: Instant, code: u16) {
        self.0.get_or_insert_default().drain = Some((at, code));
    }

    /// Whether a drain has given it a date.
    pub(crate) fn is_draining(&self) -> bool {
        self.0.as_ref().is_some_and(|known| known.drain.is_some())
    }

    /// When [`Dates::due`] is to be asked.
    pub(crate) fn next(&self) -> Option<Instant> {
        let known = self.0.as_ref()?;
        let expiry = known.expiry.map(|expiry| expiry.at);
        let drain = known.drain.map(|(at, _)| at);
        [known.lifetime, expiry, known.check_wall_at, drain].into_iter().flatten().min()
    }

    /// The date that has come, the earliest of several. `wall` is read only if there are credentials.
    pub(crate) fn due(&mut self, now: Instant, wall: impl FnOnce() -> SystemTime) -> Option<Date> {
        let known = self.0.as_mut()?;
        let mut dates = [None; 3];
        if let Some(expiry) = known.expiry {
            known.check_wall_at = Some(now + WALL_CLOCK_INTERVAL);
            // An end that only the wall clock shows counts as of now, for the order.
            dates[0] = expiry.has_ended(now, wall()).then(|| (expiry.at.min(now), Date::Expired));
        }
        dates[1] = known.lifetime.map(|at| (at, Date::Lifetime));
        dates[2] = known.drain.map(|(at, code)| (at, Date::Drained(code)));
        let come = dates.into_iter().flatten().filter(|(at, _)| *at <= now);
        come.min_by_key(|(at, _)| *at).map(|(_, date)| date)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_nearest_date_holds_and_a_drain_replaces_none_but_its_own() {
        let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
        let expiry = Expiry::after(secs(20), now, wall);
        let mut dates = Dates::new(Some(now + secs(25)), expiry, now);
        dates.set_drain(now + secs(60), 1012);
        assert!(dates.is_draining());
        assert_eq!(dates.next(), Some(now + secs(20)));
        let due = |dates: &mut Dates, at| dates.due(now + secs(at), || wall + secs(at));
        assert_eq!(due(&mut dates, 19), None);
        assert_eq!(due(&mut dates, 20), Some(Date::Expired));
        dates.set_drain(now + secs(10), 1001);
        assert_eq!(dates.next(), Some(now + secs(10)));
        assert_eq!(due(&mut dates, 30), Some(Date::Drained(1001)), "the earliest of all that have come");
        dates.set_drain(now + secs(70), 1001);
        let mut dates = Dates::new(Some(now + secs(25)), None, now);
        assert_eq!((dates.next(), dates.is_draining()), (Some(now + secs(25)), false));
        assert_eq!(due(&mut dates, 25), Some(Date::Lifetime));
    }

    #[test]
    fn without_a_date_nothing_is_kept_and_no_clock_asked() {
        let now = Instant::now();
        let mut dates = Dates::new(None, None, now);
        assert!(dates.0.is_none());
        assert_eq!((dates.next(), dates.due(now, || unreachable!())), (None, None));
        let mut living = Dates::new(Some(now + secs(9)), None, now);
        assert_eq!(living.due(now + secs(8), || unreachable!("nobody has credentials")), None);
        assert_eq!(size_of::<Dates>(), size_of::<usize>());
    }

    #[test]
    fn credentials_end_by_the_clock_that_says_so_first() {
        let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + secs(1_000_000));
        let dates = || Dates::new(None, Expiry::after(secs(3600), now, wall), now);
        // Seconds on the monotonic clock, seconds on the wall, and whether they are over.
        let cases = [
            (30, 30, false),
            (3600, 3600, true),
            (3599, 3599, false),
            (60, 3600, true),    // suspended for an hour
            (3600, 30, true),    // the wall clock was set back
            (3600, -9000, true), // and further
            (60, -9000, false),
        ];
        for (monotonic, on_wall, has_ended) in cases {
            let wall = if on_wall < 0 { wall - secs(9000) } else { wall + secs(on_wall as u64) };
            let due = dates().due(now + secs(monotonic), || wall);
            assert_eq!(due.is_some(), has_ended, "{monotonic} s, {on_wall} s on the wall");
        }
        assert_eq!(
            dates().next(),
            Some(now + WALL_CLOCK_INTERVAL),
            "a timer alone may stand still with the machine"
        );
    }

    #[test]
    fn the_wall_clock_is_looked_at_again_and_again() {
        let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
        let mut dates = Dates::new(None, Expiry::after(secs(100), now, wall), now);
        let (mut looks, mut at) = (0, now);
        while dates.due(at, || wall).is_none() {
            let next = dates.next().unwrap();
            assert!(next > at && next <= at + WALL_CLOCK_INTERVAL);
            at = next;
            looks += 1;
        }
        assert_eq!((looks, at), (4, now + secs(100)), "at 30, 60, 90 and 100 s");
    }
}

//! The generic cell rate algorithm (ITU-T I.371, virtual scheduling): a token bucket that is kept as one moment.
//!
//! One token comes back in each *interval*, up to a *burst*. A bucket's *theoretical arrival time* is the moment at which
//! it is full again. To take a token moves that moment by an interval; it conforms if the moment was at most
//! `burst - 1` intervals ahead (the *tolerance*).
//!
//! # Invariants
//! 1. In any time `t` at most `t / interval + burst` tokens are taken, apart from what [`Bucket::take`] takes ahead of time.
//! 2. A bucket whose arrival time has passed is full: a map of many may forget it.
//! 3. Sums are made in whole nanoseconds. An interval is rounded up, so that no rate is exceeded by rounding, and there is always a token at
//!    the moment that was answered.
//!
//! # Not here
//! Which bucket counts what, and who waits for a token.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Rate;

/// A rate and its burst as the algorithm needs them, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gcra {
    interval: u64,
    tolerance: u64,
}

impl Gcra {
    pub(crate) fn new(rate: Rate) -> Self {
        let burst = u64::from(rate.burst.max(1));
        // However slow the rate is, a whole burst fits into 64 bits, and into the range of clocks.
        let longest = i64::MAX.unsigned_abs() / 2 / burst;
        let interval = (1e9 / rate.per_second).ceil().clamp(1.0, longest as f64) as u64;
        Self { interval, tolerance: interval * (burst - 1) }
    }

    /// From one token to the next.
    pub(crate) fn interval(self) -> Duration {
        Duration::from_nanos(self.interval)
    }

    /// How long an empty bucket takes to fill.
    fn capacity(self) -> u64 {
        self.tolerance + self.interval
    }

    fn cost(self, tokens: u32) -> u64 {
        self.interval.saturating_mul(u64::from(tokens))
    }
}

/// A bucket's theoretical arrival time. It keeps neither the rate nor a number of tokens: for owners of whom there are
/// many, with one [`Gcra`] for all of them. The default is a full bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ArrivalTime(Option<Instant>);

impl ArrivalTime {
    /// Whether the bucket has all its tokens.
    pub(crate) fn is_full(self, now: Instant) -> bool {
        self.ahead(now) == 0
    }

    /// Takes a token, or answers in how long there will be one and takes nothing.
    pub(crate) fn take(&mut self, gcra: Gcra, now: Instant) -> Result<(), Duration> {
        let ahead = self.ahead(now);
        if ahead > gcra.tolerance {
            return Err(Duration::from_nanos(ahead - gcra.tolerance));
        }
        self.set_ahead(ahead + gcra.interval, now);
        Ok(())
    }

    /// Takes `tokens`; false if there are fewer: then none are left.
    pub(crate) fn take_or_empty(&mut self, tokens: u32, gcra: Gcra, now: Instant) -> bool {
        let before = self.ahead(now);
        let after = before.saturating_add(gcra.cost(tokens));
        // What was taken ahead of time stays taken.
        self.set_ahead(after.min(gcra.capacity()).max(before), now);
        after <= gcra.capacity()
    }

    /// In how many nanoseconds the bucket is full.
    fn ahead(self, now: Instant) -> u64 {
        let ahead = self.0.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        u64::try_from(ahead.as_nanos()).unwrap_or(u64::MAX)
    }

    fn set_ahead(&mut self, ahead: u64, now: Instant) {
        // The longest capacity is less than 150 years, which is within the range of clocks.
        self.0 = now.checked_add(Duration::from_nanos(ahead)).or(self.0);
    }
}

/// A token bucket for one owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    gcra: Gcra,
    /// Never before the last moment at which it was asked.
    arrival: Instant,
}

impl Bucket {
    /// Full.
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { gcra: Gcra::new(rate), arrival: now }
    }

    /// Whole tokens there are at `now`.
    pub(crate) fn available(&mut self, now: Instant) -> u32 {
        self.arrival = self.arrival.max(now);
        let ahead = ArrivalTime(Some(self.arrival)).ahead(now);
        let there = self.gcra.capacity().saturating_sub(ahead) / self.gcra.interval;
        u32::try_from(there).unwrap_or(u32::MAX)
    }

    /// Takes `n` tokens, if need be ahead of time; [`Bucket::available`] answers how many there are.
    pub(crate) fn take(&mut self, n: u32) {
        let cost = Duration::from_nanos(self.gcra.cost(n));
        self.arrival = self.arrival.checked_add(cost).unwrap_or(self.arrival);
    }

    /// Takes `n` tokens; false if there are fewer: then none are left.
    pub(crate) fn take_or_empty(&mut self, n: u32, now: Instant) -> bool {
        let mut arrival = ArrivalTime(Some(self.arrival));
        let is_there = arrival.take_or_empty(n, self.gcra, now);
        self.arrival = arrival.0.unwrap_or(now);
        is_there
    }

    /// When there is a whole token again; a moment that has passed if there is one.
    pub(crate) fn next_token_at(&self) -> Instant {
        let tolerance = Duration::from_nanos(self.gcra.tolerance);
        self.arrival.checked_sub(tolerance).unwrap_or(self.arrival)
    }
}

#[cfg(test)]
mod tests;

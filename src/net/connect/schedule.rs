//! In which order addresses are tried, and when the next attempt begins (RFC 8305 §4, §5). Pure.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// How long an attempt has before the next one begins beside it (RFC 8305 §5, "Connection Attempt Delay").
pub(super) const DELAY: Duration = Duration::from_millis(250);
/// Where time is short the delay is too, but never less than this (RFC 8305 §5).
const MIN_DELAY: Duration = Duration::from_millis(10);

/// The order in which to try what the resolver found: families take turns (RFC 8305 §4), and who is known to be silent
/// comes after all others. Each address once.
pub(super) fn sort_addresses(
    found: &[SocketAddr],
    is_unresponsive: impl Fn(&SocketAddr) -> bool,
) -> Vec<SocketAddr> {
    let mut unique: Vec<SocketAddr> = Vec::with_capacity(found.len());
    for address in found {
        if !unique.contains(address) {
            unique.push(*address);
        }
    }
    let (unresponsive, others): (Vec<_>, Vec<_>) = unique.into_iter().partition(is_unresponsive);
    let mut ordered = interleave_families(&others);
    ordered.extend(interleave_families(&unresponsive));
    ordered
}

/// The family of the first address begins: the resolver has sorted by what this machine can reach (RFC 6724).
fn interleave_families(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let mut same_family = addresses.iter().filter(|address| address.is_ipv4() == first.is_ipv4());
    let mut other_family = addresses.iter().filter(|address| address.is_ipv4() != first.is_ipv4());
    let mut ordered = Vec::with_capacity(addresses.len());
    while ordered.len() < addresses.len() {
        ordered.extend(same_family.next());
        ordered.extend(other_family.next());
    }
    ordered
}

/// When attempts begin. They are numbered in the order of their addresses.
#[derive(Debug)]
pub(super) struct Schedule {
    count: usize,
    started: usize,
    delay: Duration,
    next: Instant,
}

impl Schedule {
    /// For `count` attempts, of which the last is to begin before `deadline`.
    pub(super) fn new(count: usize, now: Instant, deadline: Instant) -> Self {
        let left = deadline.saturating_duration_since(now);
        let share = left / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        Self { count, started: 0, delay: share.clamp(MIN_DELAY, DELAY), next: now }
    }

    /// The attempt that is to begin now, if one is.
    pub(super) fn begin(&mut self, now: Instant) -> Option<usize> {
        let next = self.next().filter(|next| *next <= now)?;
        // From now on, and not from when it was due: each attempt has the whole delay, also after a standstill.
        self.next = next.max(now) + self.delay;
        self.started += 1;
        Some(self.started - 1)
    }

    /// An attempt has failed: nothing is gained by waiting.
    pub(super) fn on_failure(&mut self, now: Instant) {
        self.next = self.next.min(now);
    }

    /// When the next attempt begins, unless all have.
    pub(super) fn next(&self) -> Option<Instant> {
        (self.started < self.count).then_some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_who_is_silent_comes_last() {
        // what the resolver found, who is silent, the order
        type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            (&[], &[], &[]),
            (&["10.0.0.1:1"], &["10.0.0.1:1"], &["10.0.0.1:1"]),
            (&["10.0.0.1:1", "10.0.0.1:1", "10.0.0.2:1"], &[], &["10.0.0.1:1", "10.0.0.2:1"]),
            (
                &["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1"],
                &[],
                &["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"],
            ),
            (&["10.0.0.1:1", "[::1]:1", "[::2]:1"], &[], &["10.0.0.1:1", "[::1]:1", "[::2]:1"]),
            (
                &["[::1]:1", "[::2]:1", "10.0.0.1:1", "10.0.0.2:1"],
                &["[::1]:1", "10.0.0.2:1"],
                &["[::2]:1", "10.0.0.1:1", "[::1]:1", "10.0.0.2:1"],
            ),
        ];
        for (found, unresponsive, expected) in cases {
            let unresponsive = addresses(unresponsive);
            let ordered = sort_addresses(&addresses(found), |address| unresponsive.contains(address));
            assert_eq!(ordered, addresses(expected), "{found:?}");
        }
    }

    #[test]
    fn attempts_begin_a_quarter_of_a_second_apart_and_at_once_after_a_failure() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut schedule = Schedule::new(4, start, at(2000));
        assert_eq!((schedule.begin(at(0)), schedule.begin(at(0))), (Some(0), None));
        assert_eq!((schedule.begin(at(249)), schedule.next()), (None, Some(at(250))));
        assert_eq!((schedule.begin(at(250)), schedule.next()), (Some(1), Some(at(500))));
        schedule.on_failure(at(300));
        assert_eq!((schedule.begin(at(300)), schedule.begin(at(300))), (Some(2), None));
        // Late: the next one is not begun together with it.
        assert_eq!((schedule.begin(at(900)), schedule.next()), (Some(3), None));
        schedule.on_failure(at(950));
        assert_eq!(schedule.begin(at(5000)), None);
        assert_eq!(Schedule::new(0, start, at(2000)).begin(at(0)), None);
    }

    #[test]
    fn every_attempt_begins_before_the_deadline_and_has_time_left_where_there_is_any() {
        let start = Instant::now();
        for (count, millis) in [(1, 2000), (2, 100), (3, 400), (8, 2000), (40, 2000), (2, 30)] {
            let deadline = start + Duration::from_millis(millis);
            let mut schedule = Schedule::new(count, start, deadline);
            let mut now = start;
            for index in 0..count {
                now = schedule.next().expect("they have not all begun").max(now);
                assert_eq!(schedule.begin(now), Some(index));
            }
            let left = deadline.saturating_duration_since(now);
            assert!(left >= Duration::from_millis(millis) / count as u32, "{count} in {millis} ms: {left:?}");
        }
    }
}

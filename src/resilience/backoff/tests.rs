use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::Backoff;
use crate::config::Redial;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const RULES: Redial =
    Redial { base: ms(100), factor: 2.0, cap: ms(1000), give_up: None, reset_after: ms(5000) };

#[test]
fn waits_grow_up_to_the_cap_and_are_spread_over_all_of_it() {
    // random, then what each of the waits is in milliseconds
    const CASES: &[(f64, [u64; 6])] = &[
        (1.0, [100, 200, 400, 800, 1000, 1000]),
        (0.5, [50, 100, 200, 400, 500, 500]),
        // Never less than a tenth of the base, however the dice fall.
        (0.0, [10; 6]),
        (0.05, [10, 10, 20, 40, 50, 50]),
        // Out of bounds, or no number at all: kept within them.
        (7.0, [100, 200, 400, 800, 1000, 1000]),
        (-1.0, [10; 6]),
    ];
    for &(random, waits) in CASES {
        let mut backoff = Backoff::new(RULES);
        for (nth, wait) in waits.into_iter().enumerate() {
            let now = Instant::now();
            assert_eq!(backoff.next(random, now), Some(ms(wait)), "wait {nth} with {random}");
        }
    }
}

#[test]
fn only_a_link_that_lives_long_enough_makes_waits_short_again() {
    // how long the link was up, the wait after its loss
    for (lived, wait) in [(0, 400), (4999, 400), (5000, 100), (60_000, 100)] {
        let mut now = Instant::now();
        let mut backoff = Backoff::new(RULES);
        backoff.next(1.0, now);
        backoff.next(1.0, now);
        backoff.on_up(now);
        now += ms(lived);
        assert_eq!(backoff.next(1.0, now), Some(ms(wait)), "up for {lived} ms");
        // A try that failed afterwards is no loss of that link.
        now += ms(60_000);
        assert_eq!(backoff.next(1.0, now), Some(ms((wait * 2).min(1000))), "up for {lived} ms, then not");
    }
}

#[test]
fn giving_up_counts_from_the_loss_and_not_from_the_try() {
    let rules = Redial { give_up: Some(ms(10_000)), ..RULES };
    let start = Instant::now();
    let mut backoff = Backoff::new(rules);
    assert_eq!(backoff.gives_up_at(), None, "it is there");
    assert!(backoff.next(1.0, start).is_some());
    assert_eq!(backoff.gives_up_at(), Some(start + ms(10_000)));
    assert!(backoff.next(1.0, start + ms(9999)).is_some());
    assert_eq!(backoff.next(1.0, start + ms(10_000)), None);
    assert_eq!(backoff.next(1.0, start + ms(10_001)), None, "given up for good");
}

#[test]
fn giving_up_is_counted_anew_for_whoever_wants_the_link_later() {
    let mut backoff = Backoff::new(Redial { give_up: Some(ms(10_000)), ..RULES });
    let start = Instant::now();
    backoff.on_wanted(start);
    assert_eq!(backoff.gives_up_at(), None, "nothing was lost");
    assert!(backoff.next(1.0, start).is_some());
    backoff.on_wanted(start + ms(30_000));
    assert_eq!(backoff.gives_up_at(), Some(start + ms(40_000)));
    assert!(backoff.next(1.0, start + ms(39_999)).is_some());
    assert_eq!(backoff.next(1.0, start + ms(40_000)), None);
}

#[test]
fn a_link_that_comes_up_for_a_moment_does_not_set_the_clock_of_giving_up_back() {
    let rules = Redial { give_up: Some(ms(10_000)), ..RULES };
    let start = Instant::now();
    let mut backoff = Backoff::new(rules);
    assert!(backoff.next(1.0, start).is_some());
    backoff.on_up(start + ms(8000));
    assert!(backoff.next(1.0, start + ms(9000)).is_some());
    backoff.on_up(start + ms(9500));
    assert_eq!(backoff.next(1.0, start + ms(10_500)), None);

    // One that stayed does.
    let mut backoff = Backoff::new(rules);
    assert!(backoff.next(1.0, start).is_some());
    backoff.on_up(start + ms(8000));
    assert_eq!(backoff.next(1.0, start + ms(13_000)), Some(ms(100)));
    assert!(backoff.next(1.0, start + ms(22_999)).is_some());
    assert_eq!(backoff.next(1.0, start + ms(23_000)), None);
}

proptest! {
    #[test]
    fn a_wait_is_never_above_the_cap_and_never_nothing(
        base in 1_u64..10_000,
        more in 0_u64..100_000,
        factor in 1.0..1e300,
        randoms in prop::collection::vec(0.0..=1.0, 1..200),
    ) {
        let rules = Redial { base: ms(base), cap: ms(base + more), factor, ..RULES };
        let mut backoff = Backoff::new(rules);
        let now = Instant::now();
        for random in randoms {
            let wait = backoff.next(random, now).unwrap();
            prop_assert!(wait <= rules.cap, "{wait:?}");
            prop_assert!(wait >= rules.base / 10 && !wait.is_zero(), "{wait:?}");
        }
    }

    #[test]
    fn what_is_to_be_expected_never_shrinks(base in 1_u64..1000, factor in 1.0..4.0, random in 0.0..=1.0) {
        let rules = Redial { base: ms(base), cap: ms(60_000), factor, ..RULES };
        let mut backoff = Backoff::new(rules);
        let now = Instant::now();
        let mut last = Duration::ZERO;
        for _ in 0..64 {
            let wait = backoff.next(random, now).unwrap();
            prop_assert!(wait >= last, "{wait:?} after {last:?}");
            last = wait;
        }
        prop_assert!(factor < 1.2 || random < 0.2 || last >= rules.cap.mul_f64(random * 0.999));
    }
}

use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules { tripped_ratio: 0.5, min_clients: 10, open_for: Duration::from_secs(5) };

use BreakerState::{Closed, HalfOpen, Open};

#[test]
fn without_rules_it_never_opens() {
    let now = Instant::now();
    let mut breaker = ChannelBreaker::new(None, now);
    for (tripped, clients) in [(0, 0), (1, 1), (1000, 1000)] {
        assert_eq!(breaker.judge(tripped, clients, 0.0, now), Closed, "{tripped} of {clients}");
    }
}

#[test]
fn it_opens_at_the_ratio_and_not_below_min_clients() {
    // tripped, clients, where that leaves it
    let cases = [
        (0, 0, Closed),
        (0, 10, Closed),
        (9, 9, Closed),
        (4, 10, Closed),
        (5, 10, Open),
        (10, 10, Open),
        (5, 11, Closed),
        (6, 11, Open),
        (499, 1000, Closed),
        (500, 1000, Open),
        // Counted at different moments by different tasks.
        (12, 10, Open),
    ];
    for (tripped, clients, state) in cases {
        let now = Instant::now();
        let mut breaker = ChannelBreaker::new(Some(RULES), now);
        assert_eq!(breaker.judge(tripped, clients, 0.0, now), state, "{tripped} of {clients}");
        assert_eq!(breaker.state(), state);
    }
}

#[test]
fn a_ratio_next_to_nothing_still_takes_one_that_is_tripped() {
    let now = Instant::now();
    let mut breaker = ChannelBreaker::new(Some(Rules { tripped_ratio: 1e-9, min_clients: 1, ..RULES }), now);
    assert_eq!(breaker.judge(0, 1000, 0.0, now), Closed);
    assert_eq!(breaker.judge(1, 1000, 0.0, now), Open);
}

#[test]
fn open_it_stays_so_for_its_time_whoever_recovers() {
    for (random, millis) in [(0.0, 5000), (0.5, 5500), (1.0, 6000)] {
        let start = Instant::now();
        let mut breaker = ChannelBreaker::new(Some(RULES), start);
        breaker.judge(10, 10, random, start);
        let due = start + Duration::from_millis(millis);
        assert_eq!(breaker.judge(0, 10, 0.0, due - Duration::from_millis(1)), Open, "{random}");
        assert_eq!(breaker.judge(0, 10, 0.0, due), HalfOpen, "{random}");
    }
}

#[test]
fn half_open_the_next_judgement_decides() {
    // tripped, clients, where that leaves it
    let cases = [(10, 10, Open), (5, 10, Open), (4, 10, Closed), (9, 9, Closed), (0, 0, Closed)];
    for (tripped, clients, state) in cases {
        let start = Instant::now();
        let mut breaker = ChannelBreaker::new(Some(RULES), start);
        breaker.judge(10, 10, 0.0, start);
        let due = start + RULES.open_for;
        assert_eq!(breaker.judge(10, 10, 0.0, due), HalfOpen, "a full pass first, whatever it finds");
        assert_eq!(breaker.judge(tripped, clients, 1.0, due), state, "{tripped} of {clients}");
        if state == Open {
            let again = due + Duration::from_secs(6);
            assert_eq!(breaker.judge(0, 10, 0.0, again - Duration::from_millis(1)), Open);
            assert_eq!(breaker.judge(0, 10, 0.0, again), HalfOpen);
            assert_eq!(breaker.judge(0, 10, 0.0, again), Closed);
        }
    }
}

proptest! {
    #[test]
    fn it_opens_only_on_many_and_closes_only_on_few_after_its_time(
        judgements in proptest::collection::vec((0usize..20, 0usize..20, 0.0..1.0f64, 0u64..4000), 0..80),
    ) {
        let mut now = Instant::now();
        let mut breaker = ChannelBreaker::new(Some(RULES), now);
        let mut state = Closed;
        let mut opened = now;
        for (tripped, clients, random, millis) in judgements {
            now += Duration::from_millis(millis);
            let are_many = clients >= 10 && tripped * 2 >= clients;
            let next = breaker.judge(tripped, clients, random, now);
            match (state, next) {
                (Closed | HalfOpen, Open) => {
                    prop_assert!(are_many);
                    opened = now;
                }
                (Closed | HalfOpen, Closed) => prop_assert!(!are_many),
                (Open, Open) => prop_assert!(now - opened < RULES.open_for.mul_f64(1.2)),
                (Open, HalfOpen) => prop_assert!(now - opened >= RULES.open_for),
                (Open, Closed) | (Closed | HalfOpen, HalfOpen) => prop_assert!(false, "{state:?} to {next:?}"),
            }
            state = next;
        }
    }
}

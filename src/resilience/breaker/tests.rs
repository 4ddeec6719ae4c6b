use proptest::prelude::*;

use super::*;

const RULES: BreakerRules = BreakerRules {
    window: Duration::from_secs(10),
    min_calls: 4,
    failure_ratio: 0.5,
    open_for: Duration::from_secs(5),
    probes: 2,
};

/// A breaker, the time, and calls that are answered at once.
struct Bench {
    breaker: Breaker,
    now: Instant,
}

impl Bench {
    fn new(rules: BreakerRules) -> Self {
        let now = Instant::now();
        Self { breaker: Breaker::new(rules, now), now }
    }

    fn call(&mut self, outcome: CallOutcome) -> BreakerState {
        let ticket = self.breaker.allow(self.now).expect("let through");
        self.breaker.report(ticket, outcome, 0.0, self.now);
        self.breaker.state()
    }

    fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    /// Opens it.
    fn opened(rules: BreakerRules) -> Self {
        let mut bench = Self::new(rules);
        for _ in 0..rules.min_calls {
            bench.call(Failure);
        }
        assert_eq!(bench.breaker.state(), Open);
        bench
    }
}

use BreakerState::{Closed, HalfOpen, Open};
use CallOutcome::{Failure, Neither, Success};

#[test]
fn it_opens_at_the_ratio_and_not_below_min_calls() {
    // outcomes, and where each leaves the breaker
    let cases: &[(&[CallOutcome], BreakerState)] = &[
        (&[], Closed),
        (&[Failure, Failure, Failure], Closed),
        (&[Failure, Failure, Failure, Failure], Open),
        (&[Success, Success, Failure, Failure], Open),
        (&[Success, Success, Success, Failure], Closed),
        (&[Success, Success, Success, Failure, Failure], Closed),
        (&[Success, Success, Success, Failure, Failure, Failure], Open),
        (&[Failure, Failure, Failure, Neither], Closed),
        (&[Neither; 20], Closed),
        (&[Failure, Failure, Failure, Success], Closed),
        (&[Failure, Failure, Failure, Success, Neither, Success], Closed),
        (&[Failure, Failure, Failure, Success, Failure], Open),
        (&[Success; 20], Closed),
    ];
    for (outcomes, state) in cases {
        let mut bench = Bench::new(RULES);
        for outcome in *outcomes {
            bench.call(*outcome);
        }
        assert_eq!(bench.breaker.state(), *state, "{outcomes:?}");
    }
}

#[test]
fn a_success_never_opens_it() {
    for failures in 0..4 {
        let mut bench = Bench::new(RULES);
        for _ in 0..failures {
            bench.call(Failure);
        }
        for _ in 0..20 {
            assert_eq!(bench.call(Success), Closed, "after {failures} failures");
        }
    }
    // Nor when the successes of before have left the window.
    let mut bench = Bench::new(RULES);
    bench.call(Success);
    bench.call(Success);
    bench.call(Success);
    bench.pass(5000);
    bench.call(Failure);
    bench.call(Failure);
    bench.pass(5000);
    assert_eq!(bench.call(Success), Closed);
    assert_eq!(bench.call(Success), Closed, "two of four, and the last of them a success");
}

#[test]
fn what_has_left_the_window_is_forgotten_part_by_part() {
    let mut bench = Bench::new(RULES);
    bench.call(Failure);
    bench.pass(5000);
    bench.call(Failure);
    bench.call(Failure);
    bench.pass(4999);
    assert_eq!(bench.call(Failure), Open, "all four are within ten seconds");
    let mut bench = Bench::new(RULES);
    bench.call(Failure);
    bench.pass(5000);
    bench.call(Failure);
    bench.call(Failure);
    bench.pass(5000);
    assert_eq!(bench.call(Success), Closed, "the first has left");
    assert_eq!(bench.call(Failure), Open, "the other two have not");
    let mut bench = Bench::new(RULES);
    for _ in 0..3 {
        bench.call(Failure);
    }
    bench.pass(3_600_000);
    for _ in 0..3 {
        assert_eq!(bench.call(Failure), Closed, "an hour ago is long ago");
    }
}

#[test]
fn open_it_tells_how_long_and_lets_nobody_through() {
    let mut bench = Bench::opened(RULES);
    assert_eq!(bench.breaker.allow(bench.now), Err(Duration::from_secs(5)));
    bench.pass(4999);
    assert_eq!(bench.breaker.allow(bench.now), Err(Duration::from_millis(1)));
    assert_eq!(bench.breaker.state(), Open);
}

#[test]
fn reopening_is_jittered() {
    for (jitter, millis) in [(0.0, 5000), (0.5, 5500), (1.0, 6000), (9.0, 6000)] {
        let mut bench = Bench::new(RULES);
        for _ in 0..4 {
            let ticket = bench.breaker.allow(bench.now).unwrap();
            bench.breaker.report(ticket, Failure, jitter, bench.now);
        }
        assert_eq!(bench.breaker.allow(bench.now), Err(Duration::from_millis(millis)), "{jitter}");
    }
}

#[test]
fn half_open_as_many_successes_as_probes_close_it() {
    let mut bench = Bench::opened(RULES);
    bench.pass(5000);
    let first = bench.breaker.allow(bench.now).unwrap();
    let second = bench.breaker.allow(bench.now).unwrap();
    assert_eq!(bench.breaker.allow(bench.now), Err(Duration::ZERO), "two probes at a time");
    bench.breaker.report(first, Success, 0.0, bench.now);
    assert_eq!(bench.breaker.state(), HalfOpen);
    bench.breaker.report(second, Success, 0.0, bench.now);
    assert_eq!(bench.breaker.state(), Closed);
    for _ in 0..3 {
        assert_eq!(bench.call(Failure), Closed, "the old failures are forgotten");
    }
}

#[test]
fn half_open_one_failure_opens_it_again() {
    let mut bench = Bench::opened(RULES);
    bench.pass(5000);
    let first = bench.breaker.allow(bench.now).unwrap();
    let second = bench.breaker.allow(bench.now).unwrap();
    bench.breaker.report(first, Failure, 0.0, bench.now);
    assert_eq!(bench.breaker.allow(bench.now), Err(Duration::from_secs(5)));
    bench.breaker.report(second, Success, 0.0, bench.now);
    assert_eq!(bench.breaker.state(), Open, "what the other probe finds out comes too late");
}

#[test]
fn a_probe_that_says_nothing_gives_its_place_back() {
    let mut bench = Bench::opened(RULES);
    bench.pass(5000);
    for _ in 0..100 {
        assert_eq!(bench.call(Neither), HalfOpen);
    }
    bench.call(Success);
    assert_eq!(bench.call(Success), Closed);
}

#[test]
fn a_call_of_an_earlier_period_says_nothing() {
    let mut bench = Bench::new(RULES);
    let late: Vec<Ticket> = (0..8).map(|_| bench.breaker.allow(bench.now).unwrap()).collect();
    for _ in 0..4 {
        bench.call(Failure);
    }
    bench.pass(5000);
    let probe = bench.breaker.allow(bench.now).unwrap();
    for ticket in late {
        bench.breaker.report(ticket, Failure, 0.0, bench.now);
    }
    assert_eq!(bench.breaker.state(), HalfOpen, "they were let through before it opened");
    bench.breaker.report(probe, Success, 0.0, bench.now);
    bench.call(Success);
    assert_eq!(bench.breaker.state(), Closed);
}

proptest! {
    /// Any life: calls that begin, end and are given up at any time.
    #[test]
    fn it_never_probes_with_more_than_it_may_and_never_opens_on_little(
        min_calls in 1u32..6,
        probes in 1u32..4,
        ratio in 0.1f64..=1.0,
        steps in proptest::collection::vec((0u8..5, 0u64..3000, any::<prop::sample::Index>()), 1..300),
    ) {
        let rules = BreakerRules { min_calls, probes, failure_ratio: ratio, ..RULES };
        let mut bench = Bench::new(rules);
        let mut under_way: Vec<(Ticket, BreakerState)> = Vec::new();
        // Outcomes that were reported while it was closed: when, and whether a failure.
        let mut counted: Vec<Instant> = Vec::new();
        for (what, millis, which) in steps {
            bench.pass(millis);
            if what < 2 {
                if let Ok(ticket) = bench.breaker.allow(bench.now) {
                    under_way.push((ticket, bench.breaker.state()));
                }
            } else if !under_way.is_empty() {
                let (ticket, _) = under_way.remove(which.index(under_way.len()));
                let is_current = ticket.period == bench.breaker.period;
                let outcome = [Success, Failure, Neither][usize::from(what) - 2];
                let before = bench.breaker.state();
                bench.breaker.report(ticket, outcome, 0.3, bench.now);
                if before == Closed && is_current && outcome != Neither {
                    counted.push(bench.now);
                }
                if before != Open && bench.breaker.state() == Open {
                    prop_assert_eq!(outcome, Failure, "opened by something else");
                }
                if before == Closed && bench.breaker.state() == Open {
                    let within = counted.iter().filter(|at| bench.now - **at <= rules.window).count();
                    prop_assert!(within >= min_calls as usize, "opened on {within} outcomes");
                }
                if before != bench.breaker.state() {
                    counted.clear();
                }
            }
            let period = bench.breaker.period;
            let probing = under_way
                .iter()
                .filter(|(ticket, state)| *state == HalfOpen && ticket.period == period)
                .count();
            prop_assert!(probing <= probes as usize, "{probing} probes");
        }
    }
}

use proptest::prelude::*;

use super::window::MAX_CALLERS;
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

    /// So many calls of one, each with the same outcome; whether the last of them was let through.
    fn calls(&mut self, caller: u64, outcome: CallOutcome, times: u32) -> Result<(), Duration> {
        for _ in 0..times {
            let ticket = self.breaker.allow_caller(Caller(caller), self.now)?;
            self.breaker.report(ticket, outcome, 0.0, self.now);
        }
        Ok(())
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
use CallOutcome::{Failure, Ignored, Success, Suspicion};

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
        (&[Failure, Failure, Failure, Ignored], Closed),
        (&[Ignored; 20], Closed),
        (&[Failure, Failure, Failure, Success], Closed),
        (&[Failure, Failure, Failure, Success, Ignored, Success], Closed),
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
        assert_eq!(bench.call(Ignored), HalfOpen);
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

#[test]
fn one_caller_opens_it_for_nobody_else_while_others_are_answered() {
    let mut bench = Bench::new(RULES);
    // One answer of another within the window is enough, before or after.
    for _ in 0..20 {
        bench.calls(1, Success, 1).unwrap();
        bench.pass(2000);
        bench.calls(66, Suspicion, 500).unwrap();
        bench.pass(2000);
    }
    assert_eq!(bench.breaker.state(), Closed);
    // Nor with a crowd that is answered and one more who is not.
    for caller in 100..110 {
        bench.calls(caller, Success, 1).unwrap();
    }
    bench.calls(67, Suspicion, 500).unwrap();
    bench.calls(66, Suspicion, 500).unwrap();
    assert_eq!(bench.breaker.state(), Closed, "two callers of a dozen");
}

#[test]
fn many_callers_open_it_as_failures_do() {
    let mut bench = Bench::new(RULES);
    for caller in 1..=4 {
        bench.calls(caller, Success, 1).unwrap();
    }
    for caller in 11..=13 {
        bench.calls(caller, Suspicion, 5).unwrap();
        assert_eq!(bench.breaker.state(), Closed, "each counts once: {caller}");
    }
    bench.calls(14, Suspicion, 1).unwrap();
    assert_eq!(bench.breaker.state(), Open);
    assert!(!bench.breaker.blames_one_caller());
    assert!(bench.calls(99, Success, 1).is_err(), "it is open for all");
}

#[test]
fn what_one_caller_has_brought_about_is_held_against_that_one_only() {
    let mut bench = Bench::new(RULES);
    bench.calls(66, Suspicion, 4).unwrap();
    assert_eq!((bench.breaker.state(), bench.breaker.blames_one_caller()), (Open, true));
    assert_eq!(bench.calls(66, Suspicion, 1), Err(Duration::from_secs(5)));
    // Another one is let through at once; what comes of it decides for all.
    bench.calls(1, Success, 1).unwrap();
    assert_eq!(bench.calls(66, Suspicion, 1), Err(Duration::from_secs(5)), "also while others probe");
    bench.calls(2, Success, 1).unwrap();
    assert_eq!(bench.breaker.state(), Closed);

    let mut bench = Bench::new(RULES);
    bench.calls(66, Suspicion, 4).unwrap();
    bench.calls(1, Suspicion, 1).unwrap();
    assert_eq!((bench.breaker.state(), bench.breaker.blames_one_caller()), (Open, false));
    assert!(bench.calls(2, Success, 1).is_err(), "two callers cannot both have brought it about");
}

#[test]
fn who_it_is_held_against_keeps_nobody_waiting() {
    let mut bench = Bench::new(RULES);
    bench.calls(66, Suspicion, 4).unwrap();
    bench.pass(5000);
    let take = |bench: &mut Bench, caller| bench.breaker.allow_caller(Caller(caller), bench.now);
    let mut theirs = vec![take(&mut bench, 66).unwrap(), take(&mut bench, 66).unwrap()];
    assert_eq!(take(&mut bench, 66), Err(Duration::ZERO), "as many probes as may be");
    let others = [take(&mut bench, 1).unwrap(), take(&mut bench, 2).unwrap()];
    assert_eq!(take(&mut bench, 3), Err(Duration::ZERO));
    bench.breaker.report(theirs.remove(0), Ignored, 0.0, bench.now);
    assert_eq!(take(&mut bench, 3), Err(Duration::ZERO), "that was no place of theirs");
    theirs.push(take(&mut bench, 66).unwrap());
    for probe in others {
        bench.breaker.report(probe, Success, 0.0, bench.now);
    }
    assert_eq!(bench.breaker.state(), Closed);
    bench.breaker.report(theirs.remove(0), Suspicion, 0.0, bench.now);
    assert_eq!(bench.breaker.state(), Closed, "of an earlier period");
}

#[test]
fn a_server_that_answers_nobody_is_left_alone_if_there_is_one_caller_only() {
    let mut bench = Bench::new(RULES);
    bench.calls(7, Success, 10).unwrap();
    bench.calls(7, Suspicion, 10).unwrap();
    assert_eq!(bench.breaker.state(), Closed, "it has answered a moment ago");
    bench.pass(10_000);
    bench.calls(7, Suspicion, 3).unwrap();
    assert_eq!(bench.breaker.state(), Closed);
    bench.calls(7, Suspicion, 1).unwrap();
    assert!(bench.calls(7, Success, 1).is_err());
    // A probe that finds nothing new opens it again.
    bench.pass(5000);
    bench.calls(7, Suspicion, 1).unwrap();
    assert_eq!(bench.calls(7, Success, 1), Err(Duration::from_secs(5)));
}

#[test]
fn failures_and_suspicions_add_up() {
    let mut bench = Bench::new(RULES);
    bench.calls(1, Suspicion, 3).unwrap();
    bench.calls(1, Failure, 1).unwrap();
    assert_eq!((bench.breaker.state(), bench.breaker.blames_one_caller()), (Open, false));
}

#[test]
fn a_million_callers_do_not_grow_it_without_end_and_still_open_it() {
    let mut bench = Bench::new(BreakerRules { min_calls: 1_000_000, ..RULES });
    bench.calls(0, Success, 500_000).unwrap();
    for caller in 1..=499_999 {
        bench.calls(caller, Suspicion, 1).unwrap();
    }
    let Phase::Closed(window) = &bench.breaker.phase else { panic!("{:?}", bench.breaker.state()) };
    assert_eq!(window.remembered_callers(), Some(MAX_CALLERS));
    bench.calls(500_000, Suspicion, 1).unwrap();
    assert_eq!(bench.breaker.state(), Open);
    let mut bench = Bench::new(RULES);
    bench.calls(1, Success, 1).unwrap();
    bench.calls(2, Suspicion, 1).unwrap();
    bench.pass(10_000);
    bench.calls(3, Success, 1).unwrap();
    let Phase::Closed(window) = &bench.breaker.phase else { panic!("{:?}", bench.breaker.state()) };
    assert_eq!(window.remembered_callers(), None, "what has left the window costs nothing");
}

proptest! {
    /// Any life: calls that begin, end and are given up at any time.
    #[test]
    fn it_never_probes_with_more_than_it_may_and_never_opens_on_little(
        min_calls in 1u32..6,
        probes in 1u32..4,
        ratio in 0.1f64..=1.0,
        steps in proptest::collection::vec(
            (0u8..6, 0u64..3000, 1u64..4, any::<prop::sample::Index>()), 1..300),
    ) {
        let rules = BreakerRules { min_calls, probes, failure_ratio: ratio, ..RULES };
        let mut bench = Bench::new(rules);
        let mut under_way: Vec<(Ticket, BreakerState)> = Vec::new();
        // Outcomes that were reported while it was closed: when, and whether a failure.
        let mut counted: Vec<Instant> = Vec::new();
        for (what, millis, caller, which) in steps {
            bench.pass(millis);
            if what < 2 {
                if let Ok(ticket) = bench.breaker.allow_caller(Caller(caller), bench.now) {
                    under_way.push((ticket, bench.breaker.state()));
                }
            } else if !under_way.is_empty() {
                let (ticket, _) = under_way.remove(which.index(under_way.len()));
                let is_current = ticket.period == bench.breaker.period;
                let outcome = [Success, Failure, Ignored, Suspicion][usize::from(what) - 2];
                let before = bench.breaker.state();
                bench.breaker.report(ticket, outcome, 0.3, bench.now);
                if before == Closed && is_current && outcome != Ignored {
                    counted.push(bench.now);
                }
                if before != Open && bench.breaker.state() == Open {
                    prop_assert!(matches!(outcome, Failure | Suspicion), "opened by {outcome:?}");
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
                .filter(|(ticket, state)| *state == HalfOpen && ticket.period == period);
            let (held, others): (Vec<_>, Vec<_>) = probing.partition(|(ticket, _)| ticket.is_blamed);
            prop_assert!(others.len() <= probes as usize, "{} probes", others.len());
            prop_assert!(held.len() <= probes as usize, "{} probes of one", held.len());
        }
    }
}

#[test]
fn a_probe_that_is_late_leaves_its_place_to_another_caller_and_still_counts() {
    let now = Instant::now();
    let rules = BreakerRules {
        window: Duration::from_secs(10),
        min_calls: 1,
        failure_ratio: 0.5,
        open_for: Duration::from_secs(5),
        probes: 1,
    };
    let half_open = || {
        let mut breaker = Breaker::new(rules, now);
        let ticket = breaker.allow(now).unwrap();
        breaker.report(ticket, Failure, 0.0, now);
        (breaker, now + Duration::from_secs(6))
    };
    let (late, other) = (Caller(1), Caller(2));
    for outcome in [Success, Failure, Suspicion, Ignored] {
        let (mut breaker, now) = half_open();
        let mut ticket = breaker.allow_caller(late, now).unwrap();
        assert!(ticket.is_probe());
        assert_eq!(breaker.allow_caller(other, now), Err(Duration::ZERO));
        assert!(breaker.on_late(&mut ticket) && !breaker.on_late(&mut ticket), "once");
        assert_eq!(breaker.allow_caller(late, now), Err(Duration::ZERO), "it has its place already");
        let second = breaker.allow_caller(other, now).unwrap();
        assert_eq!(breaker.allow_caller(Caller(3), now), Err(Duration::ZERO), "one at a time");
        breaker.report(ticket, outcome, 0.0, now);
        let expected = match outcome {
            Success => Closed,
            Failure | Suspicion => Open,
            Ignored => HalfOpen,
        };
        assert_eq!(breaker.state(), expected, "{outcome:?}");
        breaker.report(second, Ignored, 0.0, now);
        if outcome == Ignored {
            let ticket = breaker.allow_caller(late, now).unwrap();
            breaker.report(ticket, Success, 0.0, now);
            assert_eq!(breaker.state(), Closed);
        }
    }
    // As many as there are late are bounded.
    let (mut breaker, now) = half_open();
    let mut late: Vec<_> = (0..MAX_LATE as u64)
        .map(|caller| {
            let mut ticket = breaker.allow_caller(Caller(caller), now).unwrap();
            assert!(breaker.on_late(&mut ticket));
            ticket
        })
        .collect();
    let mut last = breaker.allow_caller(Caller(99), now).unwrap();
    assert!(!breaker.on_late(&mut last));
    assert_eq!(breaker.allow_caller(Caller(100), now), Err(Duration::ZERO));
    breaker.report(late.pop().unwrap(), Success, 0.0, now);
    assert_eq!(breaker.state(), Closed);
}

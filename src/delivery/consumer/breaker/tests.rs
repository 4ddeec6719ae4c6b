use proptest::prelude::*;

use super::*;
use crate::config::{Lag, OnStall, ResumeFrom};

const COOL_DOWN: Duration = Duration::from_secs(2);

fn delivery(max_trips: u32) -> Delivery {
    Delivery {
        on_stall: OnStall::Auto,
        max_lag: Lag { messages: 1, bytes: 1 },
        stall_timeout: None,
        cool_down: COOL_DOWN,
        max_trips,
        resume_from: ResumeFrom::Oldest,
        throttle: None,
        channel_breaker: None,
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// So many milliseconds pass.
    Pass(u64),
    Trip,
    CaughtUp,
    Ask,
}

use BreakerState::{Closed, HalfOpen, Open};
use Step::{Ask, CaughtUp, Pass, Trip};

#[test]
fn each_stage_answers_each_event() {
    // How to get there, what happens, where that leads, and what holds then.
    let to_open: &[Step] = &[];
    let to_half_open: &[Step] = &[Pass(2000), Ask];
    let to_closed: &[Step] = &[Pass(2000), Ask, CaughtUp];
    let cases: &[(&[Step], Step, BreakerState, Decision)] = &[
        (to_open, Trip, Open, Decision::Skip(Instant::now())),
        (to_open, CaughtUp, Open, Decision::Skip(Instant::now())),
        (to_open, Pass(1999), Open, Decision::Skip(Instant::now())),
        (to_open, Pass(2000), Open, Decision::Resume),
        (to_half_open, Trip, Open, Decision::Skip(Instant::now())),
        (to_half_open, CaughtUp, Closed, Decision::Serve),
        (to_half_open, Pass(3_600_000), HalfOpen, Decision::Serve),
        (to_half_open, Ask, HalfOpen, Decision::Serve),
        (to_closed, Trip, Open, Decision::Skip(Instant::now())),
        (to_closed, CaughtUp, Closed, Decision::Serve),
        (to_closed, Pass(3_600_000), Closed, Decision::Serve),
        (to_closed, Ask, Closed, Decision::Serve),
    ];
    for (way, step, state, leave) in cases {
        let mut now = Instant::now();
        let mut breaker = RecipientBreaker::new(&delivery(100), now);
        for step in way.iter().chain([step]) {
            apply(&mut breaker, *step, &mut now);
        }
        assert_eq!(breaker.state(), *state, "{way:?} then {step:?}");
        match (breaker.decide(now), leave) {
            (Decision::Skip(_), Decision::Skip(_)) => {}
            (is, be) => assert_eq!(is, *be, "{way:?} then {step:?}"),
        }
    }
}

fn apply(breaker: &mut RecipientBreaker, step: Step, now: &mut Instant) {
    match step {
        Pass(millis) => *now += Duration::from_millis(millis),
        Trip => breaker.on_trip(*now),
        CaughtUp => breaker.on_caught_up(*now),
        Ask => drop(breaker.decide(*now)),
    }
}

#[test]
fn it_is_skipped_for_cool_down_after_each_trip_and_resumed_once() {
    let mut now = Instant::now();
    let mut breaker = RecipientBreaker::new(&delivery(100), now);
    for _ in 0..5 {
        let due = now + COOL_DOWN;
        assert_eq!(breaker.decide(now), Decision::Skip(due));
        now += COOL_DOWN / 2;
        breaker.on_trip(now);
        assert_eq!(
            breaker.decide(now),
            Decision::Skip(due),
            "nothing is added by trouble while it is skipped"
        );
        now = due;
        assert_eq!(breaker.decide(now), Decision::Resume);
        assert_eq!(breaker.decide(now), Decision::Serve);
        now += Duration::from_secs(1);
        breaker.on_trip(now);
    }
}

#[test]
fn the_last_trip_closes_it_at_once() {
    for max_trips in 1..5 {
        let mut now = Instant::now();
        let mut breaker = RecipientBreaker::new(&delivery(max_trips), now);
        for trip in 1..max_trips {
            assert_eq!(breaker.decide(now), Decision::Skip(now + COOL_DOWN), "{trip} of {max_trips}");
            now += COOL_DOWN;
            assert_eq!(breaker.decide(now), Decision::Resume);
            if trip % 2 == 0 {
                breaker.on_caught_up(now);
            }
            breaker.on_trip(now);
        }
        for _ in 0..3 {
            assert_eq!(breaker.decide(now), Decision::Close, "{max_trips}");
            breaker.on_caught_up(now);
            breaker.on_trip(now);
            assert!(!breaker.is_over(now));
            now += COOL_DOWN * 100;
        }
    }
}

#[test]
fn trips_are_forgotten_after_ten_cool_downs_well_in_a_row() {
    let well = COOL_DOWN * 10;
    let hair = Duration::from_millis(1);
    for (pause, is_over) in [(well - hair, false), (well, true), (well * 10, true)] {
        let mut now = Instant::now();
        let mut breaker = RecipientBreaker::new(&delivery(2), now);
        assert!(!breaker.is_over(now + well), "open");
        now += COOL_DOWN * 20;
        assert_eq!(breaker.decide(now), Decision::Resume);
        assert!(!breaker.is_over(now + well), "half-open");
        breaker.on_caught_up(now);
        // To catch up again and again is no news: it is well from the first time on.
        breaker.on_caught_up(now + pause / 2);
        now += pause;
        assert_eq!(breaker.is_over(now), is_over, "{pause:?}");
        breaker.on_trip(now);
        let closes = breaker.decide(now) == Decision::Close;
        assert_eq!(closes, !is_over, "a second trip only if the first is not forgotten: {pause:?}");
    }
}

#[test]
fn it_is_small() {
    // Boxed for each client in trouble, and all of them may be.
    assert!(size_of::<RecipientBreaker>() <= 256, "{}", size_of::<RecipientBreaker>());
}

/// What it should do, said another way: by what has happened, not by stages.
struct Model {
    /// When each trip that counts was.
    trips: Vec<Instant>,
    skipped_until: Option<Instant>,
    caught_up: Option<Instant>,
}

impl Model {
    fn is_over(&self, now: Instant) -> bool {
        self.caught_up.is_some_and(|since| now - since >= COOL_DOWN * 10)
    }

    fn trip(&mut self, now: Instant) {
        if self.skipped_until.is_none() {
            if self.is_over(now) {
                self.trips.clear();
            }
            self.trips.push(now);
            self.skipped_until = Some(now + COOL_DOWN);
            self.caught_up = None;
        }
    }

    fn leave(&mut self, max_trips: u32, now: Instant) -> Decision {
        match self.skipped_until {
            _ if self.trips.len() >= max_trips as usize => Decision::Close,
            Some(until) if now < until => Decision::Skip(until),
            Some(_) => {
                self.skipped_until = None;
                Decision::Resume
            }
            None => Decision::Serve,
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0u64..5000).prop_map(Pass),
        1 => Just(Pass(20_000)),
        2 => Just(Trip),
        3 => Just(CaughtUp),
        4 => Just(Ask),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn it_does_what_its_model_does(steps in steps(), max_trips in 1u32..6) {
        let mut now = Instant::now();
        let mut breaker = RecipientBreaker::new(&delivery(max_trips), now);
        let mut model = Model { trips: Vec::new(), skipped_until: None, caught_up: None };
        model.trip(now);
        for step in steps {
            match step {
                Pass(millis) => now += Duration::from_millis(millis),
                Trip => {
                    breaker.on_trip(now);
                    model.trip(now);
                }
                CaughtUp => {
                    breaker.on_caught_up(now);
                    if model.skipped_until.is_none() {
                        model.caught_up = model.caught_up.or(Some(now));
                    }
                }
                Ask => prop_assert_eq!(breaker.decide(now), model.leave(max_trips, now)),
            }
            let state = match (model.skipped_until, model.caught_up) {
                (Some(_), _) => Open,
                (None, None) => HalfOpen,
                (None, Some(_)) => Closed,
            };
            prop_assert_eq!(breaker.state(), state);
            prop_assert_eq!(breaker.is_over(now), model.is_over(now));
        }
    }
}

#[test]
fn asking_when_a_client_is_tried_again_changes_nothing() {
    let now = Instant::now();
    let mut breaker = RecipientBreaker::new(&delivery(2), now);
    let retry_at = now + COOL_DOWN;
    for _ in 0..3 {
        assert_eq!(breaker.retry_at(), Some(retry_at), "also when that has passed");
        assert_eq!(breaker.state(), Open);
    }
    assert_eq!(breaker.decide(retry_at), Decision::Resume);
    assert_eq!((breaker.retry_at(), breaker.state()), (None, HalfOpen));
    breaker.on_trip(retry_at);
    assert!(breaker.has_tripped_too_often());
    assert_eq!((breaker.retry_at(), breaker.state()), (None, Open), "it is closed and not tried again");
}

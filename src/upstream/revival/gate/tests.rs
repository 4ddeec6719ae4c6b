use std::collections::{BTreeMap, BTreeSet};

use super::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const RULES: Redial =
    Redial { base: ms(100), factor: 2.0, cap: ms(5000), give_up: Some(ms(1)), reset_after: ms(10_000) };

/// Who draws this stands before those of a [`Scene`].
fn first(wait: f64) -> Draw {
    Draw { wait, place: 0 }
}

/// A gate for at most two turns whose waits are the longest there may be, from a moment on.
/// Places are drawn in the order in which waiters come.
struct Scene {
    gate: Gate,
    begin: Instant,
    came: u32,
}

impl Scene {
    fn new() -> Self {
        Self { gate: Gate::new(RULES, 2), begin: Instant::now(), came: 0 }
    }

    fn at(&self, millis: u64) -> Instant {
        self.begin + ms(millis)
    }

    fn join(&mut self, millis: u64) -> WaiterId {
        self.came += 1;
        self.gate.join(0, Draw { wait: 1.0, place: self.came }, self.at(millis))
    }

    /// The date that a waiter is told, in milliseconds from the begin.
    fn date(&mut self, id: WaiterId, millis: u64) -> Option<u128> {
        match self.gate.look(id, self.at(millis)) {
            Look::Wait { until } => until.map(|date| (date - self.begin).as_millis()),
            Look::Go(_) => panic!("it has a turn"),
        }
    }

    fn go(&mut self, id: WaiterId, millis: u64) -> Pass {
        match self.gate.look(id, self.at(millis)) {
            Look::Go(pass) => pass,
            Look::Wait { until } => panic!("it has no turn until {until:?}"),
        }
    }

    /// Who was woken, each once.
    fn take_woken(&mut self) -> BTreeSet<WaiterId> {
        self.gate.take_woken().into_iter().collect()
    }

    fn settle(&mut self, pass: Pass, outcome: Outcome, millis: u64) {
        let now = self.at(millis);
        self.gate.settle(pass, outcome, 1.0, now);
    }

    fn leave(&mut self, id: WaiterId, millis: u64) {
        let now = self.at(millis);
        self.gate.leave(id, 1.0, now);
    }

    /// With `n` who wait and an answer for the first of them at 100 ms: those who were called then.
    fn opened(n: usize) -> (Self, Vec<Pass>, Vec<WaiterId>) {
        let mut scene = Self::new();
        let first = scene.join(0);
        let rest: Vec<_> = (0..n).map(|_| scene.join(0)).collect();
        let pass = scene.go(first, 100);
        scene.gate.take_woken();
        scene.settle(pass, Outcome::Answered, 100);
        let called = rest[..n.min(2)].to_vec();
        assert_eq!(
            scene.take_woken(),
            BTreeSet::from_iter(rest[..n.min(3)].iter().copied()),
            "the first one that waits has a new date"
        );
        let passes = called.into_iter().map(|id| scene.go(id, 100)).collect();
        (scene, passes, rest[n.min(2)..].to_vec())
    }
}

#[test]
fn the_first_who_waits_asks_for_all_after_a_short_wait() {
    for (random, wait) in [(0.0, 10), (0.5, 50), (1.0, 100)] {
        let mut scene = Scene::new();
        let first = scene.gate.join(0, first(random), scene.begin);
        let (second, third) = (scene.join(1), scene.join(2));
        assert_eq!(scene.date(first, 3), Some(wait), "{random}");
        assert_eq!((scene.date(second, 3), scene.date(third, 3)), (None, None));
        assert_eq!(scene.date(second, 500), None, "it is not the first");
        let _asker = scene.go(first, 200);
        assert_eq!(scene.gate.take_woken(), [second], "it has to look when the asker is late");
        assert_eq!((scene.date(second, 200), scene.date(third, 200)), (Some(450), None));
    }
}

#[test]
fn waits_grow_up_to_a_second_while_nobody_is_answered() {
    let mut scene = Scene::new();
    let mut id = scene.join(0);
    let (other, mut now) = (scene.join(0), 0);
    let mut ids = [id, other];
    for wait in [100, 200, 400, 800, 1000, 1000, 1000] {
        let date = scene.date(id, now).unwrap();
        assert_eq!(date, u128::from(now + wait));
        now += wait;
        let pass = scene.go(id, now);
        scene.settle(pass, Outcome::Failed, now);
        // It waits anew, behind the other one, whose turn it is.
        ids = [ids[1], scene.join(now)];
        id = ids[0];
        assert!(scene.gate.take_woken().contains(&id), "its date has changed");
        assert_eq!(scene.date(ids[1], now), None);
    }
}

#[test]
fn one_that_waits_alone_is_held_to_longer_waits_too_until_it_is_forgotten() {
    // how long after the date at which somebody could have asked one comes, and how long it waits then
    for (later, wait) in [(0, 0), (999, 0), (1000, 100), (100_000, 100)] {
        let mut scene = Scene::new();
        let mut now = 0;
        for wait in [100, 200, 400] {
            let id = scene.join(now);
            assert_eq!(scene.date(id, now), Some(u128::from(now + wait)));
            now += wait;
            let pass = scene.go(id, now);
            scene.settle(pass, Outcome::Failed, now);
        }
        // The next date is 800 ms from here.
        now += 800 + later;
        let id = scene.join(now);
        if wait == 0 {
            let _pass = scene.go(id, now);
        } else {
            assert_eq!(scene.date(id, now), Some(u128::from(now + wait)), "{later}");
        }
    }
}

#[test]
fn settings_beyond_a_second_are_cut_to_it() {
    let rules = Redial { base: ms(20_000), cap: ms(30_000), ..RULES };
    for (random, wait) in [(0.0, 100), (1.0, 1000)] {
        let mut gate = Gate::new(rules, 2);
        let now = Instant::now();
        let id = gate.join(0, first(random), now);
        assert_eq!(gate.look(id, now), Look::Wait { until: Some(now + ms(wait)) });
    }
    let rules = Redial { cap: ms(150), ..RULES };
    let mut gate = Gate::new(rules, 0);
    let now = Instant::now();
    let id = gate.join(0, first(1.0), now);
    let Look::Go(pass) = gate.look(id, now + ms(100)) else { panic!("at least one may dial") };
    gate.settle(pass, Outcome::Failed, 1.0, now);
    let id = gate.join(0, first(1.0), now);
    assert_eq!(gate.look(id, now), Look::Wait { until: Some(now + ms(150)) });
}

#[test]
fn an_answer_lets_all_go_in_their_order_as_many_at_a_time_as_may() {
    for outcome in [Outcome::Answered, Outcome::NotAsked] {
        let (mut scene, mut passes, rest) = Scene::opened(5);
        assert_eq!(rest.len(), 3);
        for id in rest {
            assert!(scene.date(id, 100) >= Some(1100), "not before one of them hangs");
            let pass = passes.remove(0);
            scene.settle(pass, outcome, 110);
            assert_eq!(scene.take_woken().first(), Some(&id));
            passes.push(scene.go(id, 110));
        }
        // Who comes after the last one has lost the server anew, and asks first, with the shortest wait.
        let late = scene.join(120);
        assert_eq!(scene.gate.phase, Phase::Shut { next_at: scene.at(220), asker: None });
        assert_eq!(scene.date(late, 120), Some(1110), "as many dial as may");
        for pass in passes {
            scene.settle(pass, Outcome::Answered, 130);
        }
        assert_eq!(scene.take_woken(), BTreeSet::from([late]));
        assert_eq!(
            scene.date(late, 130),
            Some(220),
            "answers to what was asked before its loss are none to it"
        );
    }
}

#[test]
fn a_failure_shuts_the_gate_once() {
    let (mut scene, mut passes, rest) = Scene::opened(4);
    let (one, other) = (passes.remove(0), passes.remove(0));
    scene.settle(one, Outcome::Failed, 150);
    assert_eq!(scene.gate.take_woken(), [rest[0]]);
    // The answer has made the waits short again.
    assert_eq!((scene.date(rest[0], 150), scene.date(rest[1], 150)), (Some(250), None));
    // What was given before neither shuts it for longer nor opens it.
    for outcome in [Outcome::Failed, Outcome::Answered, Outcome::NotAsked] {
        let mut scene = Scene { gate: copy_gate(&scene.gate), ..scene };
        scene.settle(other, outcome, 160);
        assert_eq!(scene.date(rest[0], 160), Some(250), "{outcome:?}");
        assert_eq!(scene.gate.turns.len(), 0);
        let _asker = scene.go(rest[0], 250);
        assert_eq!(scene.date(rest[1], 250), Some(500));
    }
}

/// Of a gate whose server has been answering until now.
fn copy_gate(gate: &Gate) -> Gate {
    let backoff = Backoff::new(Redial { reset_after: Duration::ZERO, give_up: None, ..RULES });
    Gate {
        backoff,
        phase: gate.phase,
        generation: gate.generation,
        next_id: gate.next_id,
        queue: gate.queue.clone(),
        called: gate.called.clone(),
        turns: gate.turns.clone(),
        woken: gate.woken.clone(),
    }
}

#[test]
fn what_an_asker_comes_to_decides_for_the_next_one() {
    // outcome, the date that the next one is told, or `None`: it may go
    for (outcome, date) in [
        (Outcome::Failed, Some(350)),
        // The next one asks in its place, at once.
        (Outcome::NotAsked, None),
        (Outcome::Answered, None),
    ] {
        let mut scene = Scene::new();
        let (first, second, third) = (scene.join(0), scene.join(0), scene.join(0));
        let pass = scene.go(first, 100);
        scene.settle(pass, outcome, 150);
        assert!(scene.gate.take_woken().contains(&second), "{outcome:?}");
        match date {
            Some(date) => assert_eq!(scene.date(second, 150), Some(date)),
            None => drop(scene.go(second, 150)),
        }
        // Only an answer is one for all.
        match scene.gate.look(third, scene.at(150)) {
            Look::Go(_) => assert_eq!(outcome, Outcome::Answered),
            Look::Wait { until } => {
                assert_ne!(outcome, Outcome::Answered);
                let expected = (outcome == Outcome::NotAsked).then(|| scene.at(400));
                assert_eq!(until, expected);
            }
        }
    }
}

#[test]
fn one_that_hangs_keeps_others_from_asking_for_a_moment() {
    let mut scene = Scene::new();
    let (first, second, third) = (scene.join(0), scene.join(0), scene.join(0));
    let hanging = scene.go(first, 100);
    assert_eq!(scene.date(second, 349), Some(350));
    let other = scene.go(second, 350);
    assert_eq!(scene.date(third, 350), Some(1100), "as many ask as may dial, until one of them hangs");
    // The first one comes back without an answer: the date is the other one's matter.
    scene.gate.take_woken();
    scene.settle(hanging, Outcome::Failed, 400);
    assert_eq!(scene.gate.take_woken(), [third], "there is room for it");
    assert_eq!(scene.date(third, 400), Some(850), "two have hung");
    scene.settle(other, Outcome::Failed, 500);
    assert_eq!(scene.date(third, 500), Some(700));
    // An answer counts, however late it is.
    let mut scene = Scene::new();
    let (first, second, third) = (scene.join(0), scene.join(0), scene.join(0));
    let hanging = scene.go(first, 100);
    let _other = scene.go(second, 350);
    scene.settle(hanging, Outcome::Answered, 1200);
    let _pass = scene.go(third, 1200);
}

#[test]
fn one_that_leaves_is_replaced_by_the_next() {
    // Before its date.
    let mut scene = Scene::new();
    let (first, second, third) = (scene.join(0), scene.join(0), scene.join(0));
    scene.leave(second, 1);
    assert_eq!(scene.gate.take_woken(), []);
    scene.leave(first, 2);
    assert_eq!(scene.gate.take_woken(), [third]);
    assert_eq!(scene.date(third, 2), Some(100), "the date stands");
    scene.leave(third, 3);
    assert_eq!(scene.gate.take_woken(), []);
    // One that was called and did not look.
    let mut scene = Scene::new();
    let first = scene.join(0);
    let rest: Vec<_> = (0..3).map(|_| scene.join(0)).collect();
    let pass = scene.go(first, 100);
    scene.settle(pass, Outcome::Answered, 100);
    scene.gate.take_woken();
    scene.leave(rest[0], 101);
    assert_eq!(scene.take_woken(), BTreeSet::from([rest[2]]));
    let _pass = scene.go(rest[2], 101);
    // The last ones who wait.
    let (mut scene, passes, rest) = Scene::opened(4);
    for id in rest {
        assert_eq!(scene.gate.phase, Phase::Open);
        scene.leave(id, 101);
    }
    assert_eq!((scene.gate.phase, passes.len()), (Phase::Idle, 2));
}

/// What a model knows of one who waits.
#[derive(Default)]
struct Known {
    is_woken: bool,
    until: Option<Instant>,
}

#[test]
fn whatever_happens_somebody_is_about_to_ask_while_anybody_waits() {
    for seed in 0..2000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let max_dials = rng.usize(1..4);
        let mut gate = Gate::new(RULES, max_dials);
        let mut now = Instant::now();
        let mut waiting = BTreeMap::<WaiterId, Known>::new();
        let mut passes = Vec::new();
        let (mut last, mut came) = (None, 0);
        for step in 0..80 {
            let at = |what: &str| format!("seed {seed}, step {step}: {what}");
            let mut looks = Vec::new();
            match rng.u8(0..7) {
                0 | 1 => {
                    came += 1;
                    let id = gate.join(0, Draw { wait: rng.f64(), place: came }, now);
                    waiting.insert(id, Known::default());
                    looks.push(id);
                }
                2 if !waiting.is_empty() => {
                    let id = *waiting.keys().nth(rng.usize(0..waiting.len())).unwrap();
                    waiting.remove(&id);
                    gate.leave(id, rng.f64(), now);
                }
                3 | 4 if !passes.is_empty() => {
                    let pass = passes.swap_remove(rng.usize(0..passes.len()));
                    let outcomes = [Outcome::Answered, Outcome::Failed, Outcome::NotAsked];
                    gate.settle(pass, outcomes[rng.usize(0..3)], rng.f64(), now);
                }
                // Not everybody looks as soon as it was woken.
                5 => looks.extend(waiting.iter().filter(|(_, known)| known.is_woken).map(|(id, _)| *id)),
                _ => {
                    now += ms(rng.u64(0..400));
                    let due = waiting.iter().filter(|(_, known)| known.until.is_some_and(|date| date <= now));
                    looks.extend(due.map(|(id, _)| *id));
                }
            }
            for id in looks {
                match gate.look(id, now) {
                    Look::Go(pass) => {
                        waiting.remove(&id);
                        passes.push(pass);
                    }
                    Look::Wait { until } => {
                        waiting.insert(id, Known { is_woken: false, until });
                    }
                }
            }
            for id in gate.take_woken() {
                waiting.entry(id).and_modify(|known| known.is_woken = true);
            }
            let called = gate.called.keys().copied().chain(passes.iter().map(|pass| pass.waiter)).max();
            last = called.max(last);
            assert!(
                gate.queue.first().is_none_or(|first| Some(*first) > last),
                "{}",
                at("nobody is passed over")
            );

            assert!(gate.turns.len() <= 4 * max_dials, "{}", at("too many turns"));
            assert_eq!(gate.turns.len(), passes.len() + gate.called.len(), "{}", at("a turn is lost"));
            assert_eq!(gate.queue.len() + gate.called.len(), waiting.len(), "{}", at("a waiter is lost"));
            for id in gate.called.keys() {
                assert!(waiting[id].is_woken, "{}", at("one that is called was not woken"));
            }
            assert!(gate.phase != Phase::Idle || gate.queue.is_empty(), "{}", at("idle"));
            let Some(first) = gate.queue.first().copied() else { continue };
            if gate.turns.len() < 4 * max_dials {
                let date = gate.date_of(first);
                assert!(date.is_some_and(|date| date <= now + LONGEST_WAIT), "{}", at("nobody will ask"));
                let known = &waiting[&first];
                let is_due = known.until.is_some_and(|until| until <= now);
                assert!(
                    known.is_woken || known.until == date || is_due,
                    "{}",
                    at("the first does not know its date")
                );
            }
        }
        for (id, _) in waiting {
            gate.leave(id, rng.f64(), now);
        }
        for pass in passes {
            gate.settle(pass, Outcome::NotAsked, rng.f64(), now);
        }
        assert_eq!((gate.turns.len(), gate.queue.len(), gate.called.len()), (0, 0, 0), "seed {seed}");
    }
}

#[test]
fn who_has_failed_stands_behind_those_who_have_not_asked() {
    let mut scene = Scene::new();
    let now = scene.begin;
    let failed: Vec<_> = (0..2).map(|n| scene.gate.join(1 + n, first(1.0), now)).collect();
    let fresh = scene.gate.join(0, first(1.0), now);
    let next = scene.at(10_000);
    assert_eq!(scene.gate.look(failed[0], next), Look::Wait { until: None }, "another one is first");
    let Look::Go(pass) = scene.gate.look(fresh, next) else { panic!("it may ask") };
    scene.gate.settle(pass, Outcome::Answered, 1.0, next);
    assert!(failed.iter().all(|id| matches!(scene.gate.look(*id, next), Look::Go(_))), "and opens for all");
}

#[test]
fn turns_that_hang_do_not_keep_others_from_theirs_once_the_gate_is_open() {
    let (mut scene, mut passes, rest) = Scene::opened(4);
    assert_eq!((scene.date(rest[0], 1099), scene.date(rest[1], 1099)), (Some(1100), None));
    passes.push(scene.go(rest[0], 1100));
    passes.push(scene.go(rest[1], 1100));
    let late = scene.join(1200);
    assert_eq!(scene.date(late, 1200), Some(2100));
    assert_eq!(scene.gate.turns.len(), 4);
    scene.settle(passes.pop().unwrap(), Outcome::Answered, 1300);
    let _pass = scene.go(late, 1300);
}

#[test]
fn among_those_who_have_failed_as_often_the_order_is_drawn() {
    let mut scene = Scene::new();
    let now = scene.begin;
    let places = [5, 1, 4, 2, 3];
    let ids = places.map(|place| scene.gate.join(0, Draw { wait: 1.0, place }, now));
    for expected in [1, 3, 4, 2, 0] {
        scene.gate.take_woken();
        let pass = scene.go(ids[expected], 100);
        scene.settle(pass, Outcome::NotAsked, 100);
    }
}

use std::time::Duration;

use super::lives::SHORT_LIFE;
use super::*;
use crate::frame::ProtocolError;
use crate::telemetry::{Label, SessionEnd};

const REDIAL: Redial = Redial {
    base: Duration::from_millis(100),
    factor: 2.0,
    cap: Duration::from_secs(5),
    give_up: Some(Duration::from_secs(60)),
    reset_after: Duration::from_secs(10),
};
const WINDOW: Duration = Duration::from_secs(30);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The server's states, in the order of the tables' columns.
const SERVERS: [&str; 6] = ["live", "greeting", "waiting", "dialling", "asleep", "over"];

/// A session with a ticket that has come to this state of its server. Its client is attached, but where it sleeps.
fn at(state: &str, now: Instant) -> Machine {
    let mut machine = Machine::new(REDIAL, Some(WINDOW), now - SHORT_LIFE);
    let lose = |machine: &mut Machine| machine.on_server_end(ServerEnd::Lost, 0.5, now);
    match state {
        "live" => {}
        "greeting" => {
            lose(&mut machine);
            machine.on_turn();
            assert!(machine.on_linked(now));
        }
        "waiting" => lose(&mut machine),
        "dialling" => {
            lose(&mut machine);
            machine.on_turn();
        }
        "asleep" => {
            machine.on_client_end(Cause::ClientLost, now);
            lose(&mut machine);
        }
        "over" => machine.on_server_end(final_close(), 0.5, now),
        other => panic!("{other}"),
    }
    assert_eq!(name(&machine, now).split(' ').next(), Some(state));
    machine
}

fn final_close() -> ServerEnd {
    ServerEnd::Final(CloseCode(4001), "bye".into())
}

/// Both states in a word each, and why the session is over.
fn name(machine: &Machine, now: Instant) -> String {
    let server = match machine.server() {
        Server::Live => "live".to_owned(),
        Server::Greeting { .. } => "greeting".to_owned(),
        Server::Waiting { not_before } if not_before <= now => "waiting".to_owned(),
        Server::Waiting { .. } => "later".to_owned(),
        Server::Dialling => "dialling".to_owned(),
        Server::Asleep => "asleep".to_owned(),
        Server::Over => "over".to_owned(),
    };
    let client = match machine.client() {
        Client::Attached => "attached",
        Client::Away { .. } if machine.is_expected() => "expected",
        Client::Away { .. } => "away",
        Client::Leaving { may_resume: true } => "leaving, may resume",
        Client::Leaving { may_resume: false } => "leaving",
        Client::Gone => "gone",
    };
    let cause =
        machine.cause().map(|cause| format!(" ({})", cause.session_end().as_str())).unwrap_or_default();
    format!("{server} {client}{cause}")
}

/// One event, by the name that it has in a table.
fn apply(machine: &mut Machine, event: &str, now: Instant) {
    match event {
        "final Close" => machine.on_server_end(final_close(), 0.5, now),
        "1011" => machine.on_server_end(ServerEnd::Failed("oops".into()), 0.5, now),
        "lost" => machine.on_server_end(ServerEnd::Lost, 0.5, now),
        "fault" => {
            machine.on_server_end(ServerEnd::Fault(ProtocolError::MessageTooLarge { limit: 1 }), 0.5, now);
        }
        "turn" => machine.on_turn(),
        "101" => drop(machine.on_linked(now)),
        "401" => machine.on_dial_failed(DialEnd::Unauthorized, 0.5, now),
        "other protocol" => machine.on_dial_failed(DialEnd::OtherProtocol, 0.5, now),
        "server down" => machine.on_dial_failed(DialEnd::ServerDown, 0.5, now),
        "declined" => machine.on_dial_failed(DialEnd::Declined, 0.5, now),
        "greeted" => machine.on_greeted(now),
        "attach" => machine.attach(now),
        "drain" => machine.on_drain(),
        "client lost" => machine.on_client_end(Cause::ClientLost, now),
        "answered" => machine.on_answered(now),
        "client Close" => machine.on_client_end(Cause::Client(CloseCode(1000), "".into()), now),
        "client Close 1001" => machine.on_client_end(Cause::Client(CloseCode::GOING_AWAY, "".into()), now),
        "slow" => machine.leave(Cause::Slow),
        "idle" => machine.leave(Cause::Idle),
        "drain date" => machine.leave(Cause::Drain(CloseCode(1012))),
        "poison" => machine.on_over(Cause::Poison),
        "window" => machine.on_time(0.5, now + WINDOW),
        other => panic!("{other}"),
    }
}

#[test]
fn every_event_in_every_state_of_the_server() {
    let now = Instant::now();
    // `=`: nothing changes.
    #[rustfmt::skip]
    let table: [(&str, [&str; 6]); 20] = [
        // event               live                          greeting                      waiting                 dialling                 asleep                     over
        ("final Close",       ["over attached (server)",     "over attached (server)",     "=",                    "=",                     "=",                       "="]),
        ("1011",              ["waiting attached",           "waiting attached",           "=",                    "=",                     "=",                       "="]),
        ("lost",              ["waiting attached",           "waiting attached",           "=",                    "=",                     "=",                       "="]),
        ("fault",             ["over attached (fault)",      "over attached (fault)",      "=",                    "=",                     "=",                       "="]),
        ("turn",              ["=",                          "=",                          "dialling attached",    "=",                     "=",                       "="]),
        ("101",               ["=",                          "=",                          "=",                    "greeting attached",     "=",                       "="]),
        ("401",               ["=",                          "=",                          "=",                    "over attached (unauthorized)", "=",                "="]),
        ("other protocol",    ["=",                          "=",                          "=",                    "over attached (upstream_lost)", "=",               "="]),
        ("server down",       ["=",                          "=",                          "=",                    "waiting attached",      "=",                       "="]),
        ("declined",          ["=",                          "=",                          "=",                    "later attached",        "=",                       "="]),
        ("greeted",           ["=",                          "live attached",              "=",                    "=",                     "=",                       "="]),
        ("attach",            ["=",                          "=",                          "=",                    "=",                     "waiting attached",        "="]),
        ("drain",             ["=",                          "=",                          "over attached",        "over attached",         "over away",               "="]),
        ("client lost",       ["live away",                  "greeting away",              "asleep away",          "asleep away",           "=",                       "over away (server)"]),
        ("answered",          ["live expected",              "greeting expected",          "waiting expected",     "dialling expected",     "=",                       "over expected (server)"]),
        ("client Close",      ["live gone (client)",         "greeting gone (client)",     "over gone (client)",   "over gone (client)",    "=",                       "over gone (server)"]),
        ("client Close 1001", ["live away",                  "greeting away",              "asleep away",          "asleep away",           "=",                       "over away (server)"]),
        ("slow",              ["live leaving, may resume",   "greeting leaving, may resume", "waiting leaving, may resume", "dialling leaving, may resume", "=",          "over leaving, may resume (server)"]),
        ("idle",              ["live leaving (idle)",        "greeting leaving (idle)",    "waiting leaving (idle)", "dialling leaving (idle)", "=",                   "over leaving (server)"]),
        ("poison",            ["over attached (poison)",     "over attached (poison)",     "over attached (poison)", "over attached (poison)", "over away (poison)",    "over attached (server)"]),
    ];
    for (event, columns) in table {
        for (state, expected) in SERVERS.into_iter().zip(columns) {
            let mut machine = at(state, now);
            let before = name(&machine, now);
            apply(&mut machine, event, now);
            let expected = if expected == "=" { &before } else { expected };
            assert_eq!(name(&machine, now), expected, "{event}, {state}");
        }
    }
}

#[test]
fn a_client_without_a_ticket_is_held_for_nothing() {
    let now = Instant::now();
    for (event, expected) in [
        ("client lost", "live gone (client)"),
        ("client Close 1001", "live gone (client)"),
        ("slow", "live leaving (slow)"),
        ("drain date", "live leaving (drain)"),
    ] {
        let mut machine = Machine::new(REDIAL, None, now);
        apply(&mut machine, event, now);
        assert_eq!(name(&machine, now), expected, "{event}");
    }
}

#[test]
fn a_link_that_comes_when_nobody_wants_it_is_hung_up() {
    let now = Instant::now();
    let mut machine = at("dialling", now);
    // Its client is leaving: whether it comes back is not known.
    machine.leave(Cause::Slow);
    assert!(!machine.on_linked(now));
    assert_eq!(name(&machine, now), "asleep leaving, may resume");
    machine.on_client_end(Cause::ClientLost, now);
    assert_eq!(name(&machine, now), "asleep away");
    machine.attach(now);
    assert_eq!(name(&machine, now), "waiting attached");
}

#[test]
fn a_server_that_fails_on_what_the_client_says_is_believed_the_third_time() {
    let now = Instant::now();
    let relink = |machine: &mut Machine, now| {
        machine.on_turn();
        assert!(machine.on_linked(now));
        machine.on_greeted(now);
    };
    let mut machine = Machine::new(REDIAL, None, now);
    for expected in ["waiting attached", "later attached"] {
        apply(&mut machine, "1011", now);
        assert_eq!(name(&machine, now), expected);
        relink(&mut machine, now);
    }
    apply(&mut machine, "1011", now);
    assert_eq!(machine.cause(), Some(&Cause::Server(CloseCode(1011), "oops".into())));
    // Not if it lived for a second, nor if it was lost in another way in between.
    for (event, later) in [("1011", secs(1)), ("lost", Duration::ZERO)] {
        let mut machine = Machine::new(REDIAL, None, now);
        for (event, lived) in
            [("1011", Duration::ZERO), ("1011", Duration::ZERO), (event, later), ("1011", Duration::ZERO)]
        {
            apply(&mut machine, event, now + lived);
            relink(&mut machine, now);
        }
        assert_eq!(name(&machine, now), "live attached", "{event}");
    }
}

#[test]
fn a_server_that_does_not_come_back_is_given_up_wherever_the_session_stands() {
    let now = Instant::now();
    for state in ["greeting", "waiting", "dialling"] {
        let mut machine = at(state, now);
        machine.on_time(0.5, now + secs(60) - Duration::from_nanos(1));
        if state == "greeting" {
            // There was no reply within five seconds.
            assert!(matches!(machine.server(), Server::Waiting { .. }));
        }
        machine.on_time(0.5, now + secs(60));
        assert_eq!(machine.cause(), Some(&Cause::UpstreamLost), "{state}");
        assert_eq!(machine.server(), Server::Over);
    }
    for state in ["live", "asleep", "over"] {
        let mut machine = at(state, now);
        let before = name(&machine, now);
        machine.on_time(0.5, now + secs(29));
        assert_eq!(name(&machine, now), before, "the window decides");
    }
}

#[test]
fn a_session_whose_links_end_at_once_asks_less_and_less() {
    let start = Instant::now();
    for (life, dials) in [
        (Duration::ZERO, 6..=12),
        (Duration::from_millis(99), 5..=12),
        (Duration::from_millis(100), 90..=100),
    ] {
        let (mut machine, mut now, mut count) = (Machine::new(REDIAL, None, start), start, 0);
        while now < start + secs(10) {
            machine.on_server_end(ServerEnd::Lost, 0.5, now);
            let Server::Waiting { not_before } = machine.server() else { panic!("{machine:?}") };
            now = now.max(not_before);
            machine.on_turn();
            assert!(machine.on_linked(now));
            machine.on_greeted(now);
            now += life;
            count += 1;
        }
        assert!(dials.contains(&count), "{life:?}: {count}");
    }
}

#[test]
fn a_short_life_does_not_set_the_time_to_give_up_back_and_a_long_one_does() {
    let start = Instant::now();
    for (life, is_given_up) in [(secs(1), true), (secs(9), true), (secs(10), false)] {
        let (mut machine, mut now) = (Machine::new(REDIAL, None, start), start);
        let mut lives = 0;
        while machine.cause().is_none() && lives < 100 {
            apply(&mut machine, "lost", now);
            apply(&mut machine, "turn", now);
            apply(&mut machine, "101", now);
            apply(&mut machine, "greeted", now);
            now += life;
            lives += 1;
        }
        assert_eq!(machine.cause().is_some(), is_given_up, "{life:?}");
        if is_given_up {
            let lasted = now - start;
            assert!(lasted >= secs(60) && lasted <= secs(60) + 2 * life, "{life:?}: {lasted:?}");
        }
    }
}

#[test]
fn whoever_does_not_come_back_in_time_has_no_session_any_more() {
    let now = Instant::now();
    for (state, expected) in [
        ("live", "live gone (window)"),
        ("greeting", "over gone (window)"),
        ("waiting", "over gone (window)"),
    ] {
        let mut machine = at(state, now);
        apply(&mut machine, "client lost", now);
        assert_eq!(machine.deadline().map(|at| at <= now + WINDOW), Some(true));
        machine.on_client_end(Cause::ClientLost, now);
        machine.on_time(0.5, now + WINDOW - Duration::from_nanos(1));
        assert!(matches!(machine.client(), Client::Away { .. }), "{state}");
        apply(&mut machine, "window", now);
        assert_eq!(name(&machine, now).replace("later", "over"), expected, "{state}");
    }
}

#[test]
fn the_server_of_a_client_that_asks_again_is_dialled_meanwhile() {
    let now = Instant::now();
    let mut machine = at("live", now);
    for (event, expected) in [
        ("answered", "live expected"),
        ("lost", "waiting expected"),
        ("attach", "waiting attached"),
        ("turn", "dialling attached"),
        ("answered", "dialling expected"),
        ("101", "greeting expected"),
        ("greeted", "live expected"),
        ("lost", "waiting expected"),
        ("window", "over gone (window)"),
    ] {
        apply(&mut machine, event, now);
        assert_eq!(name(&machine, now), expected, "{event}");
    }
}

#[test]
fn a_server_that_nobody_has_asked_for_meanwhile_is_given_the_whole_time() {
    let now = Instant::now();
    let mut machine = Machine::new(REDIAL, Some(secs(300)), now);
    machine.on_client_end(Cause::ClientLost, now);
    apply(&mut machine, "lost", now);
    let back = now + secs(120);
    machine.on_time(0.5, back);
    machine.attach(back);
    machine.on_time(0.5, back + secs(60) - Duration::from_nanos(1));
    assert_eq!(machine.cause(), None);
    machine.on_time(0.5, back + secs(60));
    assert_eq!(machine.cause(), Some(&Cause::UpstreamLost));
}

#[test]
fn the_first_cause_stands() {
    let now = Instant::now();
    let mut machine = at("over", now);
    machine.leave(Cause::Drain(CloseCode(1012)));
    machine.on_client_end(Cause::ClientLost, now);
    machine.end(Cause::Cut);
    assert_eq!(machine.cause().map(Cause::session_end), Some(SessionEnd::Server));
}

/// Whatever happens in whatever order: no dial while nobody is attached or expected, or while draining, and each state that is not the last
/// has a link that is alive, or a deadline.
#[test]
fn no_order_of_events_breaks_an_invariant() {
    const EVENTS: [&str; 22] = [
        "final Close",
        "1011",
        "lost",
        "fault",
        "turn",
        "101",
        "401",
        "other protocol",
        "server down",
        "declined",
        "greeted",
        "attach",
        "drain",
        "client lost",
        "answered",
        "client Close",
        "client Close 1001",
        "slow",
        "idle",
        "drain date",
        "poison",
        "window",
    ];
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let mut now = Instant::now();
        let window = random.bool().then_some(WINDOW);
        let mut machine = Machine::new(REDIAL, window, now);
        let mut story = Vec::new();
        for _ in 0..random.usize(1..30) {
            let event = EVENTS[random.usize(..EVENTS.len())];
            // Nobody attaches to a session that is over, or without a ticket.
            if event == "attach" && (machine.client() == Client::Gone || window.is_none()) {
                continue;
            }
            story.push(event);
            apply(&mut machine, event, now);
            now += Duration::from_millis(random.u64(0..3000));
            machine.on_time(random.f64(), now);
            let told = || format!("{story:?}: {machine:?}");
            let dials = matches!(machine.server(), Server::Waiting { .. } | Server::Dialling);
            let is_there = matches!(machine.client(), Client::Attached | Client::Leaving { .. });
            assert!(!dials || is_there || machine.is_expected(), "{}", told());
            assert!(!dials || !machine.is_draining(), "{}", told());
            let has_link = is_there || matches!(machine.server(), Server::Live | Server::Greeting { .. });
            assert!(
                has_link
                    || machine.client() == Client::Gone
                    || machine.deadline().or(machine.turn_at()).is_some(),
                "{}",
                told()
            );
            assert!(machine.client() != Client::Gone || machine.cause().is_some(), "{}", told());
            assert!(window.is_some() || !matches!(machine.client(), Client::Away { .. }), "{}", told());
        }
    }
}

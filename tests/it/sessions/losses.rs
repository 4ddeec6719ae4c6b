//! A server that is lost and comes back, or does not: what the client notices of it, and what operators do.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::logged::Logged;
use crate::support::session::{Death, LOST, RESTORED, Session, hears, said};
use crate::support::upstream::{Act, Answer, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::{self, Frame};
use crate::support::{A_MOMENT, DEADLINE};

const DEATHS: [Death; 8] = [
    Death::Reset,
    Death::Fin,
    Death::MidFrame,
    Death::MidMessage,
    Death::Close(1001),
    Death::Close(1011),
    Death::Close(1012),
    Death::Close(1013),
];

#[tokio::test]
async fn however_the_server_goes_its_client_stays_and_what_it_says_meanwhile_arrives_once_in_order() {
    for death in DEATHS {
        let mut session = Session::open("").await;
        session.works().await;
        session.proves().await;
        session.lose(death).await;
        session.says_meanwhile(&["one", "two", "three"]).await;
        session.client.expect_silence(Duration::from_millis(30)).await;
        session.back().await;
        hears(session.server(), &["one", "two", "three"]).await;
        session.works().await;

        let metrics = session.proxy.metrics().await;
        let count = |name: &str| metrics.sum(&format!("outrigger_{name}"));
        assert_eq!(count("disconnections_total"), 0.0, "{death:?}: the client was let go");
        assert_eq!(count("session_ends_total"), 0.0, "{death:?}");
        assert_eq!(count("messages_lost_total"), 0.0, "{death:?}");
        assert_eq!(count("messages_replayed_total"), 0.0, "{death:?}: no server had heard of them");
        assert_eq!(session.proxy.redials("ok").await, 1.0, "{death:?}");
        assert_eq!(session.proxy.metric("outrigger_recovery_seconds_count{side=\"upstream\"}").await, 1.0);
        assert_eq!(session.proxy.metric("outrigger_connections_total{route=\"chat\"}").await, 1.0);
    }
}

#[tokio::test]
async fn a_server_that_is_there_again_at_once_is_connected_at_once() {
    let mut session = Session::open("").await;
    for round in 0..20 {
        session.die(DEATHS[round % DEATHS.len()]).await;
        let since = Instant::now();
        session.next_link().await;
        assert!(since.elapsed() < Duration::from_secs(2), "after {:?}", since.elapsed());
        session.works().await;
        // A failure right after the greeting is no reason to end it while others lie between.
        session.proves().await;
    }
    assert_eq!(session.upstream.accepted(), 21);
    assert_eq!(session.proxy.redials("ok").await, 20.0);
}

#[tokio::test]
async fn what_a_server_said_before_it_died_reaches_the_client_whole_and_halves_do_not() {
    for death in DEATHS {
        let mut session = Session::open("").await;
        let long = "x".repeat(100_000);
        let server = session.server();
        server.text("first").await;
        server.text(&long).await;
        server.binary(b"\x00last").await;
        session.die(death).await;
        session.next_link().await;
        session.server().text("of the next").await;
        session.client.expect_text("first").await;
        session.client.expect_text(&long).await;
        session.client.expect_binary(b"\x00last").await;
        session.client.expect_text("of the next").await;
    }
}

#[tokio::test]
async fn a_server_that_answers_no_pings_is_lost_where_it_has_a_heartbeat() {
    let heartbeat = "upstream: {heartbeat: {interval: 100ms, timeout: 100ms, max_missed: 2}}";
    let mut session = Session::shaped("notices: true", |dial| dial, |proxy| proxy.yaml(heartbeat)).await;
    // It answers for a while, and then the machine under it is gone.
    assert!(session.server().answer_pings_for(Duration::from_millis(500)).await >= 2);
    assert_eq!(session.upstream.accepted(), 1);
    session.client.expect_text(LOST).await;
    let mut next = session.upstream.accept().await;
    session.client.expect_text(RESTORED).await;
    // The one that is there now is heard, whatever the old one still says.
    let _ = session.server().try_send_frame(&Frame::text("too late")).await;
    next.text("news").await;
    session.client.expect_text("news").await;
    assert_eq!(session.proxy.chat("connections_total").await, 1.0);
}

#[tokio::test]
async fn notices_tell_clients_where_they_are_asked_for_and_nowhere_else() {
    for (policy, is_told) in [("notices: true", true), ("notices: false", false), ("", false)] {
        let mut session = Session::open(policy).await;
        session.lose(Death::Reset).await;
        if is_told {
            session.client.expect_text(LOST).await;
        }
        session.client.expect_silence(Duration::from_millis(30)).await;
        session.back().await;
        if is_told {
            session.client.expect_text(RESTORED).await;
        }
        session.works().await;
    }
}

#[tokio::test]
async fn a_server_that_is_given_up_closes_the_client() {
    let policy = "redial: {base: 10ms, cap: 50ms, give_up: 400ms}, close_codes: {upstream_lost: 4012}";
    let mut session = Session::open(policy).await;
    session.server().text("last words").await;
    let since = Instant::now();
    session.lose(Death::Reset).await;
    session.says_meanwhile(&["for nobody"]).await;
    session.client.expect_text("last words").await;
    let closed = session.client.closed().await;
    assert_eq!(said(&closed), (4012, "upstream lost", crate::support::link::End::Eof));
    assert!(since.elapsed() >= Duration::from_millis(400), "after {:?}", since.elapsed());
    session.is_over("upstream_lost", "upstream_lost").await;
    let failed = session.proxy.redials("failed").await;
    // At least half as many as its longest pauses allow.
    assert!((4.0..=45.0).contains(&failed), "{failed} dials in 400 ms");
    let dials = session.proxy.metrics().await.sum("outrigger_redials_total");
    eventually(DEADLINE, || async { session.proxy.metrics().await.sum("outrigger_redials_total") == dials })
        .await;
}

#[tokio::test]
async fn a_server_that_dies_at_once_each_time_is_given_up_too() {
    for act in [Act::Hangup, Act::Reset, Act::DieMidFrame, Act::Close(1012, "")] {
        let policy = "redial: {base: 10ms, cap: 50ms, give_up: 500ms, reset_after: 10s}";
        let mut session = Session::open(policy).await;
        session.upstream.change(Upstream::builder().on_open([act.clone()]));
        session.die(Death::Reset).await;
        let closed = session.client.closed().await;
        assert_eq!((closed.code, &*closed.reason), (1012, "upstream lost"), "{act:?}");
        session.is_over("upstream_lost", "upstream_lost").await;
        assert!(session.upstream.accepted() > 3, "{act:?}: {}", session.upstream.accepted());
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_asked_again() {
    let yaml = "upstream: {handshake_timeout: 200ms}";
    let mut session = Session::shaped("", |dial| dial, |proxy| proxy.yaml(yaml)).await;
    for answer in [Answer::Silent, Answer::NeverRead, Answer::Hangup, Answer::ResetAfterRequest] {
        let before = session.proxy.redials("failed").await;
        session.upstream.change(Upstream::builder().answering(answer.clone()));
        session.die(Death::Reset).await;
        session.says_meanwhile(&["are you there?"]).await;
        eventually(DEADLINE, || async { session.proxy.redials("failed").await >= before + 2.0 }).await;
        session.upstream.change(Upstream::builder().by_hand());
        session.next_link().await;
        hears(session.server(), &["are you there?"]).await;
        session.works().await;
    }
}

#[tokio::test]
async fn a_server_that_fails_right_after_each_handshake_is_heard_the_third_time() {
    let mut session = Session::open("").await;
    session.works().await;
    for _ in 0..2 {
        session.server().close(1011, "bad join").await;
        session.server().closed().await;
        session.next_link().await;
    }
    session.server().close(1011, "bad join").await;
    let (client, server) = session.closed().await;
    assert_eq!((client.code, &*client.reason), (1011, "bad join"));
    assert_eq!(server.code, 1011);
    session.is_over("server", "upstream_close").await;
    assert_eq!(session.upstream.accepted(), 3);
}

#[tokio::test]
async fn failures_with_a_life_between_them_are_no_reason_to_end() {
    let mut session = Session::open("").await;
    // What decides is the time since the greeting.
    for life in [0, 0, 1100, 0, 0] {
        session.server().answer_pings_for(Duration::from_millis(life)).await;
        session.die(Death::Close(1011)).await;
        session.next_link().await;
    }
    // Another end between them counts as well.
    for code in [1012, 1011, 1011, 1001] {
        session.die(Death::Close(code)).await;
        session.next_link().await;
    }
    session.works().await;
    assert_eq!(session.proxy.chat("connections_total").await, 1.0);
}

#[tokio::test]
async fn operators_are_told_in_the_log_and_secrets_are_not_in_it() {
    let (logged, _logging) = Logged::of_this_thread();
    let dial = |dial: crate::support::client::Dial| {
        dial.path("/?token=hunter2").header("Cookie", "sid=hunter2").header("Authorization", "Bearer hunter2")
    };
    let mut session = Session::shaped("", dial, |proxy| proxy).await;
    session.works().await;
    session.lose(Death::Reset).await;
    eventually(DEADLINE, || async { session.proxy.redials("failed").await >= 1.0 }).await;
    session.says_meanwhile(&["hunter2"]).await;
    session.back().await;
    hears(session.server(), &["hunter2"]).await;
    let lost = logged.line("a session has lost its server, and keeps its client");
    assert_eq!((&lost["route"], &lost["level"]), (&"chat".into(), &"WARN".into()), "{lost}");
    assert!(lost["connection"].is_u64() && lost["why"].is_string(), "{lost}");
    let failed = logged.line("a session's server is not back yet");
    assert!(failed["error"].as_str().unwrap().contains("refused"), "{failed}");
    let back = logged.line("a session goes on with its server");
    assert_eq!((&back["route"], &back["level"]), (&"chat".into(), &"INFO".into()), "{back}");
    assert!(back["away_ms"].is_u64(), "{back}");
    assert!(!logged.text().contains("hunter2"), "{}", logged.text());
}

#[tokio::test]
async fn a_thousand_losses_at_once_are_a_few_lines() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::by_hand().await;
    let proxy = crate::support::session::session(&upstream, "").spawn().await;
    let mut ends = Vec::new();
    for _ in 0..100 {
        ends.push((proxy.connect("/").await, upstream.accept().await));
    }
    let begun = Instant::now();
    for round in 0..10 {
        let mut next = Vec::new();
        for (client, server) in ends {
            server.reset();
            next.push(client);
        }
        let mut servers = Vec::new();
        for _ in 0..100 {
            servers.push(upstream.accept().await);
        }
        proxy.connected(100.0).await;
        assert_eq!(proxy.redials("ok").await, 100.0 * f64::from(round + 1));
        ends = next.into_iter().zip(servers).collect();
    }
    let lines = logged.text().matches("\"message\":\"a session").count();
    // Lost, not back yet, goes on: one a second of each.
    let most = 3 * (begun.elapsed().as_secs() as usize + 1);
    assert!((2..=most).contains(&lines), "{lines} about 1,000 losses:\n{}", logged.text());
    // Those that were not written are told of, at the latest a while after the last one.
    eventually(DEADLINE, || async { logged.text().contains("\"left_out\":") }).await;
    assert_eq!(proxy.metrics().await.sum("outrigger_disconnections_total"), 0.0);
}

#[tokio::test]
async fn with_the_redials_of_the_defaults_nobody_waits_longer_than_the_second_between_two_of_them() {
    // As an operator has it who sets nothing.
    let mut upstream = Upstream::by_hand().await;
    let proxy = crate::support::proxy::Proxy::to(&upstream);
    let proxy = proxy.yaml(crate::support::session::CHAT).spawn().await;
    let mut client = proxy.connect("/").await;
    let mut server = upstream.accept().await;
    let mut worst = Duration::ZERO;
    for _ in 0..5 {
        upstream.stop().await;
        server.reset();
        proxy.connected(0.0).await;
        client.text("meanwhile").await;
        upstream.start().await;
        let since = Instant::now();
        server = upstream.accept().await;
        server.expect_text("meanwhile").await;
        worst = worst.max(since.elapsed());
    }
    // And another one for a machine that is busy.
    assert!(worst < Duration::from_secs(2), "{worst:?}");
}

#[tokio::test]
async fn one_session_asks_for_all_and_then_no_more_at_a_time_than_may() {
    let upstream = Upstream::by_hand().await;
    let proxy = crate::support::session::session(&upstream, "");
    let proxy = proxy.yaml("upstream: {max_dials: 3}").spawn().await;
    let mut ends = Vec::new();
    for _ in 0..10 {
        ends.push((proxy.connect("/").await, upstream.accept().await));
    }
    proxy.connected(10.0).await;
    // It is there again, and takes its time to answer.
    upstream.change(Upstream::builder().answering(Answer::HandOver));
    let mut clients = Vec::new();
    for (client, server) in ends {
        server.reset();
        clients.push(client);
    }
    let mut servers = vec![upstream.accept().await];
    tokio::time::sleep(A_MOMENT).await;
    assert_eq!(upstream.accepted(), 10 + 1, "one asks for all");
    servers[0].accept_websocket().await;
    for round in 1..=3 {
        let due = 10 + 1 + 3 * round;
        eventually(DEADLINE, || async { upstream.accepted() >= due }).await;
        tokio::time::sleep(A_MOMENT).await;
        assert_eq!(upstream.accepted(), due, "three may be under way");
        for _ in 0..3 {
            let mut server = upstream.accept().await;
            server.accept_websocket().await;
            servers.push(server);
        }
    }
    proxy.connected(10.0).await;
    for server in &mut servers {
        server.text("back").await;
    }
    for client in &mut clients {
        client.expect_text("back").await;
    }
    assert_eq!((proxy.redials("ok").await, proxy.redials("failed").await), (10.0, 0.0));
}

#[tokio::test]
async fn a_link_that_was_given_up_is_told_so_and_let_go() {
    let mut session = Session::open("").await;
    session.server().close(1012, "restart").await;
    let echo = session.server().closed().await;
    assert_eq!((echo.code, echo.then), (1012, crate::support::link::End::Eof));
    // One that breaks off within its Close is as lost as any.
    session.next_link().await;
    session.works().await;
    let half = Frame::close(1012, "restart").encode(wire::Role::Server);
    session.server().send_bytes(&half[..3]).await;
    session.die(Death::Fin).await;
    session.next_link().await;
    session.works().await;
}

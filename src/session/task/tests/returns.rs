//! Each end that was lost comes back, or does not, and is counted once.

use super::tickets::{held, is_away};
use super::*;
use crate::session::request::{EndRequest, NotResumed};
use crate::telemetry::ResumeOutcome;

const QUIET: &str = "{heartbeat: null, history: {messages: 2}, session: {resume_window: 1m}, redial: {base: 20ms, cap: 200ms}}";

/// A socket that arrives when the session is over, though its handshake was answered.
#[tokio::test(start_paused = true)]
async fn whoever_arrives_when_its_session_has_ended_gets_a_close_that_says_so() {
    use EndRequest::{Drained, Evicted, Replaced};
    for (why, expected) in [
        (Evicted, close(1012, "upstream lost")),
        (Drained, close(1001, "server is restarting")),
        (Replaced, close(1008, "replaced by a newer connection")),
    ] {
        let (mut stage, mut client, mut server, hello) = held(QUIET).await;
        client.cut();
        stage.settle().await;
        let (_, handle) = stage.find(&hello.ticket).unwrap();
        handle.end(why);
        let mut client = stage.come_back(&hello.ticket, 0, ROOM).unwrap();
        stage.settle().await;
        assert_eq!(client.hear(), [expected], "{why:?}");
        server.cut();
        client.cut();
        stage.settle().await;
        stage.is_over();
    }
    // What it cannot be given any more ends the session too.
    let (mut stage, mut client, mut server, hello) = held(QUIET).await;
    for n in 0..5 {
        server.text(&format!("{n}"));
    }
    stage.settle().await;
    client.hear();
    let mut late = stage.come_back(&hello.ticket, 1, ROOM).unwrap();
    stage.settle().await;
    assert_eq!(late.hear(), [close(1013, "too much was missed")]);
    assert_eq!(client.hear(), [close(1013, "too much was missed")]);
}

#[tokio::test(start_paused = true)]
async fn an_absence_that_somebody_asked_to_end_has_not_expired() {
    // How many messages it says to have had, and whether it waits for the answer.
    for (seen, waits) in [(0, true), (9, true), (0, false), (9, false)] {
        let (mut stage, mut client, mut server, hello) = held(QUIET).await;
        for n in 0..5 {
            server.text(&format!("{n}"));
        }
        stage.settle().await;
        client.hear();
        client.cut();
        stage.settle().await;
        assert!(is_away(&stage));
        let (generation, handle) = stage.find(&hello.ticket).unwrap();
        let mut asking = Box::pin(async move { handle.ask(generation, seen).await });
        let question = asking.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(question, Poll::Pending);
        if waits {
            let asked = tokio::spawn(asking);
            stage.settle().await;
            assert!(matches!(asked.await.unwrap(), Err(NotResumed::Gap(..) | NotResumed::Ahead(_))));
        } else {
            drop(asking);
            stage.settle().await;
        }
        server.cut();
        stage.settle().await;
        stage.is_over();
        let expired = stage.plan.metrics.resumes.get(ResumeOutcome::Expired);
        assert_eq!(expired, u64::from(!waits), "{seen} {waits}: the one that asks counts what it is told");
    }
}

#[tokio::test(start_paused = true)]
async fn a_redial_has_one_outcome_which_waits_for_the_greeting() {
    let policy = "{heartbeat: null, redial: {base: 20ms, cap: 200ms, give_up: 20s}, session: \
                  {greeting: [{match: {regex: '^auth '}, reply: {regex: '^welcome'}}]}}";
    let (mut stage, mut client, mut server) = Stage::plain(policy).await;
    let counted = |stage: &Stage| {
        let redials = &stage.plan.metrics.redials;
        [RedialOutcome::Ok, RedialOutcome::Failed, RedialOutcome::Refused].map(|outcome| redials.get(outcome))
    };
    client.text("auth me");
    stage.settle().await;
    server.cut();
    // It does not reply.
    let mut server = stage.new_server().await;
    assert_eq!(counted(&stage), [0, 0, 0]);
    stage.pass(millis(5_100)).await;
    assert_eq!(counted(&stage), [0, 1, 0]);
    server.cut();
    // It is lost before it does.
    let mut server = stage.new_server().await;
    server.cut();
    stage.settle().await;
    assert_eq!(counted(&stage), [0, 2, 0]);
    // It refuses, and at last it replies.
    stage.dial().await.decline(503);
    let mut server = stage.new_server().await;
    server.text("welcome");
    stage.settle().await;
    assert_eq!(counted(&stage), [1, 2, 1]);
    // A server that is lost later was a good one.
    server.cut();
    stage.settle().await;
    assert_eq!(counted(&stage), [1, 2, 1]);
    // A client that goes meanwhile is no fault of the server.
    let mut server = stage.new_server().await;
    client.cut();
    stage.settle().await;
    assert_eq!(counted(&stage), [2, 2, 1]);
    server.cut();
    stage.settle().await;
    stage.is_over();
}

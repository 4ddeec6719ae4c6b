//! Ends that meet something else: a client that comes back at that moment, takes nothing, or has not been read.

use std::time::SystemTime;

use super::tickets::{held, is_away, resume};
use super::*;
use crate::connections::EndedSession;
use crate::session::request::NotResumed;

const HELD: &str = "{heartbeat: null, session: {resume_window: 1m}, redial: {base: 20ms, cap: 200ms}}";

#[tokio::test(start_paused = true)]
async fn whoever_comes_back_while_a_dial_is_given_up_has_another_one() {
    let (mut stage, mut client, mut server, hello) = held(HELD).await;
    server.cut();
    // It is asked, and says nothing.
    let asked = stage.dial().await;
    client.cut();
    stage.settle().await;
    assert!(is_away(&stage));
    let (_client, ..) = resume(&mut stage, &hello, 0).await;
    drop(asked);
    stage.new_server().await;
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_asked_for_however_close_to_it_the_task_was_polled() {
    let (mut stage, _client, _server) = Stage::plain(HELD).await;
    let task = stage.task.as_mut().unwrap();
    let now = Instant::now();
    // A server that is there, and does not answer this session for a while.
    task.machine.on_server_end(crate::session::cause::ServerEnd::Lost, 0.5, now);
    task.machine.on_turn();
    task.machine.on_dial_failed(crate::session::machine::DialEnd::Declined, 0.5, now);
    let turn_at = task.machine.turn_at().unwrap();
    assert!(turn_at > now);
    // So much later is it by the time at which the timer is set.
    task.alarm.clear();
    tokio::time::advance(turn_at - now + millis(1)).await;
    task.arm(&mut Context::from_waker(Waker::noop()));
    assert_eq!(task.alarm.at(), Some(turn_at));
}

#[tokio::test(start_paused = true)]
async fn credentials_that_end_end_a_link_and_the_session_waits_for_others() {
    let (mut stage, mut client, server, hello) = held(HELD).await;
    let (now, wall) = (Instant::now(), SystemTime::now());
    let task = stage.task.as_mut().unwrap();
    task.expires = Expiry::after(secs(3), now, wall);
    task.dates = Dates::new(None, task.expires, now);
    task.alarm.clear();
    stage.wake();
    stage.pass(secs(4)).await;
    let (heard, controls) = hello.sort(client.hear());
    assert_eq!(heard.last(), Some(&close(1008, "credentials expired")));
    assert_eq!(controls.last().unwrap()["bye"]["resume"], true);
    client.say(0x88, &close(1008, "").1);
    client.cut();
    stage.pass(secs(5)).await;
    assert!(is_away(&stage));
    let (_client, ..) = resume(&mut stage, &hello, 0).await;
    assert!(!server.is_cut());
}

#[tokio::test(start_paused = true)]
async fn a_control_frame_that_cannot_be_read_ends_the_session() {
    for wrong in ["{", "{\"seen\":1}", "{\"seen\":-1}"] {
        let (mut stage, mut client, mut server, hello) = held(HELD).await;
        client.say(0x81, &hello.control(wrong));
        stage.settle().await;
        assert_eq!(
            client.hear().last().map(|(first, payload)| (*first, &payload[..2])),
            Some((0x88, &[3, 234][..]))
        );
        client.cut();
        server.cut();
        stage.settle().await;
        stage.is_over();
        assert_eq!(stage.ends(SessionEnd::Fault), (1, 0), "{wrong}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_while_it_is_closed_keeps_nobody_busy() {
    let policy = "{heartbeat: null, delivery: {stall_timeout: 3s}, close_timeout: 10s}";
    let (mut stage, mut client, mut server) =
        Stage::open(policy, false, Rooms { client: 50, server: ROOM }).await;
    for n in 0..10 {
        server.text(&format!("{n:020}"));
    }
    stage.settle().await;
    let at = Instant::now() + secs(1);
    stage.task().client.as_ref().unwrap().handle().send(Command::CloseAt { at, code: CloseCode(1012) });
    stage.settle().await;
    stage.pass(secs(8)).await;
    // It has the whole time for the rest.
    let mut heard = Vec::new();
    for _ in 0..50 {
        heard.append(&mut client.hear());
        stage.settle().await;
    }
    assert_eq!(texts(&heard).len(), 10);
    assert_eq!(heard.last(), Some(&close(1012, "server is restarting")));
}

#[tokio::test(start_paused = true)]
async fn what_is_read_of_a_server_at_once_is_sent_at_once() {
    for size in [20, 1_000, 33_000, 70_000] {
        let policy = "{heartbeat: null, notices: false, delivery: {max_lag: {messages: 10}}}";
        let rooms = Rooms { client: 1 << 20, server: 1 << 20 };
        let (mut stage, mut client, mut server) = Stage::open(policy, false, rooms).await;
        let said = server.frame(0x82, &vec![b'x'; size]).repeat((1 << 19) / (size + 10));
        server.write(&said);
        stage.poll_once(&mut Context::from_waker(Waker::noop()));
        let task = stage.task();
        let head = task.writer.log().head();
        assert_eq!((task.next, head > 0), (head + 1, true), "{size} bytes each");
        client.hear();
    }
}

#[tokio::test(start_paused = true)]
async fn the_close_of_a_client_that_was_not_read_is_found_behind_what_it_has_said() {
    let policy = "{heartbeat: null, max_lifetime: 10s, close_timeout: 10s, \
                  session: {resume_window: 1m, queue: {messages: 2}}}";
    let (mut stage, mut client, mut server, hello) = held(policy).await;
    server.cut();
    stage.settle().await;
    for n in 0..3 {
        client.text(&format!("{n}"));
        stage.settle().await;
    }
    assert_eq!(stage.task().outbox.received(), 2, "the third one waits in its socket");
    stage.pass(secs(10)).await;
    let (heard, controls) = hello.sort(client.hear());
    assert_eq!(heard.last(), Some(&close(1012, "maximum lifetime reached")));
    assert_eq!(controls.last().unwrap()["bye"]["ack"], 2);
    client.say(0x88, &close(1012, "").1);
    stage.settle().await;
    assert_eq!((is_away(&stage), stage.connections.len()), (true, 0));
    assert_eq!(stage.task().outbox.received(), 2, "it says the third one again");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_cannot_go_on_is_known_to_whoever_has_asked_and_closes_the_link_that_it_has() {
    let policy = "{heartbeat: null, notices: false, history: {messages: 2}, \
                  session: {resume_window: 1m}, delivery: {max_lag: {messages: 100}}}";
    let (mut stage, mut client, mut server, hello) = held(policy).await;
    client.text("taken");
    for n in 0..5 {
        server.text(&format!("{n}"));
    }
    stage.settle().await;
    client.hear();
    let (generation, handle) = stage.find(&hello.ticket).unwrap();
    let asked = tokio::spawn(async move { handle.ask(generation, 1).await });
    stage.settle().await;
    let ended = EndedSession { received: 1, why: "overflow" };
    assert_eq!(asked.await.unwrap(), Err(NotResumed::Gap(2, ended)));
    assert_eq!(client.hear().last(), Some(&close(1013, "too much was missed")));
    client.cut();
    server.cut();
    stage.settle().await;
    stage.is_over();
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_a_session_that_says_its_last_words_gets_another_one() {
    let (mut stage, mut client, mut server, hello) = held(HELD).await;
    server.say(0x88, &close(4000, "over").1);
    stage.settle().await;
    assert_eq!(client.hear().last(), Some(&close(4000, "over")));
    // The ticket is still in order, as the client has not answered.
    let (generation, handle) = stage.find(&hello.ticket).unwrap();
    let asked = tokio::spawn(async move { handle.ask(generation, 0).await });
    stage.settle().await;
    assert_eq!(asked.await.unwrap(), Err(NotResumed::Gone));
}

//! Clients of sessions that come over HTTP, and go over to a WebSocket and back.

use std::task::Poll as Polling;

use super::tickets::{Hello, held, is_away, resume};
use super::*;
use crate::connections::{Admitted, EndedSession};
use crate::frame::Kind;
use crate::session::request::{Newcomer, Poll, Polled, Refusal, Send, Sent, Visitor};

const POLICY: &str = "{heartbeat: null, session: {resume_window: 1m}, redial: {base: 20ms, cap: 200ms}}";

/// An answer that is waited for.
type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Refusal>>>>;

impl Stage {
    fn visitor(&self, generation: u32) -> Visitor {
        let info = ConnectionInfo {
            client: None,
            user: None,
            channel: None,
            request_id: "".into(),
            route: self.metrics.route("r"),
        };
        let admitted = Admitted { info, expires: None, permit: None };
        let newcomer = Newcomer { admitted, registry: Arc::clone(&self.connections), close_at: None };
        Visitor { generation, newcomer: Some(newcomer) }
    }

    /// A poll that waits for ten seconds.
    fn poll(&self, ticket: &str, after: Option<u64>) -> Answer<Polled> {
        let Some((generation, handle)) = self.find(ticket) else {
            return Box::pin(std::future::ready(Err(Refusal::Gone(None, None))));
        };
        let until = Instant::now() + secs(10);
        let visitor = self.visitor(generation);
        Box::pin(handle.poll(Poll { visitor, after, limit: 100, until, opening: None }))
    }

    fn post(&self, ticket: &str, first: Option<u64>, texts: &[&str]) -> Answer<Sent> {
        let (generation, handle) = self.find(ticket).expect("the ticket is valid");
        let messages = texts.iter().map(|text| (Kind::Text, text.as_bytes().to_vec().into())).collect();
        Box::pin(handle.send(Send { visitor: self.visitor(generation), first, messages }))
    }

    /// What is answered at once.
    async fn at_once<T>(&mut self, mut answer: Answer<T>) -> Result<T, Refusal> {
        self.settle().await;
        now_of(&mut answer).expect("it is answered at once")
    }
}

/// The answer, if it is there.
fn now_of<T>(answer: &mut Answer<T>) -> Option<Result<T, Refusal>> {
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Polling::Ready(answered) => Some(answered),
        Polling::Pending => None,
    }
}

fn said(polled: &Polled) -> Vec<String> {
    polled.entries.iter().map(|entry| String::from_utf8(entry.payload().to_vec()).unwrap()).collect()
}

fn sent(received: u64, taken: usize) -> Result<Sent, Refusal> {
    Ok(Sent { received, taken })
}

#[tokio::test(start_paused = true)]
async fn a_poll_waits_for_the_server_and_is_answered_all_that_came_until_another_confirms_it() {
    let (mut stage, ticket, mut server) = Stage::open_over_http(POLICY).await;
    let mut first = stage.poll(&ticket, None);
    stage.settle().await;
    assert!(now_of(&mut first).is_none() && stage.plan.metrics.http.get() == 1);
    server.text("one");
    let polled = stage.at_once(first).await.unwrap();
    assert_eq!((said(&polled), polled.next, polled.received), (vec!["one".to_owned()], 1, 0));
    assert_eq!(polled.expires_in, secs(60));
    assert!(is_away(&stage) && stage.plan.metrics.away.get() == 1, "between two polls");
    server.text("two");
    stage.settle().await;
    // The answer got lost: it comes again, and then what is behind it.
    let poll = stage.poll(&ticket, Some(0));
    assert_eq!(said(&stage.at_once(poll).await.unwrap()), ["one", "two"]);
    let mut poll = stage.poll(&ticket, Some(2));
    stage.settle().await;
    assert!(now_of(&mut poll).is_none());
    stage.pass(millis(9_900)).await;
    assert!(now_of(&mut poll).is_none());
    stage.pass(millis(100)).await;
    let polled = stage.at_once(poll).await.unwrap();
    assert_eq!((said(&polled), polled.next), (vec![], 2), "its time is over");
    let poll = stage.poll(&ticket, Some(3));
    assert_eq!(stage.at_once(poll).await.unwrap_err(), Refusal::Ahead(2), "a question ends nothing");
    // What was confirmed is not there any more.
    let poll = stage.poll(&ticket, Some(1));
    let ended = EndedSession { received: 0, why: "overflow" };
    assert_eq!(stage.at_once(poll).await.unwrap_err(), Refusal::Gone(Some(ended), Some(1)));
    assert_eq!(server.hear().last(), Some(&close(1001, "slow consumer")));
}

#[tokio::test(start_paused = true)]
async fn nobody_comes_back_within_the_window_that_a_poll_was_told() {
    let policy = "{heartbeat: null, session: {resume_window: 5s}}";
    let (mut stage, ticket, mut server) = Stage::open_over_http(policy).await;
    let poll = stage.poll(&ticket, None);
    server.text("one");
    let polled = stage.at_once(poll).await.unwrap();
    assert_eq!(polled.expires_in, secs(30), "more than the route says, since it goes away each time");
    stage.pass(millis(29_900)).await;
    assert!(is_away(&stage));
    stage.pass(millis(200)).await;
    assert_eq!(server.hear().last(), Some(&close(1001, "client did not come back")));
    server.cut();
    stage.settle().await;
    stage.is_over();
    assert_eq!(stage.ends(SessionEnd::Window), (1, 1));
    assert!(stage.poll(&ticket, None).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn four_polls_wait_and_one_that_has_gone_makes_room() {
    let (mut stage, ticket, mut server) = Stage::open_over_http(POLICY).await;
    let mut polls: Vec<_> = (0..4).map(|_| stage.poll(&ticket, None)).collect();
    stage.settle().await;
    let fifth = stage.poll(&ticket, None);
    assert_eq!(stage.at_once(fifth).await.unwrap_err(), Refusal::Polls);
    polls.pop();
    polls.push(stage.poll(&ticket, None));
    stage.settle().await;
    assert!(polls.iter_mut().all(|poll| now_of(poll).is_none()));
    server.text("one");
    stage.settle().await;
    for mut poll in polls {
        assert_eq!(said(&now_of(&mut poll).unwrap().unwrap()), ["one"]);
    }
    // The last of them goes: nobody waits any more.
    let poll = stage.poll(&ticket, Some(1));
    stage.settle().await;
    assert!(!is_away(&stage));
    drop(poll);
    stage.settle().await;
    assert!(is_away(&stage));
}

#[tokio::test(start_paused = true)]
async fn a_numbered_message_is_taken_once_and_never_before_the_one_in_front_of_it() {
    let (mut stage, ticket, mut server) = Stage::open_over_http(POLICY).await;
    let poll = stage.poll(&ticket, None);
    stage.settle().await;
    let cases = [
        (Some(1), &["1"][..], sent(1, 1)),
        (Some(1), &["1"], sent(1, 0)),
        (Some(3), &["3"], Err(Refusal::Gap(1))),
        (Some(1), &["1", "2", "3"], sent(3, 2)),
        (None, &["4"], sent(4, 1)),
        (Some(2), &["2", "3"], sent(4, 0)),
    ];
    for (first, texts, expected) in cases {
        let post = stage.post(&ticket, first, texts);
        assert_eq!(stage.at_once(post).await, expected, "{first:?} {texts:?}");
    }
    assert_eq!(texts(&server.hear()), ["1", "2", "3", "4"]);
    assert!(!is_away(&stage), "its poll waits all the same");
    drop(poll);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_while_the_server_is_away_waits_for_the_next_one_up_to_the_bound() {
    let policy =
        "{heartbeat: null, session: {resume_window: 1m, queue: {messages: 2}}, redial: {base: 20ms}}";
    let (mut stage, ticket, server) = Stage::open_over_http(policy).await;
    let mut poll = stage.poll(&ticket, None);
    stage.settle().await;
    drop(server);
    let dial = stage.dial().await;
    let post = stage.post(&ticket, Some(1), &["1", "2", "3"]);
    assert_eq!(stage.at_once(post).await, Err(Refusal::QueueFull(2)), "two of them were taken");
    let mut server = dial.accept(b"");
    stage.settle().await;
    assert_eq!(texts(&server.hear()), ["1", "2"]);
    let post = stage.post(&ticket, Some(1), &["1", "2", "3"]);
    assert_eq!(stage.at_once(post).await, sent(3, 1));
    assert_eq!(texts(&server.hear()), ["3"]);
    assert!(now_of(&mut poll).is_none(), "it waits through all of that");
    server.text("one");
    assert_eq!(said(&stage.at_once(poll).await.unwrap()), ["one"]);
}

#[tokio::test(start_paused = true)]
async fn the_server_of_a_client_that_never_waits_is_dialled_for_what_it_says() {
    let (mut stage, ticket, mut server) = Stage::open_over_http(POLICY).await;
    let poll = stage.poll(&ticket, None);
    server.text("one");
    stage.at_once(poll).await.unwrap();
    drop(server);
    // Before and after it has noticed.
    let post = stage.post(&ticket, Some(1), &["1"]);
    assert_eq!(stage.at_once(post).await, sent(1, 1));
    let dial = stage.dial().await;
    let post = stage.post(&ticket, Some(2), &["2"]);
    assert_eq!(stage.at_once(post).await, sent(2, 1));
    let mut server = dial.accept(b"");
    stage.settle().await;
    assert_eq!(texts(&server.hear()), ["1", "2"]);
    assert!(is_away(&stage));
}

#[tokio::test(start_paused = true)]
async fn more_messages_than_the_rate_allows_are_not_taken_over_whatever_link() {
    let policy =
        "{heartbeat: null, session: {resume_window: 1m}, limits: {message_rate: {rate: 1/s, burst: 4}}}";
    let (mut stage, mut client, mut server, hello) = held(policy).await;
    client.text("1");
    client.text("2");
    stage.settle().await;
    client.say(0x81, &hello.control(r#"{"seen":0}"#));
    stage.pass(millis(100)).await;
    client.cut();
    stage.settle().await;
    assert!(is_away(&stage));
    // It has said two messages and a control frame: one is left, and is enough for a batch.
    let post = stage.post(&hello.ticket, None, &["3", "4"]);
    assert_eq!(stage.at_once(post).await, sent(4, 2));
    let post = stage.post(&hello.ticket, None, &["5"]);
    let refusal = stage.at_once(post).await.unwrap_err();
    let Refusal::Rate(wait) = refusal else { panic!("{refusal:?}") };
    assert!(wait > Duration::ZERO && wait <= secs(3), "{wait:?}");
    stage.pass(wait).await;
    let post = stage.post(&hello.ticket, None, &["5"]);
    assert_eq!(stage.at_once(post).await, sent(5, 1));
    assert_eq!(texts(&server.hear()), ["1", "2", "3", "4", "5"]);
}

#[tokio::test(start_paused = true)]
async fn a_poll_takes_the_place_of_a_websocket_and_a_websocket_that_of_polls() {
    let (mut stage, mut client, mut server, hello) = held(POLICY).await;
    server.text("one");
    stage.settle().await;
    // A client that has both on their way has one of them.
    let poll = stage.poll(&hello.ticket, Some(0));
    assert_eq!(stage.at_once(poll).await.unwrap_err(), Refusal::Attached(secs(5)));
    client.say(0x81, &hello.control(r#"{"seen":1}"#));
    stage.settle().await;
    client.hear();
    server.text("two");
    let poll = stage.poll(&hello.ticket, Some(1));
    let polled = stage.at_once(poll).await.unwrap();
    assert_eq!(said(&polled), ["two"]);
    let heard = client.hear();
    let (rest, controls) = hello.sort(heard);
    assert_eq!(controls.last().unwrap()["bye"]["why"], "taken_over");
    assert_eq!(rest.last(), Some(&close(1008, "taken over")));
    let mut poll = stage.poll(&hello.ticket, Some(2));
    stage.settle().await;
    assert!(now_of(&mut poll).is_none());
    // Back to a WebSocket: the poll hears that, and what was not confirmed comes again.
    let (mut client, hello, _) = resume(&mut stage, &hello, 2).await;
    assert_eq!(now_of(&mut poll).unwrap().unwrap_err(), Refusal::Attached(secs(5)));
    server.text("three");
    stage.settle().await;
    assert_eq!(texts(&client.hear()), ["three"]);
    client.say(0x81, &hello.control(r#"{"seen":3}"#));
    stage.settle().await;
    assert_eq!(stage.plan.metrics.http.get(), 0);
    assert_eq!(stage.connections.len(), 2, "the link before is still being closed: {}", stage.state());
}

#[tokio::test(start_paused = true)]
async fn a_websocket_that_never_shows_its_ticket_is_left_alone_for_five_seconds_only() {
    let (mut stage, _client, _server, hello) = held(POLICY).await;
    stage.pass(secs(5)).await;
    let mut poll = stage.poll(&hello.ticket, Some(0));
    stage.settle().await;
    assert!(now_of(&mut poll).is_none(), "it has the session");
}

#[tokio::test(start_paused = true)]
async fn the_servers_close_comes_behind_all_messages_and_in_an_answer_of_its_own() {
    let (mut stage, ticket, mut server) = Stage::open_over_http(POLICY).await;
    let mut poll = stage.poll(&ticket, None);
    stage.settle().await;
    server.text("last");
    server.say(0x88, &[&4000_u16.to_be_bytes()[..], b"done"].concat());
    stage.settle().await;
    let polled = now_of(&mut poll).unwrap().unwrap();
    assert_eq!((said(&polled), polled.closed), (vec!["last".to_owned()], None));
    // That answer gets lost.
    let poll = stage.poll(&ticket, Some(0));
    assert_eq!(said(&stage.at_once(poll).await.unwrap()), ["last"]);
    let post = stage.post(&ticket, None, &["too late"]);
    let ended = EndedSession { received: 0, why: "server" };
    assert_eq!(stage.at_once(post).await, Err(Refusal::Gone(Some(ended), None)));
    let poll = stage.poll(&ticket, Some(1));
    let polled = stage.at_once(poll).await.unwrap();
    assert_eq!((said(&polled), polled.closed), (vec![], Some((4000, "done".into()))));
    server.cut();
    stage.settle().await;
    stage.is_over();
    assert_eq!(stage.ends(SessionEnd::Server), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn polls_are_answered_at_their_date_in_a_drain_and_the_session_is_over() {
    let (mut stage, ticket, mut server) = Stage::open_over_http(POLICY).await;
    let mut poll = stage.poll(&ticket, None);
    stage.settle().await;
    let at = Instant::now() + secs(3);
    for handle in stage.connections.all() {
        handle.send(Command::CloseAt { at, code: CloseCode(1012) });
    }
    stage.pass(millis(2_900)).await;
    assert!(now_of(&mut poll).is_none());
    stage.pass(millis(200)).await;
    let polled = now_of(&mut poll).unwrap().unwrap();
    assert!(polled.is_draining && polled.entries.is_empty());
    assert_eq!(server.hear().last(), Some(&close(1001, "proxy is draining")));
    server.cut();
    stage.settle().await;
    stage.is_over();
}

#[tokio::test(start_paused = true)]
async fn a_client_between_two_polls_ends_with_its_date_too() {
    let (mut stage, ticket, mut server) = Stage::open_over_http(POLICY).await;
    let poll = stage.poll(&ticket, None);
    server.text("one");
    stage.at_once(poll).await.unwrap();
    for handle in stage.connections.all() {
        handle.send(Command::CloseAt { at: Instant::now() + secs(1), code: CloseCode(1012) });
    }
    stage.pass(millis(1_100)).await;
    server.cut();
    stage.settle().await;
    stage.is_over();
    assert_eq!(stage.ends(SessionEnd::Drain), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_cut_ends_polls_at_once() {
    let (mut stage, ticket, _server) = Stage::open_over_http(POLICY).await;
    let mut poll = stage.poll(&ticket, None);
    stage.settle().await;
    stage.connections.all()[0].send(Command::Cut);
    stage.settle().await;
    assert!(matches!(now_of(&mut poll), Some(Err(Refusal::Gone(Some(_), None)))));
    assert_eq!(stage.connections.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_became_of_messages_is_told_with_each_answer_until_it_is_known() {
    let policy = "{heartbeat: null, session: {resume_window: 1m, receipts: true}, redial: {base: 20ms}}";
    let (mut stage, ticket, server) = Stage::open_over_http(policy).await;
    let mut poll = stage.poll(&ticket, None);
    stage.settle().await;
    let post = stage.post(&ticket, None, &["1", "2"]);
    assert_eq!(stage.at_once(post).await, sent(2, 2));
    drop(server);
    stage.settle().await;
    let told = [crate::delivery::control::FromProxy::Uncertain { from: 1, to: 2 }];
    assert_eq!(now_of(&mut poll).unwrap().unwrap().told, told, "that alone is worth an answer");
    let mut poll = stage.poll(&ticket, None);
    stage.settle().await;
    assert!(now_of(&mut poll).is_none(), "but only once");
    let mut server = stage.new_server().await;
    server.text("one");
    assert_eq!(stage.at_once(poll).await.unwrap().told, told, "the first answer may have got lost");
    let mut poll = stage.poll(&ticket, Some(1));
    stage.settle().await;
    server.text("two");
    stage.settle().await;
    assert!(now_of(&mut poll).unwrap().unwrap().told.is_empty(), "it has had what came behind that");
}

/// The hello of a WebSocket that follows polls tells what was received over both.
#[tokio::test(start_paused = true)]
async fn messages_are_counted_over_all_ways_to_say_them() {
    let (mut stage, mut client, mut server, hello) = held(POLICY).await;
    client.say(0x81, &hello.control(r#"{"seen":0}"#));
    client.text("1");
    stage.settle().await;
    let post = stage.post(&hello.ticket, Some(2), &["2", "3"]);
    assert_eq!(stage.at_once(post).await, sent(3, 2));
    assert!(is_away(&stage), "who says something is no link");
    let mut client = stage.come_back(&hello.ticket, 0, ROOM).expect("the ticket is valid");
    stage.settle().await;
    let hello = Hello::of(&client.hear()[0]);
    assert_eq!((hello.is_resumed, hello.received), (true, 3));
    client.text("4");
    stage.settle().await;
    assert_eq!(texts(&server.hear()), ["1", "2", "3", "4"]);
}

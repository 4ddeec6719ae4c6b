//! What became of a client's messages reaches it over whichever link, until it surely knows.

use serde_json::{Value, json};

use super::tickets::{Hello, held, is_away, resume};
use super::*;

const QUIET: &str =
    "{heartbeat: null, session: {resume_window: 1m, queue: {age: 10s}}, redial: {base: 20ms, cap: 200ms}}";

/// What `controls` tell of messages, and the number of the question behind it.
fn told(controls: &[Value]) -> (Vec<Value>, Option<u64>) {
    let is_fate = |control: &&Value| control.get("uncertain").or(control.get("lost")).is_some();
    let question = controls.iter().rev().take_while(|control| !is_fate(control));
    let question = question.filter_map(|control| control["ping"].as_u64()).last();
    (controls.iter().filter(is_fate).cloned().collect(), question)
}

fn uncertain(from: u64, to: u64) -> Value {
    json!({"uncertain": {"from": from, "to": to}})
}

/// The client has said a message that the server may have taken, and is away.
async fn with_one_uncertain() -> (Stage, Peer, Hello) {
    let (mut stage, mut client, mut server, hello) = held(QUIET).await;
    client.text("maybe");
    stage.settle().await;
    assert_eq!(texts(&server.hear()), ["maybe"]);
    client.cut();
    stage.settle().await;
    assert!(is_away(&stage));
    server.cut();
    stage.settle().await;
    (stage, server, hello)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_away_hears_what_became_of_its_messages_behind_its_hello_and_once() {
    let (mut stage, _server, hello) = with_one_uncertain().await;
    let (mut client, hello, heard) = resume(&mut stage, &hello, 0).await;
    let (messages, controls) = hello.sort(heard);
    assert!(messages.is_empty());
    let (fates, question) = told(&controls);
    assert_eq!(fates, [uncertain(1, 1)]);
    let lost = json!({"server": "lost"});
    assert_eq!(controls[..2], [lost, fates[0].clone()], "in this order, before anything else");
    client.say(0x81, &hello.control(&json!({"pong": question.unwrap()}).to_string()));
    stage.settle().await;
    // Over no other link again, and the server that comes next is of no interest to it.
    let mut server = stage.new_server().await;
    server.text("hello");
    client.cut();
    stage.settle().await;
    let (_, hello, heard) = resume(&mut stage, &hello, 0).await;
    let (messages, controls) = hello.sort(heard);
    assert_eq!((texts(&messages), told(&controls).0), (vec!["hello"], vec![]));
    assert_eq!(stage.lost(MessageLoss::Uncertain), 1, "counted once");
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_while_the_client_is_away_is_told_when_it_comes_back() {
    let (mut stage, mut client, mut server, hello) = held(QUIET).await;
    server.cut();
    stage.settle().await;
    for _ in 0..3 {
        client.text("waits");
    }
    stage.settle().await;
    client.cut();
    stage.pass(secs(11)).await;
    assert_eq!((stage.lost(MessageLoss::Age), is_away(&stage)), (3, true));
    let (_, hello, heard) = resume(&mut stage, &hello, 0).await;
    let (fates, _) = told(&hello.sort(heard).1);
    assert_eq!(fates, [json!({"lost": {"from": 1, "to": 3, "why": "age"}})]);
}

/// What the client does with a link over which it was told.
#[derive(Debug, Clone, Copy)]
enum Proof {
    Nothing,
    /// It says to have had what came before.
    SeenBefore,
    /// It says to have had a message that came behind it.
    Seen,
    /// It comes back with that.
    ComesBackWith,
    Pong,
    /// To another question.
    OtherPong,
}

#[tokio::test(start_paused = true)]
async fn it_is_told_again_over_each_link_until_the_client_shows_that_it_has_read_it() {
    use Proof::{ComesBackWith, Nothing, OtherPong, Pong, Seen, SeenBefore};
    for (proof, is_proven) in [
        (Nothing, false),
        (SeenBefore, false),
        (OtherPong, false),
        (Seen, true),
        (ComesBackWith, true),
        (Pong, true),
    ] {
        let (mut stage, mut client, mut server, hello) = held(QUIET).await;
        server.text("before");
        client.text("maybe");
        stage.settle().await;
        assert_eq!(texts(&server.hear()), ["maybe"]);
        server.cut();
        stage.settle().await;
        let mut server = stage.new_server().await;
        server.text("behind");
        stage.settle().await;
        let (messages, controls) = hello.sort(client.hear());
        assert_eq!(texts(&messages), ["before", "behind"]);
        let (fates, question) = told(&controls);
        assert_eq!(fates, [uncertain(1, 1)], "{proof:?}");
        let (word, seen) = match proof {
            Nothing => (None, 1),
            SeenBefore => (Some(json!({"seen": 1})), 1),
            Seen => (Some(json!({"seen": 2})), 2),
            ComesBackWith => (None, 2),
            Pong => (Some(json!({"pong": question.unwrap()})), 1),
            OtherPong => (Some(json!({"pong": question.unwrap() - 1})), 1),
        };
        if let Some(word) = word {
            client.say(0x81, &hello.control(&word.to_string()));
        }
        stage.settle().await;
        client.cut();
        stage.settle().await;
        let mut hello = hello;
        for _ in 0..2 {
            let (mut client, next, heard) = resume(&mut stage, &hello, seen).await;
            let (fates, _) = told(&next.sort(heard).1);
            let expected = if is_proven { vec![] } else { vec![uncertain(1, 1)] };
            assert_eq!(fates, expected, "{proof:?}");
            client.cut();
            stage.settle().await;
            hello = next;
        }
        let owed = stage.task().resumable.as_ref().unwrap().held();
        assert_eq!(owed > 0, !is_proven, "{proof:?}");
    }
}

/// Whatever of it arrives, of that link or the next the client hears it.
#[tokio::test(start_paused = true)]
async fn a_link_may_break_off_at_every_byte_of_what_it_is_told() {
    let mut length = usize::MAX;
    let mut at = 0;
    while at <= length {
        let (mut stage, _server, first) = with_one_uncertain().await;
        let mut client = stage.come_back(&first.ticket, 0, ROOM).unwrap();
        stage.settle().await;
        let read = client.read(at);
        if read < at {
            length = read;
        }
        let mut heard = client.frames();
        // With the newest ticket that it has read.
        let hello = if heard.is_empty() { first } else { Hello::of(&heard.remove(0)) };
        let before = told(&hello.sort(heard).1).0;
        client.cut();
        stage.settle().await;
        let (_, hello, heard) = resume(&mut stage, &hello, 0).await;
        let again = told(&hello.sort(heard).1).0;
        assert_eq!(again, [uncertain(1, 1)], "{at}");
        assert!(before.is_empty() || before == again, "{at}: {before:?}");
        at += 1;
    }
    assert!(length > 300, "{length}: the hello and what is behind it");
}

#[tokio::test(start_paused = true)]
async fn however_many_servers_die_little_is_kept_and_it_counts_until_it_is_known() {
    let (mut stage, mut client, mut server, hello) = held(QUIET).await;
    let idle = stage.budget.used();
    let mut maybe = Vec::new();
    for round in 0..40 {
        // One that it takes, one that it may have taken.
        client.text("taken");
        stage.settle().await;
        stage.pass(millis(300)).await;
        for (first, payload) in server.hear() {
            if first == 0x89 {
                server.say(0x8a, &payload);
            }
        }
        stage.settle().await;
        client.text("maybe");
        stage.settle().await;
        maybe.push(2 * round + 2);
        server.cut();
        stage.settle().await;
        server = stage.new_server().await;
        stage.pass(millis(200)).await;
        client.hear();
    }
    assert_eq!(stage.lost(MessageLoss::Uncertain), 40);
    let owed = stage.task().resumable.as_ref().unwrap().held();
    assert!(owed > 0 && owed < 1500, "{owed}");
    assert_eq!(stage.budget.used(), idle + owed);
    client.cut();
    stage.settle().await;
    let (mut client, hello, heard) = resume(&mut stage, &hello, 0).await;
    let (fates, question) = told(&hello.sort(heard).1);
    assert!(fates.len() <= 16, "{}", fates.len());
    let covers = |number: u64| {
        let is_in = |fate: &Value| {
            let range = &fate["uncertain"];
            (range["from"].as_u64().unwrap()..=range["to"].as_u64().unwrap()).contains(&number)
        };
        fates.iter().any(is_in)
    };
    assert!(maybe.into_iter().all(covers), "none is left out: {fates:?}");
    client.say(0x81, &hello.control(&json!({"pong": question.unwrap()}).to_string()));
    stage.settle().await;
    assert_eq!(stage.budget.used(), idle);
}

/// The last words tell that its messages were received, so that it would never say them again.
#[tokio::test(start_paused = true)]
async fn what_no_server_will_hear_is_told_before_the_last_words() {
    let policy = |replay| {
        format!(
            "{{heartbeat: null, session: {{resume_window: 1m, queue: {{replay: {replay}}}}}, \
             redial: {{base: 20ms, cap: 200ms, give_up: 5s}}}}"
        )
    };
    for replay in ["unsent", "unacknowledged"] {
        let (mut stage, mut client, mut server, hello) = held(&policy(replay)).await;
        client.text("maybe");
        stage.settle().await;
        assert_eq!(texts(&server.hear()), ["maybe"]);
        server.cut();
        stage.settle().await;
        client.text("waits");
        client.text("waits too");
        for _ in 0..200 {
            stage.pass(millis(50)).await;
            if let Some(asked) = stage.next_dial() {
                asked.decline(503);
            }
        }
        let (heard, controls) = hello.sort(client.hear());
        assert_eq!(heard.last(), Some(&close(1012, "upstream lost")));
        let lost = json!({"lost": {"from": 2, "to": 3, "why": "queue"}});
        assert_eq!(told(&controls).0, [uncertain(1, 1), lost], "{replay}");
        assert_eq!(controls.last().unwrap()["bye"]["ack"], 3);
        let counted = (stage.lost(MessageLoss::Uncertain), stage.lost(MessageLoss::Queue));
        assert_eq!(counted, (1, 2), "{replay}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_said_again_and_grows_too_old_is_uncertain() {
    let policy = "{heartbeat: null, session: {resume_window: 1m, queue: {age: 10s, replay: unacknowledged}}, \
                  redial: {base: 20ms, cap: 200ms}}";
    let (mut stage, mut client, mut server, hello) = held(policy).await;
    client.text("maybe");
    stage.settle().await;
    assert_eq!(texts(&server.hear()), ["maybe"]);
    server.cut();
    client.text("waits");
    stage.pass(millis(10)).await;
    client.hear();
    client.cut();
    stage.pass(secs(11)).await;
    let (_, hello, heard) = resume(&mut stage, &hello, 0).await;
    let lost = json!({"lost": {"from": 2, "to": 2, "why": "age"}});
    assert_eq!(told(&hello.sort(heard).1).0, [uncertain(1, 1), lost]);
    assert_eq!((stage.lost(MessageLoss::Uncertain), stage.lost(MessageLoss::Age)), (1, 1));
}

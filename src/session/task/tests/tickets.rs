//! Sessions whose clients have tickets: a link may break off at every byte, and another one goes on with the session.

use serde_json::Value;

use super::*;

const QUIET: &str = "{heartbeat: null, session: {resume_window: 1m}, redial: {base: 20ms, cap: 200ms}}";

/// What a client keeps of the hello of a link.
#[derive(Debug, Clone)]
pub(super) struct Hello {
    pub(super) ticket: String,
    pub(super) prefix: String,
    pub(super) is_resumed: bool,
    pub(super) sequence: u64,
    pub(super) received: u64,
}

impl Hello {
    /// The first frame of a link.
    pub(super) fn of(frame: &(u8, Vec<u8>)) -> Self {
        assert_eq!(frame.0, 0x81, "{frame:?}");
        let hello: Value = serde_json::from_slice(&frame.1).unwrap();
        let hello = &hello["outrigger"];
        let text =
            |name: &str| hello[name].as_str().unwrap_or_else(|| panic!("{name} of {hello}")).to_owned();
        let number = |name: &str| hello[name].as_u64().unwrap();
        Self {
            ticket: text("session"),
            prefix: text("control"),
            is_resumed: hello["resumed"].as_bool().unwrap(),
            sequence: number("sequence"),
            received: number("received"),
        }
    }

    pub(super) fn control(&self, text: &str) -> Vec<u8> {
        format!("{}{text}", self.prefix).into_bytes()
    }

    /// Frames without control frames, and the latter.
    pub(super) fn sort(&self, frames: Vec<(u8, Vec<u8>)>) -> (Vec<(u8, Vec<u8>)>, Vec<Value>) {
        let (mut rest, mut controls) = (Vec::new(), Vec::new());
        for (first, payload) in frames {
            match payload.strip_prefix(self.prefix.as_bytes()) {
                Some(text) if first == 0x81 => controls.push(serde_json::from_slice(text).unwrap()),
                _ => rest.push((first, payload)),
            }
        }
        (rest, controls)
    }
}

/// A session whose client has read its hello.
pub(super) async fn held(policy: &str) -> (Stage, Peer, Peer, Hello) {
    let (stage, mut client, server) = Stage::open(policy, true, WIDE).await;
    let heard = client.hear();
    assert_eq!(heard.len(), 1);
    let hello = Hello::of(&heard[0]);
    assert_eq!((hello.is_resumed, hello.sequence, hello.received), (false, 0, 0));
    (stage, client, server, hello)
}

pub(super) fn is_away(stage: &Stage) -> bool {
    matches!(stage.task().machine.client(), Client::Away { .. })
}

/// The next link of the client, whose hello it has read, and what came after that.
pub(super) async fn resume(stage: &mut Stage, hello: &Hello, seen: u64) -> (Peer, Hello, Vec<(u8, Vec<u8>)>) {
    let mut client = stage.come_back(&hello.ticket, seen, ROOM).expect("the ticket is valid");
    stage.settle().await;
    let mut heard = client.hear();
    let hello = Hello::of(&heard.remove(0));
    assert_eq!((hello.is_resumed, hello.sequence), (true, seen));
    (client, hello, heard)
}

/// However much of a hello arrives: it stands first, and without it the ticket before goes on being worth something.
#[tokio::test(start_paused = true)]
async fn a_hello_may_break_off_at_every_byte_and_locks_nobody_out() {
    let (mut stage, mut client, mut server, first) = held(QUIET).await;
    server.text("one");
    stage.settle().await;
    client.cut();
    stage.settle().await;
    assert!(is_away(&stage));
    server.text("two");
    let mut at = 0;
    loop {
        // Its socket takes one byte at once.
        let mut client = stage.come_back(&first.ticket, 0, 1).expect("the ticket before stays valid");
        while client.half() < at {
            stage.turn().await;
            assert_eq!(client.read(1), 1, "byte {} of the hello", client.half());
        }
        let is_whole = client.frames();
        if let [frame] = &is_whole[..] {
            let hello = Hello::of(frame);
            assert_eq!((hello.is_resumed, hello.sequence, hello.received), (true, 0, 0));
            let heard = stage.trickle(&mut server, b"", &mut client).await;
            assert_eq!(texts(&heard), ["one", "two"], "then all that the client has not had");
            break;
        }
        client.cut();
        stage.settle().await;
        assert!(is_away(&stage));
        at += 1;
        assert!(at < 1_000, "the hello ends");
    }
    assert!(server.hear().is_empty(), "the server notices nothing");
}

#[tokio::test(start_paused = true)]
async fn a_control_frame_of_the_client_may_break_off_at_every_byte() {
    let (mut stage, mut client, mut server, mut hello) = held(QUIET).await;
    for n in 1..=3 {
        server.text(&format!("{n}"));
    }
    stage.settle().await;
    assert_eq!(texts(&client.hear()), ["1", "2", "3"]);
    let (mut at, mut received) = (0, 0);
    loop {
        let control = client.frame(0x81, &hello.control(r#"{"seen":3,"ping":7}"#));
        client.text("before");
        received += 1;
        assert_eq!(client.write(&control[..at]), at);
        stage.settle().await;
        assert_eq!(
            texts(&server.hear()),
            ["before"],
            "{at}: the server hears no control frame, nor a part of one"
        );
        let kept_from = stage.task().resumable.as_ref().unwrap().kept_from();
        if at == control.len() {
            let (_, controls) = hello.sort(client.hear());
            assert_eq!(controls, [serde_json::json!({"pong": 7})]);
            assert_eq!(kept_from, 4, "what is confirmed is let go of");
            break;
        }
        assert_eq!(kept_from, 1, "{at}");
        client.cut();
        stage.settle().await;
        assert!(is_away(&stage));
        let (next, next_hello, heard) = resume(&mut stage, &hello, 0).await;
        assert_eq!((next_hello.received, texts(&heard)), (received, vec!["1", "2", "3"]));
        (client, hello) = (next, next_hello);
        at += 1;
    }
    // What was confirmed cannot be had again.
    assert!(stage.task.is_some());
    client.cut();
    stage.settle().await;
    let (_, _, heard) = resume(&mut stage, &hello, 3).await;
    assert!(heard.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_close_of_the_client_may_break_off_at_every_byte() {
    // Its Close; whether it said before that it comes back; whether the session is over then.
    let cases = [
        (close(4000, "done"), false, true),
        (close(1001, ""), false, false),
        (close(1000, "x"), true, false),
    ];
    for (last, detaches, is_over) in cases {
        let frame_len = frame(last.0, &last.1, true).len();
        for at in 0..=frame_len {
            let (mut stage, mut client, mut server, hello) = held(QUIET).await;
            client.text("said");
            if detaches {
                client.say(0x81, &hello.control(r#"{"detach":true}"#));
            }
            let bytes = client.frame(last.0, &last.1);
            client.write(&bytes[..at]);
            stage.settle().await;
            client.cut();
            stage.settle().await;
            let heard = server.hear();
            assert_eq!(texts(&heard), ["said"]);
            if is_over && at == frame_len {
                assert_eq!(heard.last(), Some(&last), "its word is passed on");
                assert!(stage.come_back(&hello.ticket, 0, ROOM).is_none());
                server.cut();
                stage.settle().await;
                stage.is_over();
                continue;
            }
            assert!(is_away(&stage) && heard.len() < 3, "{at} {heard:?}");
            let (mut client, hello, _) = resume(&mut stage, &hello, 0).await;
            assert_eq!(hello.received, 1);
            client.text("more");
            stage.settle().await;
            assert_eq!(texts(&server.hear()), ["more"], "{at}");
        }
    }
}

/// The new link begins with its hello; the old one ends between two frames, or in the middle of one and with nothing behind it.
#[tokio::test(start_paused = true)]
async fn a_link_is_taken_over_at_every_byte_of_what_it_is_sent() {
    let message = "m".repeat(150);
    let whole = frame(0x81, message.as_bytes(), false).len();
    for at in 0..=whole {
        let (mut stage, mut old, mut server) =
            Stage::open(QUIET, true, Rooms { client: 10, server: ROOM }).await;
        let heard = stage.trickle(&mut server, b"", &mut old).await;
        let first = Hello::of(&heard[0]);
        server.text(&message);
        while old.half() < at && old.half() < whole {
            stage.turn().await;
            if old.read(1) == 0 {
                break;
            }
        }
        assert_eq!(old.half(), at);
        // Said over the old link, and not read yet: the client says it again.
        let half = old.frame(0x81, b"half");
        old.write(&half[..3]);
        stage.settle().await;
        let (mut client, hello, heard) = resume(&mut stage, &first, 0).await;
        assert_eq!(texts(&heard), [&*message], "{at}: from its beginning");
        // The old one takes what there is for it.
        let mut heard = Vec::new();
        for _ in 0..100 {
            stage.turn().await;
            heard.append(&mut old.hear());
        }
        let (heard, controls) = first.sort(heard);
        assert_eq!(heard[0], (0x81, message.clone().into_bytes()), "what was begun is finished");
        assert_eq!(heard[1..], [close(1008, "taken over")], "{at}");
        assert!(controls.iter().all(|control| control["bye"]["why"] == "taken_over"), "{controls:?}");
        old.cut();
        client.text("mine");
        stage.settle().await;
        assert_eq!((texts(&server.hear()), stage.connections.len()), (vec!["mine"], 1), "{at}");
        // Only one of them is the session's: the ticket of the link before opens nothing once the new one is proven.
        client.say(0x81, &hello.control("{}"));
        stage.settle().await;
        assert!(stage.come_back(&first.ticket, 0, ROOM).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_may_go_on_behind_each_message_that_it_was_sent_and_no_other() {
    let (mut stage, mut client, mut server, mut hello) = held(QUIET).await;
    for n in 1..=10 {
        server.text(&format!("{n}"));
    }
    stage.settle().await;
    assert_eq!(client.hear().len(), 10);
    for seen in 0..=10 {
        // Over the old link, or after it.
        if seen % 2 == 0 {
            client.cut();
            stage.settle().await;
        }
        let (next, next_hello, heard) = resume(&mut stage, &hello, seen).await;
        let rest: Vec<String> = (seen + 1..=10).map(|n| n.to_string()).collect();
        assert_eq!(texts(&heard), rest);
        (client, hello) = (next, next_hello);
    }
    let (generation, handle) = stage.find(&hello.ticket).unwrap();
    let asked = tokio::spawn(async move { handle.ask(generation, 11).await });
    stage.settle().await;
    assert!(matches!(asked.await.unwrap(), Err(crate::session::request::NotResumed::Ahead(_))));
    assert_eq!(
        client.hear().last(),
        Some(&close(1002, "protocol error")),
        "the link that is there ends with the session"
    );
    server.cut();
    client.cut();
    stage.settle().await;
    stage.is_over();
    assert_eq!(stage.ends(SessionEnd::Fault), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn of_two_that_come_back_at_once_the_later_one_has_the_session() {
    let (mut stage, mut client, mut server, hello) = held(QUIET).await;
    client.cut();
    stage.settle().await;
    server.text("for one of them");
    let mut one = stage.come_back(&hello.ticket, 0, ROOM).unwrap();
    let mut other = stage.come_back(&hello.ticket, 0, ROOM).unwrap();
    stage.settle().await;
    let (lost, won) = (one.hear(), other.hear());
    assert_eq!(lost, [close(1008, "taken over")], "who has heard no hello takes no control frame for one");
    assert!(Hello::of(&won[0]).is_resumed);
    assert_eq!(texts(&won[1..]), ["for one of them"]);
    one.say(0x88, &close(1008, "").1);
    one.cut();
    stage.settle().await;
    assert_eq!(stage.connections.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_come_back_leaves_nothing() {
    let (mut stage, mut client, mut server, hello) = held(QUIET).await;
    server.text("unheard");
    client.text("heard");
    client.cut();
    stage.settle().await;
    let metrics = &stage.plan.metrics;
    assert_eq!((metrics.attached.get(), metrics.away.get(), stage.connections.len()), (0, 1, 0));
    stage.pass(secs(59)).await;
    assert!(is_away(&stage));
    stage.pass(secs(1)).await;
    assert!(stage.come_back(&hello.ticket, 0, ROOM).is_none());
    let heard = server.hear();
    assert_eq!(
        (texts(&heard), heard.last()),
        (vec!["heard"], Some(&close(1001, "client did not come back")))
    );
    // A server that does not answer has `close_timeout`.
    stage.pass(secs(30)).await;
    stage.is_over();
    assert_eq!(stage.ends(SessionEnd::Window), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_dials_for_a_client_that_is_away_and_its_return_does() {
    let (mut stage, mut client, mut server, hello) = held(QUIET).await;
    client.cut();
    stage.settle().await;
    server.text("last words");
    stage.settle().await;
    server.cut();
    stage.pass(secs(30)).await;
    assert!(stage.next_dial().is_none());
    let (mut client, hello, heard) = resume(&mut stage, &hello, 0).await;
    assert_eq!(texts(&hello.sort(heard).0), ["last words"]);
    let mut server = stage.new_server().await;
    server.text("first words");
    client.text("back");
    stage.settle().await;
    assert_eq!(texts(&server.hear()), ["back"]);
    let (heard, controls) = hello.sort(client.hear());
    assert_eq!(texts(&heard), ["first words"]);
    assert!(controls.contains(&serde_json::json!({"server": "back"})), "{controls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_waits_for_a_client_goes_on_when_that_one_is_away() {
    let policy = "{heartbeat: null, session: {resume_window: 1m}, delivery: {on_stall: backpressure, max_lag: {messages: 5}}}";
    let (mut stage, mut client, mut server) =
        Stage::open(policy, true, Rooms { client: 600, server: 100 }).await;
    let hello = Hello::of(&client.hear()[0]);
    let said: Vec<u8> = (0..100).flat_map(|n| server.frame(0x81, format!("{n:020}").as_bytes())).collect();
    let mut at = 0;
    for _ in 0..50 {
        at += server.write(&said[at..]);
        stage.settle().await;
    }
    assert!(at < said.len(), "it waits");
    client.cut();
    for _ in 0..50 {
        at += server.write(&said[at..]);
        stage.settle().await;
    }
    assert_eq!((at, stage.task().writer.log().head()), (said.len(), 100));
    server.cut();
    stage.settle().await;
    assert_eq!(stage.task().machine.server(), Server::Asleep, "its end is seen at once");
    let (_, hello, heard) = resume(&mut stage, &hello, 0).await;
    assert_eq!(texts(&hello.sort(heard).0).len(), 100);
}

#[tokio::test(start_paused = true)]
async fn each_close_of_ours_is_announced() {
    let (mut stage, mut client, mut server, hello) =
        held("{heartbeat: null, max_lifetime: 10s, session: {resume_window: 1m}}").await;
    client.text("one");
    server.text("first");
    stage.pass(secs(11)).await;
    let (heard, controls) = hello.sort(client.hear());
    assert_eq!(texts(&heard), ["first"]);
    assert_eq!(heard.last(), Some(&close(1012, "maximum lifetime reached")));
    let bye = &controls.last().unwrap()["bye"];
    assert_eq!((&bye["why"], &bye["resume"], &bye["ack"]), (&"lifetime".into(), &true.into(), &1.into()));
    client.say(0x88, &close(1012, "").1);
    client.cut();
    stage.settle().await;
    assert!(is_away(&stage));
    // The server's word comes after what it said before, and the link gets both.
    let (mut client, hello, _) = resume(&mut stage, &hello, 1).await;
    client.text("two");
    stage.settle().await;
    assert_eq!(texts(&server.hear()), ["one", "two"]);
    server.text("second");
    server.say(0x88, &close(4000, "over").1);
    stage.settle().await;
    let (heard, controls) = hello.sort(client.hear());
    assert_eq!((texts(&heard), heard.last()), (vec!["second"], Some(&close(4000, "over"))));
    let bye = &controls.last().unwrap()["bye"];
    assert_eq!((&bye["why"], &bye["resume"], &bye["ack"]), (&"server".into(), &false.into(), &2.into()));
    client.cut();
    server.cut();
    stage.settle().await;
    stage.is_over();
}

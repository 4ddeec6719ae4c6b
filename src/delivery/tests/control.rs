//! Clients that speak the protocol among the messages: what they count is what the log counts.

use super::*;
use crate::delivery::control::Prefix;
use crate::frame::encode;

const PREFIX: &[u8; 16] = b"~abcdefghijklmn:";

/// A client that was told hello at that number.
fn come(stage: &mut Stage, user: Option<&str>, sequence: u64) -> Client {
    let prefix = Prefix::new(*PREFIX).unwrap();
    let frame = encode::message(Kind::Text, b"hello");
    stage.hello.set(Some(FeedHello { prefix, frame, sequence }));
    match user {
        Some(user) => stage.come_as(false, Some(user), false),
        None => stage.come(false),
    }
}

fn control(json: &str) -> String {
    String::from_utf8([PREFIX, json.as_bytes()].concat()).unwrap()
}

/// As a client counts: each text that is no control frame is the next message, and `at` sets the number.
fn numbered(from: u64, texts: Vec<String>) -> Vec<(u64, String)> {
    let mut number = from;
    let mut counted = Vec::new();
    for text in texts {
        match text.strip_prefix("~abcdefghijklmn:{\"at\":") {
            Some(at) => number = at.trim_end_matches('}').parse().unwrap(),
            None => {
                number += 1;
                counted.push((number, text));
            }
        }
    }
    counted
}

#[tokio::test(start_paused = true)]
async fn the_hello_comes_first_and_at_once() {
    let mut stage = Stage::open("policy: {history: {on_join: all}}");
    for n in 1..=3 {
        stage.write(&format!("m{n}"));
    }
    let mut client = come(&mut stage, None, 0);
    let mut other = stage.come(false);
    stage.turn().await;
    assert_eq!(client.messages(), ["hello", "m1", "m2", "m3"]);
    assert_eq!(other.messages(), ["m1", "m2", "m3"], "who does not speak it hears nothing of it");
    let mut silent = Stage::open("");
    let mut client = come(&mut silent, None, 0);
    silent.turn().await;
    assert_eq!(client.messages(), ["hello"], "though there is no message");
}

#[tokio::test(start_paused = true)]
async fn who_counts_has_the_number_of_each_message_whatever_is_left_out() {
    let mut stage = Stage::open("");
    let mut ann = come(&mut stage, Some("ann"), 0);
    let mut bob = come(&mut stage, Some("bob"), 0);
    stage.turn().await;
    let to = [None, Some("ann"), Some("bob"), Some("bob"), None, None, Some("ann"), None, Some("bob")];
    for (n, to) in to.into_iter().enumerate() {
        stage.write_draft(&format!("m{}", n + 1), false, to);
    }
    stage.turn().await;
    let expected = |numbers: &[u64]| Vec::from_iter(numbers.iter().map(|n| (*n, format!("m{n}"))));
    let texts = ann.messages();
    assert_eq!(texts[0], "hello");
    assert_eq!(texts.iter().filter(|text| text.starts_with('~')).count(), 1, "{texts:?}");
    assert_eq!(numbered(0, texts[1..].to_vec()), expected(&[1, 2, 5, 6, 7, 8]));
    let texts = bob.messages();
    assert_eq!(numbered(0, texts[1..].to_vec()), expected(&[1, 3, 4, 5, 6, 8, 9]));
    // What comes later goes on from there: number nine was not for her.
    stage.write("m10");
    stage.turn().await;
    assert_eq!(ann.messages(), [control("{\"at\":9}"), "m10".into()]);
    assert_eq!(bob.messages(), ["m10"]);
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_told_as_the_number_that_follows() {
    let settings = "policy: {notices: true, history: {messages: 2, on_join: all}}";
    let mut stage = Stage::open(settings);
    let _other = stage.come(false);
    stage.turn().await;
    for n in 1..=5 {
        stage.write(&format!("m{n}"));
    }
    stage.turn().await;
    // It has had the first one, before two were trimmed.
    let mut client = come(&mut stage, None, 1);
    stage.turn().await;
    assert_eq!(client.messages(), ["hello".into(), control("{\"at\":3}"), "m4".into(), "m5".into()]);
}

#[tokio::test(start_paused = true)]
async fn a_question_is_answered_and_what_it_has_seen_is_held_against_what_it_was_sent() {
    let mut stage = Stage::open("policy: {heartbeat: null}");
    let mut client = come(&mut stage, None, 0);
    stage.turn().await;
    stage.write("m1");
    stage.turn().await;
    client.messages();
    client.say(0x81, control("{\"ping\":5,\"seen\":1}").as_bytes());
    stage.turn().await;
    assert_eq!(client.messages(), [control("{\"pong\":5}")]);
    assert_eq!(stage.metric("uplink_dropped_total"), 0.0, "that was no message");
    client.say(0x81, b"{\"ping\":5}");
    stage.turn().await;
    assert_eq!((client.messages().len(), stage.metric("uplink_dropped_total")), (0, 1.0));
    for wrong in ["{\"seen\":2}", "{\"seen\":0}", "{\"seen\":-1}", "{", ""] {
        let mut client = come(&mut stage, None, 1);
        stage.turn().await;
        client.say(0x81, control(wrong).as_bytes());
        stage.turn().await;
        assert_eq!(client.close_code(), Some(1002), "{wrong}");
        client.say(0x81, control("{\"ping\":9}").as_bytes());
        stage.turn().await;
        assert!(client.messages().is_empty(), "it is read no more");
    }
    // Control frames of another link are no control frames.
    let mut client = come(&mut stage, None, 1);
    stage.turn().await;
    client.messages();
    client.say(0x81, b"~nmlkjihgfedcba:{\"ping\":5}");
    stage.turn().await;
    assert!(client.messages().is_empty() && client.close_code().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_is_a_text_is_a_control_frame() {
    let mut stage =
        Stage::open("policy: {heartbeat: {mode: json, interval: 10s, timeout: 2s, max_missed: 1}}");
    let (mut client, mut silent) = (come(&mut stage, None, 0), come(&mut stage, None, 0));
    stage.turn().await;
    for client in [&mut client, &mut silent] {
        assert_eq!(client.messages(), ["hello"]);
    }
    stage.pass(secs(10)).await;
    let pings = client.messages();
    assert!(pings.len() == 1 && pings[0].starts_with(&control("{\"ping\":")), "{pings:?}");
    let number = pings[0].trim_start_matches(&control("{\"ping\":")).trim_end_matches('}').to_owned();
    client.say(0x81, control(&format!("{{\"pong\":{number}}}")).as_bytes());
    stage.pass(secs(3)).await;
    assert!(client.close_code().is_none(), "it has answered");
    silent.hear();
    assert!(silent.is_ended);
    assert_eq!(stage.ends(), HashMap::from([("heartbeat_timeout".into(), 1)]));
    assert_eq!(stage.metric("uplink_dropped_total"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn what_goes_on_to_the_server_is_without_control_frames() {
    let mut stage = Stage::with("policy: {heartbeat: null}", |receiver| {
        let (sender, queue) = mpsc::channel(1000);
        *receiver = Some(queue);
        FromClients::Forward(sender)
    });
    let mut client = come(&mut stage, None, 0);
    stage.turn().await;
    for text in ["one", "~two", &control("{\"ping\":1}"), "three"] {
        client.say(0x81, text.as_bytes());
    }
    stage.turn().await;
    let queue = stage.from_clients.as_mut().unwrap();
    let mut heard = Vec::new();
    while let Ok((_, payload)) = queue.try_recv() {
        heard.push(String::from_utf8(payload.to_vec()).unwrap());
    }
    assert_eq!(heard, ["one", "~two", "three"]);
}

#[tokio::test(start_paused = true)]
async fn who_may_say_nothing_may_say_control_frames() {
    let mut stage = Stage::with("policy: {heartbeat: null}", |_| FromClients::Refuse);
    let mut client = come(&mut stage, None, 0);
    stage.turn().await;
    client.say(0x81, control("{\"ping\":1}").as_bytes());
    stage.turn().await;
    assert_eq!(client.messages(), ["hello".into(), control("{\"pong\":1}")]);
    client.say(0x81, b"a message");
    stage.turn().await;
    assert_eq!(client.close_code(), Some(1008));
}

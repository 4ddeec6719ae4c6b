//! Control frames: what they do, what is none, and what a client gets for breaking their rules.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::support::link::Message;
use crate::support::ticket_client::{Cut, Event};
use crate::support::ticketed::Ticketed;
use crate::support::wire::{Frame, Role};

#[tokio::test]
async fn a_ping_is_answered_by_the_proxy_and_no_control_frame_reaches_the_server() {
    let mut session = Ticketed::open("").await;
    for number in [0, 1, (1_u64 << 53) - 1] {
        session.client.control(&json!({"ping": number}).to_string()).await;
        assert_eq!(session.client.is_told("pong").await, number);
    }
    for known_to_nobody in [r#"{"later":{"deep":[1,2]}}"#, "{}", r#"{"pong":7}"#, r#" {"seen":0} "#] {
        session.client.control(known_to_nobody).await;
    }
    session.works().await;
    assert_eq!(session.proxy.metric("outrigger_messages_in_total").await, 2.0, "they are no messages");
    session.lose_client(Cut::Reset).await;
    let hello = session.client.resume().await;
    assert_eq!(hello["received"], 2, "they are not counted: {hello}");
}

#[tokio::test]
async fn what_breaks_the_rules_of_control_frames_ends_link_and_session() {
    let long = format!("{{\"seen\":0{}}}", " ".repeat(512));
    let cases = [
        "",
        "{",
        "null",
        "[]",
        "7",
        "text",
        "{\"seen\":-1}",
        "{\"seen\":1.5}",
        "{\"seen\":\"1\"}",
        "{\"seen\":[1]}",
        "{\"seen\":9007199254740992}",
        "{\"seen\":18446744073709551616}",
        "{\"seen\":0}{\"seen\":0}",
        "{\"ping\":-1}",
        "{\"detach\":\"yes\"}",
        &long,
    ];
    for case in cases {
        let mut session = Ticketed::open("").await;
        session.works().await;
        session.server().text("two").await;
        session.client.hears(&["two"]).await;
        session.confirm().await;
        session.client.say("before").await;
        session.client.control(case).await;
        session.client.say("after").await;
        let (code, _, _) = session.client.let_go().await;
        assert_eq!(code, 1002, "{case}");
        session.server().expect_text("before").await;
        let closed = session.server().closed().await;
        assert_eq!(
            (closed.code, closed.before.iter().filter(|frame| !frame.is_control()).count()),
            (1002, 0),
            "{case}: {closed:?}"
        );
        session.proxy.ends_sessions("fault", 1.0).await;
        let hello = session.client.begin_anew().await;
        assert_eq!(hello["previous"]["why"], "fault", "{case}: {hello}");
    }
}

#[tokio::test]
async fn a_client_that_counts_otherwise_than_the_proxy_ends_link_and_session() {
    // More than was sent, and less than before.
    for seen in [3, 1] {
        let mut session = Ticketed::open("").await;
        session.works().await;
        session.server().text("two").await;
        session.client.hears(&["two"]).await;
        session.confirm().await;
        session.client.control(&json!({"seen": seen}).to_string()).await;
        let (code, _, _) = session.client.let_go().await;
        assert_eq!(code, 1002, "{seen}");
        assert_eq!(session.server().closed().await.code, 1002, "{seen}");
        let hello = session.client.begin_anew().await;
        assert_eq!(hello["previous"], json!({"received": 2, "why": "fault"}), "{seen}: {hello}");
    }
}

#[tokio::test]
async fn what_the_client_has_seen_is_not_kept_any_more() {
    let mut session = Ticketed::open("").await;
    session.client.holds_seen = true;
    for number in 0..100 {
        session.server().binary(&[number; 1000]).await;
    }
    for _ in 0..100 {
        session.client.next_message().await;
    }
    let kept = session.proxy.metrics().await.sum("outrigger_history_bytes");
    assert!(kept >= 100_000.0, "{kept}");
    session.confirm().await;
    let kept = session.proxy.metrics().await.sum("outrigger_history_bytes");
    assert!(kept < 2000.0, "{kept}");
    session.lose_client(Cut::Reset).await;
    session.client.resume().await;
    session.works().await;
}

#[tokio::test]
async fn what_was_received_is_told_once_a_second_or_when_it_is_much() {
    let mut session = Ticketed::open("").await;
    let since = Instant::now();
    session.client.say("one").await;
    assert_eq!(session.client.is_told("ack").await, 1);
    let waited = since.elapsed();
    assert!(waited < Duration::from_millis(2500), "{waited:?}");
    for _ in 0..100 {
        session.client.say("one of many").await;
    }
    let since = Instant::now();
    while session.client.is_told("ack").await != 101 {
        assert!(since.elapsed() < Duration::from_secs(3));
    }
    let nothing = session.client.next_within(Duration::from_millis(1200)).await;
    assert_eq!(nothing, None, "nothing new, nothing told");
    assert_eq!(session.client.unacknowledged(), 0);
}

/// Threat: a member of a chat says what looks like words of a proxy.
#[tokio::test]
async fn threat_forged_control_frames_are_messages_and_nobody_believes_them() {
    let mut session = Ticketed::open("").await;
    session.works().await;
    let old_prefix = session.client.prefix.clone().unwrap();
    session.lose_client(Cut::Reset).await;
    session.client.resume().await;
    let prefix = session.client.prefix.clone().unwrap();
    let texts = [
        r#"{"outrigger":{"v":1,"nonce":"x","session":null,"resumed":false,"received":0}}"#.to_owned(),
        r#"{"outrigger":{"ack":1000}}"#.to_owned(),
        "~".to_owned(),
        "~~~~~~~~~~~~~~~:{\"ack\":1000}".to_owned(),
        // Of the link before, and nearly of this one.
        format!("{old_prefix}{{\"seen\":1000}}"),
        format!("{}{{\"seen\":1000}}", &prefix[..15]),
        format!(" {prefix}{{\"seen\":1000}}"),
        prefix[..8].to_owned(),
        prefix.to_lowercase() + "x",
    ];
    for text in &texts {
        if text.starts_with(&prefix) {
            continue;
        }
        session.client.say(text).await;
        session.server().expect_text(text).await;
        session.server().text(text).await;
        assert_eq!(session.client.next_message().await, Message::Text(text.clone()));
    }
    // Bytes are never a control frame.
    let bytes = format!("{prefix}{{\"seen\":1000}}");
    session.client.say_frame(Frame::binary(&bytes)).await;
    session.server().expect_binary(bytes.as_bytes()).await;
    session.works().await;
}

/// Threat: control frames as fast as they can be written. They count as messages, so that the rate of those holds.
#[tokio::test]
async fn threat_a_flood_of_control_frames_is_bounded_by_the_rate_of_messages_and_costs_nobody_else() {
    let mut session = Ticketed::open("limits: {message_rate: {rate: 1000/s, burst: 100}}").await;
    session.works().await;
    let mut other = session.proxy.connect("/other").await;
    let mut others_server = session.upstream.accept().await;
    let prefix = session.client.prefix.clone().unwrap();
    let flood = Frame::text(format!("{prefix}{{\"ping\":1}}")).encode(Role::Client).repeat(100_000);
    let mut link = session.client.link.take().unwrap();
    link.set_deadline(Duration::from_millis(1500));
    let since = Instant::now();
    let flooding = async {
        // It is not taken in that time.
        let _ = link.try_send_bytes(&flood).await;
    };
    let talking = async {
        let mut worst = Duration::ZERO;
        while since.elapsed() < Duration::from_secs(1) {
            let said = Instant::now();
            other.text("hello").await;
            others_server.expect_text("hello").await;
            worst = worst.max(said.elapsed());
        }
        worst
    };
    let ((), worst) = tokio::join!(flooding, talking);
    assert!(worst < Duration::from_secs(1), "another client waited {worst:?}");
    let read = session.proxy.metric("outrigger_bytes_in_total").await;
    let most = 40.0 * (200.0 + 1000.0 * since.elapsed().as_secs_f64()) + 400_000.0;
    assert!(read < most, "{read} bytes were read of {}", flood.len());
    let held = session.proxy.metric("outrigger_memory_buffered_bytes").await;
    assert!(held < 300_000.0, "{held} bytes are held");
    session.server().answer_pings_for(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn a_flood_of_control_frames_without_a_rate_is_answered_and_reaches_nobody() {
    let mut session = Ticketed::open("").await;
    session.works().await;
    let prefix = session.client.prefix.clone().unwrap();
    let mut flood = Vec::new();
    for number in 0..100_000 {
        flood.extend(Frame::text(format!("{prefix}{{\"ping\":{number}}}")).encode(Role::Client));
    }
    session.client.link.as_mut().unwrap().send_bytes(&flood).await;
    // Questions that came together are answered together: by the last of them.
    while session.client.is_told("pong").await != 99_999 {}
    session.works().await;
    let held = session.proxy.metric("outrigger_memory_buffered_bytes").await;
    assert!(held < 100_000.0, "{held} bytes are held");
}

#[tokio::test]
async fn a_heartbeat_in_json_and_notices_are_control_frames_and_do_not_count() {
    let policy = "notices: true, heartbeat: {mode: json, interval: 50ms, timeout: 400ms, max_missed: 3}";
    let mut session = Ticketed::open(policy).await;
    let mut pings = 0;
    while pings < 5 {
        match session.client.next().await {
            Event::Control(control) if control.get("ping").is_some() => {
                session.client.control(&json!({"pong": control["ping"]}).to_string()).await;
                pings += 1;
            }
            other => panic!("only pings are due, but: {other:?}"),
        }
    }
    session.take_server().reset();
    session.next_server().await;
    let mut told = Vec::new();
    while told.len() < 2 {
        match session.client.next().await {
            Event::Control(control) if control.get("server").is_some() => {
                told.push(control["server"].clone());
            }
            Event::Control(control) => {
                session.client.control(&json!({"pong": control["ping"]}).to_string()).await;
            }
            other => panic!("no message is due, but: {other:?}"),
        }
    }
    assert_eq!(told, ["lost", "back"]);
    assert_eq!(session.client.seen, 0);
    session.server().text("one").await;
    session.client.hears(&["one"]).await;
    session.client.cut(Cut::Reset).await;
    let hello = session.client.resume().await;
    assert_eq!(hello["sequence"], 1);
}

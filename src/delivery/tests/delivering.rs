//! What reaches clients that take what they are sent.

use super::*;
use crate::connections::DeliveryStats;

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<String> {
    range.map(|n| format!("m{n}")).collect()
}

fn history(on_join: &str) -> String {
    format!("policy: {{history: {{on_join: {on_join}, critical: {{first: 1}}}}}}")
}

#[tokio::test(start_paused = true)]
async fn every_client_gets_every_message_in_order() {
    let mut stage = Stage::open("");
    let mut clients: Vec<_> = (0..200).map(|_| stage.come(false)).collect();
    stage.turn().await;
    for n in 1..=5 {
        stage.write(&format!("m{n}"));
        stage.turn().await;
    }
    for client in &mut clients {
        assert_eq!(client.messages(), numbers(1..=5));
    }
    assert_eq!(stage.metric("messages_out_total"), 1000.0);
    assert_eq!(stage.metric("memory_buffered_bytes"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_one_write_a_client() {
    let mut stage = Stage::open("");
    let mut clients: Vec<_> = (0..10).map(|_| stage.come_by_packets()).collect();
    stage.turn().await;
    for burst in 0..3 {
        let mut whole = Vec::new();
        for n in 1..=16 {
            let text = format!("burst {burst}, message {n}");
            stage.write(&text);
            whole.extend(frame(0x81, text.as_bytes(), false));
        }
        let polls = stage.polls;
        stage.turn().await;
        assert!(stage.polls - polls <= 2, "one pass serves all: {}", stage.polls - polls);
        for client in &mut clients {
            let mut packet = vec![0; 64 * 1024];
            let n = client.socket.as_mut().unwrap().read(&mut packet).unwrap();
            assert_eq!(packet[..n], whole, "all of it, in one write");
            let more = client.socket.as_mut().unwrap().read(&mut packet);
            assert_eq!(more.unwrap_err().kind(), ErrorKind::WouldBlock);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_joiner_gets_what_the_setting_says_before_what_is_new() {
    for (on_join, expected) in [
        ("none", vec![]),
        ("critical", vec!["c2", "c4"]),
        ("all", vec!["m1", "c2", "m3", "c4", "m5"]),
        ("{last: 2}", vec!["c2", "c4", "m5"]),
    ] {
        let mut stage = Stage::open(&history(on_join));
        for n in 1..=5 {
            let is_critical = n % 2 == 0;
            let text = format!("{}{n}", if is_critical { "c" } else { "m" });
            stage.write_draft(&text, is_critical, None);
        }
        let mut late = stage.come(false);
        // A message that comes before the shard has looked at the newcomer is new to it all the same.
        stage.write("m6");
        stage.turn().await;
        stage.write("m7");
        stage.turn().await;
        let heard = late.messages();
        let mut expected: Vec<_> = expected.into_iter().map(str::to_owned).collect();
        expected.extend(["m6".to_owned(), "m7".to_owned()]);
        assert_eq!(heard, expected, "{on_join}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_for_one_user_reaches_each_of_his_clients_and_nobody_else() {
    let mut stage = Stage::open("");
    let mut ann = [stage.come_as(false, Some("ann"), false), stage.come_as(false, Some("ann"), false)];
    let mut bob = stage.come_as(false, Some("bob"), false);
    let mut nobody = stage.come(false);
    stage.turn().await;
    stage.write("m1");
    stage.write_draft("secret", false, Some("ann"));
    stage.write("m3");
    stage.turn().await;
    for client in &mut ann {
        assert_eq!(client.messages(), ["m1", "secret", "m3"]);
    }
    assert_eq!(bob.messages(), ["m1", "m3"]);
    assert_eq!(nobody.messages(), ["m1", "m3"]);
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_and_pongs_acknowledge() {
    let mut stage = Stage::open("policy: {heartbeat: {interval: 30s}}");
    let mut client = stage.come(false);
    stage.turn().await;
    client.say(0x89, b"first");
    client.say(0x89, b"second");
    stage.turn().await;
    assert_eq!(client.hear(), [(0x8a, b"second".to_vec())], "the newest only, as RFC 6455 allows");
    stage.write("m1");
    stage.write("m2");
    stage.pass(secs(30)).await;
    let heard = client.hear();
    let (first, ping) = heard.last().unwrap();
    assert_eq!((*first, heard.len()), (0x89, 3));
    stage.write("m3");
    client.say(0x8a, ping);
    stage.turn().await;
    assert_eq!(stage.metric("delivery_acknowledged_total"), 2.0, "not what was sent after the ping");
    let [handle] = &stage.registry.all()[..] else { panic!("there is one client") };
    let receipts = DeliveryStats { sent: 3, asked: 2, acknowledged: 2, lag: 0, buffered: 0 };
    assert_eq!(handle.delivery_stats(), Some(receipts), "what no ping has asked about yet says nothing");
    client.socket = None;
    stage.turn().await;
    assert_eq!(stage.metric("message_failures_total"), 1.0);
    assert_eq!(stage.ends(), HashMap::from([("client_lost".to_owned(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_throttle_sends_the_newest_of_each_key_at_its_pace() {
    let mut stage = Stage::open("policy: {delivery: {throttle: {every: 100ms, key: /k}}}");
    let mut client = stage.come(false);
    stage.turn().await;
    let write = |stage: &mut Stage, text: &str, key: &str| {
        stage.writer.append(NewEntry {
            message: Message::from_frame(Kind::Text, frame(0x81, text.as_bytes(), false).into()),
            deflated: None,
            is_critical: false,
            key: Some(key.into()),
            to: None,
        });
        stage.writer.wake();
    };
    write(&mut stage, "a1", "a");
    stage.turn().await;
    assert_eq!(client.messages(), ["a1"], "the first one at once");
    for (text, key) in [("a2", "a"), ("b1", "b"), ("a3", "a")] {
        write(&mut stage, text, key);
        stage.turn().await;
    }
    assert_eq!(client.messages(), Vec::<String>::new());
    stage.pass(millis(101)).await;
    assert_eq!(client.messages(), ["b1", "a3"]);
    assert_eq!(stage.metric("messages_conflated_total"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn what_clients_say_ends_here_or_goes_to_the_server_or_ends_them() {
    let mut stage = Stage::open("");
    let mut client = stage.come(false);
    stage.turn().await;
    client.say(0x81, b"hello");
    client.say(0x82, &[0; 70_000]);
    stage.turn().await;
    assert_eq!(stage.metric("uplink_dropped_total"), 2.0);

    let mut stage = Stage::with("", |receiver| {
        let (sender, from_clients) = mpsc::channel(2);
        *receiver = Some(from_clients);
        FromClients::Forward(sender)
    });
    let mut client = stage.come(false);
    stage.turn().await;
    for text in ["one", "two", "three"] {
        client.say(0x81, text.as_bytes());
    }
    stage.turn().await;
    let receiver = stage.from_clients.as_mut().unwrap();
    assert_eq!(receiver.try_recv().unwrap(), (Kind::Text, Bytes::from_static(b"one")));
    assert_eq!(receiver.try_recv().unwrap(), (Kind::Text, Bytes::from_static(b"two")));
    assert!(receiver.try_recv().is_err(), "there was no room for the third");
    assert_eq!(stage.metric("uplink_dropped_total"), 1.0);

    let mut stage = Stage::with("", |_| FromClients::Refuse);
    let mut client = stage.come(false);
    stage.turn().await;
    client.say(0x81, b"hello");
    stage.turn().await;
    assert_eq!(client.close_code(), Some(1008));
}

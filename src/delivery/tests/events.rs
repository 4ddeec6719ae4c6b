//! Clients of a feed whose link is an event stream, read as WHATWG HTML §9.2.6 has it.

use tokio::io::AsyncReadExt;

use super::*;
use crate::config::OnJoin;
use crate::connections::Command;
use crate::delivery::close::CloseCause;
use crate::delivery::event_stream::EventStream;
use crate::delivery::events::tests::parser::{Dispatched, EventSource};
use crate::delivery::events::{DataForm, stream};
use crate::delivery::{SendStatus, WriteStatus};
use crate::frame::CloseCode;
use crate::telemetry::{By, Reason};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

fn wire(form: DataForm) -> EventsWire {
    let mut preface = HEAD.to_vec();
    stream::push_hello("epoch.", 0, br#"{"v":1}"#, &mut preface);
    EventsWire { form, preface: preface.into() }
}

/// One client that has an `EventSource`.
struct Listener {
    client: Client,
    source: EventSource,
    has_head: bool,
}

impl Listener {
    fn hear(&mut self) -> Vec<Dispatched> {
        if let Some(socket) = &mut self.client.socket {
            self.client.is_ended |= stage::read_all(socket, &mut self.client.heard);
        }
        let mut heard = std::mem::take(&mut self.client.heard);
        if !self.has_head && !heard.is_empty() {
            assert!(heard.starts_with(HEAD), "{:?}", String::from_utf8_lossy(&heard));
            heard.drain(..HEAD.len());
            self.has_head = true;
        }
        self.source.push(&heard);
        std::mem::take(&mut self.source.events)
    }

    /// Messages that have come since the last call: their ids, and what they say.
    fn messages(&mut self) -> Vec<(String, String)> {
        let events = self.hear().into_iter().filter(|event| event.name == "message");
        events
            .map(|event| {
                let json: serde_json::Value = serde_json::from_str(&event.data).unwrap();
                (event.last_event_id, json["data"].as_str().unwrap().to_owned())
            })
            .collect()
    }

    fn texts(&mut self) -> Vec<String> {
        self.messages().into_iter().map(|(_, text)| text).collect()
    }
}

impl Stage {
    fn listen_as(&mut self, is_narrow: bool, user: Option<&str>, form: DataForm) -> Listener {
        self.events.set(Some(wire(form)));
        let client = self.come_as(is_narrow, user, false);
        Listener { client, source: EventSource::default(), has_head: false }
    }

    fn listen(&mut self, is_narrow: bool) -> Listener {
        self.listen_as(is_narrow, None, DataForm::Text)
    }
}

#[tokio::test(start_paused = true)]
async fn who_listens_gets_what_all_get_with_its_numbers() {
    let mut stage = Stage::open("");
    let mut listeners: Vec<_> =
        (0..100).map(|n| stage.listen_as(false, None, [DataForm::Value, DataForm::Text][n % 2])).collect();
    let mut ann = stage.listen_as(false, Some("ann"), DataForm::Text);
    let mut socket = stage.come(false);
    stage.turn().await;
    stage.write("m1");
    stage.turn().await;
    stage.write_draft("secret", true, Some("ann"));
    for n in 3..=200 {
        stage.write(&format!("m{n}"));
    }
    stage.turn().await;
    let epoch = stage.log.epoch();
    let expected: Vec<_> =
        (1..=200).filter(|n| *n != 2).map(|n| (format!("{epoch:016x}.{n}"), format!("m{n}"))).collect();
    for listener in &mut listeners {
        assert_eq!(listener.messages(), expected);
    }
    let mut heard = ann.messages();
    assert_eq!(heard.remove(1), (format!("{epoch:016x}.2"), "secret".to_owned()));
    assert_eq!(heard, expected);
    let texts: Vec<_> = expected.into_iter().map(|(_, text)| text).collect();
    assert_eq!(socket.messages(), texts, "a WebSocket beside them gets frames");
    assert_eq!(stage.metric("messages_out_total"), 199.0 * 102.0 + 1.0);
    assert_eq!(stage.metric("memory_buffered_bytes"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_one_write_also_to_who_listens() {
    let mut stage = Stage::open("");
    let mut clients: Vec<_> = (0..10)
        .map(|_| {
            stage.events.set(Some(wire(DataForm::Text)));
            stage.come_by_packets()
        })
        .collect();
    stage.turn().await;
    let mut packet = vec![0; 64 * 1024];
    for client in &mut clients {
        let n = client.socket.as_mut().unwrap().read(&mut packet).unwrap();
        assert_eq!(packet[..n], wire(DataForm::Text).preface);
    }
    for n in 1..=16 {
        stage.write(&format!("message {n}"));
    }
    stage.turn().await;
    for client in &mut clients {
        let socket = client.socket.as_mut().unwrap();
        let n = socket.read(&mut packet).unwrap();
        assert_eq!(EventSource::read(&packet[..n]).events.len(), 16, "all of it, in one write");
        assert_eq!(socket.read(&mut packet).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_a_comment_and_talk_is_not() {
    let mut stage = Stage::open("policy: {idle_timeout: 20s, heartbeat: {interval: 5s, timeout: 3s}}");
    let mut listener = stage.listen(false);
    stage.pass(millis(14_900)).await;
    assert_eq!((listener.hear().len(), listener.source.comments), (1, 0), "the hello");
    stage.pass(millis(200)).await;
    assert!(listener.hear().is_empty() && listener.source.comments == 1);
    stage.pass(secs(45)).await;
    assert!(listener.hear().is_empty() && listener.source.comments == 4);
    for _ in 0..10 {
        stage.write("m");
        stage.pass(secs(10)).await;
    }
    assert_eq!((listener.texts().len(), listener.source.comments), (10, 4));
    stage.pass(secs(3600)).await;
    listener.hear();
    let comments = listener.source.comments;
    assert!((4 + 238..=4 + 241).contains(&comments), "{comments}");
    assert!(!listener.client.is_ended, "it can say nothing, and is not ended for that");
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_as_whose_it_is_after_all_there_is() {
    // Who ends it, what the client hears last, and what is counted.
    let close = r#"{"code":4321,"reason":"it is \"over\""}"#;
    let cases = [
        (Reason::UpstreamClose, By::Upstream, Some(close), "upstream_close"),
        (Reason::UpstreamLost, By::Proxy, None, "upstream_lost"),
    ];
    for (reason, by, told, counted) in cases {
        let mut stage = Stage::open("");
        let mut listener = stage.listen(false);
        stage.turn().await;
        stage.write("last");
        let cause = Arc::new(CloseCause::new(reason, by, CloseCode(4321), r#"it is "over""#));
        stage.shard_handle.close(&cause);
        stage.turn().await;
        let heard = listener.hear();
        let names: Vec<_> = heard.iter().map(|event| event.name.as_str()).collect();
        let closes = heard.last().filter(|event| event.name == "close").map(|event| event.data.as_str());
        assert_eq!((names[1], closes), ("message", told), "{counted}");
        assert_eq!(listener.source.retry.is_some(), told.is_none(), "{counted}");
        assert!(listener.client.is_ended, "{counted}: the stream ends");
        assert_eq!(stage.ends(), HashMap::from([(counted.to_owned(), 1)]));
        assert!(listener.client.held.upgrade().is_none(), "its place is given back");
    }
}

#[tokio::test(start_paused = true)]
async fn commands_and_dates_end_a_stream_as_they_end_a_socket() {
    let mut stage = Stage::open("");
    let mut listeners: Vec<_> = (0..3).map(|_| stage.listen(false)).collect();
    stage.expires = Some(secs(20));
    let mut expiring = stage.listen(false);
    stage.turn().await;
    let commands = [
        Command::CloseAt { at: Instant::now() + secs(5), code: CloseCode(1012) },
        Command::Replace,
        Command::Cut,
    ];
    for (listener, command) in listeners.iter().zip(commands) {
        listener.client.handle.send(command);
    }
    stage.turn().await;
    let ended = |listener: &mut Listener| {
        listener.hear();
        (listener.client.is_ended, listener.source.retry.is_some())
    };
    assert_eq!(
        listeners.iter_mut().map(ended).collect::<Vec<_>>(),
        [(false, false), (true, true), (true, false)]
    );
    stage.pass(millis(5_100)).await;
    assert_eq!(ended(&mut listeners[0]), (true, true));
    stage.pass(secs(15)).await;
    assert_eq!(ended(&mut expiring), (true, true));
    let counted = ["drained", "replaced", "aborted", "expired"].map(|reason| (reason.to_owned(), 1));
    assert_eq!(stage.ends(), HashMap::from(counted));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_noticed_at_once_and_who_talks_is_not_listened_to_for_long() {
    let mut stage = Stage::open("");
    let (mut leaving, mut talking) = (stage.listen(false), stage.listen(false));
    stage.turn().await;
    leaving.hear();
    leaving.client.socket = None;
    stage.turn().await;
    assert_eq!(stage.ends(), HashMap::from([("client_close".to_owned(), 1)]));
    // A request behind the first one is nothing to us; whoever goes on is cut.
    let say = |listener: &mut Listener, bytes: usize| {
        let socket = listener.client.socket.as_mut().unwrap();
        socket.write_all(&vec![b'x'; bytes]).unwrap();
    };
    say(&mut talking, 16 * 1024);
    stage.turn().await;
    stage.write("m");
    stage.turn().await;
    assert_eq!((talking.texts().len(), talking.client.is_ended), (1, false));
    say(&mut talking, 1);
    stage.turn().await;
    talking.hear();
    assert!(talking.client.is_ended);
    assert_eq!(stage.ends()["protocol_error"], 1);
    assert_eq!(stage.metric("uplink_dropped_total"), 0.0, "it was no message");
}

const SLOW: &str = "policy: {heartbeat: null, delivery: {max_lag: {messages: 20}, cool_down: 2s, max_trips: 3}, \
                    history: {messages: 50}}";

#[tokio::test(start_paused = true)]
async fn who_never_reads_is_tripped_and_in_the_end_closed_and_nobody_else_notices() {
    let mut stage = Stage::open(SLOW);
    let mut stuck = stage.listen(true);
    let (mut well, mut socket) = (stage.listen(false), stage.come(false));
    stage.turn().await;
    for burst in [60, 30] {
        stage.flood(burst, 1000);
        stage.turn().await;
        assert_eq!((well.texts().len(), socket.messages().len()), (burst, burst));
    }
    assert_eq!(stage.metric("breaker_state"), 2.0);
    let (held, log) = (stage.budget.used(), stage.metric("history_bytes") as usize);
    assert!(held > log && held < log + 128 * 1024, "one batch of events is kept: {held} and {log}");
    stage.pass(secs(11)).await;
    assert_eq!(stage.ends(), HashMap::from([("slow_consumer".to_owned(), 1)]));
    assert!(stuck.client.held.upgrade().is_none(), "its place is given back");
    let heard = stuck.texts();
    assert!(stuck.client.is_ended && !heard.is_empty());
    assert!(heard.iter().all(|text| text.len() == 1009), "whole events only");
    stage.flood(10, 1000);
    stage.turn().await;
    assert_eq!((well.texts().len(), socket.messages().len()), (10, 10));
    assert_eq!(stage.budget.used(), stage.metric("history_bytes") as usize);
}

#[tokio::test(start_paused = true)]
async fn who_reads_again_is_told_the_gap_and_its_numbers_say_it_too() {
    for resume_from in ["oldest", "latest"] {
        let slow = SLOW.replace("max_trips: 3", &format!("max_trips: 9, resume_from: {resume_from}"));
        let mut stage = Stage::open(&slow);
        let mut listener = stage.listen(true);
        stage.turn().await;
        for _ in 0..10 {
            stage.flood(20, 1000);
            stage.turn().await;
        }
        let mut heard = listener.hear();
        for _ in 0..100 {
            stage.pass(millis(100)).await;
            heard.extend(listener.hear());
        }
        stage.flood(1, 10);
        stage.turn().await;
        heard.extend(listener.hear());
        let missed = stage.metric("messages_missed_total") as u64;
        assert!(missed > 0);
        let (mut last, mut messages, mut told) = (0, 0, 0);
        for event in &heard[1..] {
            let json: serde_json::Value = serde_json::from_str(&event.data).unwrap();
            if event.name == "outrigger" {
                told += json["missed"].as_u64().unwrap();
                assert!(json["at"].as_u64().unwrap() > last, "it leads on");
                continue;
            }
            let number = json["sequenceNumber"].as_u64().unwrap();
            assert!(event.last_event_id.ends_with(&format!(".{number}")) && number > last);
            (last, messages) = (number, messages + 1);
        }
        assert_eq!((last, messages + missed, told), (201, 201, missed), "{resume_from}");
    }
}

#[tokio::test(start_paused = true)]
async fn memory_is_taken_from_who_listens_as_from_all() {
    let mut stage = Stage::open(
        "memory: {max_buffered: 1MiB}\npolicy: {heartbeat: null, history: {messages: 4}, \
         delivery: {stall_timeout: 10m, max_lag: {messages: 100000, bytes: 64MiB}}}",
    );
    let mut stuck: Vec<_> = (0..10).map(|_| stage.listen(true)).collect();
    let mut well = stage.listen(false);
    stage.turn().await;
    // The same events for all of them are in memory once.
    stage.flood(1, 200_000);
    stage.turn().await;
    assert_eq!(well.texts().len(), 1);
    assert!(stage.budget.used() < 3 * 200_000, "{}", stage.budget.used());
    let mut heard = 1;
    for listener in &mut stuck {
        for _ in 0..200 {
            listener.hear();
            stage.turn().await;
        }
        stage.flood(1, 100_000);
        stage.turn().await;
        heard += well.texts().len();
        assert!(stage.budget.used() <= 1 << 20, "{}", stage.budget.used());
    }
    assert_eq!(heard, 11, "nobody else noticed");
    let cut = stage.ends().get("slow_consumer").copied().unwrap_or(0);
    assert!((1..=10).contains(&cut), "{cut}");
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_when_it_is_closed_is_reset_in_time() {
    let mut stage = Stage::open("policy: {heartbeat: null, close_timeout: 3s}");
    let mut stuck = stage.listen(true);
    stage.turn().await;
    stage.flood(30, 1000);
    stage.turn().await;
    stuck.client.handle.send(Command::Replace);
    stage.pass(millis(2_900)).await;
    assert_eq!(stage.registry.len(), 1);
    stage.pass(millis(200)).await;
    assert_eq!(stage.registry.len(), 0);
    assert_eq!(stage.ends(), HashMap::from([("replaced".to_owned(), 1)]));
    stuck.hear();
    assert_eq!((stuck.client.is_ended, stuck.source.retry), (true, None));
}

/// Some listen, some have a socket; some stop reading, and read again.
#[tokio::test(start_paused = true)]
async fn random_lives_of_who_listens_lose_nothing_in_silence() {
    for seed in 0..40 {
        walk(seed).await;
    }
}

async fn walk(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut stage = Stage::open(
        "policy: {heartbeat: null, history: {messages: 30, bytes: 64KiB}, \
         delivery: {max_lag: {messages: 15}, cool_down: 1s, max_trips: 100}}",
    );
    let mut listeners: Vec<(Listener, u64, Vec<u64>, bool)> = Vec::new();
    let read = |(listener, from, heard, _): &mut (Listener, u64, Vec<u64>, bool)| {
        for (id, text) in listener.messages() {
            let number: u64 = text[..8].parse().unwrap();
            assert!(id.ends_with(&format!(".{number}")), "seed {seed}");
            heard.push(number);
        }
        assert!(heard.is_sorted_by(|a, b| a < b), "seed {seed}: in order and once");
        assert!(heard.first().is_none_or(|first| first >= from), "seed {seed}");
    };
    let mut socket = stage.come(false);
    let mut by_socket = 0;
    for step in 0..400 {
        match random.u8(..100) {
            0..15 if listeners.len() < 10 && step < 150 => {
                let form = if random.bool() { DataForm::Value } else { DataForm::Text };
                let is_narrow = random.bool();
                let listener = stage.listen_as(is_narrow, None, form);
                listeners.push((listener, stage.written + 1, Vec::new(), true));
            }
            15..60 if step < 150 => {
                let (n, size) = (random.usize(1..8), random.usize(1..2000));
                stage.flood(n, size);
            }
            60..75 if step < 150 => {
                if let Some((.., is_reading)) = random.choice(&mut listeners) {
                    *is_reading = !*is_reading;
                }
            }
            75..80 => {
                let time = millis(random.u64(1..1500));
                stage.pass(time).await;
            }
            _ => stage.turn().await,
        }
        listeners.iter_mut().filter(|(.., is_reading)| *is_reading || step >= 150).for_each(read);
        by_socket += socket.messages().len() as u64;
    }
    for _ in 0..60 {
        stage.pass(millis(500)).await;
        listeners.iter_mut().for_each(read);
        by_socket += socket.messages().len() as u64;
    }
    let (mut heard, mut due) = (by_socket, stage.written);
    for (_, from, had, _) in &listeners {
        heard += had.len() as u64;
        due += stage.written + 1 - from;
        assert!(stage.written < *from || had.last() == Some(&stage.written), "seed {seed}: the newest comes");
    }
    let missed = stage.metric("messages_missed_total") + stage.metric("messages_conflated_total");
    assert_eq!(heard + missed as u64, due, "seed {seed}");
    assert_eq!(stage.registry.len(), listeners.len() + 1, "seed {seed}: nobody was closed");
    drop((listeners, socket));
    stage.turn().await;
    drop(stage.shard.take());
    let history = stage.metric("history_bytes") as usize;
    assert_eq!((stage.registry.len(), stage.budget.used()), (0, history), "seed {seed}");
}

/// By itself, over a pipe that takes a few bytes at a time: everything arrives whole and in order, and then the end.
#[tokio::test(start_paused = true)]
async fn cut_anywhere_a_stream_arrives_as_it_was_sent() {
    // The runtime's budget for this test's task is none of the stream's business.
    unconstrained(async {
        for room in 1..40 {
            cut_at(room).await;
        }
    })
    .await;
}

async fn cut_at(room: usize) {
    let stage = Stage::open("");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let Arrival { connection, .. } = stage.arrive(ours, &theirs, None, false, Box::new(()));
    let (pipe, mut far) = tokio::io::duplex(room);
    let transport = Transport { stream: Stream::Scripted(pipe), read_ahead: Bytes::new() };
    let now = Instant::now();
    let mut link = EventStream::new(transport, wire(DataForm::Text), connection.guard, now);
    let (mut heard, mut expected) = (Vec::new(), wire(DataForm::Text).preface.to_vec());
    let pieces =
        [&b"id: e.1\ndata: 1\n\n"[..], stream::COMMENT, b"id: e.2\ndata: {}\n\nid: e.3\ndata: 3\n\n"];
    let mut pieces = pieces.iter().enumerate();
    let mut cx = Context::from_waker(Waker::noop());
    let cause = CloseCause::new(Reason::UpstreamClose, By::Upstream, CloseCode(1000), "over");
    let mut is_closing = false;
    loop {
        match link.poll_send(&mut cx, now) {
            SendStatus::Closed => break,
            SendStatus::Ready if !is_closing => match pieces.next() {
                Some((n, piece)) => {
                    expected.extend_from_slice(piece);
                    // Both ways of sending.
                    let status = if n % 2 == 0 {
                        link.send(&mut cx, &Bytes::from_static(piece), 1, now)
                    } else {
                        link.send_slice(&mut cx, piece, 1, now)
                    };
                    assert_ne!(status, WriteStatus::Broken);
                }
                None => {
                    link.close(&cause, secs(5), now);
                    is_closing = true;
                    expected
                        .extend_from_slice(b"event: close\ndata: {\"code\":1000,\"reason\":\"over\"}\n\n");
                }
            },
            SendStatus::Ready | SendStatus::Blocked => {}
        }
        let mut byte = [0];
        if let Poll::Ready(Ok(n)) = pin!(far.read(&mut byte)).as_mut().poll(&mut cx) {
            heard.extend_from_slice(&byte[..n]);
        }
    }
    drop(link);
    far.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, expected, "{room} bytes at a time");
}

#[tokio::test(start_paused = true)]
async fn a_late_listener_gets_what_the_setting_says() {
    let mut stage = Stage::open("policy: {history: {on_join: {last: 2}}}");
    assert_eq!(stage.policy.history.on_join, OnJoin::Last(2));
    for n in 1..=5 {
        stage.write(&format!("m{n}"));
    }
    let mut late = stage.listen(false);
    stage.turn().await;
    assert_eq!(late.texts(), ["m4", "m5"]);
}

#[test]
fn a_link_is_no_larger_than_a_web_socket_and_a_stream_is_small() {
    use crate::delivery::link::Link;
    use crate::delivery::websocket::WebSocket;
    assert_eq!(size_of::<Link>(), size_of::<WebSocket>());
    assert!(size_of::<EventStream>() <= 256, "{}", size_of::<EventStream>());
}

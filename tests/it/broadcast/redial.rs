//! A shared link whose server closes it: which Closes end the feed, what is said again to the next link, and what
//! becomes of clients that had said something to the last one.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::support::DEADLINE;
use crate::support::client::RawClient;
use crate::support::feed::{feed, joined};
use crate::support::logged::Logged;
use crate::support::upstream::{Act, Answer, Upstream};
use crate::support::wire::{self, Frame};

/// Dials again at once.
const EAGER: &str = "redial: {base: 1ms, cap: 20ms}";
const LOST: &str = r#"{"type":"outrigger","event":"upstream_lost"}"#;
const RESTORED: &str = r#"{"type":"outrigger","event":"upstream_restored"}"#;

#[tokio::test]
async fn a_close_that_is_not_final_is_dialled_again_and_nobody_is_let_go() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, EAGER).spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 3).await;
    let closes: Vec<Frame> = [1000, 1001, 1002, 1007, 1009, 1011, 1012, 1013, 1014]
        .map(|code| Frame::close(code, "idle"))
        .into_iter()
        .chain([Frame::empty_close()])
        .collect();
    let count = closes.len();
    for close in closes {
        server.send_frame(&close).await;
        let echo = server.closed().await;
        assert!(echo.code == 1005 || echo.code == close.close_status().0, "{close:?}: {echo:?}");
        server = upstream.accept().await;
        server.text("back").await;
        for client in &mut clients {
            client.expect_text("back").await;
        }
    }
    assert_eq!(upstream.accepted(), 1 + count);
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("outrigger_disconnections_total"), 0.0, "nobody was let go");
    assert_eq!(proxy.losses("closed").await, count as f64);
}

#[tokio::test]
async fn codes_that_final_codes_holds_are_the_servers_word_and_no_others() {
    let policy = format!("{EAGER}, broadcast: {{final_codes: [1000, 1005, 4001-4003]}}");
    let ends = async |close: Frame, told: (u16, &'static str)| {
        let upstream = Upstream::by_hand().await;
        let proxy = feed(&upstream, &policy).spawn().await;
        let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 2).await;
        for code in [1008, 4000, 4004] {
            server.close(code, "not yet").await;
            server = upstream.accept().await;
        }
        server.text("last words").await;
        server.send_frame(&close).await;
        for client in &mut clients {
            client.expect_text("last words").await;
            let closed = client.closed().await;
            assert_eq!((closed.code, &*closed.reason), told);
        }
        proxy.has("channels", 0.0).await;
        assert_eq!(upstream.accepted(), 4, "nobody dialled again");
    };
    // Each server leaves the end of its connections to us, and that is waited for.
    tokio::join!(
        ends(Frame::close(1000, "over"), (1000, "over")),
        // A Close without a code cannot be sent on as one that has this code.
        ends(Frame::empty_close(), (1005, "")),
        ends(Frame::close(4001, "first"), (4001, "first")),
        ends(Frame::close(4003, "last"), (4003, "last")),
    );
}

#[tokio::test]
async fn a_server_that_closes_whoever_is_silent_keeps_the_feed_of_clients_that_say_nothing() {
    let upstream = Upstream::by_hand().await;
    // The default, sooner: this server has less patience than others.
    let proxy = feed(&upstream, EAGER).yaml("upstream: {heartbeat: {interval: 200ms}}").spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 2).await;
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        match server.receive_within(Duration::from_secs(5)).await {
            Some(crate::support::link::Received::Frame(frame)) if frame.opcode == wire::PING => {
                server.send_frame(&Frame::pong(frame.payload)).await;
            }
            // As Cowboy does after 60 s.
            other => panic!("it is silent, and would be closed: {other:?}"),
        }
    }
    server.text("still here").await;
    for client in &mut clients {
        client.expect_text("still here").await;
    }
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_server_that_closes_each_link_at_once_is_asked_less_and_less_and_in_the_end_given_up() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::by_hand().await;
    let redial = "redial: {base: 20ms, factor: 2, cap: 400ms, give_up: 2s, reset_after: 10s}";
    let proxy = feed(&upstream, redial).spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 2).await;
    upstream.change(Upstream::builder().on_open([Act::Close(1000, "idle")]));
    server.close(1000, "idle").await;
    server.closed().await;
    for client in &mut clients {
        let closed = client.closed().await;
        assert_eq!((closed.code, &*closed.reason), (1012, "upstream lost"));
    }
    proxy.has("channels", 0.0).await;
    let accepted = upstream.accepted();
    // About 4 while the pauses grow, and then one in 200 ms: chance may halve them, and no more.
    assert!((3..=40).contains(&accepted), "{accepted} dials in 2 s");
    // Given up is by the clock: one dial may be on its way then.
    let uncounted = accepted as f64 - proxy.losses("closed").await;
    assert!((0.0..=1.0).contains(&uncounted), "each is counted: {uncounted} of {accepted} are not");
    let line = logged.line("the feed's server left");
    assert_eq!((&line["route"], &line["code"]), (&"feed".into(), &1000.into()), "{line}");
    assert_eq!(logged.line("the feed is over")["code"], 1012);
    let lines = logged.text().matches("the feed's server left").count();
    assert!((2..=4).contains(&lines), "{lines} lines in 2 s");
    assert!(
        logged.text().contains("\"left_out\":"),
        "those that were not written are told: {}",
        logged.text()
    );
}

#[tokio::test]
async fn a_feeds_close_reaches_its_clients_at_once_also_where_the_server_does_not_end_tcp() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "close_timeout: 60s").spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 3).await;
    server.text("last words").await;
    server.close(4001, "over").await;
    for client in &mut clients {
        client.expect_text("last words").await;
        let closed = client.closed().await;
        assert_eq!((closed.code, &*closed.reason), (4001, "over"));
    }
    // The server was answered, and its end of the connection is waited for beside that.
    assert_eq!(server.next_frame().await.close_status().0, 4001);
    server.expect_silence(Duration::from_millis(100)).await;
    // Whoever comes then has a channel of its own.
    let mut next = proxy.connect("/feed/a").await;
    upstream.accept().await.text("again").await;
    next.expect_text("again").await;
    server.finish_writing().await;
    server.discard_to_end().await;
}

#[tokio::test]
async fn a_server_that_does_not_end_tcp_is_dialled_again_at_once_whatever_it_did() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, &format!("close_timeout: 60s, {EAGER}")).spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 2).await;
    let mut held = Vec::new();
    for last in [Frame::close(1012, ""), Frame::text("masked").masked([1, 2, 3, 4]), Frame::empty_close()] {
        server.send_frame(&last).await;
        let next = upstream.accept().await;
        held.push(std::mem::replace(&mut server, next));
        server.text("back").await;
        for client in &mut clients {
            client.expect_text("back").await;
        }
    }
    // One that is left is waited for beside the feed, and not one for each link there ever was.
    for old in &mut held[..2] {
        timeout(DEADLINE, old.discard_to_end()).await.expect("it is let go when the next one ends");
    }
    assert_eq!(held[2].next_frame().await.opcode, wire::CLOSE);
    held[2].expect_silence(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn what_the_greeting_says_goes_to_each_link_before_what_clients_say() {
    let upstream = Upstream::by_hand().await;
    let policy = format!(
        "{EAGER}, compression: deflate, broadcast: {{uplink: forward, anonymous: true, \
         greeting: ['{{\"op\":\"subscribe\"}}', {{base64: AP8B}}, '']}}"
    );
    let proxy = feed(&upstream, &policy).spawn().await;
    let dial = || {
        let dial = proxy.dial().path("/feed/a");
        dial.header("Sec-WebSocket-Extensions", "permessage-deflate; client_no_context_takeover")
    };
    let mut client = dial().open().await;
    client.text("what a client says").await;
    let mut server = upstream.accept().await;
    for round in 0..3 {
        if round > 0 {
            server.close(1001, "").await;
            server = upstream.accept().await;
            // Not before it was heard that the link is there: until then it would be dropped.
            proxy.has("channels_connected", 1.0).await;
            client.text("what a client says").await;
        }
        let frames = [server.next_frame().await, server.next_frame().await, server.next_frame().await];
        for (frame, (opcode, payload)) in frames.iter().zip([
            (wire::TEXT, &b"{\"op\":\"subscribe\"}"[..]),
            (wire::BINARY, b"\x00\xff\x01"),
            (wire::TEXT, b""),
        ]) {
            assert_eq!((frame.opcode, &*frame.payload, frame.fin, frame.rsv), (opcode, payload, true, 0));
            assert!(frame.is_masked(), "as a client's");
        }
        if round == 0 {
            server.expect_text("what a client says").await;
        }
        // An answer to it is a message as any other.
        server.text("subscribed").await;
        client.expect_text_of_feed("subscribed").await;
    }
}

trait OfFeed {
    /// The next message that is no notice.
    async fn expect_text_of_feed(&mut self, expected: &str);
}

impl OfFeed for RawClient {
    async fn expect_text_of_feed(&mut self, expected: &str) {
        loop {
            match self.next_message().await {
                crate::support::link::Message::Text(text) if text == LOST || text == RESTORED => {}
                other => return assert_eq!(other, crate::support::link::Message::Text(expected.to_owned())),
            }
        }
    }
}

#[tokio::test]
async fn a_greeting_goes_where_clients_have_nothing_to_say_too() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, &format!("{EAGER}, broadcast: {{greeting: [subscribe]}}")).spawn().await;
    let (_clients, mut server) = joined(&proxy, &upstream, "/feed/a", 1).await;
    server.expect_text("subscribe").await;
    server.reset();
    upstream.accept().await.expect_text("subscribe").await;
}

#[tokio::test]
async fn clients_whose_words_went_to_the_server_are_told_that_it_is_another_one_by_default() {
    for (uplink, is_told) in [("forward, anonymous: true", true), ("drop", false)] {
        let upstream = Upstream::by_hand().await;
        let proxy = feed(&upstream, &format!("{EAGER}, broadcast: {{uplink: {uplink}}}")).spawn().await;
        let (mut clients, server) = joined(&proxy, &upstream, "/feed/a", 2).await;
        server.reset();
        let mut server = upstream.accept().await;
        server.text("news").await;
        for client in &mut clients {
            if is_told {
                client.expect_text(LOST).await;
                client.expect_text(RESTORED).await;
            }
            client.expect_text("news").await;
        }
    }
}

#[tokio::test]
async fn clients_of_a_lost_server_are_closed_one_by_one_when_it_is_back_where_that_is_asked_for() {
    let mut upstream = Upstream::by_hand().await;
    let policy = format!(
        "{EAGER}, broadcast: {{uplink: forward, anonymous: true, on_redial: close}}, \
         close_codes: {{upstream_lost: 4012}}"
    );
    let proxy = feed(&upstream, &policy).yaml("drain: {spread: 1500ms, timeout: 5s}").spawn().await;
    let (clients, server) = joined(&proxy, &upstream, "/feed/a", 60).await;
    upstream.stop().await;
    server.reset();
    proxy.has("channels_connected", 0.0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(proxy.feed("clients").await, 60.0, "nobody is sent to a server that is not there");
    upstream.start().await;
    let mut server = upstream.accept().await;
    proxy.has("channels_connected", 1.0).await;
    let back = Instant::now();
    // Whoever comes from here on speaks to the new one, and stays.
    let mut newcomer = proxy.connect("/feed/a").await;
    newcomer.text("subscribe").await;
    server.expect_text("subscribe").await;
    let mut ends = tokio::task::JoinSet::new();
    for mut client in clients {
        ends.spawn(async move {
            let closed = client.closed().await;
            assert_eq!((closed.code, &*closed.reason), (4012, "upstream lost"));
            assert_eq!(closed.before, [], "told by the Close, and by no notice");
            back.elapsed()
        });
    }
    let mut times: Vec<Duration> = ends.join_all().await;
    times.sort_unstable();
    assert!(times[59] - times[0] > Duration::from_millis(750), "over the spread: {times:?}");
    assert!(times[30] - times[0] > Duration::from_millis(250), "one by one: {times:?}");
    proxy.has("clients", 1.0).await;
    server.text("for you").await;
    newcomer.expect_text("for you").await;
    let ended = "outrigger_disconnections_total{reason=\"upstream_lost\",route=\"feed\"}";
    assert_eq!(proxy.metric(ended).await, 60.0);
}

#[tokio::test]
async fn a_server_that_is_lost_again_keeps_nobody_longer_that_is_to_be_closed() {
    let upstream = Upstream::by_hand().await;
    let policy = format!("{EAGER}, broadcast: {{on_redial: close}}");
    let proxy = feed(&upstream, &policy).yaml("drain: {spread: 1s, timeout: 5s}").spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 3).await;
    // Each redial within the spread would begin it anew.
    let begun = Instant::now();
    while proxy.feed("clients").await > 0.0 {
        assert!(begun.elapsed() < DEADLINE, "they stay as long as it comes and goes");
        server.reset();
        server = match timeout(Duration::from_millis(500), upstream.accept()).await {
            Ok(server) => server,
            Err(_) => break,
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for client in &mut clients {
        assert_eq!(client.closed().await.code, 1012);
    }
}

#[tokio::test]
async fn a_server_that_refuses_a_redial_ends_the_feed_though_its_last_link_is_still_closing() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, &format!("close_timeout: 60s, {EAGER}")).spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 2).await;
    upstream.change(Upstream::builder().answering(Answer::refuse(401, &[], "")));
    server.close(1012, "").await;
    for client in &mut clients {
        assert_eq!(client.closed().await.code, 1008);
    }
    assert_eq!(proxy.feed("channels").await, 1.0, "it counts until its server is done");
    server.finish_writing().await;
    proxy.has("channels", 0.0).await;
}

//! Nothing is left behind: not by ten thousand connections that break in every way, not by a flood.

use std::sync::Arc;
use std::time::Duration;

use crate::support::DEADLINE;
use crate::support::link::{Link, Received};
use crate::support::proxy::Proxy;
use crate::support::upstream::{Act, Answer, Plain, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::{self, Frame, Length, Role};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Connections in progress at once.
const AT_ONCE: usize = 64;

/// How an upstream behaves, by the path it is asked for. Everything else is an echo, which does what it
/// is told in a text of these.
fn moody_upstream() -> crate::support::upstream::Builder {
    let answer = |request: &crate::support::http::Head| {
        let key = request.header("Sec-WebSocket-Key").unwrap_or_default();
        let accept = crate::support::http::accept_value(key);
        let switching = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        match request.target() {
            "/refuse" => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".to_vec(),
            "/not-101" => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
            "/bad-accept" => switching.replace(&accept, "bm90IHRoZSBjbGllbnQncyBrZXk=").into_bytes(),
            "/half-an-answer" => switching.as_bytes()[..40].to_vec(),
            "/garbage" => b"\x16\x03\x01 this is no HTTP\r\n\r\n".to_vec(),
            "/talks-first" => [switching.as_bytes(), &Frame::text("hello").encode(Role::Server)].concat(),
            _ => switching.into_bytes(),
        }
    };
    let torn = Frame::binary("torn").length(Length::Claimed(70_000)).encode(Role::Server);
    Upstream::builder()
        .answering(Answer::With(Arc::new(answer)))
        .on_request(Plain::fixed(200, &[], "plain"))
        .on_text("close", [Act::Close(4000, "as you like")])
        .on_text("hang up", [Act::Hangup])
        .on_text("reset", [Act::Reset])
        .on_text("die", [Act::DieMidFrame])
        .on_text("tear and reset", [Act::Bytes(torn), Act::Reset])
        .on_text("offend", [Act::Send(Frame::new(0x3, "reserved")), Act::Ignore])
        .on_text("flood and hang up", [Act::Flood { messages: 20, size: 5000 }, Act::Hangup])
        .on_text("flood and reset", [Act::Flood { messages: 20, size: 5000 }, Act::Reset])
}

const ORDERS: [&str; 8] =
    ["close", "hang up", "reset", "die", "tear and reset", "offend", "flood and hang up", "flood and reset"];

const BAD_ANSWERS: [&str; 5] = ["/refuse", "/not-101", "/bad-accept", "/half-an-answer", "/garbage"];

/// Ends a client's side: in order, in the middle of things, or with a reset; then sees the end.
async fn go(mut link: Link, random: &mut fastrand::Rng) {
    match random.u8(..3) {
        0 => link.reset(),
        1 => drop(link),
        _ => {
            link.finish_writing().await;
            link.discard_to_end().await;
        }
    }
}

/// Reads to the end, whatever comes.
async fn hear_out(link: &mut Link) {
    link.discard_to_end().await;
}

/// One connection that breaks in a way that `random` picks.
async fn break_one(proxy: &Proxy, random: &mut fastrand::Rng) {
    let way = random.u8(..14);
    // Not a WebSocket yet, or never.
    if way < 5 {
        let dial = match way {
            3 => proxy.dial().path(BAD_ANSWERS[random.usize(..BAD_ANSWERS.len())]),
            4 => proxy.plain(),
            _ => proxy.dial(),
        };
        let request = dial.request();
        let cut = match way {
            0 => random.usize(..request.len()),
            _ => request.len(),
        };
        let mut link = dial.connect().await;
        // It may be refused and closed before all of it was sent.
        let _ = link.try_send_bytes(&request[..cut]).await;
        if way == 2 {
            // Something too early, whole or in part.
            let early = Frame::text("early").encode(Role::Client);
            let _ = link.try_send_bytes(&early[..random.usize(..=early.len())]).await;
        }
        if way >= 3 && random.bool() {
            let _ = link.try_read_head().await;
        }
        return go(link, random).await;
    }
    let path = if random.bool() { "/" } else { "/talks-first" };
    let mut client = proxy.connect(path).await;
    for _ in 0..random.u8(..3) {
        client.text("hello").await;
        client.expect_text("hello").await;
    }
    match way {
        // The client goes, perhaps inside a frame.
        5 | 6 => {
            let bytes = Frame::binary(vec![0; random.usize(..70_000)]).encode(Role::Client);
            let cut = random.usize(..=bytes.len());
            client.send_bytes(&bytes[..cut]).await;
            match random.u8(..3) {
                0 => client.reset(),
                1 => drop(client),
                _ => {
                    client.finish_writing().await;
                    hear_out(&mut client).await;
                }
            }
        }
        // The client closes, and waits for the answer or does not.
        7 | 8 => {
            let code = [1000, 1001, 3000, 4999][random.usize(..4)];
            client.close(code, "bye").await;
            match random.u8(..3) {
                0 => client.reset(),
                1 => drop(client),
                _ => hear_out(&mut client).await,
            }
        }
        // The client offends.
        9 => {
            let frame = [Frame::text("x").unmasked(), Frame::new(0x7, [0; 300]), Frame::ping([0; 200])];
            client.send_frame(&frame[random.usize(..3)]).await;
            if random.bool() {
                hear_out(&mut client).await;
            }
        }
        // Both at once.
        10 => {
            client.text(ORDERS[random.usize(..ORDERS.len())]).await;
            client.reset();
        }
        // The server does something.
        _ => {
            client.text(ORDERS[random.usize(..ORDERS.len())]).await;
            if random.bool() {
                client.closed().await;
            } else {
                hear_out(&mut client).await;
            }
        }
    }
}

async fn break_many(proxy: &Arc<Proxy>, upstream: &Arc<Upstream>, count: usize, seed: u64) {
    let mut tasks = JoinSet::new();
    for worker in 0..AT_ONCE {
        let (proxy, upstream) = (Arc::clone(proxy), Arc::clone(upstream));
        let mut random = fastrand::Rng::with_seed(seed + worker as u64);
        let share = count / AT_ONCE + usize::from(worker < count % AT_ONCE);
        tasks.spawn(async move {
            for _ in 0..share {
                break_one(&proxy, &mut random).await;
                upstream.forget();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no connection went another way than it should");
    }
}

/// Waits until nothing is open any more.
async fn all_gone(proxy: &Proxy, upstream: &Upstream) {
    eventually(DEADLINE, || async {
        let metrics = proxy.metrics().await;
        let seen = [
            metrics.sum("outrigger_clients"),
            metrics.get("outrigger_http_connections").expect("a gauge"),
            metrics.get("outrigger_http_requests_in_flight").expect("a gauge"),
            metrics.get("outrigger_dials_in_progress").expect("a gauge"),
            metrics.get("outrigger_buffered_bytes").expect("a gauge"),
            upstream.open() as f64,
        ];
        if seen == [0.0; 6] { Ok(()) } else { Err(seen) }
    })
    .await;
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("a folder of descriptors").count()
}

/// Resident bytes of this process: the proxy, and the test with it.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("the state of this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("resident memory");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_that_break_in_every_way_leave_nothing_behind() {
    let _alone = crate::alone().await;
    // What other tests have left would hide what this one leaves.
    if !crate::is_in_a_process_of_its_own(
        "leaks::ten_thousand_connections_that_break_in_every_way_leave_nothing_behind",
    ) {
        return;
    }
    let upstream = Arc::new(moody_upstream().spawn().await);
    // Idle upstream connections of the pool are gone at once, and nobody waits long for a lost peer.
    let yaml = "upstream: {keep_alive: 100ms, handshake_timeout: 500ms}\npolicy: {close_timeout: 250ms}\n\
                listen: {keep_alive: 1s, handshake_timeout: 2s}";
    // They come faster than any proxy should have to take them.
    let proxy = Proxy::to(&upstream).yaml(yaml).policy(|policy| policy.handshake_rate.global = None);
    let proxy = Arc::new(proxy.spawn().await);
    // What a process gets once and keeps: threads, buffers, tables.
    break_many(&proxy, &upstream, 2000, 1000).await;
    all_gone(&proxy, &upstream).await;
    let (descriptors_before, resident_before) = (descriptors(), resident());
    let since = Instant::now();
    break_many(&proxy, &upstream, 10_000, 1_000_000).await;
    all_gone(&proxy, &upstream).await;
    assert!(since.elapsed() < Duration::from_secs(60), "took {:?}", since.elapsed());
    eventually(DEADLINE, || async {
        let now = descriptors();
        if now <= descriptors_before { Ok(()) } else { Err(format!("{now} of {descriptors_before}")) }
    })
    .await;
    let grown = resident().saturating_sub(resident_before);
    assert!(grown < 2 << 20, "10,000 connections left {grown} bytes");
    let metrics = proxy.metrics().await;
    let opened = metrics.get("outrigger_connections_total{route=\"default\"}").expect("a counter");
    assert!(opened > 5000.0, "most of them came to be a WebSocket: {opened}");
    assert_eq!(metrics.sum("outrigger_disconnections_total"), opened, "each has ended for one reason");
    for reason in ["client_close", "upstream_close", "client_lost", "upstream_lost", "protocol_error"] {
        let sample = format!("outrigger_disconnections_total{{route=\"default\",reason=\"{reason}\"}}");
        assert!(metrics.get(&sample) > Some(100.0), "{sample}");
    }
    let aborted = metrics.get("outrigger_disconnections_total{route=\"default\",reason=\"aborted\"}");
    assert_eq!(aborted, Some(0.0), "none has ended by a panic");
    assert_eq!(metrics.get("outrigger_accept_errors_total"), Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ping_flood() {
    let _alone = crate::alone().await;
    const PINGS: u32 = 100_000;
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("policy: {heartbeat: null}").spawn().await;
    let mut client = proxy.connect("/").await;
    let (mut other, mut worst) = (proxy.connect("/").await, Duration::ZERO);
    let mut answered = 0_u32;
    for batch in 0..PINGS / 1000 {
        let pings = (batch * 1000..(batch + 1) * 1000).map(|number| Frame::ping(number.to_be_bytes()));
        let bytes = pings.flat_map(|ping| ping.encode(Role::Client)).collect::<Vec<_>>();
        client.send_bytes(&bytes).await;
        if batch % 10 == 0 {
            // Others get their turn all the while.
            let since = Instant::now();
            other.text("me too").await;
            other.expect_text("me too").await;
            worst = worst.max(since.elapsed());
        }
    }
    while answered < PINGS {
        let frame = client.next_frame().await;
        assert_eq!((frame.opcode, &frame.payload[..]), (wire::PONG, &answered.to_be_bytes()[..]));
        answered += 1;
    }
    // Not one more than that.
    client.text("end").await;
    let Received::Frame(last) = client.receive().await else { panic!("it has ended") };
    assert_eq!(last.payload, b"end");
    assert!(worst < Duration::from_secs(2), "another client waited {worst:?}");
    let metrics = proxy.metrics().await;
    let frame = |frame: Frame, role| frame.encode(role).len() as f64;
    let pings = f64::from(PINGS) * frame(Frame::ping([0; 4]), Role::Client);
    let pongs = f64::from(PINGS) * frame(Frame::pong([0; 4]), Role::Server);
    let others = f64::from(PINGS / 10_000);
    let texts_in =
        others * frame(Frame::text("me too"), Role::Client) + frame(Frame::text("end"), Role::Client);
    let texts_out =
        others * frame(Frame::text("me too"), Role::Server) + frame(Frame::text("end"), Role::Server);
    assert_eq!(metrics.get("outrigger_bytes_in_total"), Some(pings + texts_in));
    assert_eq!(metrics.get("outrigger_bytes_out_total"), Some(pongs + texts_out));
}

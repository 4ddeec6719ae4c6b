//! Whoever does not read is waited for, or given up; nobody else notices, and the proxy stays small.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::DEADLINE;
use crate::support::link::{End, Link};
use crate::support::pair::Pair;
use crate::support::proxy::Proxy;
use crate::support::upstream::Upstream;
use crate::support::wait::eventually;
use crate::support::wire::{self, Frame, Role};
use tokio::time::Instant;

/// What a client that does not read may cost beyond `max_lag`, kernel buffers of both its sockets included.
const KERNEL_SHARE: usize = 512 * 1024;

/// No byte moved for so long: it is blocked. (Whoever is merely slow is found out by what is checked then.)
const QUIET: Duration = Duration::from_millis(400);

/// More than all buffers together can hold.
const MOST: usize = 64 << 20;

/// A connection with a client that has a small receive buffer and reads nothing.
async fn with_a_deaf_client(yaml: &str) -> Pair {
    let mut pair = Pair::shaped(yaml, Upstream::builder(), |dial| dial.receive_buffer(16 * 1024)).await;
    pair.client.stop_reading();
    pair
}

/// Bytes in the kernel's queues for the socket at `local` that is connected to `remote`: what its peer
/// has not acknowledged, and what its owner has not read.
fn kernel_queues(local: SocketAddr, remote: SocketAddr) -> (usize, usize) {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the table of this machine's TCP sockets");
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next().unwrap_or_default(), 16);
    for line in table.lines().skip(1) {
        let fields = line.split_whitespace().collect::<Vec<_>>();
        let ports = (port(fields[1]), port(fields[2]));
        if ports == (Ok(local.port()), Ok(remote.port())) {
            let (sent, read) = fields[4].split_once(':').expect("two queues");
            let size = |hex| usize::from_str_radix(hex, 16).expect("a size in hex");
            return (size(sent), size(read));
        }
    }
    panic!("no socket {local} to {remote} in\n{table}")
}

/// Everything that the proxy and its two sockets hold of what goes to the client.
async fn held_for_the_client(pair: &Pair) -> usize {
    let buffered = pair.proxy.metric("outrigger_buffered_bytes").await as usize;
    let client = pair.client.local_address().expect("TCP");
    let (unsent, _) = kernel_queues(pair.proxy.address(), client);
    let crate::support::socket::Address::Tcp(server) = pair.upstream.address() else { panic!("TCP") };
    let (_, unread) = kernel_queues(pair.server.peer_address().expect("TCP"), server);
    buffered + unsent + unread
}

async fn buffered_returns_to_zero(proxy: &Proxy) {
    eventually(DEADLINE, || async {
        let buffered = proxy.metric("outrigger_buffered_bytes").await;
        if buffered == 0.0 { Ok(()) } else { Err(buffered) }
    })
    .await;
}

/// Reads numbered messages to the one that is a text; returns how many there were.
async fn read_numbered(link: &mut Link) -> u64 {
    let mut next = 0;
    loop {
        let frame = link.next_frame().await;
        if frame.opcode == wire::TEXT {
            return next;
        }
        assert_eq!(frame.payload.first_chunk(), Some(&u64::to_be_bytes(next)), "out of order, or lost");
        next += 1;
    }
}

/// Sends numbered messages of `size` until the other side has taken nothing for [`QUIET`]; the one that it
/// did not take whole goes out with the next thing that is sent. Returns how many there are.
async fn flood(link: &mut Link, size: usize) -> u64 {
    let mut payload = vec![0; size];
    link.set_deadline(QUIET);
    let mut count = 0;
    while count < (MOST / size) as u64 {
        payload[..8].copy_from_slice(&count.to_be_bytes());
        count += 1;
        if link.try_send_frame(&Frame::binary(&payload)).await.is_err() {
            link.set_deadline(DEADLINE);
            return count;
        }
    }
    panic!("{MOST} bytes were taken, and it still goes on");
}

// ---- a client that does not read

#[tokio::test]
async fn slow_consumer_blocks_its_upstream_and_costs_no_more_than_a_few_hundred_kibibytes() {
    let mut pair = with_a_deaf_client("").await;
    let (mut other, mut other_server) = pair.another().await;
    let count = flood(&mut pair.server, 16 * 1024).await;
    let buffered = pair.proxy.metric("outrigger_buffered_bytes").await;
    assert!(buffered > 0.0, "what the client does not take is told");
    let held = held_for_the_client(&pair).await;
    assert!(held < KERNEL_SHARE, "{held} bytes are held for a client that does not read");
    // Nobody else notices.
    let since = Instant::now();
    for _ in 0..100 {
        other.text("ping").await;
        other_server.expect_text("ping").await;
        other_server.text("pong").await;
        other.expect_text("pong").await;
    }
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    // Nor does the other direction.
    pair.client.text("I still talk").await;
    pair.server.expect_text("I still talk").await;
    // And nothing was lost.
    pair.client.resume_reading();
    let (server, client) = (&mut pair.server, &mut pair.client);
    let ((), read) = tokio::join!(server.text("end"), read_numbered(client));
    assert_eq!(read, count);
    buffered_returns_to_zero(&pair.proxy).await;
    assert_eq!(pair.proxy.metric("outrigger_discarded_bytes_total").await, 0.0);
}

/// Far less in a second than makes the kernel say that the socket is writable again.
#[tokio::test]
async fn slow_consumer_that_takes_a_little_now_and_then_is_not_given_up() {
    let yaml = "policy: {delivery: {stall_timeout: 1s}}";
    // It takes sips of what its small buffer holds.
    let mut pair = Pair::shaped(yaml, Upstream::builder(), |dial| dial.receive_buffer(4096)).await;
    pair.client.stop_reading();
    let count = flood(&mut pair.server, 16 * 1024).await;
    let (server, client) = (&mut pair.server, &mut pair.client);
    client.resume_reading();
    // Its last word waits behind all the sips.
    server.set_deadline(6 * DEADLINE);
    let ((), read) = tokio::join!(server.text("end"), async {
        let mut sip = Vec::new();
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            sip.extend(client.read_exactly(4000).await.expect("it is not given up"));
        }
        client.put_back(&sip);
        read_numbered(client).await
    });
    assert_eq!(read, count);
}

#[tokio::test]
async fn isolation_never_lets_a_server_wait_for_a_client_within_max_lag() {
    let yaml = "policy: {delivery: {on_stall: isolate, max_lag: {bytes: 4MiB}}}";
    let mut pair = with_a_deaf_client(yaml).await;
    // The server writes to both in turn, as a server does that broadcasts in a loop.
    let (mut other, mut other_server) = pair.another().await;
    let messages = 3 * 1024 / 16;
    let mut payload = vec![0; 16 * 1024];
    for number in 0..messages as u64 {
        payload[..8].copy_from_slice(&number.to_be_bytes());
        pair.server.binary(&payload).await;
        other_server.binary(&payload).await;
        other.expect_binary(&payload).await;
    }
    let all_is_read =
        || async { pair.proxy.metric("outrigger_messages_out_total").await == 2.0 * messages as f64 };
    eventually(DEADLINE, all_is_read).await;
    assert!(pair.proxy.metric("outrigger_buffered_bytes").await > (2 << 20) as f64);
    pair.client.resume_reading();
    pair.server.text("end").await;
    assert_eq!(read_numbered(&mut pair.client).await, messages as u64);
    buffered_returns_to_zero(&pair.proxy).await;
}

#[tokio::test]
async fn isolation_gives_a_client_up_beyond_max_lag() {
    let yaml = "policy: {close_timeout: 10s, delivery: {on_stall: isolate, max_lag: {bytes: 256KiB}}}";
    let mut pair = with_a_deaf_client(yaml).await;
    let flood = Frame::binary([0; 1000]).encode(Role::Server).repeat(8000);
    pair.server.send_bytes(&flood).await;
    let server = pair.server.closed().await;
    assert_eq!((server.code, &*server.reason, server.then), (1001, "slow consumer", End::Eof));
    pair.client.resume_reading();
    let client = pair.client.closed().await;
    assert_eq!((client.code, &*client.reason, client.then), (1013, "slow consumer", End::Eof));
    let got = client.before.iter().map(|frame| frame.payload.len()).sum::<usize>();
    assert!(got > 256 * 1024, "it got what was held for it: {got}");
    assert!(got < 256 * 1024 + KERNEL_SHARE, "{got} bytes were held");
    pair.tells("slow_consumer", Some(("proxy", "1013"))).await;
}

// ---- an upstream that does not read

#[tokio::test]
async fn an_upstream_that_does_not_read_blocks_its_client_and_nobody_else() {
    let mut pair = Pair::open("").await;
    let (mut other, mut other_server) = pair.another().await;
    pair.server.stop_reading();
    let count = flood(&mut pair.client, 16 * 1024).await;
    assert!(pair.proxy.metric("outrigger_buffered_bytes").await > 0.0);
    for _ in 0..100 {
        other.text("ping").await;
        other_server.expect_text("ping").await;
    }
    pair.server.text("I still talk").await;
    pair.client.expect_text("I still talk").await;
    pair.server.resume_reading();
    let (server, client) = (&mut pair.server, &mut pair.client);
    let ((), read) = tokio::join!(client.text("end"), read_numbered(server));
    assert_eq!(read, count);
    buffered_returns_to_zero(&pair.proxy).await;
    assert_eq!(pair.proxy.metric("outrigger_discarded_bytes_total").await, 0.0);
}

#[tokio::test]
async fn two_ends_that_both_stop_reading_come_to_no_harm() {
    let mut pair = Pair::open("").await;
    pair.server.stop_reading();
    pair.client.stop_reading();
    let up = flood(&mut pair.client, 16 * 1024).await;
    let down = flood(&mut pair.server, 16 * 1024).await;
    pair.server.resume_reading();
    pair.client.resume_reading();
    let (server, client) = (&mut pair.server, &mut pair.client);
    let up_again = async {
        client.text("end").await;
        read_numbered(client).await
    };
    let down_again = async {
        server.text("end").await;
        read_numbered(server).await
    };
    assert_eq!(tokio::join!(up_again, down_again), (down, up));
    buffered_returns_to_zero(&pair.proxy).await;
}

// ---- a client that says too much

#[tokio::test]
async fn message_rate_holds_on_average_and_loses_nothing() {
    let mut pair = Pair::open("policy: {limits: {message_rate: {rate: 40/s, burst: 5}}}").await;
    // In one write, so that most of them are held in the proxy: one message in two fragments, pings and
    // pongs between, which are no messages.
    let mut bytes = Vec::new();
    for number in 0..35_u64 {
        let [first, last] =
            Frame::fragments(wire::BINARY, &[&number.to_be_bytes(), &[0; 50]]).try_into().expect("two");
        for frame in [first, Frame::ping("app"), last, Frame::pong("unasked")] {
            bytes.extend(frame.encode(Role::Client));
        }
    }
    let since = Instant::now();
    pair.client.send_bytes(&bytes).await;
    // Meanwhile the other direction is as free as ever.
    pair.server.text("free").await;
    pair.client.expect_text("free").await;
    assert!(pair.proxy.metric("outrigger_messages_in_total").await < 35.0, "the rest has to wait");
    for number in 0..35_u64 {
        assert_eq!(pair.server.next_frame().await.payload, number.to_be_bytes());
        assert_eq!(pair.server.next_frame().await.opcode, wire::PING);
        assert_eq!(pair.server.next_frame().await.payload, [0; 50]);
        assert_eq!(pair.server.next_frame().await.opcode, wire::PONG);
        let least = Duration::from_secs(number.saturating_sub(5)) / 40;
        assert!(since.elapsed() >= least, "message {number} after {:?}", since.elapsed());
    }
    assert_eq!(pair.proxy.metric("outrigger_messages_in_total").await, 35.0);
    assert!(since.elapsed() < Duration::from_secs(5), "the rate is also a promise: {:?}", since.elapsed());
}

#[tokio::test]
async fn a_client_above_its_rate_is_held_back_at_its_own_socket() {
    let mut pair = Pair::open("policy: {limits: {message_rate: {rate: 1/s, burst: 1}}}").await;
    let frame = Frame::binary(vec![0; 16 * 1024]);
    let taken = pair.client.fill_until_blocked(&frame, QUIET, MOST).await;
    assert!(taken < MOST, "{taken}");
    // A client that is waiting its turn is alive, however little of it is read, and its Close is heard
    // when its turn comes.
    assert_eq!(pair.proxy.metric("outrigger_clients{route=\"default\"}").await, 1.0);
    assert!(pair.proxy.metric("outrigger_messages_in_total").await < 10.0);
}

#[tokio::test]
async fn a_rate_limited_client_is_neither_idle_nor_dead() {
    let yaml = "policy: {limits: {message_rate: {rate: 1/s, burst: 1}}, idle_timeout: 600ms, \
                heartbeat: {interval: 50ms, timeout: 200ms, max_missed: 2}}";
    let mut pair = Pair::open(yaml).await;
    for number in 0..3 {
        pair.client.text(&format!("{number}")).await;
    }
    // From one token to the next it is not read: neither of its clocks allows for so long a silence.
    let client = pair.client.answer_pings_for(Duration::from_millis(1900));
    let server = async {
        for number in 0..3 {
            pair.server.expect_text(&format!("{number}")).await;
        }
    };
    tokio::join!(client, server);
}

//! A client that is never silent beside one that only listens: in each mode, over each stream, with whatever frames.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::support::DEADLINE;
use crate::support::client::RawClient;
use crate::support::http2::Client;
use crate::support::proxy::{self, Proxy};
use crate::support::tls;
use crate::support::upstream::{ServerConn, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::{CONTINUATION, Frame, Role};

/// How the noisy one is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Plain,
    Tls,
    Http2,
}

/// What it says.
#[derive(Debug, Clone, Copy)]
enum Noise {
    Pings,
    EmptyFrames,
    Fragments,
    TinyMessages,
}

const NOISES: [Noise; 4] = [Noise::Pings, Noise::EmptyFrames, Noise::Fragments, Noise::TinyMessages];

/// The route's mode, and what becomes of what its clients say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Tunnel,
    Drop,
    Forward,
}

const MODES: [Mode; 3] = [Mode::Tunnel, Mode::Drop, Mode::Forward];

impl Noise {
    /// What is said first, and then over and over.
    fn bytes(self) -> (Vec<u8>, Vec<u8>) {
        let empty = || Frame::new(CONTINUATION, "").not_final();
        let (first, again) = match self {
            Self::Pings => (None, Frame::ping("")),
            Self::EmptyFrames => (Some(Frame::binary("").not_final()), empty()),
            Self::Fragments => {
                (Some(Frame::binary("x").not_final()), Frame::new(CONTINUATION, "x").not_final())
            }
            Self::TinyMessages => (None, Frame::text("x")),
        };
        let first = first.map(|frame| frame.encode(Role::Client)).unwrap_or_default();
        (first, again.encode(Role::Client).repeat(4096))
    }
}

impl Mode {
    fn builder(self, upstream: &Upstream, policy: &str) -> proxy::Builder {
        let (mode, uplink) = match self {
            Self::Tunnel => ("tunnel", "drop"),
            Self::Drop => ("broadcast", "drop"),
            Self::Forward => ("broadcast", "forward"),
        };
        Proxy::to(upstream)
            .yaml(&format!("routes: [{{name: r, path: '/{{*rest}}', mode: {mode}}}]"))
            .yaml(&format!("policy: {{{policy}, broadcast: {{uplink: {uplink}, anonymous: true}}}}"))
    }
}

/// A client in a thread of its own, so that it takes no turn of whoever is measured. It ends when this is dropped.
struct Nuisance {
    said: Arc<AtomicUsize>,
    _stop: oneshot::Sender<()>,
}

impl Nuisance {
    fn start(to: SocketAddr, over: Over, noise: Noise) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let said = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&said);
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                tokio::select! {
                    () = make_noise(to, over, noise, &count) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { said, _stop: stop }
    }

    fn said(&self) -> usize {
        self.said.load(Relaxed)
    }
}

async fn make_noise(to: SocketAddr, over: Over, noise: Noise, said: &AtomicUsize) {
    let (first, again) = noise.bytes();
    if over == Over::Http2 {
        let client = Client::connect(to).await;
        let mut socket = client.open("/a").await;
        socket.send_bytes(first).await;
        loop {
            socket.send_bytes(again.clone()).await;
            said.fetch_add(again.len(), Relaxed);
        }
    }
    let dial = RawClient::dial(to).path("/a");
    let mut link = match over {
        Over::Tls => dial.tls(tls::client()).open().await,
        Over::Plain | Over::Http2 => dial.open().await,
    };
    link.send_bytes(&first).await;
    while link.try_send_bytes(&again).await.is_ok() {
        said.fetch_add(again.len(), Relaxed);
    }
}

/// How long each of so many messages takes from the server to the client, the shortest first.
async fn measure(server: &mut ServerConn, quiet: &mut RawClient, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for n in 0..count {
        let text = n.to_string();
        let start = Instant::now();
        server.text(&text).await;
        quiet.expect_text(&text).await;
        times.push(start.elapsed());
        // A feed that has something to say now and then: what is measured is a delay, not a queue.
        sleep(Duration::from_millis(1)).await;
    }
    times.sort_unstable();
    times
}

/// The times of a client that only listens: by itself, and beside a noisy one.
async fn beside(over: Over, noise: Noise, mode: Mode, count: usize) -> (Vec<Duration>, Vec<Duration>) {
    let upstream = Upstream::by_hand().await;
    // Else a client that pings so much is closed before it is a nuisance; and nothing is in the way of a message
    // without an end.
    let builder = mode.builder(&upstream, "limits: {control_rate: null}, max_message: 1GiB");
    let builder = if over == Over::Tls { builder.tls(tls::listen()) } else { builder };
    let proxy = builder.spawn().await;
    let dial = proxy.dial().path("/a");
    let mut quiet = if over == Over::Tls { dial.tls(tls::client()) } else { dial }.open().await;
    let mut server = upstream.accept().await;
    let alone = measure(&mut server, &mut quiet, count).await;
    let nuisance = Nuisance::start(proxy.address(), over, noise);
    if mode == Mode::Tunnel {
        let mut other = upstream.accept().await;
        tokio::spawn(async move { other.discard_to_end().await });
    }
    eventually(DEADLINE, || async { nuisance.said() > 256 * 1024 }).await;
    let before = nuisance.said();
    let beside = measure(&mut server, &mut quiet, count).await;
    // Whoever fills the queue to a feed's server is read less, and one piece of what it says may outlast all of that.
    eventually(DEADLINE, async || match nuisance.said() > before {
        true => Ok(()),
        false => Err(format!("{over:?} {noise:?} {mode:?}: it was silent meanwhile")),
    })
    .await;
    (alone, beside)
}

async fn a_quiet_client_is_served(over: Over) {
    for mode in MODES {
        for noise in NOISES {
            let (alone, beside) = beside(over, noise, mode, 40).await;
            let (alone, beside) = (alone[alone.len() / 2], beside[beside.len() / 2]);
            // On a busy machine, without optimisation, beside a thread that takes a processor for itself.
            let bound = 20 * alone + Duration::from_millis(200);
            assert!(beside <= bound, "{over:?} {noise:?} {mode:?}: {beside:?}, and {alone:?} alone");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_client_is_served_beside_a_noisy_one() {
    let _alone = crate::alone().await;
    a_quiet_client_is_served(Over::Plain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_client_is_served_beside_a_noisy_one_over_tls() {
    let _alone = crate::alone().await;
    a_quiet_client_is_served(Over::Tls).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_client_is_served_beside_a_noisy_one_over_http2() {
    let _alone = crate::alone().await;
    a_quiet_client_is_served(Over::Http2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: for a release build on a machine that does nothing else"]
async fn beside_a_noisy_client_p99_is_at_most_5_ms_later() {
    let _alone = crate::alone().await;
    let mut late = Vec::new();
    for over in [Over::Plain, Over::Tls, Over::Http2] {
        for mode in MODES {
            for noise in NOISES {
                let (alone, beside) = beside(over, noise, mode, 500).await;
                let p99 = |times: &[Duration]| times[times.len() * 99 / 100];
                let line =
                    format!("{over:?} {mode:?} {noise:?}: p99 {:?}, alone {:?}", p99(&beside), p99(&alone));
                println!("{line}");
                if p99(&beside) > p99(&alone) + Duration::from_millis(5) {
                    late.push(line);
                }
            }
        }
    }
    assert!(late.is_empty(), "{late:#?}");
}

#[tokio::test]
async fn pings_without_end_close_their_client_where_the_proxy_answers_them_and_pass_in_tunnels() {
    let _alone = crate::alone().await;
    for (mode, setting, code) in [
        (Mode::Drop, "auto", Some(1008)),
        (Mode::Forward, "auto", Some(1008)),
        (Mode::Drop, "null", None),
        (Mode::Tunnel, "auto", None),
        (Mode::Tunnel, "{rate: 1/s, burst: 1200}", Some(1008)),
    ] {
        let upstream = Upstream::by_hand().await;
        let policy = format!("limits: {{control_rate: {setting}}}");
        let proxy = mode.builder(&upstream, &policy).spawn().await;
        let mut client = proxy.connect("/a").await;
        let mut server = upstream.accept().await;
        client.send_bytes(&Frame::ping("?").encode(Role::Client).repeat(900)).await;
        server.text("within the burst").await;
        while client.next_frame().await.payload != b"within the burst" {}
        client.send_bytes(&Frame::ping("?").encode(Role::Client).repeat(3000)).await;
        let disconnections = "outrigger_disconnections_total{reason=\"control_rate\",route=\"r\"}";
        match code {
            Some(code) => {
                let closed = client.closed().await;
                assert_eq!((closed.code, &*closed.reason), (code, "too many control frames"), "{mode:?}");
                eventually(DEADLINE, || async { proxy.metric(disconnections).await == 1.0 }).await;
            }
            None => {
                server.text("still there").await;
                while client.next_frame().await.payload != b"still there" {}
            }
        }
    }
}

#[tokio::test]
async fn pongs_that_are_texts_are_no_way_around_the_rate_of_those_that_are_control_frames() {
    let _alone = crate::alone().await;
    for (mode, setting) in
        [(Mode::Drop, "auto"), (Mode::Forward, "auto"), (Mode::Tunnel, "{rate: 1/s, burst: 1200}")]
    {
        let upstream = Upstream::by_hand().await;
        let policy = format!("heartbeat: {{mode: json}}, limits: {{control_rate: {setting}}}");
        let proxy = mode.builder(&upstream, &policy).spawn().await;
        let mut client = proxy.connect("/a").await;
        let mut server = upstream.accept().await;
        let pong = Frame::text(r#"{"type":"pong"}"#).encode(Role::Client);
        client.send_bytes(&pong.repeat(900)).await;
        server.text("within the burst").await;
        client.expect_text("within the burst").await;
        client.send_bytes(&pong.repeat(3000)).await;
        let closed = client.closed().await;
        assert_eq!((closed.code, &*closed.reason), (1008, "too many control frames"), "{mode:?}");
    }
}

//! The relay, driven by hand: two raw ends, a clock that stands still, a waker that is counted.
//!
//! # Invariants
//! 1. The relay is polled only after its waker was woken: a wake-up that it misses fails a test, as it
//!    would leave a connection hanging.
//! 2. Time moves in [`Stage::pass`] alone, and stops there wherever the relay's timer stands.
//! 3. A relay that keeps waking itself with nothing to do fails the test that drives it.

mod bounds;
mod endings;
mod heartbeat;
mod inject;
mod schedule;
mod secure;
mod waking;
mod walk;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use socket2::SockRef;
use tokio::time::Instant;

use super::Settings;
use super::relay::Relay;
use crate::config::{Config, LogConnections};
use crate::frame::Extensions;
use crate::memory::Budget;
use crate::net::tls::testing;
use crate::net::{Stream, Transport};
use crate::resilience::Expiry;
use crate::telemetry::{Command, ConnectionInfo, Handle, Metrics, Registry};

/// Far more wake-ups in a row than anything here has work for.
const SPINS: usize = 10_000;

/// More than goes into two hops whose kernel buffers are [`SMALL`], whatever the kernel makes of that.
const FLOOD: usize = 256 * 1024;

/// Kernel buffers that a flood fills soon.
const SMALL: usize = 8 * 1024;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A whole frame as `first` (fin, rsv, opcode) begins it.
fn frame(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mask_bit = u8::from(masked) << 7;
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(mask_bit | len as u8),
        len @ 126..=0xffff => {
            bytes.push(mask_bit | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            bytes.push(mask_bit | 127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    let mask: [u8; 4] = if masked { [0x37, 0xfa, 0x21, 0x3d] } else { [0; 4] };
    if masked {
        bytes.extend_from_slice(&mask);
    }
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

fn close(code: u16, masked: bool) -> Vec<u8> {
    frame(0x88, &code.to_be_bytes(), masked)
}

/// The frame at the front of `bytes`: its first byte, its payload in the clear, its length.
fn first_frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let header = crate::frame::Header::parse(bytes).expect("a well-formed header")?;
    let end = header.size + usize::try_from(header.payload).unwrap();
    let mask = header.mask.unwrap_or([0; 4]);
    let payload = bytes.get(header.size..end)?;
    let plain = payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    Some((bytes[0], plain, end))
}

/// Every frame in `bytes`, which holds whole ones only.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (first, payload, len) = first_frame(bytes).expect("a whole frame");
        found.push((first, payload));
        bytes = &bytes[len..];
    }
    found
}

/// The code of the Close that `bytes` end with.
fn close_code(bytes: &[u8]) -> u16 {
    let all = frames(bytes);
    let Some((0x88, payload)) = all.last() else { panic!("no Close in {all:x?}") };
    u16::from_be_bytes([payload[0], payload[1]])
}

/// One raw end of a connection.
struct End {
    socket: Option<UnixStream>,
    /// Over TLS: then the socket is told records.
    tls: Option<Box<testing::Peer>>,
}

impl End {
    /// Writes all of `bytes`; the kernel has room for them.
    fn say(&mut self, bytes: &[u8]) {
        assert_eq!(self.try_say(bytes), bytes.len(), "no room");
    }

    /// Writes as much as the kernel takes.
    fn try_say(&mut self, bytes: &[u8]) -> usize {
        let Some(socket) = &mut self.socket else { return 0 };
        if let Some(tls) = &mut self.tls {
            return tls.try_say(socket, bytes);
        }
        let mut at = 0;
        while at < bytes.len() {
            match socket.write(&bytes[at..]) {
                Ok(n) => at += n,
                Err(_) => break,
            }
        }
        at
    }

    /// Everything that has come, and whether it was the end.
    fn hear_all(&mut self) -> (Vec<u8>, bool) {
        let Some(socket) = &mut self.socket else { return (Vec::new(), true) };
        if let Some(tls) = &mut self.tls {
            return tls.hear_all(socket);
        }
        let mut heard = Vec::new();
        match socket.read_to_end(&mut heard) {
            Ok(_) => (heard, true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => (heard, false),
            // How a Unix socket says that it was closed before all was read.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => (heard, true),
            Err(error) => panic!("{error}"),
        }
    }

    /// Everything that has come; it must not be the end.
    fn hear(&mut self) -> Vec<u8> {
        let (heard, is_ended) = self.hear_all();
        assert!(!is_ended, "ended after {heard:x?}");
        heard
    }

    /// Everything that came before the end, which has come.
    fn hear_out(&mut self) -> Vec<u8> {
        let (heard, is_ended) = self.hear_all();
        assert!(is_ended, "still open after {heard:x?}");
        heard
    }

    fn shut(&mut self, how: Shutdown) {
        self.socket.as_ref().unwrap().shutdown(how).unwrap();
    }

    fn leave(&mut self) {
        self.socket = None;
    }
}

/// Counts wake-ups.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// What is put on it.
#[derive(Default)]
struct Props {
    settings: &'static str,
    early_client: &'static [u8],
    early_upstream: &'static [u8],
    /// Send buffers of the kernel, if not its own choice.
    buffers: Option<usize>,
    /// The bound on what all connections hold; none if not said.
    memory: Option<usize>,
    /// What was agreed upon with the upstream.
    extensions: Extensions,
    /// When the client's credentials end, counted from the beginning.
    expires: Option<Duration>,
    /// For how long the machine is suspended then: the wall clock is ahead by so much.
    suspended: Duration,
    /// Whether the client's hop and the upstream's are over TLS.
    tls: [bool; 2],
}

/// A relay between two ends.
struct Stage {
    client: End,
    upstream: End,
    /// None once it has ended.
    relay: Option<Pin<Box<Relay>>>,
    wakes: Arc<Wakes>,
    polls: usize,
    handle: Arc<Handle>,
    registry: Arc<Registry>,
    budget: Arc<Budget>,
    /// Its place in a quota.
    held: Weak<()>,
    start: Instant,
}

impl Stage {
    async fn open(settings: &'static str) -> Self {
        Self::with(Props { settings, ..Props::default() }).await
    }

    /// One whose sockets are soon full.
    async fn narrow(settings: &'static str) -> Self {
        Self::with(Props { settings, buffers: Some(SMALL), ..Props::default() }).await
    }

    async fn with(props: Props) -> Self {
        let config = Config::from_yaml(props.settings).unwrap();
        let budget = Arc::new(Budget::new(props.memory.unwrap_or(usize::MAX)));
        let route = config.routes.last().unwrap();
        let settings = Arc::new(Settings {
            policy: Arc::clone(&route.policy),
            upstream_stall: route.upstream.stall_timeout,
            upstream_heartbeat: route.upstream.heartbeat.in_tunnels(),
            budget: Arc::clone(&budget),
        });
        let metrics = Metrics::new("outrigger").unwrap();
        let registry = Registry::new(Arc::clone(&metrics), LogConnections::Off);
        let about = ConnectionInfo {
            user: None,
            client: None,
            channel: None,
            request_id: "".into(),
            route: metrics.route("r"),
        };
        let live = registry.enter(about);
        let handle = registry.all().remove(0);
        let hop = |early: &'static [u8]| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            for socket in [&ours, &theirs] {
                socket.set_nonblocking(true).unwrap();
                if let Some(size) = props.buffers {
                    SockRef::from(socket).set_send_buffer_size(size).unwrap();
                }
            }
            let stream = Stream::Unix(tokio::net::UnixStream::from_std(ours).unwrap());
            (
                Transport { stream, read_ahead: Bytes::from_static(early) },
                End { socket: Some(theirs), tls: None },
            )
        };
        let (mut client_hop, mut client) = hop(props.early_client);
        let (mut upstream_hop, mut upstream) = hop(props.early_upstream);
        if props.tls[0] {
            let (stream, peer) = testing::accept(client_hop.stream, client.socket.as_mut().unwrap()).await;
            (client_hop.stream, client.tls) = (stream, Some(peer));
        }
        if props.tls[1] {
            let (stream, peer) =
                testing::connect(upstream_hop.stream, upstream.socket.as_mut().unwrap()).await;
            (upstream_hop.stream, upstream.tls) = (stream, Some(peer));
        }
        let slot = Arc::new(());
        let held = Arc::downgrade(&slot);
        let terms = super::Terms {
            slot: Some(Box::new(slot)),
            extensions: props.extensions,
            expires: props
                .expires
                .and_then(|left| Expiry::after(left, Instant::now(), SystemTime::now() - props.suspended)),
        };
        let relay = Relay::new(client_hop, upstream_hop, terms, &settings, live);
        let wakes = Arc::new(Wakes::default());
        wakes.wake_by_ref();
        let relay = Some(Box::pin(relay));
        let mut stage = Self {
            client,
            upstream,
            relay,
            wakes,
            polls: 0,
            handle,
            registry,
            budget,
            held,
            start: Instant::now(),
        };
        stage.turn().await;
        stage
    }

    fn relay(&self) -> &Relay {
        self.relay.as_ref().expect("it has ended")
    }

    /// Polls it if it was woken; whether it was.
    fn poll(&mut self) -> bool {
        if self.wakes.0.swap(0, SeqCst) == 0 {
            return false;
        }
        if let Some(relay) = &mut self.relay {
            self.polls += 1;
            let waker = Waker::from(Arc::clone(&self.wakes));
            if relay.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Ready(()) {
                self.relay = None;
            }
        }
        true
    }

    /// Lets the relay do what it was woken for, until nothing wakes it any more.
    async fn turn(&mut self) {
        let (mut quiet, mut rounds) = (0, 0);
        // Once round the loop lets the reactor tell what has happened; the second makes sure.
        while quiet < 2 {
            tokio::task::yield_now().await;
            quiet = if self.poll() { 0 } else { quiet + 1 };
            rounds += 1;
            assert!(rounds < SPINS, "it wakes itself over and over with nothing to do");
        }
    }

    /// Lets time go by, from one moment the relay waits for to the next.
    async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut stops = 0;
        loop {
            self.turn().await;
            let now = Instant::now();
            if now >= end {
                return;
            }
            let armed = self.relay.as_ref().and_then(|relay| relay.armed);
            // Timers have milliseconds: what lies between two of them fires at the later one.
            let next = armed.map_or(end, |at| at.max(now + millis(1))).min(end);
            tokio::time::advance(next - now).await;
            stops += 1;
            assert!(stops < SPINS, "its timer fires over and over");
        }
    }

    /// Lets time go by up to `at`, counted from the beginning.
    async fn pass_until(&mut self, at: Duration) {
        self.pass(self.start + at - Instant::now()).await;
    }

    /// How long it lasts from now: until it ends, which must be within `most`.
    async fn lasts(&mut self, most: Duration) -> Duration {
        let from = Instant::now();
        while self.relay.is_some() {
            assert!(from.elapsed() < most, "it has not ended after {most:?}: {:#?}", self.relay);
            self.pass(millis(1)).await;
        }
        from.elapsed()
    }

    fn command(&self, command: Command) {
        self.handle.send(command);
    }

    /// Why it ended.
    fn reason(&self) -> String {
        assert!(self.relay.is_none(), "it has not ended");
        assert_eq!(self.held.strong_count(), 0, "its place was not given back");
        let families = self.registry.gather();
        let family =
            families.iter().find(|family| family.name() == "outrigger_disconnections_total").unwrap();
        let ended: Vec<_> =
            family.get_metric().iter().filter(|metric| metric.get_counter().get_value() > 0.0).collect();
        assert_eq!(ended.len(), 1);
        ended[0].get_label().iter().find(|label| label.name() == "reason").unwrap().value().to_owned()
    }

    /// A counter of the process.
    fn counter(&self, name: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == format!("outrigger_{name}")).unwrap();
        family.get_metric()[0].get_counter().get_value() as u64
    }

    fn end(&mut self, which: Which) -> &mut End {
        match which {
            Which::Client => &mut self.client,
            Which::Upstream => &mut self.upstream,
        }
    }

    /// Says `bytes` as far as anybody takes them; answers how many that were.
    async fn pour(&mut self, from: Which, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let n = self.end(from).try_say(&bytes[at..]);
            at += n;
            self.turn().await;
            if n == 0 || at == bytes.len() {
                return at;
            }
        }
    }

    /// Says `message` as often as it is taken, up to `most` times; answers how often that was.
    async fn flood(&mut self, from: Which, message: &[u8], most: usize) -> usize {
        for said in 0..most {
            match self.pour(from, message).await {
                0 => return said,
                n => assert_eq!(n, message.len(), "the kernel takes a short message whole or not at all"),
            }
        }
        most
    }

    /// Reads everything there is and all that comes of it.
    async fn drink(&mut self, which: Which) -> Vec<u8> {
        let mut heard = Vec::new();
        loop {
            self.turn().await;
            let (more, _) = self.end(which).hear_all();
            if more.is_empty() {
                return heard;
            }
            heard.extend(more);
        }
    }
}

/// A side of the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Client,
    Upstream,
}

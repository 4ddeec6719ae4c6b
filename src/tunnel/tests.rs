//! The relay, driven by hand between two raw ends ([`crate::stage`]).

mod bounds;
mod endings;
mod heartbeat;
mod inject;
mod schedule;
mod secure;
mod waking;
mod walk;

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use socket2::SockRef;
use tokio::time::Instant;

use super::Settings;
use super::relay::Relay;
use crate::config::{Config, LogConnections};
use crate::connections::{Command, Connection, ConnectionInfo, Handle, Registry};
use crate::frame::Extensions;
use crate::memory::Budget;
use crate::net::tls::testing;
use crate::net::{Stream, Transport};
use crate::resilience::Expiry;
use crate::stage::{self, Driven, SPINS, Wakes, first_frame, frame, millis, secs};
use crate::telemetry::Metrics;

/// More than goes into two hops whose kernel buffers are [`SMALL`], whatever the kernel makes of that.
const FLOOD: usize = 256 * 1024;

/// Kernel buffers that a flood fills soon.
const SMALL: usize = 8 * 1024;

fn close(code: u16, masked: bool) -> Vec<u8> {
    frame(0x88, &code.to_be_bytes(), masked)
}

/// Every frame in `bytes`, which holds whole ones only.
fn frames(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    stage::frames(bytes, None)
}

/// The code of the Close that `bytes` end with.
fn close_code(bytes: &[u8]) -> u16 {
    let all = frames(bytes);
    stage::close_code(&all).unwrap_or_else(|| panic!("no Close in {all:x?}"))
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
        let is_ended = stage::read_all(socket, &mut heard);
        (heard, is_ended)
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
        let guard = registry.enter(about);
        let handle = registry.all().remove(0);
        let hop = |read_ahead: &'static [u8]| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            for socket in [&ours, &theirs] {
                socket.set_nonblocking(true).unwrap();
                if let Some(size) = props.buffers {
                    SockRef::from(socket).set_send_buffer_size(size).unwrap();
                }
            }
            let stream = Stream::Unix(tokio::net::UnixStream::from_std(ours).unwrap());
            (
                Transport { stream, read_ahead: Bytes::from_static(read_ahead) },
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
        let connection = Connection {
            guard,
            held: Some(Box::new(slot)),
            expires: props
                .expires
                .and_then(|left| Expiry::after(left, Instant::now(), SystemTime::now() - props.suspended)),
        };
        let relay = Relay::new(client_hop, upstream_hop, props.extensions, &settings, connection);
        let relay = Some(Box::pin(relay));
        let mut stage = Self {
            client,
            upstream,
            relay,
            wakes: Wakes::woken(),
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

impl Driven for Stage {
    fn wakes(&self) -> &Arc<Wakes> {
        &self.wakes
    }

    fn poll_once(&mut self, cx: &mut Context<'_>) {
        if let Some(relay) = &mut self.relay {
            self.polls += 1;
            if relay.as_mut().poll(cx) == Poll::Ready(()) {
                self.relay = None;
            }
        }
    }

    fn armed(&self) -> Option<Instant> {
        self.relay.as_ref().and_then(|relay| relay.alarm.at())
    }
}

/// A side of the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Client,
    Upstream,
}

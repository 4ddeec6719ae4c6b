//! The task of a session, driven by hand ([`crate::stage`]) between two scripted ends: each of them takes as little at once,
//! and breaks off where, as a test wants it.
//!
//! # What holds after each step
//! [`Stage::settle`]: polled once more without a reason, the task has nothing to do. Whatever could go on had woken it.

mod cuts;
mod endings;
mod link;
mod memory;
mod plain;
mod polls;
mod receipts;
mod returns;
mod tickets;
mod untold;
mod walk;

use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http::{HeaderMap, Uri, header};
use tokio::task::unconstrained;

use self::link::{Asked, Peer};
use super::*;
use crate::config::{Config, LogConnections, Mode};
use crate::connections::{self, Command, ConnectionInfo, ResumeGate};
use crate::frame::CloseCode;
use crate::log::Logs;
use crate::memory::Budget;
use crate::net::Stream;
use crate::net::own_protocols::TicketText;
use crate::resilience::Caller;
use crate::session::handle::{Handle, Identity};
use crate::session::machine::Server;
use crate::session::request::{Attach, Wire};
use crate::session::sessions::Sessions;
use crate::stage::{self, Driven, Wakes, frame, millis, secs};
use crate::telemetry::{MessageLoss, Metrics, RedialOutcome};
use crate::upstream::Upstream;

/// What an end has room for, where it does not matter.
const ROOM: usize = 256 * 1024;

/// The clocks of the server's link and of the way back are their own: none of them goes for longer than this unheard.
const STEP: Duration = millis(50);

/// How much each end takes at once.
#[derive(Debug, Clone, Copy)]
struct Rooms {
    client: usize,
    server: usize,
}

const WIDE: Rooms = Rooms { client: ROOM, server: ROOM };

/// A session, and what it stands in.
struct Stage {
    task: Option<Pin<Box<Task>>>,
    wakes: Arc<Wakes>,
    plan: Arc<Plan>,
    sessions: Arc<Sessions>,
    connections: Arc<connections::Registry>,
    metrics: Arc<Metrics>,
    budget: Arc<Budget>,
    /// Where the server is dialled.
    listener: UnixListener,
    path: PathBuf,
    dialled: Option<Asked>,
    /// What the session holds of a quota.
    place: Weak<()>,
}

impl Stage {
    /// A session whose client has no ticket; its client and its server.
    async fn plain(policy: &str) -> (Self, Peer, Peer) {
        Self::open(policy, false, WIDE).await
    }

    async fn open(policy: &str, has_ticket: bool, rooms: Rooms) -> (Self, Peer, Peer) {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let path =
            std::env::temp_dir().join(format!("outrigger-session-{}-{number}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let yaml = format!(
            "upstream: {{url: 'unix://{}'}}\nroutes: [{{name: r, path: /ws, mode: session}}]\npolicy: {policy}",
            path.display()
        );
        let config = Config::from_yaml(&yaml).unwrap();
        let route = config.routes.first().unwrap();
        assert!(matches!(route.mode, Mode::Session));
        let metrics = Metrics::new("outrigger").unwrap();
        let budget = Arc::new(Budget::new(config.max_buffered));
        let logs = Logs::new(Arc::clone(&budget), Arc::clone(&metrics));
        let sessions = Sessions::new(logs, Arc::clone(&budget), Arc::clone(&metrics));
        let upstream = Upstream::new(Arc::clone(&route.upstream), Arc::clone(&metrics)).unwrap();
        let plan = sessions.plan("r", Arc::clone(&route.policy), upstream);
        let mut stage = Self {
            task: None,
            wakes: Wakes::woken(),
            plan,
            sessions,
            connections: connections::Registry::new(Arc::clone(&metrics), LogConnections::Off),
            metrics,
            budget,
            listener,
            path,
            dialled: None,
            place: Weak::new(),
        };
        let slot = Arc::new(());
        stage.place = Arc::downgrade(&slot);
        let (transport, client) = Peer::pipe(rooms.client, true);
        let (upstream, server) = Peer::pipe(rooms.server, false);
        let mut connection = stage.connection();
        connection.held = Some(Box::new(slot));
        let identity = Identity {
            route: "r".into(),
            user: None,
            caller: Caller::UNKNOWN,
            path: "/ws".into(),
            protocol: None,
        };
        let arrival = Arrival {
            wire: Wire::WebSocket { has_deflate: false },
            opened: Opened { transport: upstream, protocol: None, opening: opening() },
            connection,
            greeted: has_ticket.then(Greeted::default),
            guard: has_ticket.then(|| stage.plan.enter(identity).expect("there is memory")),
        };
        stage.task = Some(Box::pin(Task::new(&stage.plan, transport, arrival)));
        stage.settle().await;
        (stage, client, server)
    }

    fn connection(&self) -> Connection {
        let guard = self.connections.enter(ConnectionInfo {
            client: None,
            user: None,
            channel: None,
            request_id: "".into(),
            route: self.metrics.route("r"),
        });
        Connection { guard, expires: None, held: None }
    }

    /// The client comes back as the server of the proxy lets it: by a ticket, having heard `seen` messages. `None`: its ticket
    /// opens nothing.
    fn come_back(&self, ticket: &str, seen: u64, room: usize) -> Option<Peer> {
        let (generation, handle) = self.find(ticket)?;
        let (transport, client) = Peer::pipe(room, true);
        let attach = Attach {
            generation,
            seen,
            transport,
            wire: Wire::WebSocket { has_deflate: false },
            connection: self.connection(),
            nonce: None,
            opening: opening(),
            keys: Arc::clone(self.plan.gate.as_ref().unwrap().keys()),
        };
        // What is not taken is closed by whoever has sent it, which is nobody here.
        drop(handle.attach(Box::new(attach)));
        Some(client)
    }

    fn find(&self, ticket: &str) -> Option<(u32, Arc<Handle>)> {
        let ticket = TicketText::read(ticket.as_bytes()).expect("the form of a ticket");
        let grant = self.plan.gate.as_ref().unwrap().check(&ticket).ok()?;
        Some((grant.generation, self.plan.find(&grant.session)?))
    }

    /// A session that a client has begun over HTTP: its ticket, and its server.
    async fn open_over_http(policy: &str) -> (Self, String, Peer) {
        let (mut stage, _client, _server) = Self::plain(policy).await;
        stage.task = None;
        let (upstream, server) = Peer::pipe(ROOM, false);
        let identity = Identity {
            route: "r".into(),
            user: None,
            caller: Caller::UNKNOWN,
            path: "/ws".into(),
            protocol: None,
        };
        let guard = stage.plan.enter(identity).expect("there is memory");
        let (_, ticket) = stage.plan.issue(&guard).expect("there are numbers");
        let opened = Opened { transport: upstream, protocol: None, opening: opening() };
        let slot = Arc::new(());
        stage.place = Arc::downgrade(&slot);
        let connection = Connection { held: Some(Box::new(slot)), ..stage.connection() };
        stage.task = Some(Box::pin(Task::over_http(&stage.plan, opened, guard, connection)));
        (stage, ticket.as_str().to_owned(), server)
    }

    fn task(&self) -> &Task {
        self.task.as_ref().expect("the session is not over")
    }

    /// What another poll could change.
    fn state(&self) -> String {
        let Some(task) = &self.task else { return "over".to_owned() };
        let machine = (task.machine.server(), task.machine.client());
        let log = (task.next, task.newest_sent, task.writer.log().head());
        let outbox = (task.outbox.received(), task.outbox.waiting(), task.outbox.held());
        let uplink = task.uplink.as_ref();
        let uplink = uplink.map(|link| (link.sent(), link.left(), link.proven(), link.buffered()));
        let client = task.client.as_ref();
        let client = client.map(|link| (link.is_open(), link.held(), link.handle().sent()));
        let rest = (task.rest, task.parting.is_some(), task.outage.is_some());
        format!("{machine:?} {log:?} {outbox:?} {uplink:?} {client:?} {rest:?}")
    }

    /// Lets it do all that can go on, and looks whether there was more.
    async fn settle(&mut self) {
        self.turn().await;
        let before = self.state();
        self.wake();
        self.turn().await;
        assert_eq!(self.state(), before, "this could go on, and nothing had woken the task");
    }

    fn wake(&self) {
        Waker::from(Arc::clone(&self.wakes)).wake();
    }

    /// A dial whose request has come, if there is one.
    fn next_dial(&mut self) -> Option<Asked> {
        if self.dialled.is_none() {
            match self.listener.accept() {
                Ok((socket, _)) => self.dialled = Some(Asked::new(socket)),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
            }
        }
        self.dialled.as_mut().is_some_and(Asked::is_whole).then(|| self.dialled.take().unwrap())
    }

    /// The next dial, within some seconds.
    async fn dial(&mut self) -> Asked {
        for _ in 0..400 {
            self.turn().await;
            if let Some(asked) = self.next_dial() {
                return asked;
            }
            self.pass(millis(20)).await;
        }
        panic!("the server is not dialled: {}", self.state());
    }

    /// The next server, which accepts.
    async fn new_server(&mut self) -> Peer {
        let server = self.dial().await.accept(b"");
        self.settle().await;
        server
    }

    /// Passes on all that one end says, as far as there is room for it, and answers what the other one gets meanwhile.
    async fn trickle(&mut self, from: &mut Peer, bytes: &[u8], to: &mut Peer) -> Vec<(u8, Vec<u8>)> {
        let (mut at, mut quiet, mut heard) = (0, 0, Vec::new());
        while quiet < 3 {
            let written = from.write(&bytes[at..]);
            at += written;
            self.turn().await;
            // What is said to an end that does not read would hold back the other.
            let read = to.read(usize::MAX) + from.read(usize::MAX);
            heard.append(&mut to.frames());
            quiet = if written + read == 0 { quiet + 1 } else { 0 };
        }
        assert_eq!(at, bytes.len(), "all was taken");
        heard
    }

    /// The session is over, and has left nothing.
    fn is_over(&self) {
        assert!(self.task.is_none(), "{}", self.state());
        assert_eq!(self.budget.used(), 0, "bytes of the budget");
        assert_eq!((self.connections.len(), self.plan.shared.registry.len()), (0, 0), "in the registries");
        let metrics = &self.plan.metrics;
        let gauges = (metrics.attached.get(), metrics.away.get(), metrics.connected.get());
        assert_eq!(gauges, (0, 0, 0), "attached, away, connected");
        assert_eq!((self.plan.shared.longest_queue(), self.metrics.upstream.dials.get()), (0, 0));
        assert!(self.place.upgrade().is_none(), "its place is given back");
    }

    /// How often sessions have ended for this, and for others.
    fn ends(&self, why: SessionEnd) -> (u64, u64) {
        let families = self.connections.gather();
        let family = families.iter().find(|family| family.name() == "outrigger_session_ends_total").unwrap();
        let all: f64 = family.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum();
        let ours = self.plan.metrics.ends.get(why);
        (ours, all as u64 - ours)
    }

    fn lost(&self, why: MessageLoss) -> u64 {
        self.plan.metrics.lost.get(why)
    }
}

impl Driven for Stage {
    fn wakes(&self) -> &Arc<Wakes> {
        &self.wakes
    }

    fn poll_once(&mut self, cx: &mut Context<'_>) {
        if let Some(task) = &mut self.task {
            // As it is spawned: the runtime's budget for this test's task is none of its business.
            if pin!(unconstrained(task.as_mut())).poll(cx).is_ready() {
                self.task = None;
            }
        }
    }

    fn armed(&self) -> Option<Instant> {
        let step = Instant::now() + STEP;
        self.task.as_ref().map(|task| task.alarm.at().map_or(step, |armed| armed.min(step)))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn opening() -> Opening {
    let mut headers = HeaderMap::new();
    let fields = [
        (header::HOST, "example.com"),
        (header::CONNECTION, "Upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_VERSION, "13"),
        (header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (name, value) in fields {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Opening::of_one_client(&Uri::from_static("/ws"), headers)
}

/// The messages among `frames`.
fn texts(frames: &[(u8, Vec<u8>)]) -> Vec<&str> {
    let messages = frames.iter().filter(|(first, _)| first & 0x0f < 3);
    messages.map(|(_, payload)| std::str::from_utf8(payload).unwrap()).collect()
}

fn close(code: u16, reason: &str) -> (u8, Vec<u8>) {
    (0x88, [&code.to_be_bytes(), reason.as_bytes()].concat())
}

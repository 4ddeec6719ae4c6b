//! Clients that go from a WebSocket to polls to an event stream and back, over HTTP/1.1 and HTTP/2, and break off in the middle
//! of each, beside a server that counts: each message arrives once and in order, both ways, and the server sees one connection
//! of each client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::fallback_client::{Ask, BATCH, Caller, EventStream, Told};
use crate::support::DEADLINE;
use crate::support::client::RawClient;
use crate::support::link::Message;
use crate::support::proxy::Proxy;
use crate::support::session::session;
use crate::support::ticket_client::{Cut, TicketClient};
use crate::support::upstream::{ServerConn, Upstream};

const CLIENTS: usize = 5;
/// Of all of them together.
const SWITCHES: usize = 1000;
/// Messages of the server that a client waits for over each of its ways.
const HEARD_EACH: u64 = 3;
/// The server is so far ahead of its client at most: polls and streams begin with a backlog, and then wait.
const AHEAD: u64 = 8;

/// What a client and its server share.
#[derive(Default)]
struct Shared {
    /// The newest number that the client has heard.
    heard: AtomicU64,
    is_over: AtomicBool,
}

/// What came of a server's connection.
struct Served {
    last: u64,
    heard: Vec<String>,
    server: ServerConn,
}

/// Counts, until it is over.
async fn serve(mut server: ServerConn, shared: Arc<Shared>) -> Served {
    let (mut last, mut heard) = (0, Vec::new());
    while !shared.is_over.load(Relaxed) {
        if last < shared.heard.load(Relaxed) + AHEAD {
            last += 1;
            server.text(&last.to_string()).await;
        }
        while let Some(text) = server.text_within(Duration::from_millis(1)).await {
            heard.push(text);
        }
    }
    Served { last, heard, server }
}

struct Mover {
    caller: Caller,
    proxy: Arc<Proxy>,
    path: String,
    ticket: String,
    /// The newest number that it has heard.
    seen: u64,
    said: Vec<String>,
    shared: Arc<Shared>,
    /// What is left open until something takes its place.
    left: Vec<(Option<TicketClient>, Option<EventStream>)>,
    cuts: u32,
}

fn one_in(count: u32) -> bool {
    fastrand::u32(0..count) == 0
}

fn a_moment() -> Duration {
    Duration::from_micros(fastrand::u64(0..3000))
}

impl Mover {
    async fn begin(proxy: Arc<Proxy>, path: String, is_http2: bool, shared: Arc<Shared>) -> Self {
        let caller = Caller::new(proxy.address(), is_http2).await;
        let told = caller.ask(&Ask::get(format!("{path}/poll"))).await;
        assert_eq!(told.status, 200, "{told:?}");
        let ticket = told.body["session"].as_str().unwrap().to_owned();
        let (said, left) = (Vec::new(), Vec::new());
        Self { caller, proxy, path, ticket, seen: 0, said, shared, left, cuts: 0 }
    }

    fn get(&self, endpoint: &str) -> Ask {
        Ask::get(format!("{}/{endpoint}", self.path)).with("x-outrigger-session", &self.ticket)
    }

    fn post(&self, endpoint: &str, content_type: &str, body: &str) -> Ask {
        let path = format!("{}/{endpoint}", self.path);
        Ask::post(path, content_type, body).with("x-outrigger-session", &self.ticket)
    }

    /// It has heard the next one.
    #[track_caller]
    fn hears(&mut self, data: &Value) {
        assert_eq!(data.as_u64(), Some(self.seen + 1), "{}: one after the other", self.path);
        self.seen += 1;
        self.shared.heard.store(self.seen, Relaxed);
    }

    fn speak(&mut self) {
        self.said.push(format!("{} {}", self.path, self.said.len() + 1));
    }

    /// Asks until no link of before is in the way.
    async fn ask(&self, ask: &Ask) -> Told {
        let until = Instant::now() + DEADLINE;
        loop {
            let told = self.caller.ask(ask).await;
            if told.reason.as_deref() != Some("attached") {
                return told;
            }
            assert!(Instant::now() < until, "{}: the link before is never let go of", self.path);
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Says over HTTP what was not received; some of it twice, since an answer may get lost.
    async fn say_from(&mut self, mut received: usize) {
        while received < self.said.len() {
            let fresh = &self.said[received..];
            let ask = if one_in(2) {
                self.post(&format!("send?n={}", received + 1), "text/plain", &fresh[0])
            } else {
                let messages = fresh.iter().take(100).map(|text| json!({ "data": text }));
                let messages = Vec::from_iter(messages);
                self.post("send", BATCH, &json!({ "n": received + 1, "messages": messages }).to_string())
            };
            if one_in(4) {
                self.caller.break_off(&ask, a_moment()).await;
                self.cuts += 1;
            }
            let told = self.ask(&ask).await;
            assert!(matches!(told.status, 200 | 202), "{}: {told:?}", self.path);
            let now = told.body["received"].as_u64().unwrap() as usize;
            assert!((received + 1..=self.said.len()).contains(&now), "{}: {told:?}", self.path);
            received = now;
        }
    }

    async fn by_websocket(&mut self) {
        let mut socket = TicketClient::new(RawClient::dial(self.proxy.address()).path(&self.path));
        socket.ticket = Some(self.ticket.clone());
        (socket.seen, socket.said) = (self.seen, self.said.len() as u64);
        if one_in(4) {
            // The ticket that comes behind the 101 gets lost.
            socket.handshake().open().await.reset();
            self.cuts += 1;
        }
        let received = socket.resume().await["received"].as_u64().unwrap();
        socket.said = received;
        self.ticket = socket.ticket.clone().unwrap();
        for _ in 0..fastrand::u32(0..3) {
            self.speak();
        }
        for text in &self.said[received as usize..] {
            socket.say(text).await;
        }
        let until = self.seen + HEARD_EACH;
        while self.seen < until {
            let Message::Text(text) = socket.next_message().await else { panic!("a text") };
            self.hears(&serde_json::from_str(&text).unwrap());
        }
        if one_in(4) {
            // What it says last may be on its way when it is cut, and what it has had may not be known.
            self.speak();
            socket.say(self.said.last().unwrap()).await;
        } else {
            socket.confirm().await;
        }
        match fastrand::u8(0..3) {
            0 => socket.cut(Cut::Reset).await,
            1 => socket.cut(Cut::Fin).await,
            _ => {
                // Only one that has shown its ticket gives way at once.
                socket.confirm().await;
                self.left.push((Some(socket), None));
                return;
            }
        }
        self.cuts += 1;
    }

    async fn by_polls(&mut self) {
        let until = self.seen + HEARD_EACH;
        while self.seen < until {
            let ask = self.get(&format!("poll?afterSequence={}&limit={}", self.seen, fastrand::u8(1..5)));
            if one_in(4) {
                self.caller.break_off(&ask, a_moment()).await;
                self.cuts += 1;
            }
            let told = self.ask(&ask).await;
            assert_eq!(told.status, 200, "{}: {told:?}", self.path);
            assert_eq!((&told.body["lost"], &told.body["session"]), (&json!(0), &json!(self.ticket)));
            if one_in(5) {
                // That answer got lost.
                continue;
            }
            for event in told.body["events"].as_array().unwrap() {
                assert_eq!(event["sequenceNumber"], self.seen + 1);
                self.hears(&event["data"]);
            }
            self.speak();
            let received = told.body["received"].as_u64().unwrap();
            self.say_from(received as usize).await;
        }
    }

    async fn by_event_stream(&mut self) {
        let id = format!("{}.{}", self.ticket, self.seen);
        let ask = Ask::get(format!("{}/events", self.path)).with("last-event-id", &id);
        if one_in(4) {
            self.caller.break_off(&ask, a_moment()).await;
            self.cuts += 1;
        }
        let since = Instant::now();
        let mut stream = loop {
            match self.caller.stream(&ask).await {
                Ok(stream) => break stream,
                Err(409) => assert!(since.elapsed() < DEADLINE, "{}: never let go of", self.path),
                Err(status) => panic!("{}: {status}", self.path),
            }
            sleep(Duration::from_millis(10)).await;
        };
        let (name, hello) = stream.next().await.expect("a hello");
        assert_eq!((&*name, &hello["resumed"]), ("outrigger", &json!(true)), "{}: {hello}", self.path);
        assert_eq!(hello["sequence"], self.seen);
        self.speak();
        self.say_from(hello["received"].as_u64().unwrap() as usize).await;
        let until = self.seen + HEARD_EACH;
        while self.seen < until {
            let (name, event) = stream.next().await.expect("it goes on");
            if name == "message" {
                assert_eq!(stream.last_id, format!("{}.{}", self.ticket, self.seen + 1));
                self.hears(&event["data"]);
            } else {
                assert_eq!(name, "outrigger", "{event}");
            }
        }
        if one_in(3) {
            self.left.push((None, Some(stream)));
        } else {
            stream.reset();
            self.cuts += 1;
        }
    }

    /// Goes over so often, and takes in the rest of what its server says.
    async fn live(mut self, switches: usize) -> Self {
        let mut before = 3;
        for _ in 0..switches {
            let way = (before + fastrand::u8(1..3)) % 3;
            match way {
                0 => self.by_websocket().await,
                1 => self.by_polls().await,
                _ => self.by_event_stream().await,
            }
            before = way;
            // The link before that was left open gives way to this one; the one before it has ended.
            let gone = self.left.len().saturating_sub(2);
            self.left.drain(..gone);
        }
        self.shared.is_over.store(true, Relaxed);
        self
    }

    /// What is due yet, both ways.
    async fn settle(&mut self, last: u64) {
        loop {
            let ask = self.get(&format!("poll?afterSequence={}&limit=1000&timeout=0", self.seen));
            let told = self.ask(&ask).await;
            for event in told.body["events"].as_array().unwrap_or_else(|| panic!("{told:?}")) {
                self.hears(&event["data"]);
            }
            self.say_from(told.body["received"].as_u64().unwrap() as usize).await;
            if self.seen == last {
                return;
            }
        }
    }
}

#[tokio::test]
async fn clients_that_change_their_way_a_thousand_times_get_each_message_once_both_ways() {
    let _alone = crate::alone().await;
    let since = Instant::now();
    let upstream = Upstream::by_hand().await;
    let policy = "fallback: {sse: true, poll: true}, session: {resume_window: 1m}, heartbeat: null, \
                  handshake_rate: {global: null, per_ip: null}";
    let proxy = Arc::new(session(&upstream, policy).spawn().await);
    let mut clients = JoinSet::new();
    let mut servers = Vec::new();
    for n in 0..CLIENTS {
        let shared = Arc::new(Shared::default());
        let begun = Mover::begin(Arc::clone(&proxy), format!("/client-{n}"), n % 2 == 1, Arc::clone(&shared));
        let (mover, server) = tokio::join!(begun, upstream.accept());
        servers.push((mover.path.clone(), tokio::spawn(serve(server, shared))));
        clients.spawn(mover.live(SWITCHES / CLIENTS));
    }
    let mut movers = clients.join_all().await;
    let (mut down, mut up, mut cuts) = (0, 0, 0);
    // They stay until all is counted: a session whose server goes dials it again, and does not know what that has taken.
    let mut open = Vec::new();
    for (path, served) in servers {
        let Served { last, mut heard, mut server } = served.await.unwrap();
        let mover = movers.iter_mut().find(|mover| mover.path == path).unwrap();
        mover.settle(last).await;
        while heard.len() < mover.said.len() {
            let Message::Text(text) = server.next_message().await else { panic!("a text") };
            heard.push(text);
        }
        assert_eq!(server.text_within(Duration::from_millis(50)).await, None, "{path}: and nothing more");
        assert_eq!(heard, mover.said, "{path}: each once, and in order");
        down += last;
        up += heard.len();
        cuts += mover.cuts;
        open.push(server);
    }
    assert_eq!(upstream.accepted(), CLIENTS, "the servers have noticed nothing");
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("outrigger_session_ends_total"), 0.0);
    assert_eq!(metrics.sum("outrigger_messages_lost_total"), 0.0);
    drop(open);
    eprintln!(
        "{SWITCHES} switches of {CLIENTS} clients in {:?}, {cuts} cuts: {down} messages down and {up} up, none lost or \
         twice",
        since.elapsed()
    );
}

//! A server to stand behind the proxy: a correct WebSocket echo, unless its script says otherwise.
//!
//! What happens to a connection is looked up when it is accepted, in three steps: how its request is
//! answered ([`Answer`], [`Plain`]), what is done once the WebSocket is open ([`Act`]), and then the
//! echo, with acts of their own for single texts. [`Upstream::accept`] hands a connection to the test
//! instead, to play the server by hand.

mod script;
mod serve;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::rustls::ServerConfig;

pub use script::{Act, Answer, Plain};
pub use serve::ServerConn;

use super::DEADLINE;
use super::files;
use super::http::Head;
use super::link::{Closed, Link};
use super::socket::{Address, Socket};
use super::wire::Role;

/// What a client said before it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub head: Head,
    /// Of a plain request.
    pub body: Vec<u8>,
    /// Of a handshake: bytes that came before its answer went out. Must stay empty: a client may not
    /// speak before it knows that it speaks WebSocket.
    pub early: Vec<u8>,
}

/// A running server. Gone, with all its connections, when it is dropped.
pub struct Upstream {
    address: Address,
    shared: Arc<Shared>,
    by_hand: tokio::sync::Mutex<mpsc::Receiver<ServerConn>>,
    accepting: Option<JoinHandle<()>>,
}

/// An upstream that is not started yet.
#[derive(Clone, Default)]
pub struct Builder {
    script: script::Script,
    unix: bool,
    tls: Option<Arc<ServerConfig>>,
}

struct Shared {
    tls: Option<Arc<ServerConfig>>,
    script: Mutex<script::Script>,
    handshakes: Mutex<Vec<Request>>,
    requests: Mutex<Vec<Request>>,
    endings: Mutex<Vec<Closed>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
    by_hand: mpsc::Sender<ServerConn>,
}

/// One accepted connection, counted as long as this lives.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Builder {
    /// How handshakes are answered.
    #[must_use]
    pub fn answering(mut self, answer: Answer) -> Self {
        self.script.answer = answer;
        self
    }

    /// Every request is answered so much later.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.script.delay = delay;
        self
    }

    /// Done as soon as a WebSocket is open, before the echo begins.
    #[must_use]
    pub fn on_open(mut self, acts: impl IntoIterator<Item = Act>) -> Self {
        self.script.on_open.extend(acts);
        self
    }

    /// Done instead of the echo when this text comes (in one frame).
    #[must_use]
    pub fn on_text(mut self, text: &str, acts: impl IntoIterator<Item = Act>) -> Self {
        self.script.on_text.push((text.to_owned(), acts.into_iter().collect()));
        self
    }

    /// How plain requests are answered.
    #[must_use]
    pub fn on_request(mut self, plain: Plain) -> Self {
        self.script.plain = plain;
        self
    }

    /// Open WebSockets wait for [`Upstream::accept`] instead of being echoed.
    #[must_use]
    pub fn by_hand(self) -> Self {
        self.on_open([Act::HandOver])
    }

    /// On a Unix socket.
    #[must_use]
    pub fn unix(mut self) -> Self {
        self.unix = true;
        self
    }

    /// Over TLS. Who does not get through its handshake is not served.
    #[must_use]
    pub fn tls(mut self, config: impl Into<Arc<ServerConfig>>) -> Self {
        self.tls = Some(config.into());
        self
    }

    pub async fn spawn(self) -> Upstream {
        let (sender, receiver) = mpsc::channel(1024);
        let shared = Arc::new(Shared {
            tls: self.tls,
            script: Mutex::new(self.script),
            handshakes: Mutex::default(),
            requests: Mutex::default(),
            endings: Mutex::default(),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            by_hand: sender,
        });
        let address = if self.unix {
            Address::Unix(files::socket_path())
        } else {
            Address::Tcp(([127, 0, 0, 1], 0).into())
        };
        let mut upstream =
            Upstream { address, shared, by_hand: tokio::sync::Mutex::new(receiver), accepting: None };
        upstream.start().await;
        upstream
    }
}

impl Upstream {
    /// An echo server, unless further words change that.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A running echo server.
    pub async fn echo() -> Self {
        Self::builder().spawn().await
    }

    /// A running server whose plain requests the test answers.
    pub async fn requests_by_hand() -> Self {
        Self::builder().on_request(Plain::HandOver).spawn().await
    }

    /// A running server whose open WebSockets are the test's to serve: [`Upstream::accept`].
    pub async fn by_hand() -> Self {
        Self::builder().by_hand().spawn().await
    }

    /// An address where nothing listens (any more): connecting to it is refused.
    pub async fn nowhere() -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        listener.local_addr().expect("a listener has an address").into()
    }

    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// As `upstream.url` has it.
    pub fn url(&self) -> String {
        match &self.address {
            Address::Tcp(address) => format!("http://{address}"),
            Address::Unix(path) => format!("unix://{}", path.display()),
        }
    }

    /// From now on, connections not accepted yet get this script.
    pub fn change(&self, builder: Builder) {
        *lock(&self.shared.script) = builder.script;
    }

    /// The next connection that the script handed over.
    pub async fn accept(&self) -> ServerConn {
        let mut waiting = self.by_hand.lock().await;
        match timeout(DEADLINE, waiting.recv()).await {
            Ok(Some(conn)) => conn,
            _ => panic!(
                "no connection came to the upstream in {DEADLINE:?} ({} accepted, {} open, {} handshakes)",
                self.accepted(),
                self.open(),
                self.handshakes().len()
            ),
        }
    }

    /// Handshakes seen, in order, whatever they were answered.
    pub fn handshakes(&self) -> Vec<Request> {
        lock(&self.shared.handshakes).clone()
    }

    /// Plain requests seen, in order.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// How echoed WebSockets ended, in order, as the server saw it.
    pub fn endings(&self) -> Vec<Closed> {
        lock(&self.shared.endings).clone()
    }

    /// Forgets what [`Upstream::handshakes`], [`Upstream::requests`] and [`Upstream::endings`] would tell.
    pub fn forget(&self) {
        lock(&self.shared.handshakes).clear();
        lock(&self.shared.requests).clear();
        lock(&self.shared.endings).clear();
    }

    /// TCP (or Unix) connections accepted since the start.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now, those handed to the test included.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Stops listening and drops every connection that was not handed to the test: the process died.
    pub async fn stop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // Cancelled is what was asked for; the listener and the connections are gone with it.
            let _ = accepting.await;
        }
    }

    /// Listens again on the same address after [`Upstream::stop`].
    pub async fn start(&mut self) {
        assert!(self.accepting.is_none(), "the upstream is running");
        let shared = self.shared.clone();
        let task = match &self.address {
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address).await.expect("the upstream's port is free");
                self.address = listener.local_addr().expect("a listener has an address").into();
                tokio::spawn(accept_tcp(listener, shared))
            }
            Address::Unix(path) => {
                remove_socket(path);
                let listener = UnixListener::bind(path).expect("the socket's folder is writable");
                tokio::spawn(accept_unix(listener, shared))
            }
        };
        self.accepting = Some(task);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
        if let Address::Unix(path) = &self.address {
            remove_socket(path);
        }
    }
}

fn remove_socket(path: &PathBuf) {
    // It may not exist (yet, or any more).
    let _ = std::fs::remove_file(path);
}

async fn accept_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer) = listener.accept().await.expect("a loopback listener accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        connections.spawn(take_in(Socket::Tcp(stream), format!("upstream of {peer}"), &shared));
        while connections.try_join_next().is_some() {}
    }
}

async fn accept_unix(listener: UnixListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("a Unix listener accepts");
        connections.spawn(take_in(Socket::Unix(stream), "upstream on a Unix socket".to_owned(), &shared));
        while connections.try_join_next().is_some() {}
    }
}

fn take_in(socket: Socket, name: String, shared: &Arc<Shared>) -> impl Future<Output = ()> + use<> {
    shared.accepted.fetch_add(1, Ordering::SeqCst);
    shared.open.fetch_add(1, Ordering::SeqCst);
    let open = Open(shared.clone());
    let tls = shared.tls.clone();
    async move {
        let socket = match tls {
            None => socket,
            Some(config) => match Box::pin(socket.accept_secure(config)).await {
                Ok(socket) => socket,
                Err(_) => return,
            },
        };
        serve::serve(Link::new(socket, Role::Server, name), open).await;
    }
}

/// A panic in one connection's task must not hide what the others recorded.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

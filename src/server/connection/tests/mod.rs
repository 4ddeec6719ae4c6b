//! Requests that are taken from hyper, over real sockets: what is asked for is answered by a [`Script`] in place of
//! routes.

mod first;
mod http2;
mod stream;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::in_service::Serving;
use super::serve_with;
use crate::config::Config;
use crate::net::{ClientBody, Peer, Stream, Transport, Workers};
use crate::server::http::body::{AnswerBody, stream_answer};
use crate::server::http::connection::HttpConnection;
use crate::server::http::upgrade::PendingUpgrade;
use crate::server::limits::gauge::GaugeGuard;
use crate::server::limits::handshakes::HandshakePermit;
use crate::server::state::State;
use crate::telemetry::Metrics;

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// What a request has come to, for the test to go on with.
enum Asked {
    /// `/events`: what is to be written first, and the socket once it is handed over.
    Events(Bytes, oneshot::Receiver<Transport>),
    /// `/poll`: it waits for this, which is closed when nobody waits any more.
    Poll(oneshot::Sender<&'static str>),
}

/// Answers `/events`, `/poll` (both where the query is `then=events`: first one, then the other), `/big`, and all else
/// with its path.
#[derive(Clone)]
struct Script(mpsc::Sender<Asked>);

impl Script {
    async fn answer(
        self,
        connection: &Arc<HttpConnection>,
        request: Request<ClientBody>,
    ) -> Response<AnswerBody> {
        let (path, then) = (request.uri().path().to_owned(), request.uri().query().map(str::to_owned));
        drop(request);
        let own = |body: Bytes| Response::new(AnswerBody::own(Full::from(body), connection));
        match path.as_str() {
            "/poll" => {
                let (said, heard) = oneshot::channel();
                self.0.try_send(Asked::Poll(said)).unwrap();
                let heard = connection.wait(heard).await.unwrap_or("nothing");
                if then.is_some() { self.events(connection) } else { own(heard.into()) }
            }
            "/events" => self.events(connection),
            "/big" => own(vec![b'b'; BIG].into()),
            _ => own(path.into_bytes().into()),
        }
    }

    fn events(&self, connection: &Arc<HttpConnection>) -> Response<AnswerBody> {
        let mut head = Response::new(());
        let value = HeaderValue::from_static("text/event-stream");
        head.headers_mut().insert(header::CONTENT_TYPE, value);
        let (answer, first) = stream_answer(connection, head);
        let (taken, socket) = oneshot::channel();
        connection.set_upgrade(PendingUpgrade::Taken(taken));
        self.0.try_send(Asked::Events(first, socket)).unwrap();
        answer
    }
}

/// More than sockets take whose client does not read.
const BIG: usize = 8 << 20;

/// A proxy whose requests a script answers.
struct Proxy {
    state: Arc<State>,
    asked: mpsc::Receiver<Asked>,
    script: Script,
}

impl Proxy {
    fn new() -> Self {
        let config = Config::from_yaml("upstream: { url: http://127.0.0.1:1 }").unwrap();
        let state = State::new(config, Metrics::new("outrigger").unwrap(), Workers::default()).unwrap();
        let (ask, asked) = mpsc::channel(64);
        Self { state, asked, script: Script(ask) }
    }

    /// Serves one connection over `stream`.
    fn serve(&self, stream: Stream) -> JoinHandle<()> {
        let permit =
            HandshakePermit::enter(&self.state.metrics.server.handshaking, 10_000, Instant::now()).unwrap();
        let script = self.script.clone();
        let serve = move |state: Arc<State>, connection: Arc<HttpConnection>, _, request| -> Serving {
            let script = script.clone();
            Box::pin(async move {
                connection.on_request();
                let in_flight = GaugeGuard::new(&state.metrics.server.http_in_flight);
                let mut answer = script.answer(&connection, request).await;
                answer.body_mut().hold_in_flight(in_flight);
                Ok(answer)
            })
        };
        tokio::spawn(serve_with(
            Arc::clone(&self.state),
            stream,
            Peer::default(),
            permit,
            (serve.clone(), serve),
        ))
    }

    /// A client over TCP, and its connection's task.
    async fn connect(&self) -> (Client, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        SockRef::from(&ours).set_send_buffer_size(16 << 10).unwrap();
        (Client { socket: client, read: Vec::new() }, self.serve(Stream::Tcp(ours)))
    }

    async fn asked(&mut self) -> Asked {
        timeout(DEADLINE, self.asked.recv()).await.expect("it is asked").unwrap()
    }

    /// The next request waits for what is sent here.
    async fn asked_poll(&mut self) -> oneshot::Sender<&'static str> {
        match self.asked().await {
            Asked::Poll(said) => said,
            Asked::Events(..) => panic!("a stream"),
        }
    }

    /// The next request is for a stream: what comes first on it, and its socket.
    async fn asked_events(&mut self) -> (Bytes, Transport) {
        match self.asked().await {
            Asked::Events(first, socket) => {
                let socket = timeout(DEADLINE, socket).await.expect("it is handed over").unwrap();
                (first, socket)
            }
            Asked::Poll(_) => panic!("a poll"),
        }
    }

    /// How many connections are on their way to something, how many are connections of HTTP, and how many requests are
    /// being answered.
    fn counts(&self) -> (i64, i64, i64) {
        let server = &self.state.metrics.server;
        (server.handshaking.get(), server.http_connections.get(), server.http_in_flight.get())
    }
}

/// A client that writes bytes.
struct Client {
    socket: TcpStream,
    read: Vec<u8>,
}

impl Client {
    async fn say(&mut self, bytes: &str) {
        self.socket.write_all(bytes.as_bytes()).await.unwrap();
    }

    async fn get(&mut self, path: &str) {
        self.say(&request(path)).await;
    }

    /// The next answer: its head, and as much of its body as the head announces.
    async fn answer(&mut self) -> (String, String) {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await;
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let length = head.to_ascii_lowercase();
        let length = length
            .split_once("content-length: ")
            .map_or(0, |(_, rest)| rest.split_once('\r').unwrap().0.parse().unwrap());
        while self.read.len() < length {
            self.more().await;
        }
        (head, String::from_utf8(self.read.drain(..length).collect()).unwrap())
    }

    /// The next answer is a 200 with this body; answers its head.
    async fn expect(&mut self, expected: &str) -> String {
        let (head, body) = self.answer().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(body, expected);
        head
    }

    async fn more(&mut self) {
        let read = timeout(DEADLINE, self.socket.read_buf(&mut self.read)).await.expect("it comes").unwrap();
        assert_ne!(read, 0, "the connection ended after {}", String::from_utf8_lossy(&self.read));
    }

    /// All that comes until the connection ends.
    async fn rest(mut self) -> String {
        let end = self.socket.read_to_end(&mut self.read);
        timeout(DEADLINE, end).await.expect("it ends").unwrap();
        String::from_utf8(self.read).unwrap()
    }

    /// Has the coming drop reset the connection.
    fn reset(self) {
        SockRef::from(&self.socket).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// A GET, as HTTP/1.1 has it.
fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

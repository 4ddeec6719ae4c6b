//! A client that says exactly what a test tells it to, down to the case of a header.

use std::future::Future;
use std::io;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::Arc;

use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;

use super::DEADLINE;
use super::http::{self, Headers, Response};
use super::link::Link;
use super::socket::{Address, Socket};
use super::wire::Role;

/// A connection to the port under test. All reading and writing is [`Link`]'s.
pub struct RawClient {
    link: Link,
    /// What the handshake (or the plain request) was answered with.
    pub response: Response,
}

impl RawClient {
    /// A handshake to be shaped; nothing happens before one of its last words: [`Dial::open`],
    /// [`Dial::refused`], [`Dial::send`].
    pub fn dial(to: impl Into<Address>) -> Dial {
        let handshake = [
            ("Upgrade", "websocket".to_owned()),
            ("Connection", "Upgrade".to_owned()),
            ("Sec-WebSocket-Key", http::random_key()),
            ("Sec-WebSocket-Version", "13".to_owned()),
        ];
        let mut dial = Self::plain(to);
        dial.headers.0.extend(handshake.map(|(name, value)| (name.to_owned(), value)));
        dial
    }

    /// A plain request to be shaped: `GET / HTTP/1.1` with a `Host`, unless told otherwise.
    pub fn plain(to: impl Into<Address>) -> Dial {
        let to = to.into();
        let host = match &to {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(_) => "localhost".to_owned(),
        };
        Dial {
            to,
            method: "GET".to_owned(),
            target: "/".to_owned(),
            version: "HTTP/1.1".to_owned(),
            headers: Headers(vec![("Host".to_owned(), host)]),
            body: Vec::new(),
            pipelined: Vec::new(),
            receive_buffer: None,
            single_bytes: false,
            tls: None,
        }
    }

    /// A link whose request was answered with this.
    pub fn of(link: Link, response: Response) -> Self {
        Self { link, response }
    }

    /// An open WebSocket at this path; panics unless the handshake succeeds.
    #[track_caller]
    pub fn connect(to: impl Into<Address>, path: &str) -> impl Future<Output = Self> {
        Self::dial(to).path(path).open()
    }
}

impl Deref for RawClient {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.link
    }
}

impl DerefMut for RawClient {
    fn deref_mut(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl RawClient {
    /// As [`Link::reset`].
    pub fn reset(self) {
        self.link.reset();
    }
}

/// A request that is not sent yet.
#[derive(Debug, Clone)]
pub struct Dial {
    to: Address,
    method: String,
    target: String,
    version: String,
    headers: Headers,
    body: Vec<u8>,
    pipelined: Vec<u8>,
    receive_buffer: Option<u32>,
    single_bytes: bool,
    tls: Option<Arc<ClientConfig>>,
}

impl Dial {
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = method.to_owned();
        self
    }

    /// Path and query, as they are.
    #[must_use]
    pub fn path(mut self, target: &str) -> Self {
        self.target = target.to_owned();
        self
    }

    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = version.to_owned();
        self
    }

    /// Sets a header, in place of one with that name (in any case) or behind all others.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let new = (name.to_owned(), value.to_owned());
        match self.headers.0.iter_mut().find(|(old, _)| old.eq_ignore_ascii_case(name)) {
            Some(old) => *old = new,
            None => self.headers.0.push(new),
        }
        self
    }

    /// Adds a header line, even where that name is there already.
    #[must_use]
    pub fn also(mut self, name: &str, value: &str) -> Self {
        self.headers.0.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.0.retain(|(old, _)| !old.eq_ignore_ascii_case(name));
        self
    }

    /// These headers and no others, in this order and case.
    #[must_use]
    pub fn exactly(mut self, headers: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.headers = Headers(headers.iter().map(owned).collect());
        self
    }

    /// A body, with its `Content-Length`.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        let length = self.body.len().to_string();
        self.header("Content-Length", &length)
    }

    /// Bytes that leave in the same write as the request, before any answer.
    #[must_use]
    pub fn pipelined(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.pipelined = bytes.as_ref().to_vec();
        self
    }

    /// `SO_RCVBUF`, set before the connect: what the kernel holds for a client that does not read.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// The request goes out in segments of one byte.
    #[must_use]
    pub fn in_single_bytes(mut self) -> Self {
        self.single_bytes = true;
        self
    }

    /// Over TLS.
    #[must_use]
    pub fn tls(mut self, config: impl Into<Arc<ClientConfig>>) -> Self {
        self.tls = Some(config.into());
        self
    }

    /// Connects, over TLS if that was asked for, or tells why that failed.
    pub async fn try_connect(self) -> io::Result<Link> {
        let socket = Socket::connect(&self.to, self.receive_buffer).await?;
        let socket = match self.tls {
            None => socket,
            Some(config) => timeout(DEADLINE, Box::pin(socket.secure(config))).await??,
        };
        Ok(Link::new(socket, Role::Client, format!("client of {}", self.to)))
    }

    /// The request as it will go out.
    pub fn request(&self) -> Vec<u8> {
        let mut request = format!("{} {} {}\r\n", self.method, self.target, self.version);
        for (name, value) in &self.headers.0 {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        [request.as_bytes(), &self.body, &self.pipelined].concat()
    }

    /// Connects and says nothing: what follows is up to the test.
    #[track_caller]
    pub fn connect(self) -> impl Future<Output = Link> {
        let caller = Location::caller();
        async move {
            let to = self.to.clone();
            match self.try_connect().await {
                Ok(link) => link,
                Err(error) => panic!("{caller}: cannot connect to {to}: {error}"),
            }
        }
    }

    /// Connects and sends the request; the answer is the test's to read ([`Link::read_head`] …).
    #[track_caller]
    pub fn send(self) -> impl Future<Output = Link> {
        let (request, single_bytes) = (self.request(), self.single_bytes);
        let connecting = self.connect();
        async move {
            let mut link = connecting.await;
            if single_bytes {
                link.send_in_single_bytes(&request).await;
            } else {
                link.send_bytes(&request).await;
            }
            link
        }
    }

    /// Sends the request and reads the answer, whatever it is, with its body.
    #[track_caller]
    pub fn answer(self) -> impl Future<Output = RawClient> {
        let method = self.method.clone();
        let sending = self.send();
        async move {
            let mut link = sending.await;
            let response = link.read_response(&method).await;
            RawClient { link, response }
        }
    }

    /// Sends the handshake; panics unless it succeeds as RFC 6455 §4.1 wants it.
    #[track_caller]
    pub fn open(self) -> impl Future<Output = RawClient> {
        let caller = Location::caller();
        let key = self.headers.get("Sec-WebSocket-Key").unwrap_or_default().to_owned();
        let answering = self.answer();
        async move {
            let client = answering.await;
            let response = &client.response;
            let head = &response.head;
            let fail = |what: &str| panic!("{caller}: {what}: {head:#?}\n{}", response.text());
            if response.status() != 101 {
                fail("the handshake was refused");
            }
            if !head.asks_for_websocket() {
                fail("the 101 lacks Upgrade or Connection");
            }
            if response.header("Sec-WebSocket-Accept") != Some(http::accept_value(&key).as_str()) {
                fail("the 101's Sec-WebSocket-Accept does not match the key");
            }
            client
        }
    }

    /// Sends the handshake; panics when it succeeds. Returns the refusal.
    #[track_caller]
    pub fn refused(self) -> impl Future<Output = Response> {
        let caller = Location::caller();
        let answering = self.answer();
        async move {
            let response = answering.await.response;
            assert_ne!(response.status(), 101, "{caller}: the handshake was accepted: {:#?}", response.head);
            response
        }
    }
}

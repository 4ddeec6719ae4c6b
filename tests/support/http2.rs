//! A client that speaks HTTP/2 by prior knowledge, with WebSockets over extended CONNECT (RFC 8441).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::DEADLINE;
use super::tls::{self, Authority};
use super::wait::eventually;
use super::wire::{Decoder, Frame, Role};

/// A connection.
pub struct Client {
    pub send: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// The body of an answer that goes on.
pub struct Body {
    send: SendStream<Bytes>,
    recv: RecvStream,
    buffer: Vec<u8>,
}

/// A WebSocket over one stream.
pub struct Socket {
    pub head: Response<()>,
    pub send: SendStream<Bytes>,
    pub recv: RecvStream,
    decoder: Decoder,
    /// Whether what is read gives room for more.
    pub releases: bool,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Came {
    Frame(Frame),
    /// END_STREAM.
    End,
    /// RST_STREAM.
    Reset(Reason),
    /// The connection ended.
    Lost,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    pub async fn connect(to: SocketAddr) -> Self {
        // Room for many streams, as browsers have it: one that is not read must not fill it.
        let mut builder = client::Builder::new();
        Self::with(to, builder.enable_push(false).initial_connection_window_size(16 << 20)).await
    }

    pub async fn with(to: SocketAddr, builder: &client::Builder) -> Self {
        let tcp = TcpStream::connect(to).await.expect("the proxy listens");
        tcp.set_nodelay(true).expect("TCP_NODELAY can be set");
        Self::over(tcp, builder).await
    }

    /// Over TLS, where both sides agree on it.
    pub async fn secured(to: SocketAddr) -> Self {
        let tcp = TcpStream::connect(to).await.expect("the proxy listens");
        let mut config = Authority::known().client(None, tls::ANY);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(tls::loopback(), tcp).await.expect("TLS");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::over(stream, client::Builder::new().enable_push(false)).await
    }

    async fn over<S>(stream: S, builder: &client::Builder) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (send, connection) = builder.handshake(stream).await.expect("a preface is written");
        let client = Self { send, driver: tokio::spawn(connection) };
        eventually(DEADLINE, || async { client.send.is_extended_connect_protocol_enabled() }).await;
        client
    }

    /// An extended CONNECT, to be shaped.
    pub fn handshake(path: &str) -> Request<()> {
        Request::builder()
            .method(Method::CONNECT)
            .uri(format!("http://h2.example{path}"))
            .header("sec-websocket-version", "13")
            .extension(h2::ext::Protocol::from_static("websocket"))
            .body(())
            .expect("a request")
    }

    /// An open WebSocket.
    pub async fn open(&self, path: &str) -> Socket {
        self.try_open(Self::handshake(path)).await.unwrap_or_else(|answer| panic!("refused: {answer:?}"))
    }

    pub async fn try_open(&self, request: Request<()>) -> Result<Socket, Answer> {
        let mut ready = self.send.clone().ready().await.expect("it takes streams");
        let (response, send) = ready.send_request(request, false).expect("a request");
        let response = timeout(DEADLINE, response).await.expect("no answer").expect("an answer");
        let (head, recv) = response.into_parts();
        let head = Response::from_parts(head, ());
        if head.status() == 200 {
            return Ok(Socket { head, send, recv, decoder: Decoder::default(), releases: true });
        }
        Err(answer(head, recv).await)
    }

    /// A plain request.
    pub async fn plain(&self, request: Request<()>, body: &[u8]) -> Result<Answer, h2::Error> {
        let mut ready = self.send.clone().ready().await?;
        let (response, mut send) = ready.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            send.send_data(Bytes::copy_from_slice(body), true)?;
        }
        let (head, recv) = timeout(DEADLINE, response).await.expect("no answer")?.into_parts();
        Ok(answer(Response::from_parts(head, ()), recv).await)
    }

    /// A request without a body, whose answer is not read to its end.
    pub async fn ask(&self, request: Request<()>) -> (Response<()>, Body) {
        let mut ready = self.send.clone().ready().await.expect("it takes streams");
        let (response, send) = ready.send_request(request, true).expect("a request");
        let response = timeout(DEADLINE, response).await.expect("no answer").expect("an answer");
        let (head, recv) = response.into_parts();
        (Response::from_parts(head, ()), Body { send, recv, buffer: Vec::new() })
    }

    /// How the connection ends.
    pub async fn ended(mut self) -> Result<(), h2::Error> {
        timeout(DEADLINE, &mut self.driver).await.expect("the connection stays").expect("it does not panic")
    }

    pub fn has_ended(&self) -> bool {
        self.driver.is_finished()
    }

    /// Ends the TCP connection at once.
    pub fn abort(&self) {
        self.driver.abort();
    }
}

async fn answer(head: Response<()>, mut recv: RecvStream) -> Answer {
    let mut body = Vec::new();
    while let Some(data) = timeout(DEADLINE, recv.data()).await.expect("the body stops") {
        let data = data.expect("the body breaks off");
        recv.flow_control().release_capacity(data.len()).expect("it was taken");
        body.extend_from_slice(&data);
    }
    Answer { status: head.status().as_u16(), headers: head.headers().clone(), body }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a text"))
    }
}

impl Body {
    /// Everything up to this text, which is taken off too, or how the stream ended.
    pub async fn read_to(&mut self, delimiter: &str) -> Result<Vec<u8>, Came> {
        let delimiter = delimiter.as_bytes();
        loop {
            let found = self.buffer.windows(delimiter.len()).position(|bytes| bytes == delimiter);
            if let Some(at) = found {
                let rest = self.buffer.split_off(at + delimiter.len());
                let mut before = std::mem::replace(&mut self.buffer, rest);
                before.truncate(at);
                return Ok(before);
            }
            let data = next_data(&mut self.recv).await?;
            self.recv.flow_control().release_capacity(data.len()).expect("it was taken");
            self.buffer.extend_from_slice(&data);
        }
    }

    pub fn reset(mut self, reason: Reason) {
        self.send.send_reset(reason);
    }
}

/// What comes next of a body, or how its stream ended.
async fn next_data(recv: &mut RecvStream) -> Result<Bytes, Came> {
    match recv.data().await {
        None => Err(Came::End),
        Some(Ok(data)) => Ok(data),
        Some(Err(error)) => Err(match error.reason() {
            Some(reason) if error.is_reset() => Came::Reset(reason),
            _ => Came::Lost,
        }),
    }
}

impl Socket {
    /// Sends a frame; waits for the window.
    pub async fn send(&mut self, frame: &Frame) {
        self.send_bytes(frame.encode(Role::Client)).await;
    }

    pub async fn send_bytes(&mut self, bytes: Vec<u8>) {
        let mut bytes = Bytes::from(bytes);
        while !bytes.is_empty() {
            self.send.reserve_capacity(bytes.len());
            let room = timeout(DEADLINE, std::future::poll_fn(|cx| self.send.poll_capacity(cx)));
            let room = room.await.expect("there is no room").expect("the stream is over").expect("no room");
            self.send.send_data(bytes.split_to(room.min(bytes.len())), false).expect("it is open");
        }
    }

    /// So much of `bytes` as there is room for within `quiet`.
    pub async fn send_until_blocked(&mut self, bytes: &[u8], quiet: Duration) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            self.send.reserve_capacity(bytes.len() - sent);
            let room = timeout(quiet, std::future::poll_fn(|cx| self.send.poll_capacity(cx)));
            let Ok(Some(Ok(room))) = room.await else { break };
            let end = bytes.len().min(sent + room);
            self.send.send_data(Bytes::copy_from_slice(&bytes[sent..end]), false).expect("it is open");
            sent = end;
        }
        sent
    }

    pub async fn text(&mut self, text: &str) {
        self.send(&Frame::text(text)).await;
    }

    pub async fn close(&mut self, code: u16) {
        self.send(&Frame::close(code, "")).await;
    }

    pub fn end(&mut self) {
        self.send.send_data(Bytes::new(), true).expect("it is open");
    }

    pub fn reset(mut self, reason: Reason) {
        self.send.send_reset(reason);
    }

    /// The next frame, or how the stream ended.
    pub async fn receive(&mut self) -> Came {
        loop {
            if let Some(frame) = self.decoder.take() {
                return Came::Frame(frame);
            }
            match timeout(DEADLINE, next_data(&mut self.recv)).await.expect("nothing comes") {
                Err(ended) => return ended,
                Ok(data) => {
                    if self.releases {
                        self.recv.flow_control().release_capacity(data.len()).expect("it was taken");
                    }
                    self.decoder.buffer.extend_from_slice(&data);
                }
            }
        }
    }

    pub async fn frame(&mut self) -> Frame {
        match self.receive().await {
            Came::Frame(frame) => frame,
            other => panic!("a frame was due, not {other:?}"),
        }
    }

    pub async fn expect_text(&mut self, text: &str) {
        assert_eq!(self.frame().await, Frame::text(text).unmasked());
    }

    /// A text there and back, through an echo.
    pub async fn echoes(&mut self, text: &str) {
        self.text(text).await;
        self.expect_text(text).await;
    }
}

//! A client of endpoints without a WebSocket, over HTTP/1.1 or HTTP/2: requests, requests that break off, event streams.

use std::net::SocketAddr;
use std::time::Duration;

use h2::RecvStream;
use http::{Method, Request, Response};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::support::client::{Dial, RawClient};
use crate::support::http2;
use crate::support::link::Link;

pub(crate) const BATCH: &str = "application/vnd.outrigger.messages+json";

/// How long an answer, and each piece of a stream, may take: longer than a drain.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Ask {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn post(path: impl Into<String>, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type", content_type.to_owned())];
        Self { method: Method::POST, path: path.into(), headers, body: body.into() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) reason: Option<String>,
    pub(crate) body: Value,
}

/// Who asks.
pub(crate) struct Caller {
    to: SocketAddr,
    http2: Option<http2::Client>,
}

impl Caller {
    pub(crate) async fn new(to: SocketAddr, is_http2: bool) -> Self {
        let http2 = if is_http2 { Some(http2::Client::connect(to).await) } else { None };
        Self { to, http2 }
    }

    fn dial(&self, ask: &Ask) -> Dial {
        let mut dial = RawClient::plain(self.to).method(ask.method.as_str()).path(&ask.path);
        for (name, value) in &ask.headers {
            dial = dial.header(name, value);
        }
        if ask.method == Method::GET { dial } else { dial.body(&ask.body) }
    }

    fn request(ask: &Ask) -> Request<()> {
        let mut request = Request::builder().method(&ask.method);
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        request.uri(format!("http://h2.example{}", ask.path)).body(()).unwrap()
    }

    /// Answers with the head, and the body that is still to come.
    async fn send(client: &http2::Client, ask: &Ask) -> Response<RecvStream> {
        let mut ready = client.send.clone().ready().await.expect("it takes streams");
        let has_body = !ask.body.is_empty();
        let (response, mut body) = ready.send_request(Self::request(ask), !has_body).expect("a request");
        if has_body {
            body.send_data(ask.body.clone().into(), true).expect("it is open");
        }
        timeout(PATIENCE, response).await.expect("no answer").expect("an answer")
    }

    pub(crate) async fn ask(&self, ask: &Ask) -> Told {
        let reason = "x-outrigger-reason";
        let (status, reason, body) = match &self.http2 {
            None => {
                let mut link = self.dial(ask).send().await;
                link.set_deadline(PATIENCE);
                let response = link.read_response(ask.method.as_str()).await;
                (response.status(), response.header(reason).map(str::to_owned), response.body)
            }
            Some(client) => {
                let (head, mut from) = Self::send(client, ask).await.into_parts();
                let mut body = Vec::new();
                while let Some(data) = timeout(PATIENCE, from.data()).await.expect("the body stops") {
                    let data = data.expect("the body breaks off");
                    from.flow_control().release_capacity(data.len()).expect("it was taken");
                    body.extend_from_slice(&data);
                }
                let told = head.headers.get(reason).map(|value| value.to_str().unwrap().to_owned());
                (head.status.as_u16(), told, body)
            }
        };
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Told { status, reason, body }
    }

    /// Asks, and is gone after this time, whatever came of it.
    pub(crate) async fn break_off(&self, ask: &Ask, after: Duration) {
        match &self.http2 {
            None => {
                let link = self.dial(ask).send().await;
                sleep(after).await;
                link.reset();
            }
            Some(client) => {
                let _ = timeout(after, Self::send(client, ask)).await;
            }
        }
    }

    pub(crate) async fn stream(&self, ask: &Ask) -> Result<EventStream, u16> {
        let (status, source) = match &self.http2 {
            None => {
                let mut link = self.dial(ask).send().await;
                link.set_deadline(PATIENCE);
                (link.read_head().await.status(), Source::Http1(Box::new(link)))
            }
            Some(client) => {
                let response = Self::send(client, ask).await;
                (response.status().as_u16(), Source::Http2(response.into_body(), Vec::new()))
            }
        };
        if status == 200 {
            Ok(EventStream { source, last_id: String::new(), retry: None })
        } else {
            Err(status)
        }
    }
}

enum Source {
    Http1(Box<Link>),
    Http2(RecvStream, Vec<u8>),
}

pub(crate) struct EventStream {
    source: Source,
    /// As an `EventSource` would send it.
    pub(crate) last_id: String,
    /// The last piece was a time after which to come back.
    pub(crate) retry: Option<u64>,
}

impl EventStream {
    /// The next event, its name and its data; `None`: the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            let piece = self.piece().await?;
            let (mut name, mut data) = ("message".to_owned(), None);
            self.retry = None;
            for line in piece.lines() {
                let (field, value) = line.split_once(": ").unwrap_or((line, ""));
                match field {
                    "event" => value.clone_into(&mut name),
                    "data" => assert!(data.replace(value.to_owned()).is_none(), "one line: {piece}"),
                    "id" => value.clone_into(&mut self.last_id),
                    "retry" => self.retry = Some(value.parse().expect("a time")),
                    ":" => {}
                    _ => panic!("no field of ours: {piece:?}"),
                }
            }
            if let Some(data) = data {
                return Some((name, serde_json::from_str(&data).unwrap_or_else(|_| panic!("{data}"))));
            }
        }
    }

    /// Up to an empty line.
    async fn piece(&mut self) -> Option<String> {
        let bytes = match &mut self.source {
            Source::Http1(link) => link.read_to("\n\n").await.ok()?,
            Source::Http2(body, buffer) => loop {
                if let Some(at) = buffer.windows(2).position(|two| two == b"\n\n") {
                    let piece = buffer[..at].to_vec();
                    buffer.drain(..at + 2);
                    break piece;
                }
                let data = timeout(PATIENCE, body.data()).await.expect("nothing comes")?.ok()?;
                body.flow_control().release_capacity(data.len()).expect("it was taken");
                buffer.extend_from_slice(&data);
            },
        };
        Some(String::from_utf8(bytes).expect("a stream of events is UTF-8"))
    }

    /// Is gone at once.
    pub(crate) fn reset(self) {
        if let Source::Http1(link) = self.source {
            link.reset();
        }
    }
}

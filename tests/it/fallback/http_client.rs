//! A client of a session that has no WebSocket: it polls and posts, or reads an event stream as WHATWG HTML §9.2.6 says.

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::DEADLINE;
use crate::support::client::Dial;
use crate::support::http::{Head, Headers, Response};
use crate::support::http2::{Body, Client as Http2};
use crate::support::link::Link;
use crate::support::proxy::Proxy;

/// A body as JSON.
#[track_caller]
pub(super) fn json_of(response: &Response) -> Value {
    serde_json::from_str(&response.text()).unwrap_or_else(|_| panic!("{}", response.text()))
}

/// The messages of an answer, and their numbers.
pub(super) fn events(answer: &Value) -> Vec<(u64, Value)> {
    let events = answer["events"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
    events.map(|event| (event["sequenceNumber"].as_u64().unwrap(), event["data"].clone())).collect()
}

pub(super) struct HttpClient<'a> {
    proxy: &'a Proxy,
    path: &'static str,
    ticket: Option<String>,
    /// The number of the newest message that it has had.
    pub(super) seen: u64,
}

impl<'a> HttpClient<'a> {
    pub(super) fn new(proxy: &'a Proxy, path: &'static str) -> Self {
        Self { proxy, path, ticket: None, seen: 0 }
    }

    pub(super) fn ticket(&self) -> &str {
        self.ticket.as_deref().expect("it has a session")
    }

    pub(super) fn set_ticket(&mut self, ticket: &str) {
        self.ticket = Some(ticket.to_owned());
    }

    /// A request to an endpoint, with its query.
    pub(super) fn dial(&self, endpoint: &str) -> Dial {
        let dial = self.proxy.plain().path(&format!("{}/{endpoint}", self.path));
        match &self.ticket {
            Some(ticket) => dial.header("X-Outrigger-Session", ticket),
            None => dial,
        }
    }

    /// Begins a session.
    pub(super) async fn begin(&mut self) -> Value {
        let response = self.dial("poll").answer().await.response;
        assert_eq!(response.status(), 200, "{}", response.text());
        let told = json_of(&response);
        self.set_ticket(told["session"].as_str().unwrap());
        told
    }

    pub(super) async fn get(&self, endpoint: &str) -> Response {
        self.dial(endpoint).answer().await.response
    }

    /// A request that may wait.
    pub(super) fn asking(&self, endpoint: &str) -> JoinHandle<Response> {
        let dial = self.dial(endpoint);
        tokio::spawn(async move { dial.answer().await.response })
    }

    /// A poll that may wait.
    pub(super) fn polling(&self) -> JoinHandle<Value> {
        let dial = self.dial(&format!("poll?afterSequence={}", self.seen));
        tokio::spawn(async move {
            let response = dial.answer().await.response;
            assert_eq!(response.status(), 200, "{}", response.text());
            json_of(&response)
        })
    }

    pub(super) async fn poll(&self) -> Value {
        self.polling().await.unwrap()
    }

    /// It has had what it was told.
    pub(super) fn had(&mut self, told: &Value) {
        self.seen = told["nextSequence"].as_u64().unwrap();
    }

    pub(super) async fn post(&self, text: &str) -> Response {
        self.post_as("send", "text/plain", text).await
    }

    pub(super) async fn post_as(&self, endpoint: &str, content_type: &str, body: &str) -> Response {
        self.post_bytes(endpoint, content_type, body.as_bytes()).await
    }

    pub(super) async fn post_bytes(&self, endpoint: &str, content_type: &str, body: &[u8]) -> Response {
        let dial = self.dial(endpoint).method("POST").header("Content-Type", content_type);
        dial.header("Content-Length", &body.len().to_string()).body(body).answer().await.response
    }
}

/// What an event stream comes over.
enum Carrier {
    Http1(Box<Link>),
    Http2(Body),
}

impl Carrier {
    /// The next piece, or how it ended.
    async fn piece(&mut self) -> Result<Vec<u8>, String> {
        match self {
            Self::Http1(link) => link.read_to("\n\n").await.map_err(|end| format!("{end:?}")),
            Self::Http2(body) => {
                let piece = timeout(DEADLINE, body.read_to("\n\n")).await.expect("nothing comes");
                piece.map_err(|came| format!("{came:?}"))
            }
        }
    }
}

/// An event stream.
pub(super) struct Stream {
    pub(super) head: Head,
    carrier: Carrier,
    /// As an `EventSource` would send it.
    pub(super) last_id: String,
}

/// An event: its name, and its data.
type Event = (String, Value);

impl Stream {
    pub(super) async fn open(proxy: &Proxy, path: &str, last_id: Option<&str>) -> Self {
        match Self::try_open(proxy, path, last_id).await {
            Ok(stream) => stream,
            Err(status) => panic!("{path}: {status}"),
        }
    }

    /// Answers the status of a refusal.
    pub(super) async fn try_open(proxy: &Proxy, path: &str, last_id: Option<&str>) -> Result<Self, u16> {
        let dial = proxy.plain().path(path);
        let dial = match last_id {
            Some(id) => dial.header("Last-Event-ID", id),
            None => dial,
        };
        Self::of(dial).await
    }

    /// The answer to this request.
    pub(super) async fn of(dial: Dial) -> Result<Self, u16> {
        let mut link = dial.send().await;
        let head = link.read_head().await;
        if head.status() != 200 {
            return Err(head.status());
        }
        Ok(Self { head, carrier: Carrier::Http1(Box::new(link)), last_id: String::new() })
    }

    /// One stream of a connection that has others, or the status of a refusal.
    pub(super) async fn over_http2(http2: &Http2, path: &str, last_id: Option<&str>) -> Result<Self, u16> {
        let request = http::Request::get(format!("http://h2.example{path}"));
        let request = last_id.into_iter().fold(request, |request, id| request.header("last-event-id", id));
        let (head, body) = http2.ask(request.body(()).unwrap()).await;
        if head.status() != 200 {
            return Err(head.status().as_u16());
        }
        let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        let headers = Headers(head.headers().iter().map(line).collect());
        let head = Head { first_line: "HTTP/2 200".to_owned(), headers };
        Ok(Self { head, carrier: Carrier::Http2(body), last_id: String::new() })
    }

    /// The next event, whatever stands between.
    pub(super) async fn named(&mut self) -> Event {
        loop {
            let piece = self.carrier.piece().await.expect("the stream goes on");
            let text = String::from_utf8(piece).unwrap();
            // That ends a line too.
            assert!(!text.contains('\r'), "{text:?}");
            let (mut name, mut data) = ("message".to_owned(), None);
            for line in text.lines() {
                let (field, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match field {
                    "event" => value.clone_into(&mut name),
                    "data" => assert!(data.replace(value.to_owned()).is_none(), "one line: {text}"),
                    "id" => value.clone_into(&mut self.last_id),
                    "retry" | "" => {}
                    _ => panic!("{text}"),
                }
            }
            if let Some(data) = data {
                return (name, serde_json::from_str(&data).unwrap_or_else(|_| panic!("{data}")));
            }
        }
    }

    /// What the proxy says itself.
    pub(super) async fn control(&mut self) -> Value {
        let (name, data) = self.named().await;
        assert_eq!(name, "outrigger", "{data}");
        data
    }

    pub(super) async fn hello(&mut self) -> Value {
        let hello = self.control().await;
        assert_eq!((&hello["v"], hello.get("control")), (&1.into(), None), "{hello}");
        hello
    }

    /// The next message and its number.
    pub(super) async fn message(&mut self) -> (u64, Value) {
        let (name, event) = self.named().await;
        assert_eq!(name, "message", "{event}");
        let number = event["sequenceNumber"].as_u64().unwrap();
        assert!(self.last_id.ends_with(&format!(".{number}")), "{} {number}", self.last_id);
        (number, event["data"].clone())
    }

    /// Nothing more comes but the time after which it comes back. Answers how it ended.
    pub(super) async fn ends(&mut self) -> String {
        loop {
            match self.carrier.piece().await {
                Ok(piece) => {
                    let text = String::from_utf8(piece).unwrap();
                    assert!(text.starts_with("retry: "), "{text}");
                }
                Err(end) => return end,
            }
        }
    }

    pub(super) fn reset(self) {
        match self.carrier {
            Carrier::Http1(link) => link.reset(),
            Carrier::Http2(body) => body.reset(h2::Reason::CANCEL),
        }
    }
}

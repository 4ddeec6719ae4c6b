//! A client of a session that has no WebSocket: it polls and posts, or reads an event stream as WHATWG HTML §9.2.6 says.

use serde_json::Value;
use tokio::task::JoinHandle;

use crate::support::client::Dial;
use crate::support::http::{Head, Response};
use crate::support::link::Link;
use crate::support::proxy::Proxy;

/// A body as JSON.
#[track_caller]
pub fn json_of(response: &Response) -> Value {
    serde_json::from_str(&response.text()).unwrap_or_else(|_| panic!("{}", response.text()))
}

/// The messages of an answer, and their numbers.
pub fn events(answer: &Value) -> Vec<(u64, Value)> {
    let events = answer["events"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
    events.map(|event| (event["sequenceNumber"].as_u64().unwrap(), event["data"].clone())).collect()
}

pub struct HttpClient<'a> {
    proxy: &'a Proxy,
    path: &'static str,
    ticket: Option<String>,
    /// The number of the newest message that it has had.
    pub seen: u64,
}

impl<'a> HttpClient<'a> {
    pub fn new(proxy: &'a Proxy, path: &'static str) -> Self {
        Self { proxy, path, ticket: None, seen: 0 }
    }

    pub fn ticket(&self) -> &str {
        self.ticket.as_deref().expect("it has a session")
    }

    pub fn set_ticket(&mut self, ticket: &str) {
        self.ticket = Some(ticket.to_owned());
    }

    /// A request to an endpoint, with its query.
    pub fn dial(&self, endpoint: &str) -> Dial {
        let dial = self.proxy.plain().path(&format!("{}/{endpoint}", self.path));
        match &self.ticket {
            Some(ticket) => dial.header("X-Outrigger-Session", ticket),
            None => dial,
        }
    }

    /// Begins a session.
    pub async fn begin(&mut self) -> Value {
        let response = self.dial("poll").answer().await.response;
        assert_eq!(response.status(), 200, "{}", response.text());
        let told = json_of(&response);
        self.set_ticket(told["session"].as_str().unwrap());
        told
    }

    pub async fn get(&self, endpoint: &str) -> Response {
        self.dial(endpoint).answer().await.response
    }

    /// A request that may wait.
    pub fn asking(&self, endpoint: &str) -> JoinHandle<Response> {
        let dial = self.dial(endpoint);
        tokio::spawn(async move { dial.answer().await.response })
    }

    /// A poll that may wait.
    pub fn polling(&self) -> JoinHandle<Value> {
        let dial = self.dial(&format!("poll?afterSequence={}", self.seen));
        tokio::spawn(async move {
            let response = dial.answer().await.response;
            assert_eq!(response.status(), 200, "{}", response.text());
            json_of(&response)
        })
    }

    pub async fn poll(&self) -> Value {
        self.polling().await.unwrap()
    }

    /// It has had what it was told.
    pub fn had(&mut self, told: &Value) {
        self.seen = told["nextSequence"].as_u64().unwrap();
    }

    pub async fn post(&self, text: &str) -> Response {
        self.post_as("send", "text/plain", text).await
    }

    pub async fn post_as(&self, endpoint: &str, content_type: &str, body: &str) -> Response {
        self.post_bytes(endpoint, content_type, body.as_bytes()).await
    }

    pub async fn post_bytes(&self, endpoint: &str, content_type: &str, body: &[u8]) -> Response {
        let dial = self.dial(endpoint).method("POST").header("Content-Type", content_type);
        dial.header("Content-Length", &body.len().to_string()).body(body).answer().await.response
    }
}

/// An event stream.
pub struct Stream {
    pub head: Head,
    link: Link,
    /// As an `EventSource` would send it.
    pub last_id: String,
}

/// An event: its name, and its data.
type Event = (String, Value);

impl Stream {
    pub async fn open(proxy: &Proxy, path: &str, last_id: Option<&str>) -> Self {
        match Self::try_open(proxy, path, last_id).await {
            Ok(stream) => stream,
            Err(status) => panic!("{path}: {status}"),
        }
    }

    /// Answers the status of a refusal.
    pub async fn try_open(proxy: &Proxy, path: &str, last_id: Option<&str>) -> Result<Self, u16> {
        let dial = proxy.plain().path(path);
        let dial = match last_id {
            Some(id) => dial.header("Last-Event-ID", id),
            None => dial,
        };
        Self::of(dial).await
    }

    /// The answer to this request.
    pub async fn of(dial: Dial) -> Result<Self, u16> {
        let mut link = dial.send().await;
        let head = link.read_head().await;
        if head.status() != 200 {
            return Err(head.status());
        }
        Ok(Self { head, link, last_id: String::new() })
    }

    /// The next event, whatever stands between.
    pub async fn named(&mut self) -> Event {
        loop {
            let piece = self.link.read_to("\n\n").await.expect("the stream goes on");
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
    pub async fn control(&mut self) -> Value {
        let (name, data) = self.named().await;
        assert_eq!(name, "outrigger", "{data}");
        data
    }

    pub async fn hello(&mut self) -> Value {
        let hello = self.control().await;
        assert_eq!((&hello["v"], hello.get("control")), (&1.into(), None), "{hello}");
        hello
    }

    /// The next message and its number.
    pub async fn message(&mut self) -> (u64, Value) {
        let (name, event) = self.named().await;
        assert_eq!(name, "message", "{event}");
        let number = event["sequenceNumber"].as_u64().unwrap();
        assert!(self.last_id.ends_with(&format!(".{number}")), "{} {number}", self.last_id);
        (number, event["data"].clone())
    }

    /// Nothing more comes but the time after which it comes back.
    pub async fn ends(&mut self) {
        while let Ok(piece) = self.link.read_to("\n\n").await {
            let text = String::from_utf8(piece).unwrap();
            assert!(text.starts_with("retry: "), "{text}");
        }
    }

    pub fn reset(self) {
        self.link.reset();
    }
}

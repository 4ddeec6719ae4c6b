//! A client that can lose its network: it speaks the protocol among the messages (`outrigger.v1`) and counts for itself, so that
//! what proxy and client count can be held against each other.
//!
//! # Invariants
//! 1. What it says is kept until the proxy has told that it was received, and said again over the next link: no more, no less.
//! 2. A first message that is no hello with the nonce of this very handshake is a message of the application.
//! 3. It confirms what it has had in the handler of a message, never by a timer, unless [`TicketClient::holds_seen`].

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::panic::Location;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::DEADLINE;
use super::client::{Dial, RawClient};
use super::http::Response;
use super::link::{Closed, End, Message, Received};
use super::wire::{self, Frame};

const PROTOCOL: &str = "Sec-WebSocket-Protocol";
/// What is confirmed together, at most.
const UNCONFIRMED: u64 = 100;
const CONFIRM_AFTER: Duration = Duration::from_secs(1);

/// How a client's network goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Reset,
    Fin,
    /// Not a byte is read or written any more, and the link stays as it is.
    Silence,
}

impl Cut {
    pub const ALL: [Self; 3] = [Self::Reset, Self::Fin, Self::Silence];
}

/// What came over the link.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Of the application; it is counted.
    Message(Message),
    /// A control frame.
    Control(Value),
    /// Code and reason of the proxy's Close, which is answered.
    Close(u16, String),
    End(End),
}

/// Why there is no link.
#[derive(Debug)]
pub enum NoLink {
    #[allow(dead_code, reason = "shown by Debug where a test fails")]
    Io(io::Error),
    /// It ended before its answer or its first message.
    Ended,
    Refused(Box<Response>),
}

pub struct TicketClient {
    dial: Dial,
    /// Subprotocols of the application, offered before ours.
    offer: String,
    pub link: Option<RawClient>,
    /// Links that went silent: they stay as they are.
    silent: Vec<RawClient>,
    pub ticket: Option<String>,
    /// The number of the newest message of the server that the application had.
    pub seen: u64,
    /// So many messages the application has said in this session.
    pub said: u64,
    /// Those of them that the proxy is not known to have, the oldest first.
    sent: VecDeque<(u64, Frame)>,
    /// What the session before this one had not received when it ended: the application may say it again.
    pub unsaid: Vec<Frame>,
    pub prefix: Option<String>,
    /// The last words of the last link.
    pub bye: Option<Value>,
    /// What came first, where it is no hello.
    pub first: Option<Message>,
    /// Whether it does not confirm what it has had.
    pub holds_seen: bool,
    confirmed: u64,
    confirmed_at: Instant,
    pub nonces: Vec<String>,
    pub tickets: Vec<String>,
    pub prefixes: Vec<String>,
}

impl TicketClient {
    /// Not connected yet.
    pub fn new(dial: Dial) -> Self {
        Self {
            dial,
            offer: String::new(),
            link: None,
            silent: Vec::new(),
            ticket: None,
            seen: 0,
            said: 0,
            sent: VecDeque::new(),
            unsaid: Vec::new(),
            prefix: None,
            bye: None,
            first: None,
            holds_seen: false,
            confirmed: 0,
            confirmed_at: Instant::now(),
            nonces: Vec::new(),
            tickets: Vec::new(),
            prefixes: Vec::new(),
        }
    }

    /// With subprotocols of the application.
    #[must_use]
    pub fn offering(mut self, protocols: &str) -> Self {
        self.offer = format!("{protocols}, ");
        self
    }

    /// Its further handshakes are this one.
    pub fn redial(&mut self, dial: Dial) {
        self.dial = dial;
    }

    /// Its next handshake, with a nonce of its own.
    pub fn handshake(&mut self) -> Dial {
        let nonce = URL_SAFE_NO_PAD.encode(fastrand::u128(..).to_be_bytes());
        let mut offer = format!("{}outrigger.plain, outrigger.v1, outrigger.nonce.{nonce}", self.offer);
        if let Some(ticket) = &self.ticket {
            offer.push_str(&format!(", outrigger.resume.{ticket}.{}", self.seen));
        }
        self.nonces.push(nonce);
        self.dial.clone().header(PROTOCOL, &offer)
    }

    /// Connects, and takes in the hello. Panics where there is none.
    #[track_caller]
    pub fn connect(&mut self) -> impl Future<Output = Value> {
        let caller = Location::caller();
        async move {
            match self.try_connect().await {
                Ok(Some(hello)) => hello,
                Ok(None) => panic!("{caller}: a hello was due, but: {:?}", self.first),
                Err(why) => panic!("{caller}: {why:?}"),
            }
        }
    }

    /// Connects, and goes on where it was.
    #[track_caller]
    pub fn resume(&mut self) -> impl Future<Output = Value> {
        let caller = Location::caller();
        async move {
            let (seen, said) = (self.seen, self.said);
            let hello = self.connect().await;
            assert_eq!(hello["resumed"], true, "{caller}: {hello}");
            assert_eq!(
                (hello["sequence"].as_u64(), &hello["lost"]),
                (Some(seen), &json!(0)),
                "{caller}: {hello}"
            );
            assert!(hello["received"].as_u64() <= Some(said), "{caller}: {hello}, {said} were said");
            hello
        }
    }

    /// Connects, and must be a new connection to the server.
    #[track_caller]
    pub fn begin_anew(&mut self) -> impl Future<Output = Value> {
        let caller = Location::caller();
        async move {
            let hello = self.connect().await;
            assert_eq!(hello["resumed"], false, "{caller}: {hello}");
            assert_eq!((&hello["sequence"], &hello["received"]), (&json!(0), &json!(0)), "{caller}: {hello}");
            hello
        }
    }

    /// The hello, or `None` where the first message is another one: then there is no protocol over this link.
    pub async fn try_connect(&mut self) -> Result<Option<Value>, NoLink> {
        let dial = self.handshake();
        let request = dial.request();
        let mut link = dial.try_connect().await.map_err(NoLink::Io)?;
        link.try_send_bytes(&request).await.map_err(NoLink::Io)?;
        let head = match timeout(DEADLINE, link.try_read_head()).await {
            Ok(Ok(head)) => head,
            _ => return Err(NoLink::Ended),
        };
        let client = RawClient::of(link, Response { head, body: Vec::new(), trailers: Default::default() });
        if client.response.status() != 101 {
            return Err(NoLink::Refused(Box::new(client.response)));
        }
        self.adopt(client).await
    }

    /// Begins with a link whose handshake was this client's last one.
    pub async fn adopt(&mut self, mut link: RawClient) -> Result<Option<Value>, NoLink> {
        (self.prefix, self.bye, self.first) = (None, None, None);
        let first = loop {
            match link.receive_within(DEADLINE).await {
                Some(Received::Frame(frame)) if frame.opcode == wire::PING => {
                    link.try_send_frame(&Frame::pong(frame.payload)).await.map_err(NoLink::Io)?;
                }
                Some(Received::Frame(frame)) if frame.opcode == wire::CLOSE => {
                    let _ = link.try_send_frame(&Frame::new(wire::CLOSE, frame.payload)).await;
                    return Err(NoLink::Ended);
                }
                Some(Received::Frame(frame)) => break frame,
                Some(Received::End(_)) | None => return Err(NoLink::Ended),
            }
        };
        self.link = Some(link);
        let hello = self.read_hello(&first);
        match &hello {
            Some(hello) => self.on_hello(hello).await,
            None => self.first = Some(message(first)),
        }
        Ok(hello)
    }

    fn read_hello(&self, first: &Frame) -> Option<Value> {
        let value: Value = serde_json::from_slice(&first.payload).ok()?;
        let hello = value.get("outrigger").filter(|_| first.opcode == wire::TEXT)?;
        (hello["nonce"].as_str() == self.nonces.last().map(String::as_str)).then(|| hello.clone())
    }

    async fn on_hello(&mut self, hello: &Value) {
        self.ticket = hello["session"].as_str().map(str::to_owned);
        self.tickets.extend(self.ticket.clone());
        self.prefix = hello["control"].as_str().map(str::to_owned);
        self.prefixes.extend(self.prefix.clone());
        if hello["resumed"] == true {
            self.forget(hello["received"].as_u64().expect("a number"));
        } else {
            // The application begins anew, and says what it has to say.
            let received = hello["previous"]["received"].as_u64().unwrap_or_default();
            self.forget(received);
            self.unsaid = self.sent.drain(..).map(|(_, frame)| frame).collect();
            self.said = 0;
            self.seen = hello["sequence"].as_u64().expect("a number");
        }
        self.confirmed = self.seen;
        self.confirmed_at = Instant::now();
        for frame in self.sent.iter().map(|(_, frame)| frame.clone()).collect::<Vec<_>>() {
            self.send(&frame).await;
        }
    }

    /// The proxy has so many.
    fn forget(&mut self, received: u64) {
        while self.sent.front().is_some_and(|(number, _)| *number <= received) {
            self.sent.pop_front();
        }
    }

    /// What the proxy is not known to have.
    pub fn unacknowledged(&self) -> usize {
        self.sent.len()
    }

    /// Says something, over this link or the next.
    pub async fn say(&mut self, text: &str) {
        self.say_frame(Frame::text(text)).await;
    }

    pub async fn say_frame(&mut self, frame: Frame) {
        self.said += 1;
        self.sent.push_back((self.said, frame.clone()));
        self.send(&frame).await;
    }

    async fn send(&mut self, frame: &Frame) {
        if let Some(link) = &mut self.link {
            // A link that is gone is found out about when it is read.
            let _ = link.try_send_frame(frame).await;
        }
    }

    /// A control frame, whatever it holds.
    pub async fn control(&mut self, text: &str) {
        let prefix = self.prefix.clone().expect("there was a hello");
        self.send(&Frame::text(format!("{prefix}{text}"))).await;
    }

    /// Tells what it has had.
    pub async fn confirm(&mut self) {
        self.control(&json!({ "seen": self.seen }).to_string()).await;
        (self.confirmed, self.confirmed_at) = (self.seen, Instant::now());
    }

    /// The next thing that comes. Panics when nothing does.
    #[track_caller]
    pub fn next(&mut self) -> impl Future<Output = Event> {
        let caller = Location::caller();
        async move {
            let next = self.next_within(DEADLINE).await;
            next.unwrap_or_else(|| panic!("{caller}: nothing came in {DEADLINE:?}"))
        }
    }

    pub async fn next_within(&mut self, patience: Duration) -> Option<Event> {
        let until = Instant::now() + patience;
        loop {
            let link = self.link.as_mut().expect("there is a link");
            let left = until.saturating_duration_since(Instant::now());
            let frame = match link.receive_within(left).await? {
                Received::Frame(frame) => frame,
                Received::End(end) => {
                    self.link = None;
                    return Some(Event::End(end));
                }
            };
            match frame.opcode {
                wire::PING => self.send(&Frame::pong(frame.payload)).await,
                wire::PONG => {}
                wire::CLOSE => {
                    let (code, reason) = frame.close_status();
                    self.send(&Frame::new(wire::CLOSE, frame.payload)).await;
                    return Some(Event::Close(code, reason));
                }
                _ => return Some(self.on_message(frame).await),
            }
        }
    }

    async fn on_message(&mut self, frame: Frame) -> Event {
        assert!(frame.fin, "messages of the proxy are whole: {frame:?}");
        let control = self.prefix.as_ref().filter(|_| frame.opcode == wire::TEXT);
        if let Some(control) = control.and_then(|prefix| frame.payload.strip_prefix(prefix.as_bytes())) {
            let control: Value = serde_json::from_slice(control).expect("a control frame is JSON");
            if let Some(received) = control["ack"].as_u64().or(control["bye"]["ack"].as_u64()) {
                assert!(received <= self.said, "{control}: {} were said", self.said);
                self.forget(received);
            }
            if control.get("bye").is_some() {
                self.bye = Some(control["bye"].clone());
            }
            return Event::Control(control);
        }
        // Counted, and then handed on.
        self.seen += 1;
        let is_due =
            self.seen - self.confirmed >= UNCONFIRMED || self.confirmed_at.elapsed() >= CONFIRM_AFTER;
        if self.prefix.is_some() && !self.holds_seen && is_due {
            self.confirm().await;
        }
        Event::Message(message(frame))
    }

    /// The next message of the application, past control frames.
    #[track_caller]
    pub fn next_message(&mut self) -> impl Future<Output = Message> {
        let caller = Location::caller();
        async move {
            loop {
                match self.next().await {
                    Event::Message(message) => return message,
                    Event::Control(_) => {}
                    other => panic!("{caller}: a message was due, but: {other:?}"),
                }
            }
        }
    }

    /// The next messages must be these texts.
    #[track_caller]
    pub fn hears(&mut self, texts: &[&str]) -> impl Future<Output = ()> {
        let caller = Location::caller();
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        async move {
            for (at, text) in texts.iter().enumerate() {
                loop {
                    match self.next().await {
                        Event::Message(heard) => {
                            assert_eq!(
                                heard,
                                Message::Text(text.clone()),
                                "{caller}: number {at} of {texts:?}"
                            );
                            break;
                        }
                        Event::Control(_) => {}
                        other => panic!("{caller}: {text} was due, but: {other:?}"),
                    }
                }
            }
        }
    }

    /// The next control frame that has this member, past all others; no message may come.
    #[track_caller]
    pub fn is_told(&mut self, member: &str) -> impl Future<Output = Value> {
        let (caller, member) = (Location::caller(), member.to_owned());
        async move {
            loop {
                match self.next().await {
                    Event::Control(control) if control.get(&member).is_some() => {
                        return control[&member].clone();
                    }
                    Event::Control(_) => {}
                    other => panic!("{caller}: {member} was due, but: {other:?}"),
                }
            }
        }
    }

    /// Its link ends by a Close of the proxy: with which code and text, and which last words. No message may come.
    #[track_caller]
    pub fn let_go(&mut self) -> impl Future<Output = (u16, String, Option<Value>)> {
        let caller = Location::caller();
        async move {
            loop {
                match self.next().await {
                    Event::Control(_) => {}
                    Event::Close(code, reason) => {
                        let mut link = self.link.take().expect("it is still there");
                        link.finish_writing().await;
                        link.discard_to_end().await;
                        return (code, reason, self.bye.clone());
                    }
                    other => panic!("{caller}: a Close was due, but: {other:?}"),
                }
            }
        }
    }

    /// Closes its link by this code, and sees its end.
    pub async fn close(&mut self, code: u16) -> Closed {
        let mut link = self.link.take().expect("there is a link");
        link.close(code, "").await;
        link.closed().await
    }

    /// The network goes.
    pub async fn cut(&mut self, how: Cut) {
        let Some(mut link) = self.link.take() else { return };
        match how {
            Cut::Reset => link.reset(),
            Cut::Fin => {
                link.finish_writing().await;
                // What came until then is not read any more.
                drop(link);
            }
            Cut::Silence => {
                link.stop_reading();
                self.silent.push(link);
            }
        }
    }
}

fn message(frame: Frame) -> Message {
    match frame.opcode {
        wire::TEXT => Message::Text(String::from_utf8(frame.payload).expect("a text is UTF-8")),
        _ => Message::Binary(frame.payload),
    }
}

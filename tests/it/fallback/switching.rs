//! A client that goes from WebSocket to poll to event stream and back, beside a server that counts: each message arrives once and
//! in order, both ways. `OUTRIGGER_SWITCHES` says how often it goes over.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::http_client::{HttpClient, Stream, events, json_of};
use crate::support::DEADLINE;
use crate::support::link::Message;
use crate::support::proxy::Proxy;
use crate::support::session::session;
use crate::support::ticket_client::{Cut, TicketClient};
use crate::support::upstream::{ServerConn, Upstream};

/// Messages of the server that the client waits for over each of its ways.
const HEARD_EACH: usize = 3;

/// Counts, until it is told to stop, and answers how far it came and what it heard.
async fn count(mut server: ServerConn, mut stop: mpsc::Receiver<()>) -> (u64, Vec<String>, ServerConn) {
    let (mut number, mut heard) = (0, Vec::new());
    while stop.try_recv().is_err() {
        number += 1;
        server.text(&number.to_string()).await;
        while let Some(text) = server.text_within(Duration::from_millis(2)).await {
            heard.push(text);
        }
    }
    (number, heard, server)
}

struct Mover<'a> {
    proxy: &'a Proxy,
    http: HttpClient<'a>,
    said: Vec<String>,
}

impl Mover<'_> {
    /// It has heard the next one.
    #[track_caller]
    fn hears(&mut self, data: &Value) {
        let number = data.as_u64().unwrap_or_else(|| panic!("{data}"));
        assert_eq!(number, self.http.seen + 1, "one after the other");
        self.http.seen = number;
    }

    fn speak(&mut self) {
        let number = self.said.len() + 1;
        self.said.push(format!("c{number}"));
    }

    /// Says over HTTP what was not received.
    async fn post_from(&self, received: u64) {
        let fresh = &self.said[received as usize..];
        if fresh.is_empty() {
            return;
        }
        let messages: Vec<Value> = fresh.iter().map(|text| json!({ "data": text })).collect();
        let body = json!({ "n": received + 1, "messages": messages }).to_string();
        let until = Instant::now() + DEADLINE;
        loop {
            // It may come twice.
            for _ in 0..=fastrand::u32(0..2) {
                let batch = "application/vnd.outrigger.messages+json";
                let response = self.http.post_as("send", batch, &body).await;
                if response.status() != 409 {
                    assert!(matches!(response.status(), 200 | 202), "{}", response.text());
                    assert_eq!(json_of(&response)["received"], self.said.len());
                    return;
                }
                assert_eq!(response.header("X-Outrigger-Reason"), Some("attached"));
            }
            assert!(Instant::now() < until, "the link before is never let go of");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn by_websocket(&mut self, link: &mut Option<TicketClient>) {
        let mut socket = TicketClient::new(self.proxy.dial().path("/room"));
        socket.ticket = Some(self.http.ticket().to_owned());
        (socket.seen, socket.said) = (self.http.seen, self.said.len() as u64);
        let received = socket.resume().await["received"].as_u64().unwrap();
        socket.said = received;
        self.speak();
        self.speak();
        for text in &self.said[received as usize..] {
            socket.say(text).await;
        }
        for _ in 0..HEARD_EACH {
            let Message::Text(text) = socket.next_message().await else { panic!("a text") };
            self.hears(&serde_json::from_str(&text).unwrap());
        }
        socket.confirm().await;
        self.http.set_ticket(socket.ticket.as_deref().unwrap());
        match fastrand::u8(0..3) {
            0 => socket.cut(Cut::Reset).await,
            1 => socket.cut(Cut::Fin).await,
            // It stays until something takes its place.
            _ => {}
        }
        *link = Some(socket);
    }

    async fn by_polls(&mut self) {
        let mut heard = 0;
        let until = Instant::now() + DEADLINE;
        while heard < HEARD_EACH {
            let response = self.http.get(&format!("poll?afterSequence={}&limit=2", self.http.seen)).await;
            if response.status() == 409 {
                assert_eq!(response.header("X-Outrigger-Reason"), Some("attached"), "{}", response.text());
                assert!(Instant::now() < until, "the link before is never let go of");
                sleep(Duration::from_millis(20)).await;
                continue;
            }
            assert_eq!(response.status(), 200, "{}", response.text());
            let told = json_of(&response);
            if fastrand::u8(0..4) == 0 {
                // That answer got lost.
                continue;
            }
            for (_, data) in events(&told) {
                self.hears(&data);
                heard += 1;
            }
            self.speak();
            self.post_from(told["received"].as_u64().unwrap()).await;
        }
    }

    async fn by_event_stream(&mut self) {
        let until = Instant::now() + DEADLINE;
        let mut stream = loop {
            let id = format!("{}.{}", self.http.ticket(), self.http.seen);
            match Stream::try_open(self.proxy, "/room/events", Some(&id)).await {
                Ok(stream) => break stream,
                Err(409) => {}
                Err(status) => panic!("{status}"),
            }
            assert!(Instant::now() < until, "the link before is never let go of");
            sleep(Duration::from_millis(20)).await;
        };
        let hello = stream.hello().await;
        assert_eq!((&hello["resumed"], &hello["sequence"]), (&true.into(), &self.http.seen.into()));
        self.speak();
        self.post_from(hello["received"].as_u64().unwrap()).await;
        let mut heard = 0;
        while heard < HEARD_EACH {
            let (name, event) = stream.named().await;
            if name == "message" {
                self.hears(&event["data"]);
                heard += 1;
            }
        }
        if fastrand::bool() {
            stream.reset();
        }
    }
}

#[tokio::test]
async fn a_client_that_changes_its_way_again_and_again_gets_each_message_once_both_ways() {
    let switches = std::env::var("OUTRIGGER_SWITCHES").map_or(60, |count| count.parse().unwrap());
    let upstream = Upstream::by_hand().await;
    let policy = "fallback: {sse: true, poll: true}, session: {resume_window: 1m}, heartbeat: null, \
                  history: {messages: 100000, bytes: 64MiB}, delivery: {max_lag: {messages: 100000, bytes: 64MiB}}";
    let proxy = session(&upstream, policy).spawn().await;
    let mut http = HttpClient::new(&proxy, "/room");
    http.begin().await;
    let server = upstream.accept().await;
    let (stop, stopped) = mpsc::channel(1);
    let counting = tokio::spawn(count(server, stopped));
    let mut mover = Mover { proxy: &proxy, http, said: Vec::new() };
    let mut link = None;
    let mut before = 3;
    for _ in 0..switches {
        let way = (before + fastrand::u8(1..3)) % 3;
        match way {
            0 => mover.by_websocket(&mut link).await,
            1 => mover.by_polls().await,
            _ => mover.by_event_stream().await,
        }
        before = way;
    }
    stop.send(()).await.unwrap();
    let (last, mut heard, mut server) = counting.await.unwrap();
    // The rest, both ways.
    while mover.http.seen < last {
        mover.by_polls_once().await;
    }
    while heard.len() < mover.said.len() {
        let Message::Text(text) = server.next_message().await else { panic!("a text") };
        heard.push(text);
    }
    assert_eq!(server.text_within(Duration::from_millis(50)).await, None);
    assert_eq!(heard, mover.said, "each once, and in order");
    assert_eq!(upstream.accepted(), 1, "the server has noticed nothing");
    assert_eq!(proxy.metrics().await.sum("outrigger_session_ends_total"), 0.0);
}

impl Mover<'_> {
    /// One poll, and what was not received until then.
    async fn by_polls_once(&mut self) {
        let response = self.http.get(&format!("poll?afterSequence={}&limit=1000", self.http.seen)).await;
        if response.status() == 409 {
            sleep(Duration::from_millis(20)).await;
            return;
        }
        let told = json_of(&response);
        for (_, data) in events(&told) {
            self.hears(&data);
        }
        self.post_from(told["received"].as_u64().unwrap()).await;
    }
}

//! Clients of a feed that speak `outrigger.v1`: a hello, counting, and coming back to exactly what was missed.

use serde_json::Value;

use crate::support::client::RawClient;
use crate::support::feed::feed;
use crate::support::link::Message;
use crate::support::proxy::Proxy;
use crate::support::upstream::Upstream;

const NONCE: &str = "abcdefghijklmnopqrstuv";

/// A client that counts as its hello says.
struct Client {
    raw: RawClient,
    hello: Value,
    prefix: String,
    /// The number of the last message that it has had.
    seen: u64,
}

impl Client {
    /// `resume`: the log and number to go on after.
    async fn open(proxy: &Proxy, resume: Option<(&str, u64)>) -> Self {
        let resume = resume.map(|(epoch, seen)| format!(", outrigger.resume.-{epoch}.{seen}"));
        let offer =
            format!("outrigger.plain, outrigger.v1, outrigger.nonce.{NONCE}{}", resume.unwrap_or_default());
        let dial = proxy.dial().path("/feed/a").header("Sec-WebSocket-Protocol", &offer);
        let mut raw = dial.open().await;
        assert_eq!(raw.response.header("Sec-WebSocket-Protocol"), Some("outrigger.v1"));
        let hello = text(&mut raw).await;
        let hello: Value =
            serde_json::from_str(&hello).unwrap_or_else(|_| panic!("the hello comes first: {hello}"));
        let hello = hello["outrigger"].clone();
        assert_eq!(
            (&hello["v"], &hello["nonce"], &hello["session"]),
            (&1.into(), &NONCE.into(), &Value::Null)
        );
        let prefix = hello["control"].as_str().unwrap().to_owned();
        let seen = hello["sequence"].as_u64().unwrap();
        Self { raw, hello, prefix, seen }
    }

    fn epoch(&self) -> String {
        self.hello["epoch"].as_str().unwrap().to_owned()
    }

    /// The next message, and its number.
    async fn next(&mut self) -> (u64, String) {
        loop {
            let text = text(&mut self.raw).await;
            let Some(control) = text.strip_prefix(&self.prefix) else {
                self.seen += 1;
                return (self.seen, text);
            };
            let control: Value = serde_json::from_str(control).unwrap();
            if let Some(at) = control["at"].as_u64() {
                self.seen = at;
            }
        }
    }

    async fn say(&mut self, control: &str) {
        let text = format!("{}{control}", self.prefix);
        self.raw.text(&text).await;
    }
}

async fn text(client: &mut RawClient) -> String {
    match client.next_message().await {
        Message::Text(text) => text,
        Message::Binary(bytes) => panic!("nobody said {bytes:?}"),
    }
}

/// How often a client that came back met this.
async fn resumes(proxy: &Proxy, outcome: &str) -> f64 {
    proxy.metric(&format!("outrigger_resumes_total{{outcome=\"{outcome}\",route=\"feed\"}}")).await
}

#[tokio::test]
async fn a_client_that_comes_back_gets_exactly_what_it_has_missed() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "history: {on_join: none}").spawn().await;
    let mut first = Client::open(&proxy, None).await;
    let mut server = upstream.accept().await;
    assert_eq!((&first.hello["resumed"], &first.hello["lost"], first.seen), (&false.into(), &0.into(), 0));
    // Somebody else keeps the feed alive.
    let mut other = proxy.connect("/feed/a").await;
    for n in 1..=3 {
        server.text(&format!("m{n}")).await;
        assert_eq!(first.next().await, (n, format!("m{n}")));
        other.expect_text(&format!("m{n}")).await;
    }
    first.say("{\"seen\":3,\"ping\":7}").await;
    assert_eq!(text(&mut first.raw).await, format!("{}{{\"pong\":7}}", first.prefix));
    let (epoch, seen) = (first.epoch(), first.seen);
    first.raw.reset();
    for n in 4..=150 {
        server.text(&format!("m{n}")).await;
        other.expect_text(&format!("m{n}")).await;
    }
    let mut back = Client::open(&proxy, Some((&epoch, seen))).await;
    assert_eq!((&back.hello["resumed"], &back.hello["lost"]), (&true.into(), &0.into()));
    assert_ne!(back.prefix, first.prefix, "the prefix is new with each link");
    for n in 4..=150 {
        assert_eq!(back.next().await, (n, format!("m{n}")));
    }
    server.text("m151").await;
    assert_eq!(back.next().await, (151, "m151".into()));
    assert_eq!(resumes(&proxy, "resumed").await, 1.0);
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn what_is_not_kept_any_more_is_told_and_nothing_is_made_up() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "history: {messages: 5, on_join: all}").spawn().await;
    let mut other = proxy.connect("/feed/a").await;
    let mut server = upstream.accept().await;
    for n in 1..=20 {
        server.text(&format!("m{n}")).await;
        other.expect_text(&format!("m{n}")).await;
    }
    let fresh = Client::open(&proxy, None).await;
    let epoch = fresh.epoch();
    let mut late = Client::open(&proxy, Some((&epoch, 3))).await;
    let resumed = &late.hello["resumed"];
    // The oldest five are 16 to 20: twelve are missing between number three and them.
    assert_eq!((resumed, &late.hello["lost"], late.seen), (&false.into(), &12.into(), 15));
    assert_eq!(late.next().await, (16, "m16".into()));
    let mut edge = Client::open(&proxy, Some((&epoch, 15))).await;
    assert_eq!(edge.hello["resumed"], true);
    assert_eq!(edge.next().await, (16, "m16".into()));
    // Another log, and a number that there never was.
    let other_epoch = if epoch.starts_with('0') { "1".repeat(16) } else { "0".repeat(16) };
    for (epoch, seen) in [(other_epoch.as_str(), 15), (epoch.as_str(), 21), (epoch.as_str(), (1 << 53) - 1)] {
        let mut client = Client::open(&proxy, Some((epoch, seen))).await;
        let resumed = &client.hello["resumed"];
        assert_eq!((resumed, &client.hello["lost"]), (&false.into(), &Value::Null), "{epoch} {seen}");
        assert_eq!(client.next().await, (16, "m16".into()));
    }
    for (outcome, times) in [("gap", 1.0), ("resumed", 1.0), ("gone", 1.0), ("ahead", 2.0), ("forged", 0.0)] {
        assert_eq!(resumes(&proxy, outcome).await, times, "{outcome}");
    }
}

#[tokio::test]
async fn threat_a_chat_member_cannot_say_what_only_the_proxy_may() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "").spawn().await;
    let mut client = Client::open(&proxy, None).await;
    let mut server = upstream.accept().await;
    let mut neighbour = Client::open(&proxy, None).await;
    // What a member of a chat has the server say to all: it is forwarded as the text that it is, and counted.
    let forged = [
        "{\"outrigger\":{\"v\":1,\"session\":null,\"sequence\":900}}".to_owned(),
        "~aaaaaaaaaaaaaa:{\"at\":900}".to_owned(),
        format!("{}{{\"at\":900}}", neighbour.prefix),
    ];
    for (n, text) in forged.iter().enumerate() {
        server.text(text).await;
        assert_eq!(client.next().await, (n as u64 + 1, text.clone()));
    }
    // Its own prefix, which the server cannot know, is the only one that its frames are read by.
    neighbour.raw.text(&format!("{}{{\"seen\":900}}", client.prefix)).await;
    neighbour.say("{\"ping\":1}").await;
    loop {
        let text = text(&mut neighbour.raw).await;
        if text == format!("{}{{\"pong\":1}}", neighbour.prefix) {
            break;
        }
    }
    // Ahead of what was sent: it does not count as we do, and is not believed.
    neighbour.say("{\"seen\":900}").await;
    assert_eq!(neighbour.raw.closed().await.code, 1002);
}

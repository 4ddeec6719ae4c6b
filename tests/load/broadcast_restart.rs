//! A feed whose server dies and comes back, again and again, under five hundred clients.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::DEADLINE;
use crate::support::client::RawClient;
use crate::support::link::Message;
use crate::support::logged::Logged;
use crate::support::proxy::Proxy;
use crate::support::upstream::{Answer, ServerConn, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::{Frame, Length, Role};

const CLIENTS: usize = 500;
const LOST: &str = r#"{"type":"outrigger","event":"upstream_lost"}"#;
const RESTORED: &str = r#"{"type":"outrigger","event":"upstream_restored"}"#;
const LAST: &str = "that was all";

fn settings(notices: bool) -> String {
    format!(
        "routes: [{{name: feed, path: '/feed/{{*rest}}', mode: broadcast}}]\n\
         policy: {{redial: {{base: 1ms, cap: 20ms}}, notices: {notices}, \
         history: {{on_join: all}}}}"
    )
}

async fn channel(proxy: &Proxy) -> Value {
    let response = proxy.admin_get("/api/admin/channels").await;
    let answer: Value = serde_json::from_str(&response.text()).expect("JSON");
    assert_eq!(answer["channels"].as_array().map(Vec::len), Some(1), "{answer}");
    answer["channels"][0].clone()
}

/// Publishes to the feed. Answers how many get it, and its number.
async fn publish(proxy: &Proxy, text: &str) -> (u64, u64) {
    let body = json!({ "route": "feed", "text": text }).to_string();
    let dial = RawClient::plain(proxy.admin()).method("POST").path("/api/admin/broadcast");
    let response = dial.header("Connection", "close").body(body).answer().await.response;
    let answer: Value = serde_json::from_str(&response.text()).expect("JSON");
    let number = |name: &str| answer[name].as_u64().unwrap_or_else(|| panic!("{answer}"));
    (number("recipients"), number("sequence"))
}

/// Every message that comes, up to the last one.
async fn listen(mut client: RawClient) -> (RawClient, Vec<String>) {
    let mut heard = Vec::new();
    loop {
        match client.next_message().await {
            Message::Text(text) if text == LAST => return (client, heard),
            Message::Text(text) => heard.push(text),
            Message::Binary(bytes) => panic!("nobody said {bytes:?}"),
        }
    }
}

/// How a server dies.
#[derive(Debug, Clone, Copy)]
enum Death {
    /// As a process that is killed: its sockets are closed, with a reset where something was unread.
    Reset,
    /// Within a frame: nobody may get a part of that.
    Torn,
    /// Between two frames of a message.
    Unfinished,
    /// In an orderly way.
    GoingAway,
}

async fn die(mut server: ServerConn, how: Death) {
    match how {
        Death::Reset => server.reset(),
        Death::Torn => {
            let torn = Frame::text("the beginning of").length(Length::Claimed(1000));
            server.send_bytes(&torn.encode(Role::Server)).await;
            server.finish_writing().await;
        }
        Death::Unfinished => {
            server.send_frame(&Frame::text("the first half").not_final()).await;
            server.reset();
        }
        Death::GoingAway => {
            server.close(1001, "").await;
            server.closed().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_killed_and_restarted_under_five_hundred_clients() {
    let _alone = crate::alone().await;
    outrigger::internals::raise_descriptor_limit();
    let mut upstream = Upstream::by_hand().await;
    let proxy = Proxy::to(&upstream).yaml(&settings(true)).spawn().await;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(listen(proxy.connect("/feed/a").await));
    }
    let mut server = upstream.accept().await;
    proxy.has("clients", CLIENTS as f64).await;
    let epoch = channel(&proxy).await["epoch"].clone();
    let mut said: Vec<String> = Vec::new();
    let deaths = [Death::Reset, Death::Torn, Death::Unfinished, Death::GoingAway, Death::Reset];
    for (life, death) in deaths.into_iter().enumerate() {
        for number in 0..20 {
            let text = format!("life {life}, message {number}");
            server.text(&text).await;
            said.push(text);
        }
        // What it has said is in the log: a reset could take it away on the way there.
        eventually(DEADLINE, async || channel(&proxy).await["sequence"] == said.len()).await;
        upstream.stop().await;
        die(server, death).await;
        proxy.has("channels_connected", 0.0).await;
        said.push(LOST.to_owned());
        // Operators can tell the clients why, and whoever comes meanwhile is let in and gets all of it.
        let text = format!("sorry for {death:?}");
        let (recipients, sequence) = publish(&proxy, &text).await;
        said.push(text);
        assert_eq!((recipients, sequence), ((CLIENTS + life) as u64, said.len() as u64), "{death:?}");
        clients.spawn(listen(proxy.connect("/feed/a").await));
        proxy.has("clients", (CLIENTS + life + 1) as f64).await;
        upstream.start().await;
        server = upstream.accept().await;
        proxy.has("channels_connected", 1.0).await;
        said.push(RESTORED.to_owned());
        let text = format!("life {} begins", life + 1);
        assert_eq!(publish(&proxy, &text).await.1, said.len() as u64 + 1, "numbers go on");
        said.push(text);
        let now = channel(&proxy).await;
        assert_eq!((&now["epoch"], &now["sequence"]), (&epoch, &json!(said.len())));
    }
    server.text(LAST).await;
    let mut stayed = Vec::new();
    while let Some(client) = clients.join_next().await {
        let (client, heard) = client.expect("it hears the last message");
        assert_eq!(heard, said, "each message once, in order, the gaps where they were");
        stayed.push(client);
    }
    assert_eq!(stayed.len(), CLIENTS + deaths.len());
    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("outrigger_disconnections_total"), 0.0, "nobody was let go");
    assert_eq!(proxy.feed("messages_missed_total").await, 0.0);
    let dials = metrics.get(r#"outrigger_uplink_dials_total{route="feed",outcome="ok"}"#);
    assert_eq!(dials, Some(1.0 + deaths.len() as f64), "one dial for all of them");
    assert_eq!(upstream.handshakes().len(), 1 + deaths.len());
    // They are still whole connections.
    stayed[0].close(1000, "").await;
    assert_eq!(stayed[0].closed().await.code, 1000);
}

#[tokio::test]
async fn without_notices_clients_hear_nothing_of_it_and_operators_do() {
    let _alone = crate::alone().await;
    let (logged, _logging) = Logged::of_this_thread();
    let mut upstream = Upstream::by_hand().await;
    let proxy = Proxy::to(&upstream).yaml(&settings(false)).spawn().await;
    let mut client = proxy.connect("/feed/a?token=secret").await;
    let mut server = upstream.accept().await;
    server.text("before").await;
    client.expect_text("before").await;
    upstream.stop().await;
    server.reset();
    proxy.has("channels_connected", 0.0).await;
    assert_eq!(proxy.feed("channels").await, 1.0);
    assert_eq!(channel(&proxy).await["connected"], false);
    let failed = r#"outrigger_uplink_dials_total{route="feed",outcome="failed"}"#;
    eventually(DEADLINE, async || proxy.metric(failed).await >= 1.0).await;
    upstream.start().await;
    upstream.accept().await.text("after").await;
    client.expect_text("after").await;
    assert_eq!(channel(&proxy).await["sequence"], 2, "what we tell is a message too, where we tell it");
    for line in ["the feed's server is lost", "the feed goes on"] {
        assert_eq!(logged.line(line)["route"], "feed");
    }
    assert!(!logged.text().contains("secret"), "{}", logged.text());
}

#[tokio::test]
async fn a_server_that_is_slow_to_come_back_is_waited_for_by_those_who_come_too() {
    let _alone = crate::alone().await;
    let upstream = Upstream::by_hand().await;
    let proxy = Proxy::to(&upstream).yaml(&settings(true)).spawn().await;
    let mut first = proxy.connect("/feed/a").await;
    let server = upstream.accept().await;
    // It is there again, and answers nothing yet: the dial takes its time.
    upstream.change(Upstream::builder().answering(Answer::HandOver));
    server.reset();
    let mut server = upstream.accept().await;
    first.expect_text(LOST).await;
    let mut second = proxy.connect("/feed/a").await;
    second.expect_text(LOST).await;
    second.expect_silence(Duration::from_millis(100)).await;
    server.accept_websocket().await;
    server.text("welcome back").await;
    for client in [&mut first, &mut second] {
        client.expect_text(RESTORED).await;
        client.expect_text("welcome back").await;
    }
    assert_eq!(upstream.accepted(), 2);
}

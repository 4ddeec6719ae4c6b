//! `EventSource` as its users have it, npm's and Chromium's own, and what ends its stream: a server that is away, a place that
//! is taken, a network that breaks, a proxy that drains or is killed. It is never left CLOSED, and whether it goes on where it
//! was or begins anew, it is told.
//!
//! The server numbers what it says, the proxy numbers its events, and `tests/interop/fallback/listening.mjs` holds the one
//! against the other: a number that is missing or comes twice is in `wrong`.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::network::Network;
use super::script::Script;
use crate::support::binary::{Builder, Running};
use crate::support::files::TempFile;
use crate::support::peer::{Peer, skipped};
use crate::support::proxy::Proxy;
use crate::support::wait::eventually;

const SERVER: &str = "fallback/server.mjs";
const BOTH: [&str; 2] = ["session", "feed"];

/// A client comes back after two to four seconds, and after as many again if it was too early.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn npm_eventsource_goes_on_whatever_ends_its_stream() {
    if skipped() {
        return;
    }
    let script = Script::event_source();
    goes_on(&script, None).await;
    script.ends().await;
}

#[tokio::test]
async fn chromiums_event_source_goes_on_whatever_ends_its_stream() {
    if skipped() {
        return;
    }
    let script = Script::browser();
    let pages = script.pages().await;
    goes_on(&script, Some(pages)).await;
    script.ends().await;
}

/// All of it beside each other, since most of the time clients wait before they come back.
async fn goes_on(script: &Script, pages: Option<u16>) {
    tokio::join!(
        a_server_that_is_away_and_one_that_is_killed(script, pages),
        a_place_that_is_taken(script, pages),
        a_network_that_breaks(script, pages),
        a_proxy_that_drains_and_one_that_is_killed(script, pages),
    );
}

async fn a_server_that_is_away_and_one_that_is_killed(script: &Script, pages: Option<u16>) {
    let server = Peer::start(SERVER).await;
    let (url, port) = (server.url(), server.port());
    server.kill().await;
    let proxy = Proxy::to_url(url).yaml(&routes(pages, "")).spawn().await;
    let clients = listen(script, "away", proxy.address()).await;
    for client in &clients {
        let heard = client.until("it is refused", |heard| !list(heard, "refusals").is_empty()).await;
        assert_eq!(heard["refusals"][0], "upstream_unreachable", "{heard}");
    }
    let server = Peer::start_at(SERVER, Some(port)).await;
    for client in &clients {
        client.until("the server is there", |heard| heard["messages"].as_u64() > Some(10)).await;
    }
    server.kill().await;
    let server = Peer::start_at(SERVER, Some(port)).await;
    for client in &clients {
        let next = |heard: &Value| list(heard, "connections").len() == 2;
        let heard = client.until("it hears the next server", next).await;
        assert_eq!(list(&heard, "hellos").len(), 1, "its stream was not touched: {heard}");
        assert_eq!(heard["opened"], list(&heard, "refusals").len() + 1, "{heard}");
        // The server is nobody's own where many share it.
        let told = if client.has_session() {
            json!([{ "server": "lost" }, { "server": "back" }])
        } else {
            json!([])
        };
        assert_eq!(heard["told"], told, "{heard}");
    }
    leave(&clients).await;
    proxy.stop().await;
    server.stop().await;
}

async fn a_place_that_is_taken(script: &Script, pages: Option<u16>) {
    let server = Peer::start(SERVER).await;
    let proxy = Proxy::to_url(server.url()).yaml(&routes(pages, ", limits: {connections: 1}")).spawn().await;
    let mut occupants = Vec::new();
    for route in BOTH {
        occupants.push(proxy.connect(&format!("/{route}")).await);
    }
    let clients = listen(script, "taken", proxy.address()).await;
    for client in &clients {
        let heard = client.until("it is refused", |heard| !list(heard, "refusals").is_empty()).await;
        assert_eq!(heard["refusals"][0], "capacity", "{heard}");
    }
    for mut occupant in occupants {
        occupant.close(1000, "").await;
    }
    for client in &clients {
        client.until("there is room", |heard| heard["messages"].as_u64() > Some(10)).await;
    }
    leave(&clients).await;
    proxy.stop().await;
    server.stop().await;
}

async fn a_network_that_breaks(script: &Script, pages: Option<u16>) {
    let server = Peer::start(SERVER).await;
    let proxy = Proxy::to_url(server.url()).yaml(&routes(pages, "")).spawn().await;
    let network = Network::before(proxy.address()).await;
    let clients = listen(script, "network", network.address()).await;
    for cuts in 1..=2 {
        for client in &clients {
            client.until("it hears more", |heard| heard["messages"].as_u64() > Some(cuts * 20)).await;
        }
        network.cut();
        for client in &clients {
            let is_back = |heard: &Value| list(heard, "hellos").len() as u64 == cuts + 1;
            let heard = client.until("it is back", is_back).await;
            let hello = &heard["hellos"][cuts as usize];
            assert_eq!((&hello["resumed"], &hello["lost"]), (&true.into(), &0.into()), "{heard}");
        }
    }
    for client in &clients {
        // Of each time that it was away.
        let heard = client.until("it has caught up", |heard| heard["messages"].as_u64() > Some(200)).await;
        assert_eq!(list(&heard, "connections").len(), 1, "the server has noticed nothing: {heard}");
        assert_eq!(list(&heard, "refusals").len(), 0, "{heard}");
    }
    leave(&clients).await;
    proxy.stop().await;
    server.stop().await;
}

async fn a_proxy_that_drains_and_one_that_is_killed(script: &Script, pages: Option<u16>) {
    let server = Peer::start(SERVER).await;
    let drain = "drain: {spread: 500ms, timeout: 60s}";
    let file = TempFile::new("restart.yaml", &format!("{drain}\n{}\n", routes(pages, "")));
    let start = async |listen: &str| -> Running {
        let ports = ["--listen", listen, "--admin", "127.0.0.1:0", "--upstream", &server.url()];
        Builder::new(&["run", "--config", file.path()]).args(&ports).spawn().ready().await
    };
    let mut proxy = start("127.0.0.1:0").await;
    let address = proxy.address();
    let clients = listen(script, "restart", address).await;
    for (restarts, signal) in [(1, "TERM"), (2, "KILL")] {
        for client in &clients {
            client.until("it hears", |heard| list(heard, "connections").len() == restarts).await;
        }
        proxy.binary.signal(signal).await;
        // Long before the drain's timeout, although streams were open.
        let status = proxy.binary.exited().await;
        assert_eq!(status.success(), signal == "TERM", "{status}: {}", proxy.binary.said());
        proxy = start(&address.to_string()).await;
        for client in &clients {
            let is_back = |heard: &Value| list(heard, "connections").len() == restarts + 1;
            let heard = client.until("it is back", is_back).await;
            let hello = &heard["hellos"][restarts];
            assert_eq!((&hello["resumed"], &hello["lost"]), (&false.into(), &Value::Null), "{heard}");
            // Who drains says goodbye, and who is killed does not.
            let byes = list(&heard, "told").iter().map(|told| told["bye"]["why"].as_str());
            let expected = if client.has_session() { vec![Some("drain")] } else { vec![] };
            assert_eq!(Vec::from_iter(byes), expected, "{heard}");
        }
    }
    leave(&clients).await;
    drop(proxy);
    server.stop().await;
}

/// A session, a feed, and where Chromium gets its pages.
fn routes(pages: Option<u16>, policy: &str) -> String {
    let policy = format!("policy: {{fallback: {{sse: true}}{policy}}}");
    let both = format!(
        "{{name: session, path: /session, mode: session, {policy}}}, {{name: feed, path: /feed, mode: broadcast, {policy}}}"
    );
    let pages = pages.map_or_else(String::new, |port| {
        format!(", {{name: pages, path: '/{{*rest}}', upstream: {{url: 'http://127.0.0.1:{port}'}}}}")
    });
    format!("routes: [{both}{pages}]")
}

/// An EventSource.
struct Listener<'a> {
    script: &'a Script,
    page: String,
}

/// One of each route, in one page.
async fn listen<'a>(script: &'a Script, page: &str, proxy: SocketAddr) -> Vec<Listener<'a>> {
    script.visits(page, &format!("http://{proxy}/listening.html")).await;
    let mut listeners = Vec::new();
    for route in BOTH {
        let page = format!("{page} {route}");
        let listener = Listener { script, page };
        let url = format!("http://{proxy}/{route}/events");
        listener.does("listen", json!({ "url": url })).await;
        listeners.push(listener);
    }
    listeners
}

async fn leave(listeners: &[Listener<'_>]) {
    for listener in listeners {
        listener.until("it is still well", |_| true).await;
        listener.does("leave", json!({})).await;
    }
}

impl Listener<'_> {
    fn has_session(&self) -> bool {
        self.page.ends_with("session")
    }

    async fn does(&self, order: &str, mut details: Value) -> Value {
        let (page, _) = self.page.split_once(' ').expect("page and route");
        details["page"] = page.into();
        details["name"] = (*self.page).into();
        self.script.does(order, details).await
    }

    /// What it has heard once this holds; nothing of it may be wrong.
    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(PATIENCE, async || {
            let heard = self.does("look", json!({})).await;
            assert_eq!(list(&heard, "wrong").len(), 0, "{}, until {what}: {heard}", self.page);
            assert_eq!(list(&heard, "closes").len(), 0, "{}, until {what}: {heard}", self.page);
            if holds(&heard) { Ok(heard) } else { Err(format!("{}, until {what}: {heard}", self.page)) }
        })
        .await
    }
}

fn list<'a>(heard: &'a Value, name: &str) -> &'a [Value] {
    heard[name].as_array().unwrap_or_else(|| panic!("no {name}: {heard}"))
}

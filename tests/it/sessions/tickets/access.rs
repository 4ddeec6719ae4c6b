//! What a valid ticket spares its client at the door, and what any other does not; keys of tickets, and reloads.

use std::time::Duration;

use outrigger::config::{ApiKeys, Auth};
use serde_json::json;

use crate::support::DEADLINE;
use crate::support::binary::{Builder, Running};
use crate::support::client::RawClient;
use crate::support::files::Folder;
use crate::support::session::session;
use crate::support::ticket_client::{Cut, NoLink, TicketClient};
use crate::support::token;
use crate::support::upstream::Upstream;
use crate::support::wait::eventually;

const FIRST: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222222222222222222222222222";
const THIRD: &str = "3333333333333333333333333333333333333333333333333333333333333333";

fn keys_of(users: &[&str]) -> Auth {
    let line = |user: &&str| format!("{user}:{}\n", token::sha256_hex(&format!("key-{user}")));
    let list: String = users.iter().map(line).collect();
    Auth::ApiKeys(ApiKeys { file: token::file("keys", list), header: "x-api-key".into() })
}

fn refused(connected: Result<Option<serde_json::Value>, NoLink>) -> u16 {
    match connected {
        Err(NoLink::Refused(response)) => response.status(),
        other => panic!("a refusal is due: {other:?}"),
    }
}

#[tokio::test]
async fn a_user_with_one_place_and_a_dead_link_in_it_comes_back_to_its_session() {
    let upstream = Upstream::by_hand().await;
    let proxy = session(&upstream, "").policy(|policy| {
        policy.auth = Some(keys_of(&["ann"]));
        policy.limits.per_user = Some(1);
    });
    let proxy = proxy.spawn().await;
    let dial = || proxy.dial().header("X-Api-Key", "key-ann");
    let mut client = TicketClient::new(dial());
    client.begin_anew().await;
    let mut server = upstream.accept().await;
    for _ in 0..3 {
        // The proxy does not know that it is dead.
        client.cut(Cut::Silence).await;
        assert_eq!(refused(TicketClient::new(dial()).try_connect().await), 503, "there is one place");
        client.resume().await;
        server.text("hello").await;
        client.hears(&["hello"]).await;
    }
    // The place is the session's while its client is away, and free when it is over.
    client.cut(Cut::Reset).await;
    proxy.away(1.0).await;
    assert_eq!(refused(TicketClient::new(dial()).try_connect().await), 503);
    client.resume().await;
    let (closed, _) = tokio::join!(client.close(1000), server.closed());
    assert_eq!(closed.code, 1000);
    proxy.ends_sessions("client", 1.0).await;
    TicketClient::new(dial()).begin_anew().await;
}

#[tokio::test]
async fn a_valid_ticket_meets_neither_the_rate_of_all_nor_that_of_its_user() {
    for limit in ["global", "per_user"] {
        let upstream = Upstream::by_hand().await;
        let proxy = session(&upstream, &format!("handshake_rate: {{{limit}: {{rate: 1/m, burst: 2}}}}"));
        let proxy = proxy.policy(|policy| policy.auth = Some(keys_of(&["ann"]))).spawn().await;
        let dial = || proxy.dial().header("X-Api-Key", "key-ann");
        let mut client = TicketClient::new(dial());
        client.begin_anew().await;
        let mut server = upstream.accept().await;
        TicketClient::new(dial()).begin_anew().await;
        assert_eq!(refused(TicketClient::new(dial()).try_connect().await), 429, "{limit}");
        for _ in 0..10 {
            client.cut(Cut::Reset).await;
            client.resume().await;
        }
        server.text("hello").await;
        client.hears(&["hello"]).await;
        // What opens nothing spares nothing: garbage, and what was replaced.
        let ticket = client.ticket.clone().unwrap();
        client.confirm().await;
        for ticket in ["A".repeat(60), client.tickets[0].clone(), format!("{}A", &ticket[..59])] {
            if ticket == *client.ticket.as_ref().unwrap() {
                continue;
            }
            let mut other = TicketClient::new(dial());
            other.ticket = Some(ticket);
            assert_eq!(refused(other.try_connect().await), 429, "{limit}");
        }
    }
}

#[tokio::test]
async fn a_ticket_of_somebody_else_spares_nothing() {
    let upstream = Upstream::by_hand().await;
    let proxy = session(&upstream, "handshake_rate: {global: {rate: 1/m, burst: 1}}");
    let proxy = proxy.policy(|policy| policy.auth = Some(keys_of(&["ann", "bob"]))).spawn().await;
    let mut client = TicketClient::new(proxy.dial().header("X-Api-Key", "key-ann"));
    client.begin_anew().await;
    let mut other = TicketClient::new(proxy.dial().header("X-Api-Key", "key-bob"));
    other.ticket = client.ticket.clone();
    assert_eq!(refused(other.try_connect().await), 429);
    assert_eq!(proxy.resumes("foreign").await, 1.0);
    client.cut(Cut::Reset).await;
    client.resume().await;
}

/// A rate of its address holds for whoever has a ticket too: it protects the reading of tickets.
#[tokio::test]
async fn the_rate_of_an_address_holds_with_a_ticket_too() {
    let upstream = Upstream::by_hand().await;
    let proxy = session(&upstream, "handshake_rate: {per_ip: {rate: 1/m, burst: 3}}").spawn().await;
    let mut client = TicketClient::new(proxy.dial());
    client.begin_anew().await;
    for _ in 0..2 {
        client.cut(Cut::Reset).await;
        client.resume().await;
    }
    client.cut(Cut::Reset).await;
    assert_eq!(refused(client.try_connect().await), 429);
}

fn yaml(upstream: &Upstream, session: &str, more: &str) -> String {
    format!(
        "listen: {{ address: '127.0.0.1:0' }}\nadmin: {{ address: '127.0.0.1:0' }}\nupstream: {{ url: '{}' }}\n\
         policy: {{ session: {{ {session} }}, {more} }}\n\
         routes: [{{ name: chat, path: '/{{*rest}}', mode: session }}]\n",
        upstream.url()
    )
}

async fn reload(running: &Running, count: f64) {
    running.binary.signal("HUP").await;
    eventually(DEADLINE, || async {
        let metrics = running.metrics().await;
        match metrics.get("outrigger_config_reloads_total{outcome=\"applied\"}") == Some(count) {
            true => Ok(()),
            false => Err(running.binary.said()),
        }
    })
    .await;
}

async fn run(folder: &Folder) -> Running {
    let file = folder.path("outrigger.yaml");
    Builder::new(&["run", "--config", file.to_str().unwrap()]).spawn().ready().await
}

#[tokio::test]
async fn keys_of_tickets_are_rotated_by_a_reload_and_a_key_that_is_still_there_verifies() {
    let upstream = Upstream::by_hand().await;
    let folder = Folder::new("ticket-keys");
    folder.write("keys", &format!("{FIRST}\n"));
    let keys = folder.path("keys");
    folder.write("outrigger.yaml", &yaml(&upstream, &format!("token_key_file: '{}'", keys.display()), ""));
    let running = run(&folder).await;
    let mut client = TicketClient::new(RawClient::dial(running.address()));
    client.begin_anew().await;
    let mut server = upstream.accept().await;
    // The new one signs, the old one verifies; then the old one goes.
    for (round, list) in [
        (1.0, format!("{SECOND}\n{FIRST}\n")),
        (2.0, format!("{SECOND}\n")),
        (3.0, format!("{THIRD}\n{SECOND}\n")),
    ] {
        client.cut(Cut::Reset).await;
        folder.write("keys", &list);
        reload(&running, round).await;
        client.resume().await;
        server.text("hello").await;
        client.hears(&["hello"]).await;
    }
    // All of them at once: nobody comes back.
    client.cut(Cut::Reset).await;
    folder.write("keys", &format!("{FIRST}\n"));
    reload(&running, 4.0).await;
    client.begin_anew().await;
    assert_eq!(upstream.handshakes().len(), 2);
    let forged = "outrigger_resumes_total{outcome=\"forged\",route=\"chat\"}";
    assert_eq!(running.metrics().await.get(forged), Some(1.0), "no key verifies it");
    let said = running.binary.said();
    for key in [FIRST, SECOND, THIRD] {
        assert!(!said.contains(key), "{said}");
    }
}

#[tokio::test]
async fn a_session_outlives_a_reload_while_its_client_is_away_and_keeps_what_it_began_with() {
    let (old, new) = (Upstream::by_hand().await, Upstream::by_hand().await);
    let folder = Folder::new("away");
    folder.write("outrigger.yaml", &yaml(&old, "resume_window: 20s", "max_message: 1000, max_frame: 1000"));
    let running = run(&folder).await;
    let mut client = TicketClient::new(RawClient::dial(running.address()));
    client.begin_anew().await;
    let mut server = old.accept().await;
    client.cut(Cut::Reset).await;
    folder.write("outrigger.yaml", &yaml(&new, "resume_window: 5s", "max_message: 100, max_frame: 100"));
    reload(&running, 1.0).await;
    server.text("meanwhile").await;
    let hello = client.resume().await;
    assert_eq!((&hello["window"], &hello["maxMessage"]), (&json!(20_000), &json!(1000)), "{hello}");
    client.hears(&["meanwhile"]).await;
    client.say(&"x".repeat(900)).await;
    server.expect_text(&"x".repeat(900)).await;
    assert_eq!(new.accepted(), 0);
    // Without a route of its name there is nothing to come back to; the session waits for its window.
    client.cut(Cut::Reset).await;
    let tunnel = yaml(&new, "resume_window: 5s", "").replace("mode: session", "mode: tunnel");
    folder.write("outrigger.yaml", &tunnel);
    reload(&running, 2.0).await;
    let (connected, mut tunnelled) = tokio::join!(
        async {
            let dial = client.handshake();
            dial.open().await
        },
        new.accept()
    );
    tunnelled.text("a tunnel").await;
    let mut link = connected;
    link.expect_text("a tunnel").await;
    server.answer_pings_for(Duration::from_millis(100)).await;
    // And back again.
    folder.write("outrigger.yaml", &yaml(&new, "resume_window: 5s", ""));
    reload(&running, 3.0).await;
    client.resume().await;
    server.text("still here").await;
    client.hears(&["still here"]).await;
}

//! Mode broadcast: one connection to the server for all clients of a channel, as they and the server see it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use outrigger::config::{ApiKeys, Auth, Credentials, KeyPart, TokenSource};
use serde_json::{Value, json};

use crate::support::DEADLINE;
use crate::support::feed::{FEED, feed, joined};
use crate::support::http::{Head, assert_ours, response, switching};
use crate::support::http2;
use crate::support::link::Received;
use crate::support::proxy::Proxy;
use crate::support::token;
use crate::support::upstream::{Answer, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::{CLOSE, Frame, RSV1, Role};

/// Redials at once, also where this server leaves the end of a connection to us.
const EAGER: &str = "close_timeout: 300ms, redial: {base: 1ms, cap: 20ms}";

/// An API key for each of these users.
fn keys_of(users: &[&str]) -> Auth {
    let line = |user: &&str| format!("{user}:{}\n", token::sha256_hex(&format!("key-{user}")));
    let list: String = users.iter().map(line).collect();
    Auth::ApiKeys(ApiKeys { file: token::file("keys", list), header: "x-api-key".into() })
}

#[tokio::test]
async fn one_connection_to_the_server_feeds_all_clients() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "").spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 50).await;
    let long = "x".repeat(100_000);
    server.text("hello").await;
    server.binary(b"\x00\xff").await;
    server.text(&long).await;
    for client in &mut clients {
        client.expect_text("hello").await;
        client.expect_binary(b"\x00\xff").await;
        client.expect_text(&long).await;
    }
    assert_eq!(upstream.accepted(), 1);
    assert_eq!(proxy.feed("channels").await, 1.0);
    assert_eq!(proxy.feed("channels_connected").await, 1.0);
    assert_eq!(proxy.feed("feed_messages_total").await, 3.0);
    assert_eq!(proxy.dials("ok").await, 1.0);
    let handshakes = "outrigger_handshakes_total{outcome=\"accepted\",route=\"feed\"}";
    assert_eq!(proxy.metric(handshakes).await, 50.0);
    // Another path is another channel.
    let (mut other, mut another) = (proxy.connect("/feed/b?c").await, upstream.accept().await);
    assert_eq!(another.request.head.target(), "/feed/b?c");
    another.text("elsewhere").await;
    other.expect_text("elsewhere").await;
    server.text("here").await;
    clients[0].expect_text("here").await;
    let listed: BTreeSet<_> = proxy.channels().await.iter().map(|c| c["channel"].to_string()).collect();
    assert_eq!(listed, BTreeSet::from(["\"/feed/a\"".to_owned(), "\"/feed/b?c\"".to_owned()]));
}

#[tokio::test]
async fn threat_a_shared_link_leaks_nobodys_identity_to_the_server() {
    let upstream = Upstream::by_hand().await;
    let auth = token::by_secret(&[TokenSource::Query("token".into()), TokenSource::Subprotocol]);
    let proxy = feed(&upstream, "").policy(move |policy| policy.auth = Some(auth.clone())).spawn().await;
    let open = |user: &str| {
        let token = token::for_user(user, 60);
        proxy
            .dial()
            .path(&format!("/feed/a?token={token}&room=1"))
            .header("Cookie", "sid=secret")
            .header("Authorization", "Bearer secret")
            .header("X-Forwarded-For", "203.0.113.7")
            .header("Forwarded", "for=203.0.113.7")
            .header("X-Api-Key", "secret")
            .header("X-Outrigger-User", "mallory")
            .header("X-Other", "secret")
            .header("Sec-WebSocket-Extensions", "permessage-deflate")
            .header("Sec-WebSocket-Protocol", &format!("chat, outrigger.bearer, {token}"))
            .header("Origin", "https://app.example.com")
            .open()
    };
    let (mut alice, mut server) = (open("alice").await, upstream.accept().await);
    let mut bob = open("bob").await;
    server.text("for both").await;
    alice.expect_text("for both").await;
    bob.expect_text("for both").await;
    let head = &server.request.head;
    assert_eq!(head.target(), "/feed/a?room=1");
    let said: BTreeSet<String> = head.headers.names().iter().map(|name| name.to_ascii_lowercase()).collect();
    let known = [
        "host",
        "connection",
        "upgrade",
        "sec-websocket-version",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "origin",
        "user-agent",
        "x-request-id",
    ];
    assert_eq!(said, known.map(str::to_owned).into());
    assert_eq!(head.header("sec-websocket-protocol"), Some("chat"));
    let all = format!("{head:?}");
    for secret in ["secret", "203.0.113.7", "alice", "bob", "mallory", "bearer"] {
        assert!(!all.contains(secret), "{secret}: {all}");
    }
    assert_eq!(upstream.accepted(), 1);
    // What the client offered of ours is answered, since the server chose none of its own.
    assert_eq!(alice.response.header("sec-websocket-protocol"), Some("outrigger.bearer"));
}

#[tokio::test]
async fn each_user_has_a_channel_where_the_first_ones_credentials_go_on() {
    let upstream = Upstream::by_hand().await;
    let auth = keys_of(&["ann", "bob"]);
    let proxy = feed(&upstream, "")
        .policy(move |policy| {
            policy.auth = Some(auth.clone());
            policy.broadcast.channel_key = vec![KeyPart::Path, KeyPart::User];
            policy.broadcast.credentials = Credentials::First;
        })
        .spawn()
        .await;
    let open = |user: &str| {
        let dial = proxy.dial().path("/feed/a").header("X-Api-Key", &format!("key-{user}"));
        dial.header("Cookie", &format!("sid={user}")).open()
    };
    let (mut ann, mut for_ann) = (open("ann").await, upstream.accept().await);
    let mut ann_too = open("ann").await;
    let (mut bob, mut for_bob) = (open("bob").await, upstream.accept().await);
    for (server, user) in [(&for_ann, "ann"), (&for_bob, "bob")] {
        let head = &server.request.head;
        assert_eq!(head.header("cookie"), Some(&*format!("sid={user}")));
        assert_eq!(head.header("x-outrigger-user"), Some(user));
        assert_eq!(head.header("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(head.header("sec-websocket-extensions"), None);
    }
    for_ann.text("ann's").await;
    for_bob.text("bob's").await;
    ann.expect_text("ann's").await;
    ann_too.expect_text("ann's").await;
    bob.expect_text("bob's").await;
}

#[tokio::test]
async fn threat_a_forged_forwarding_header_in_a_channels_key_reaches_no_server() {
    let parts = [
        "x-forwarded-host",
        "x-forwarded-prefix",
        "forwarded",
        "x-real-ip",
        "x_forwarded_for",
        "x_outrigger_user",
        "x-outrigger-user",
    ];
    let parts = parts.map(|name| format!("'header:{name}'")).join(", ");
    let policy = format!("broadcast: {{channel_key: [path, {parts}]}}");
    let said = [
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-Host", "tenant.example.com"),
        ("X-Forwarded-Prefix", "/forged"),
        ("Forwarded", "host=forged"),
        ("X-Real-IP", "203.0.113.7"),
        ("X_Forwarded_For", "203.0.113.7"),
        ("X_Outrigger_User", "root"),
        ("X-Outrigger-User", "root"),
    ];
    // Of a trusted peer one kind counts; what proxies never write does not.
    let trusted: &[&str] = &["x-forwarded-host", "x-forwarded-prefix", "x-real-ip"];
    for (trust, expected) in [("trusted_proxies: []", &[][..]), ("trusted_proxies: [loopback]", trusted)] {
        let upstream = Upstream::by_hand().await;
        let proxy = feed(&upstream, &policy).yaml(trust).spawn().await;
        let forging =
            said.iter().fold(proxy.dial().path("/feed/a"), |dial, (name, value)| dial.header(name, value));
        let (_client, server) = (forging.open().await, upstream.accept().await);
        let head = &server.request.head;
        let names = head.headers.names();
        let names: BTreeSet<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let told = said.iter().map(|(name, _)| name.to_ascii_lowercase()).filter(|name| names.contains(name));
        assert_eq!(told.collect::<Vec<_>>(), expected, "{trust}");
        // Nor does what is not believed set anybody apart.
        let _other = proxy.connect("/feed/a").await;
        assert_eq!(proxy.channels().await.len(), if expected.is_empty() { 1 } else { 2 }, "{trust}");
    }
}

#[tokio::test]
async fn threat_clients_of_one_hosts_tenant_are_not_put_on_anothers_channel() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "").spawn().await;
    let open = |host: &str| proxy.dial().path("/feed/a").header("Host", host).open();
    let (mut blue, mut for_blue) = (open("blue.example.com").await, upstream.accept().await);
    let (mut green, mut for_green) = (open("green.example.com").await, upstream.accept().await);
    assert_eq!(for_blue.request.head.header("host"), Some("blue.example.com"));
    for_blue.text("blue").await;
    for_green.text("green").await;
    blue.expect_text("blue").await;
    green.expect_text("green").await;
    // Both have the name that operators know.
    assert_eq!(
        proxy.publish(&json!({ "route": "feed", "channel": "/feed/a", "text": "x" })).await,
        json!({ "recipients": 2, "sequence": null })
    );
}

/// A server that judges pages itself, and takes this one only.
fn with_pages_of_its_own() -> Answer {
    Answer::With(Arc::new(|request: &Head| match request.header("origin") {
        Some("https://app.example.com") => switching(request),
        _ => response(403, &[], b"a foreign page"),
    }))
}

#[tokio::test]
async fn threat_a_page_that_the_server_refuses_does_not_come_in_behind_one_that_it_takes() {
    let upstream = Upstream::builder().answering(with_pages_of_its_own()).by_hand().spawn().await;
    let proxy = feed(&upstream, "").spawn().await;
    let dial = |page: &str| proxy.dial().path("/feed/a").header("Origin", page);
    let (mut ours, mut server) = (dial("https://app.example.com").open().await, upstream.accept().await);
    let refused = dial("https://evil.example.com").refused().await;
    assert_eq!((refused.status(), refused.text()), (403, "a foreign page".to_owned()));
    let refused = proxy.dial().path("/feed/a").refused().await;
    assert_eq!(refused.status(), 403, "nor whoever does not say");
    // Who comes from the same page is at home.
    let mut ours_too = dial("https://app.example.com").open().await;
    server.text("hello").await;
    ours.expect_text("hello").await;
    ours_too.expect_text("hello").await;
}

#[tokio::test]
async fn threat_a_foreign_page_does_not_have_those_refused_who_wait_with_it() {
    let upstream = Upstream::builder().answering(Answer::HandOver).spawn().await;
    let proxy = feed(&upstream, "").spawn().await;
    let dial = |page: &str| proxy.dial().path("/feed/a").header("Origin", page);
    let mut foreign = dial("https://evil.example.com").send().await;
    let mut for_foreign = upstream.accept().await;
    let mut ours = dial("https://app.example.com").send().await;
    let mut for_ours = upstream.accept().await;
    for_foreign.send_bytes(&response(403, &[], b"a foreign page")).await;
    assert_eq!(foreign.read_response("GET").await.status(), 403);
    for_ours.accept_websocket().await;
    assert_eq!(ours.read_response("GET").await.status(), 101);
    for_ours.text("hello").await;
    ours.expect_text("hello").await;
}

#[tokio::test]
async fn a_refusal_of_the_server_is_everyones_who_waits_for_it() {
    let upstream = Upstream::builder().answering(Answer::HandOver).spawn().await;
    let proxy = feed(&upstream, "").spawn().await;
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(proxy.dial().path("/feed/a").send().await);
    }
    let mut server = upstream.accept().await;
    eventually(DEADLINE, async || proxy.channels().await.first()?["clients"].as_u64().filter(|n| *n == 10))
        .await;
    let answer = "HTTP/1.1 402 Payment Required\r\nX-Why: tired\r\nSet-Cookie: sid=new\r\n\
                  Keep-Alive: timeout=5\r\nContent-Length: 7\r\n\r\nnot now";
    server.send_bytes(answer.as_bytes()).await;
    for link in &mut waiting {
        let response = link.read_response("GET").await;
        assert_eq!((response.status(), response.text()), (402, "not now".to_owned()));
        assert_eq!(response.header("x-why"), Some("tired"));
        assert_eq!(response.header("set-cookie"), None, "a session that the server begins is nobody's");
        assert_eq!(response.header("keep-alive"), None);
    }
    assert_eq!(upstream.accepted(), 1);
    assert_eq!(proxy.dials("refused").await, 1.0);
    let refused = "outrigger_handshakes_total{outcome=\"refused\",route=\"feed\"}";
    eventually(DEADLINE, async || proxy.metric(refused).await == 10.0).await;
    proxy.has("channels", 0.0).await;
    // Nothing is remembered of it.
    upstream.change(Upstream::builder().by_hand());
    let mut client = proxy.connect("/feed/a").await;
    upstream.accept().await.text("welcome").await;
    client.expect_text("welcome").await;
}

#[tokio::test]
async fn a_long_refusal_is_cut_and_still_arrives() {
    let body = "x".repeat(200_000);
    let upstream = Upstream::builder().answering(Answer::refuse(500, &[], &body)).spawn().await;
    let proxy = feed(&upstream, "").spawn().await;
    let response = proxy.dial().path("/feed/a").refused().await;
    assert_eq!((response.status(), response.body.len()), (500, 64 << 10));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_to_everyone_as_to_a_tunnel() {
    let nowhere = Upstream::nowhere().await;
    let proxy = Proxy::to_url(format!("http://{nowhere}")).yaml(FEED).spawn().await;
    for _ in 0..3 {
        let response = proxy.dial().path("/feed/a").refused().await;
        assert_ours(&response, 502, "upstream_unreachable");
    }
    let silent = Upstream::builder().answering(Answer::Silent).spawn().await;
    let proxy = Proxy::to(&silent).yaml(FEED).yaml("upstream: {handshake_timeout: 200ms}").spawn().await;
    let refused = || proxy.dial().path("/feed/a").refused();
    let (a, b) = tokio::join!(refused(), refused());
    assert_ours(&a, 504, "upstream_timeout");
    assert_ours(&b, 504, "upstream_timeout");
    assert_eq!(silent.accepted(), 1, "one dial for both");
    proxy.has("channels", 0.0).await;
    let wrong = Upstream::builder().answering(Answer::WrongAccept).spawn().await;
    let proxy = feed(&wrong, "").spawn().await;
    assert_ours(&proxy.dial().path("/feed/a").refused().await, 502, "upstream_bad_upgrade");
    assert_eq!(proxy.dials("failed").await, 1.0);
}

#[tokio::test]
async fn a_feed_that_nobody_wants_any_more_is_closed_after_a_while_and_not_before() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "broadcast: {linger: 300ms}").spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 2).await;
    for client in &mut clients {
        client.close(1000, "").await;
        assert_eq!(client.closed().await.code, 1000);
    }
    proxy.has("clients", 0.0).await;
    assert_eq!(proxy.feed("channels_connected").await, 1.0, "it lingers");
    // Whoever comes meanwhile keeps it.
    let mut client = proxy.connect("/feed/a").await;
    server.expect_silence(Duration::from_millis(500)).await;
    server.text("still here").await;
    client.expect_text("still here").await;
    client.reset();
    let closed = server.closed().await;
    assert_eq!((closed.code, &*closed.reason), (1001, "no clients"));
    proxy.has("channels", 0.0).await;
    assert_eq!(proxy.feed("channels_connected").await, 0.0);
    // The next one opens another, with numbers of its own.
    let mut client = proxy.connect("/feed/a").await;
    let mut server = upstream.accept().await;
    server.text("anew").await;
    client.expect_text("anew").await;
    assert_eq!(proxy.channels().await[0]["sequence"], 1);
}

#[tokio::test]
async fn a_seat_taken_while_its_feed_ends_is_never_lost() {
    let upstream = Upstream::builder().spawn().await;
    let proxy = feed(&upstream, "broadcast: {linger: 0s}").spawn().await;
    // Leaving and coming race in every way there is.
    let mut leaving = proxy.connect("/feed/a").await;
    for n in 0..200 {
        let (_, mut client) = tokio::join!(leaving.close(1000, ""), proxy.connect("/feed/a"));
        proxy.publish(&json!({ "route": "feed", "text": "anyone?" })).await;
        eventually(DEADLINE, async || {
            let text = format!("there {n}");
            let published = proxy.publish(&json!({ "route": "feed", "text": text })).await;
            (published["recipients"] != 0).then_some(())
        })
        .await;
        loop {
            let message = client.next_message().await;
            if message == crate::support::link::Message::Text(format!("there {n}")) {
                break;
            }
        }
        leaving = client;
    }
}

#[tokio::test]
async fn a_server_that_restarts_changes_nothing_for_the_clients() {
    let mut upstream = Upstream::builder().by_hand().spawn().await;
    let policy = "redial: {base: 1ms, cap: 20ms}, notices: true";
    let proxy = feed(&upstream, policy).spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 20).await;
    server.text("before").await;
    for client in &mut clients {
        client.expect_text("before").await;
    }
    let before = proxy.channels().await.remove(0);
    assert_eq!((&before["sequence"], &before["connected"]), (&json!(1), &json!(true)));
    upstream.stop().await;
    server.reset();
    proxy.has("channels_connected", 0.0).await;
    assert_eq!(proxy.feed("clients").await, 20.0);
    // Operators can go on publishing.
    let published = proxy.publish(&json!({ "route": "feed", "text": "sorry" })).await;
    assert_eq!(published, json!({ "recipients": 20, "sequence": 3 }));
    eventually(DEADLINE, || async { proxy.dials("failed").await >= 1.0 }).await;
    upstream.start().await;
    let mut server = upstream.accept().await;
    server.text("after").await;
    for client in &mut clients {
        client.expect_text(r#"{"type":"outrigger","event":"upstream_lost"}"#).await;
        client.expect_text("sorry").await;
        client.expect_text(r#"{"type":"outrigger","event":"upstream_restored"}"#).await;
        client.expect_text("after").await;
    }
    let after = proxy.channels().await.remove(0);
    assert_eq!(after["epoch"], before["epoch"]);
    assert_eq!(after["sequence"], 5);
    assert_eq!(proxy.feed("clients").await, 20.0, "nobody was let go");
    assert_eq!(proxy.dials("ok").await, 2.0);
}

#[tokio::test]
async fn what_the_application_says_at_its_end_reaches_every_client() {
    for (code, reason) in [(1008, "policy"), (3000, "theirs"), (4999, "all of it")] {
        let upstream = Upstream::by_hand().await;
        let proxy = feed(&upstream, EAGER).spawn().await;
        let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 5).await;
        server.text("the last").await;
        server.close(code, reason).await;
        for client in &mut clients {
            client.expect_text("the last").await;
            let closed = client.closed().await;
            assert_eq!((closed.code, &*closed.reason), (code, reason));
        }
        assert_eq!(server.closed().await.code, code);
        proxy.has("channels", 0.0).await;
        let ended = "outrigger_disconnections_total{reason=\"upstream_close\",route=\"feed\"}";
        eventually(DEADLINE, async || proxy.metric(ended).await == 5.0).await;
        assert_eq!(upstream.accepted(), 1, "nobody dialled again");
        // The next client begins anew.
        let mut client = proxy.connect("/feed/a").await;
        upstream.accept().await.text("again").await;
        client.expect_text("again").await;
    }
}

#[tokio::test]
async fn a_server_that_goes_away_is_dialled_again() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, EAGER).spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 3).await;
    for code in [Some(1000), Some(1001), Some(1011), Some(1012), Some(1006), None] {
        match code {
            // Without a Close.
            Some(1006) => server.finish_writing().await,
            Some(code) => server.close(code, "").await,
            None => server.send_bytes(b"\xff\xff\xff").await,
        }
        server = upstream.accept().await;
        server.text("back").await;
        for client in &mut clients {
            client.expect_text("back").await;
        }
    }
    assert_eq!(proxy.dials("ok").await, 7.0);
}

#[tokio::test]
async fn clients_are_let_go_when_the_server_stays_away() {
    let mut upstream = Upstream::by_hand().await;
    let policy = "redial: {base: 1ms, cap: 10ms, give_up: 200ms}, close_codes: {upstream_lost: 4012}";
    let proxy = feed(&upstream, policy).spawn().await;
    let (mut clients, server) = joined(&proxy, &upstream, "/feed/a", 3).await;
    upstream.stop().await;
    server.reset();
    for client in &mut clients {
        let closed = client.closed().await;
        assert_eq!((closed.code, &*closed.reason), (4012, "upstream lost"));
    }
    proxy.has("channels", 0.0).await;
    let ended = "outrigger_disconnections_total{reason=\"upstream_lost\",route=\"feed\"}";
    eventually(DEADLINE, async || proxy.metric(ended).await == 3.0).await;
}

#[tokio::test]
async fn clients_are_let_go_on_time_whatever_a_breaker_or_a_silent_server_keeps_waiting() {
    let refusing = || Upstream::builder().answering(Answer::refuse(503, &[], ""));
    let silent = || Upstream::builder().answering(Answer::Silent);
    for (server_then, is_silent) in [(refusing(), false), (silent(), true)] {
        let upstream = Upstream::by_hand().await;
        let policy = "redial: {base: 1ms, cap: 10ms, give_up: 500ms}, breaker: {min_calls: 2, open_for: 5m}";
        let proxy = feed(&upstream, policy).yaml("upstream: {handshake_timeout: 5m}").spawn().await;
        let (mut clients, server) = joined(&proxy, &upstream, "/feed/a", 2).await;
        upstream.change(server_then);
        server.reset();
        for client in &mut clients {
            let closed = client.closed().await;
            assert_eq!((closed.code, &*closed.reason), (1012, "upstream lost"), "silent: {is_silent}");
        }
        proxy.has("channels", 0.0).await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_want_us_any_more_is_not_asked_again() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, &format!("{EAGER}, close_codes: {{unauthorized: 4010}}")).spawn().await;
    let (mut clients, server) = joined(&proxy, &upstream, "/feed/a", 3).await;
    upstream.change(Upstream::builder().answering(Answer::refuse(401, &[], "")));
    server.reset();
    for client in &mut clients {
        assert_eq!(client.closed().await.code, 4010);
    }
    assert_eq!((upstream.accepted(), proxy.dials("refused").await), (2, 1.0));
    // While a server that is merely busy is.
    upstream.change(Upstream::builder().by_hand());
    let mut client = proxy.connect("/feed/b").await;
    let server = upstream.accept().await;
    upstream.change(Upstream::builder().answering(Answer::refuse(503, &[], "")));
    server.reset();
    eventually(DEADLINE, async || proxy.dials("refused").await >= 3.0).await;
    upstream.change(Upstream::builder().by_hand());
    upstream.accept().await.text("at last").await;
    client.expect_text("at last").await;
}

#[tokio::test]
async fn threat_clients_that_invent_paths_get_no_more_channels_than_there_may_be() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "broadcast: {max_channels: 3, linger: 200ms}").spawn().await;
    let mut clients = Vec::new();
    for n in 0..3 {
        clients.push(proxy.connect(&format!("/feed/{n}")).await);
    }
    for n in 3..100 {
        let response = proxy.dial().path(&format!("/feed/{n}?q={n}")).refused().await;
        assert_ours(&response, 503, "capacity_channels");
        assert!(response.header("retry-after").is_some());
    }
    assert_eq!((upstream.accepted(), proxy.feed("channels").await), (3, 3.0));
    assert_eq!(proxy.metric("outrigger_limit{kind=\"channels\",route=\"feed\"}").await, 3.0);
    let counted = "outrigger_handshakes_total{outcome=\"at_capacity\",route=\"feed\"}";
    assert_eq!(proxy.metric(counted).await, 97.0);
    // Those that are there take any number of clients.
    clients.push(proxy.connect("/feed/0").await);
    // A name is no place to keep things either.
    let long = format!("/feed/{}", "x".repeat(3000));
    assert_ours(&proxy.dial().path(&long).refused().await, 400, "malformed_handshake");
    // The room comes back, whether or not the server answers the Close.
    drop(clients);
    proxy.has("clients", 0.0).await;
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(upstream.accept().await);
    }
    for server in &mut servers {
        assert_eq!(server.closed().await.code, 1001);
    }
    proxy.has("channels", 0.0).await;
    proxy.connect("/feed/new").await;
}

#[tokio::test]
async fn the_first_client_may_go_away_while_the_others_wait() {
    let upstream = Upstream::builder().answering(Answer::HandOver).spawn().await;
    let proxy = feed(&upstream, "").spawn().await;
    let first = proxy.dial().path("/feed/a").send().await;
    let mut server = upstream.accept().await;
    let mut second = proxy.dial().path("/feed/a").send().await;
    let clients = async || proxy.channels().await.first()?["clients"].as_u64();
    eventually(DEADLINE, async || clients().await.filter(|n| *n == 2)).await;
    first.reset();
    eventually(DEADLINE, async || clients().await.filter(|n| *n == 1)).await;
    server.accept_websocket().await;
    let response = second.read_response("GET").await;
    assert_eq!(response.status(), 101);
    proxy.has("clients", 1.0).await;
    server.text("hello").await;
    second.expect_text("hello").await;
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn all_clients_may_go_away_while_they_wait() {
    let upstream = Upstream::builder().answering(Answer::HandOver).spawn().await;
    let proxy = feed(&upstream, "broadcast: {linger: 0s}").spawn().await;
    let first = proxy.dial().path("/feed/a").send().await;
    let mut server = upstream.accept().await;
    first.reset();
    eventually(DEADLINE, async || proxy.channels().await.first()?["clients"].as_u64().filter(|n| *n == 0))
        .await;
    server.accept_websocket().await;
    assert_eq!(server.closed().await.code, 1001);
    proxy.has("channels", 0.0).await;
}

#[tokio::test]
async fn what_clients_say_goes_where_the_setting_says() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "").spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 2).await;
    clients[0].text("is anybody there?").await;
    proxy.has("uplink_dropped_total", 1.0).await;
    server.expect_silence(Duration::from_millis(50)).await;

    let mut upstream = Upstream::by_hand().await;
    let policy = format!("{EAGER}, broadcast: {{uplink: forward, anonymous: true}}");
    let proxy = feed(&upstream, &policy).spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 2).await;
    clients[0].text("from the first").await;
    server.expect_text("from the first").await;
    clients[1].binary(b"from the second").await;
    server.expect_binary(b"from the second").await;
    assert_eq!(proxy.feed("uplink_forwarded_total").await, 2.0);
    // Without a server there is nobody to say it to.
    upstream.stop().await;
    server.reset();
    proxy.has("channels_connected", 0.0).await;
    clients[0].text("lost").await;
    proxy.has("uplink_dropped_total", 1.0).await;
    upstream.start().await;
    let mut server = upstream.accept().await;
    clients[0].text("heard").await;
    server.expect_text("heard").await;
}

#[tokio::test]
async fn an_operators_message_goes_through_the_log_of_each_channel_it_is_for() {
    let upstream = Upstream::by_hand().await;
    let auth = keys_of(&["ann", "bob"]);
    let proxy = feed(&upstream, "history: {on_join: all}")
        .policy(move |policy| policy.auth = Some(auth.clone()))
        .spawn()
        .await;
    let dial =
        |user: &str, path: &str| proxy.dial().path(path).header("X-Api-Key", &format!("key-{user}")).open();
    let mut ann = dial("ann", "/feed/a").await;
    let mut bob = dial("bob", "/feed/a").await;
    let mut elsewhere = dial("bob", "/feed/b").await;
    proxy.has("clients", 3.0).await;
    let publish = async |what: Value| proxy.publish(&what).await;
    let to_a = json!({ "route": "feed", "channel": "/feed/a", "text": "to a" });
    assert_eq!(publish(to_a).await, json!({ "recipients": 2, "sequence": 1 }));
    let to_ann = json!({ "route": "feed", "user": "ann", "text": "to ann" });
    assert_eq!(publish(to_ann).await, json!({ "recipients": 1, "sequence": 2 }));
    let to_all = json!({ "route": "feed", "text": "to all" });
    assert_eq!(publish(to_all).await, json!({ "recipients": 3, "sequence": null }));
    let to_cat = json!({ "route": "feed", "user": "cat", "text": "to cat" });
    assert_eq!(publish(to_cat).await, json!({ "recipients": 0, "sequence": null }));
    let not_here = json!({ "route": "feed", "channel": "/feed/b", "user": "ann", "text": "to nobody" });
    assert_eq!(publish(not_here).await, json!({ "recipients": 0, "sequence": null }));
    for text in ["to a", "to ann", "to all"] {
        ann.expect_text(text).await;
    }
    for text in ["to a", "to all"] {
        bob.expect_text(text).await;
    }
    elsewhere.expect_text("to all").await;
    // It is in the history, for those whom it was for.
    let mut late = dial("bob", "/feed/a").await;
    late.expect_text("to a").await;
    late.expect_text("to all").await;
    assert_eq!(proxy.feed("published_total").await, 4.0);
}

#[tokio::test]
async fn a_server_that_keeps_failing_is_left_alone_and_clients_are_told_at_once() {
    let upstream = Upstream::builder().answering(Answer::refuse(503, &[], "")).spawn().await;
    let policy = "breaker: {min_calls: 2, open_for: 400ms}";
    let proxy = feed(&upstream, policy).spawn().await;
    for _ in 0..2 {
        assert_eq!(proxy.dial().path("/feed/a").refused().await.status(), 503);
    }
    let response = proxy.dial().path("/feed/a").refused().await;
    assert_ours(&response, 503, "breaker_open");
    assert!(response.header("retry-after").is_some());
    assert_eq!((upstream.accepted(), proxy.dials("breaker_open").await), (2, 1.0));
    proxy.has("channels", 0.0).await;
    upstream.change(Upstream::builder().by_hand());
    eventually(DEADLINE, async || {
        let response = proxy.dial().path("/feed/a").answer().await.response;
        if response.status() == 101 { Ok(()) } else { Err(response.status()) }
    })
    .await;
}

#[tokio::test]
async fn a_link_that_is_dialled_again_waits_for_the_breaker_with_its_clients() {
    let upstream = Upstream::by_hand().await;
    let policy = format!("{EAGER}, breaker: {{min_calls: 2, failure_ratio: 0.1, open_for: 200ms}}");
    let proxy = feed(&upstream, &policy).spawn().await;
    let (mut clients, server) = joined(&proxy, &upstream, "/feed/a", 2).await;
    upstream.change(Upstream::builder().answering(Answer::refuse(503, &[], "")));
    server.reset();
    eventually(DEADLINE, async || proxy.dials("breaker_open").await >= 1.0).await;
    let asked = upstream.accepted();
    assert!(asked <= 3, "{asked}");
    upstream.change(Upstream::builder().by_hand());
    upstream.accept().await.text("back").await;
    for client in &mut clients {
        client.expect_text("back").await;
    }
}

#[tokio::test]
async fn other_subprotocols_are_other_channels_and_each_gets_its_answer() {
    let chosen = [("Sec-WebSocket-Protocol", "v2")];
    let upstream = Upstream::builder().answering(Answer::accept_with(&chosen)).by_hand().spawn().await;
    let proxy = feed(&upstream, EAGER).spawn().await;
    let dial = || proxy.dial().path("/feed/a").header("Sec-WebSocket-Protocol", "v1, v2").open();
    let (mut client, server) = (dial().await, upstream.accept().await);
    let another = dial().await;
    for client in [&client, &another] {
        assert_eq!(client.response.header("sec-websocket-protocol"), Some("v2"));
    }
    assert_eq!(server.request.head.header("sec-websocket-protocol"), Some("v1, v2"));
    assert_eq!(upstream.accepted(), 1);
    upstream.change(Upstream::builder().by_hand());
    let other = proxy.dial().path("/feed/a").header("Sec-WebSocket-Protocol", "v3").open().await;
    assert_eq!(other.response.header("sec-websocket-protocol"), None);
    let _for_other = upstream.accept().await;
    // A link that is dialled again has to come to what the clients were told.
    server.reset();
    eventually(DEADLINE, async || proxy.dials("failed").await >= 2.0).await;
    upstream.change(Upstream::builder().answering(Answer::accept_with(&chosen)).by_hand());
    let mut server = loop {
        // Those of the failed dials have ended.
        let mut server = upstream.accept().await;
        if server.request.head.header("sec-websocket-protocol") == Some("v2")
            && server.try_send_bytes(b"\x81\x04back").await.is_ok()
            && proxy.feed("channels_connected").await == 2.0
        {
            break server;
        }
    };
    client.expect_text("back").await;
    server.text("and on").await;
    client.expect_text("and on").await;
}

#[tokio::test]
async fn each_message_is_compressed_for_those_who_take_it_so() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "compression: deflate").spawn().await;
    let offer = |value: &str| proxy.dial().path("/feed/a").header("Sec-WebSocket-Extensions", value).open();
    let (mut packed, mut server) = (offer("permessage-deflate").await, upstream.accept().await);
    let mut plain = proxy.connect("/feed/a").await;
    assert_eq!(server.request.head.header("sec-websocket-extensions"), None);
    let answer = packed.response.header("sec-websocket-extensions").unwrap();
    assert!(answer.starts_with("permessage-deflate"), "{answer}");
    assert_eq!(plain.response.header("sec-websocket-extensions"), None);
    proxy.has("clients", 2.0).await;
    let text = "again and ".repeat(100);
    server.text(&text).await;
    plain.expect_text(&text).await;
    let frame = packed.next_frame().await;
    assert!(frame.rsv == RSV1 && frame.payload.len() < 100, "{frame:?}");
    let uncompressed = feed(&upstream, "").spawn().await;
    let dial = uncompressed.dial().path("/feed/a").header("Sec-WebSocket-Extensions", "permessage-deflate");
    assert_eq!(dial.open().await.response.header("sec-websocket-extensions"), None);
}

#[tokio::test]
async fn a_drain_closes_clients_at_its_pace_and_dials_nothing() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, EAGER).yaml("drain: {spread: 500ms}").spawn().await;
    let (mut clients, server) = joined(&proxy, &upstream, "/feed/a", 10).await;
    proxy.drain();
    // The server is stopped at the same moment.
    server.reset();
    for client in &mut clients {
        let closed = client.closed().await;
        assert_eq!((closed.code, &*closed.reason), (1012, "server is restarting"));
    }
    proxy.ended_within(DEADLINE).await;
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn the_server_hears_of_a_drains_end() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "").spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 2).await;
    proxy.drain();
    for client in &mut clients {
        assert_eq!(client.closed().await.code, 1012);
    }
    assert_eq!(server.closed().await.code, 1001, "nobody is waited for who cannot come");
    proxy.ended_within(DEADLINE).await;
}

#[tokio::test]
async fn the_server_hears_what_the_last_client_says_together_with_its_close() {
    let policy = "broadcast: {uplink: forward, anonymous: true}";
    for round in 0..5 {
        let upstream = Upstream::by_hand().await;
        let proxy = feed(&upstream, policy).spawn().await;
        let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 1).await;
        proxy.drain();
        let Received::Frame(close) = clients[0].receive().await else { panic!("round {round}: no Close") };
        assert_eq!(close.opcode, CLOSE);
        let last = [Frame::text("unsent work"), Frame::close(1012, "")];
        let last: Vec<u8> = last.iter().flat_map(|frame| frame.encode(Role::Client)).collect();
        clients[0].send_bytes(&last).await;
        server.expect_text("unsent work").await;
        assert_eq!(server.closed().await.code, 1001);
        proxy.ended_within(DEADLINE).await;
    }
}

#[tokio::test]
async fn plain_requests_go_to_the_server_and_bad_handshakes_do_not() {
    let upstream = Upstream::echo().await;
    let proxy = feed(&upstream, "").spawn().await;
    let response = proxy.plain().path("/feed/a").answer().await.response;
    assert_eq!((response.status(), response.text()), (200, "hello from the upstream\n".to_owned()));
    let response = proxy.dial().path("/feed/a").without("Sec-WebSocket-Key").refused().await;
    assert_ours(&response, 400, "malformed_handshake");
    assert!(upstream.handshakes().is_empty());
}

#[tokio::test]
async fn a_client_over_http2_sits_beside_the_others() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "broadcast: {linger: 0s}").spawn().await;
    let http2 = http2::Client::connect(proxy.address()).await;
    let mut modern = http2.open("/feed/a").await;
    let mut server = upstream.accept().await;
    let mut client = proxy.dial().path("/feed/a").header("Host", "h2.example").open().await;
    proxy.has("clients", 2.0).await;
    server.text("to both").await;
    modern.expect_text("to both").await;
    client.expect_text("to both").await;
    assert_eq!(upstream.accepted(), 1);
    client.reset();
    modern.reset(h2::Reason::CANCEL);
    assert_eq!(server.closed().await.code, 1001);
}

#[tokio::test]
async fn places_are_given_back_when_a_client_leaves() {
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "limits: {connections: 1}").spawn().await;
    for _ in 0..3 {
        let mut client = proxy.connect("/feed/a").await;
        assert_ours(&proxy.dial().path("/feed/a").refused().await, 503, "capacity");
        client.close(1000, "").await;
        client.closed().await;
        proxy.has("clients", 0.0).await;
    }
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_burst_longer_than_the_log_reaches_every_client_whole() {
    const BURST: usize = 5_000;
    let upstream = Upstream::by_hand().await;
    let proxy = feed(&upstream, "history: {messages: 20}").spawn().await;
    let (mut clients, mut server) = joined(&proxy, &upstream, "/feed/a", 3).await;
    for n in 0..BURST {
        server.text(&format!("m{n}")).await;
    }
    for client in &mut clients {
        for n in 0..BURST {
            client.expect_text(&format!("m{n}")).await;
        }
    }
    assert_eq!(proxy.feed("messages_missed_total").await, 0.0);
}

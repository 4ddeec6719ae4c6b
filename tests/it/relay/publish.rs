//! What an operator publishes to tunnels, from `POST /api/admin/broadcast` to the clients.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use outrigger::config::{ApiKeys, Auth};
use serde_json::{Value, json};

use crate::support::DEADLINE;
use crate::support::client::RawClient;
use crate::support::http::Response;
use crate::support::pair::Pair;
use crate::support::proxy::Proxy;
use crate::support::token;
use crate::support::upstream::{Answer, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::{BINARY, Frame, RSV1, TEXT};

/// Publishes what must be accepted; answers how many get it.
async fn publish(proxy: &Proxy, what: &Value) -> u64 {
    let answer = proxy.publish(what).await;
    assert_eq!(answer["sequence"], Value::Null, "a tunnel has no log");
    answer["recipients"].as_u64().unwrap()
}

async fn injections(proxy: &Proxy, outcome: &str) -> f64 {
    proxy.metric(&format!("outrigger_injections_total{{outcome=\"{outcome}\"}}")).await
}

/// So many clients are connected: their 101 comes before they are.
async fn has_clients(proxy: &Proxy, route: &str, clients: f64) {
    proxy.becomes(&format!("outrigger_clients{{route=\"{route}\"}}"), clients).await;
}

fn error_of(response: &Response) -> String {
    let body: Value = serde_json::from_str(&response.text()).unwrap();
    body["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_message_reaches_every_client_of_the_route_and_no_other() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream)
        .yaml("routes: [{name: chat, path: '/chat/{*rest}'}, {name: other, path: /other}]")
        .spawn()
        .await;
    let mut chatting = Vec::new();
    for n in 0..5 {
        chatting.push(proxy.connect(&format!("/chat/{n}")).await);
    }
    let mut other = proxy.connect("/other").await;
    has_clients(&proxy, "chat", 5.0).await;
    has_clients(&proxy, "other", 1.0).await;

    assert_eq!(publish(&proxy, &json!({ "route": "chat", "text": "hello" })).await, 5);
    assert_eq!(publish(&proxy, &json!({ "route": "chat", "json": { "a": [1, null] } })).await, 5);
    assert_eq!(publish(&proxy, &json!({ "route": "chat", "base64": "AP8=" })).await, 5);
    let long = "x".repeat(100_000);
    assert_eq!(publish(&proxy, &json!({ "route": "chat", "text": long })).await, 5);
    for client in &mut chatting {
        client.expect_text("hello").await;
        client.expect_text(r#"{"a":[1,null]}"#).await;
        client.expect_binary(b"\x00\xff").await;
        client.expect_text(&long).await;
        client.text("echo").await;
        client.expect_text("echo").await;
    }
    other.text("nothing before this").await;
    other.expect_text("nothing before this").await;
    assert_eq!(injections(&proxy, "ok").await, 20.0);
    assert_eq!(publish(&proxy, &json!({ "route": "default", "text": "nobody is there" })).await, 0);
    let proxy = &proxy;
    eventually(DEADLINE, async || match proxy.metric("outrigger_memory_buffered_bytes").await {
        0.0 => Ok(()),
        held => Err(format!("{held} bytes of what was shared were not given back")),
    })
    .await;
}

#[tokio::test]
async fn a_message_for_one_user_reaches_all_of_theirs_and_nobody_else() {
    let upstream = Upstream::echo().await;
    let list = format!("ann:{}\nbob:{}\n", token::sha256_hex("key-a"), token::sha256_hex("key-b"));
    let auth = Auth::ApiKeys(ApiKeys { file: token::file("keys", list), header: "x-api-key".into() });
    let proxy = Proxy::to(&upstream).policy(move |policy| policy.auth = Some(auth.clone())).spawn().await;
    let mut ann = proxy.dial().header("X-Api-Key", "key-a").open().await;
    let mut ann_too = proxy.dial().header("X-Api-Key", "key-a").open().await;
    let mut bob = proxy.dial().header("X-Api-Key", "key-b").open().await;
    has_clients(&proxy, "default", 3.0).await;
    assert_eq!(publish(&proxy, &json!({ "route": "default", "user": "ann", "text": "for ann" })).await, 2);
    assert_eq!(publish(&proxy, &json!({ "route": "default", "user": "cat", "text": "for cat" })).await, 0);
    let lost =
        proxy.post(&json!({ "route": "default", "user": "", "text": "for no name" }).to_string()).await;
    assert_eq!(lost.status(), 400, "{}", lost.text());
    assert_eq!(publish(&proxy, &json!({ "route": "default", "user": null, "text": "for all" })).await, 3);
    ann.expect_text("for ann").await;
    ann_too.expect_text("for ann").await;
    for client in [&mut ann, &mut ann_too, &mut bob] {
        client.expect_text("for all").await;
    }
}

#[tokio::test]
async fn inside_a_message_it_waits_for_the_end_and_nothing_is_torn() {
    let Pair { mut client, mut server, proxy, upstream: _upstream } = Pair::open("").await;
    let [first, second, last] = &Frame::fragments(TEXT, &[b"be", b"gi", b"n"])[..] else { panic!() };
    server.send_frame(first).await;
    assert_eq!(client.next_frame().await.payload, b"be");
    assert_eq!(publish(&proxy, &json!({ "route": "default", "text": "news" })).await, 1);
    // Half of a frame, too: the wire is inside of it.
    server.send_bytes(&second.encode(crate::support::wire::Role::Server)[..3]).await;
    client.expect_silence(Duration::from_millis(100)).await;
    assert_eq!(injections(&proxy, "ok").await, 0.0);
    server.send_bytes(&second.encode(crate::support::wire::Role::Server)[3..]).await;
    assert_eq!(client.next_frame().await.payload, b"gi");
    server.ping(b"").await;
    server.send_frame(last).await;
    let heard = [client.next_frame().await, client.next_frame().await, client.next_frame().await];
    assert_eq!(heard.each_ref().map(|frame| &frame.payload[..]), [&b""[..], b"n", b"news"]);
    assert!(heard[2].fin && !heard[2].is_masked() && heard[2].opcode == TEXT);
}

#[tokio::test]
async fn with_deflate_agreed_upon_both_are_read_side_by_side() {
    let squeezed = |text: &[u8]| {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.flush().unwrap();
        let mut bytes = encoder.get_ref().clone();
        bytes.truncate(bytes.len() - 4);
        bytes
    };
    let inflated = |payload: &[u8]| {
        let mut text = Vec::new();
        // The sender took the end of a block off (RFC 7692 §7.2.1); one that ends the stream follows.
        let whole = [payload, b"\x00\x00\xff\xff\x01\x00\x00\xff\xff"].concat();
        DeflateDecoder::new(&whole[..]).read_to_end(&mut text).unwrap();
        text
    };
    let agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let upstream =
        Upstream::builder().answering(Answer::accept_with(&[("Sec-WebSocket-Extensions", agreed)]));
    let Pair { mut client, mut server, proxy, upstream: _upstream } =
        Pair::shaped("", upstream, |dial| dial.header("Sec-WebSocket-Extensions", agreed)).await;
    has_clients(&proxy, "default", 1.0).await;
    let own = "the server's own, compressed".repeat(100);
    for round in 0..3 {
        server.send_frame(&Frame::binary(squeezed(own.as_bytes())).rsv(RSV1)).await;
        let frame = client.next_frame().await;
        assert_eq!((frame.rsv, inflated(&frame.payload)), (RSV1, own.clone().into_bytes()), "{round}");
        assert_eq!(publish(&proxy, &json!({ "route": "default", "base64": "bmV3cw==" })).await, 1);
        let frame = client.next_frame().await;
        assert_eq!((frame.rsv, frame.opcode, &frame.payload[..]), (0, BINARY, &b"news"[..]), "{round}");
    }
    client.send_frame(&Frame::text("").rsv(RSV1)).await;
    assert_eq!(server.next_frame().await.rsv, RSV1, "the other way is as it was");
}

#[tokio::test]
async fn a_client_with_an_extension_that_nobody_knows_gets_nothing_and_is_counted() {
    let answer = Answer::accept_with(&[("Sec-WebSocket-Extensions", "x-shuffle")]);
    let Pair { mut client, mut server, proxy, upstream: _upstream } =
        Pair::shaped("", Upstream::builder().answering(answer), |dial| {
            dial.header("Sec-WebSocket-Extensions", "x-shuffle")
        })
        .await;
    has_clients(&proxy, "default", 1.0).await;
    assert_eq!(publish(&proxy, &json!({ "route": "default", "text": "news" })).await, 0);
    assert_eq!(injections(&proxy, "extension").await, 1.0);
    server.text("own").await;
    client.expect_text("own").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_gets_what_fits_its_queue_and_harms_nobody() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    let mut deaf = proxy.dial().receive_buffer(4096).open().await;
    let mut other = proxy.connect("/").await;
    has_clients(&proxy, "default", 2.0).await;
    deaf.stop_reading();
    let long = "x".repeat(900_000);
    let mut sent = 0;
    while publish(&proxy, &json!({ "route": "default", "text": long })).await == 2 {
        sent += 1;
        other.expect_text(&long).await;
        assert!(sent < 200, "it takes all of it");
    }
    other.expect_text(&long).await;
    assert_eq!(injections(&proxy, "full").await, 1.0);
    let held = proxy.metric("outrigger_memory_buffered_bytes").await;
    assert!((1.0..3e6).contains(&held), "one begun and one that waits, not {held} bytes");
    deaf.resume_reading();
    for _ in 0..sent {
        deaf.expect_text(&long).await;
    }
    deaf.text("whole to the end").await;
    deaf.expect_text("whole to the end").await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_and_nothing_is_published() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream)
        .yaml("routes: [{name: short, path: /short, policy: {max_message: 10B, max_frame: 10B}}]")
        .config(|config| config.admin.max_publish = 1000)
        .spawn()
        .await;
    let mut client = proxy.connect("/").await;
    let mut short = proxy.connect("/short").await;
    has_clients(&proxy, "default", 1.0).await;
    has_clients(&proxy, "short", 1.0).await;
    let long = format!(r#"{{"route":"default","text":"{}"}}"#, "x".repeat(1000));
    for (body, status, told) in [
        (r#"{"route":"nowhere","text":"x"}"#, 404, r#"no route "nowhere"; there is short, default"#),
        (r#"{"route":"default","text":"x""#, 400, "line 1 column"),
        (r#"{"route":"default","text":"x","to":"ann"}"#, 400, "unknown field `to`"),
        (r#"{"route":"default"}"#, 400, "no message"),
        (r#"{"route":"default","text":"x","json":1}"#, 400, "more than one message"),
        (r#"{"route":"default","base64":"*"}"#, 400, "\"base64\" is none"),
        (r#"{"route":"default","channel":"/","text":"x"}"#, 400, "has no channels"),
        (r#"{"route":"short","text":"12345678901"}"#, 413, "policy.max_message (10 bytes)"),
        (&long, 413, "admin.max_publish (1000 bytes)"),
    ] {
        let response = proxy.post(body).await;
        assert_eq!(response.status(), status, "{body}");
        assert!(error_of(&response).contains(told), "{}", error_of(&response));
    }
    assert_eq!(publish(&proxy, &json!({ "route": "short", "text": "1234567890" })).await, 1);
    short.expect_text("1234567890").await;
    client.text("nothing before this").await;
    client.expect_text("nothing before this").await;
}

#[tokio::test]
async fn only_who_may_drain_may_publish() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("admin: {token: s3cret}").spawn().await;
    let mut client = proxy.connect("/").await;
    has_clients(&proxy, "default", 1.0).await;
    let body = r#"{"route":"default","text":"news"}"#;
    assert_eq!(proxy.post(body).await.status(), 401);
    let dial = || RawClient::plain(proxy.admin()).method("POST").path("/api/admin/broadcast").body(body);
    let page = dial().header("Authorization", "Bearer s3cret").header("Origin", "http://evil.example");
    assert_eq!(page.answer().await.response.status(), 403);
    let response = dial().header("Authorization", "Bearer s3cret").answer().await.response;
    assert_eq!((response.status(), response.text().trim()), (200, r#"{"recipients":1,"sequence":null}"#));
    client.expect_text("news").await;
    client.text("nothing before this").await;
    client.expect_text("nothing before this").await;
}

#[tokio::test]
async fn while_a_drain_waits_for_its_turn_clients_can_be_told_so() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("drain: {delay: 60s, timeout: 120s}").spawn().await;
    let mut client = proxy.connect("/").await;
    has_clients(&proxy, "default", 1.0).await;
    proxy.drain();
    assert_eq!(publish(&proxy, &json!({ "route": "default", "text": "back soon" })).await, 1);
    client.expect_text("back soon").await;
}

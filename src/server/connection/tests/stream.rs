//! Sockets of HTTP/1.1 that are handed over in the middle of an answer.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::net::tls::testing;

/// Writes the first bytes of a stream, and one event.
async fn begin((first, mut client): (Bytes, Transport)) -> Transport {
    client.stream.write_all(&first).await.unwrap();
    client.stream.write_all(b"data: 1\n\n").await.unwrap();
    client.stream.flush().await.unwrap();
    client
}

/// Whether this is the head of a stream.
#[track_caller]
fn assert_head(head: &str) {
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for line in ["\r\nContent-Type: text/event-stream\r\n", "\r\nConnection: close\r\n", "\r\nDate: "] {
        assert!(head.contains(line), "{line:?} in {head}");
    }
    let lower = head.to_ascii_lowercase();
    assert!(!lower.contains("content-length") && !lower.contains("transfer-encoding"), "{head}");
}

#[tokio::test]
async fn a_socket_is_handed_over_with_what_the_client_said_behind_its_request() {
    let mut proxy = Proxy::new();
    let (mut client, task) = proxy.connect().await;
    client.get("/before").await;
    client.expect("/before").await;
    client.say(&[request("/between"), request("/events"), request("/behind")].concat()).await;
    let mut taken = begin(proxy.asked_events().await).await;
    assert_eq!(taken.read_ahead, request("/behind"));
    task.await.unwrap();
    assert_eq!(proxy.counts(), (0, 0, 0), "nothing of HTTP is left");
    client.expect("/between").await;
    let (head, _) = client.answer().await;
    assert_head(&head);
    client.say("later").await;
    let mut later = [0; 5];
    taken.stream.read_exact(&mut later).await.unwrap();
    assert_eq!(&later, b"later");
    drop(taken);
    assert_eq!(client.rest().await, "data: 1\n\n");
}

#[tokio::test]
async fn nothing_of_an_earlier_answer_is_lost_however_slowly_it_is_read() {
    let mut proxy = Proxy::new();
    let (mut client, _task) = proxy.connect().await;
    client.say(&[request("/big"), request("/big"), request("/events")].concat()).await;
    let stream = tokio::spawn(async move { begin(proxy.asked_events().await).await });
    for _ in 0..2 {
        let (_, body) = client.answer().await;
        assert!(body.len() == BIG && body.bytes().all(|byte| byte == b'b'), "{}", body.len());
    }
    let (head, _) = client.answer().await;
    assert_head(&head);
    drop(stream.await.unwrap());
    assert_eq!(client.rest().await, "data: 1\n\n");
}

#[tokio::test]
async fn a_client_of_http_1_0_and_one_that_sends_a_body_get_a_stream_too() {
    for head in [
        "GET /events HTTP/1.0\r\n\r\n",
        "GET /events HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "GET /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /events HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
        "GET /events HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
    ] {
        let mut proxy = Proxy::new();
        let (mut client, _task) = proxy.connect().await;
        client.say(head).await;
        let taken = begin(proxy.asked_events().await).await;
        let (head, _) = client.answer().await;
        assert_head(&head);
        drop(taken);
        assert!(client.rest().await.ends_with("data: 1\n\n"));
    }
}

#[tokio::test]
async fn a_request_that_has_waited_may_get_a_stream() {
    let mut proxy = Proxy::new();
    let (mut client, task) = proxy.connect().await;
    client.say(&[request("/poll?then=events"), request("/behind")].concat()).await;
    proxy.asked_poll().await.send("").unwrap();
    let taken = begin(proxy.asked_events().await).await;
    assert_eq!(taken.read_ahead, request("/behind"));
    task.await.unwrap();
    assert_eq!(proxy.counts(), (0, 0, 0));
    let (head, _) = client.answer().await;
    assert_head(&head);
    drop(taken);
    assert_eq!(client.rest().await, "data: 1\n\n");
}

#[tokio::test]
async fn over_tls_earlier_answers_are_sent_before_the_socket_is_handed_over() {
    let mut proxy = Proxy::new();
    let (stream, mut far) = testing::narrow().await;
    let task = proxy.serve(stream);
    far.say([request("/big"), request("/events")].concat().as_bytes()).await;
    let stream = tokio::spawn(async move { begin(proxy.asked_events().await).await });
    let mut heard = Vec::new();
    let deadline = Instant::now() + DEADLINE;
    while !heard.ends_with(b"data: 1\n\n") {
        assert!(Instant::now() < deadline, "{} bytes", heard.len());
        heard.extend(far.peer.hear_all(&mut far.socket).0);
        tokio::task::yield_now().await;
    }
    drop(stream.await.unwrap());
    task.await.unwrap();
    let text = String::from_utf8(heard).unwrap();
    let (big, head) = text.split_at(text.rfind("HTTP/1.1 200").unwrap());
    assert!(big.ends_with(&"b".repeat(BIG)), "whole");
    assert_head(head);
}

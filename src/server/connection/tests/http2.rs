//! The same over HTTP/2.

use bytes::BytesMut;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A connection of HTTP/2, and its task.
async fn connect(proxy: &Proxy) -> SendRequest<Bytes> {
    let (client, _task) = proxy.connect().await;
    let (send, connection) = h2::client::handshake(client.socket).await.unwrap();
    tokio::spawn(connection);
    send
}

fn get(send: &mut SendRequest<Bytes>, path: &str) -> ResponseFuture {
    let request = Request::get(format!("http://x{path}")).body(()).unwrap();
    send.send_request(request, true).unwrap().0
}

/// Reads all that has come, which has to become `expected`.
async fn expect(body: &mut RecvStream, expected: &[u8]) {
    let mut heard = BytesMut::new();
    while heard.len() < expected.len() {
        let piece = timeout(DEADLINE, body.data()).await.expect("it comes").unwrap().unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        heard.extend_from_slice(&piece);
    }
    assert!(heard == expected, "{} bytes", heard.len());
}

/// Writes all of `bytes`, and goes on as an owner of the stream does, which polls it whenever it is woken, `until` then.
async fn write_while(stream: &mut Stream, bytes: &[u8], until: impl Future<Output = ()>) {
    let writing = async {
        stream.write_all(bytes).await.unwrap();
        stream.read(&mut [0]).await
    };
    tokio::select! {
        () = until => {}
        ended = writing => panic!("{ended:?}"),
    }
}

/// The next thing that comes is END_STREAM, with an empty frame or without one.
async fn expect_end(body: &mut RecvStream) {
    while let Some(piece) = timeout(DEADLINE, body.data()).await.expect("it comes") {
        assert!(piece.expect("no reset").is_empty());
    }
}

#[tokio::test]
async fn an_answer_is_written_over_time_and_ends_in_order() {
    let mut proxy = Proxy::new();
    let mut send = connect(&proxy).await;
    let answer = get(&mut send, "/events");
    let (first, mut taken) = proxy.asked_events().await;
    assert!(first.is_empty(), "hyper writes the head");
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert!(!answer.headers().contains_key("content-length"));
    assert_eq!(proxy.counts().2, 0, "no request is in flight");
    let mut body = answer.into_body();
    for event in [&b"data: 1\n\n"[..], b":\n\n", &[b'x'; 100_000]] {
        write_while(&mut taken.stream, event, expect(&mut body, event)).await;
    }
    assert!(!body.is_end_stream());
    timeout(DEADLINE, taken.stream.shutdown()).await.expect("it ends").unwrap();
    expect_end(&mut body).await;
    drop(taken);
    // The connection goes on.
    let next = get(&mut send, "/next").await.unwrap();
    expect(&mut next.into_body(), b"/next").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_sent_so_much_and_no_more() {
    let mut proxy = Proxy::new();
    let mut send = connect(&proxy).await;
    let answer = get(&mut send, "/events");
    let (_, mut taken) = proxy.asked_events().await;
    let mut body = answer.await.unwrap().into_body();
    let mut sent = 0;
    let piece = [b'x'; 1000];
    loop {
        // As an owner does that is woken again and again: it is not a matter of time.
        let write = async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            n = taken.stream.write(&piece) => sent += n.unwrap(),
            () = write => break,
        }
    }
    // RFC 9113's window, and what is held here.
    let most = 65_535 + 4 * crate::net::http2::MAX_WRITE;
    assert!((65_535..=most).contains(&sent), "{sent}");
    // What is read makes room for more, and nothing was lost.
    let expected = vec![b'x'; sent];
    write_while(&mut taken.stream, &piece, expect(&mut body, &[expected, piece.to_vec()].concat())).await;
}

#[tokio::test]
async fn who_writes_notices_a_reset_and_may_reset() {
    let mut proxy = Proxy::new();
    let mut send = connect(&proxy).await;
    let answer = get(&mut send, "/events");
    let (_, mut taken) = proxy.asked_events().await;
    let answer = answer.await.unwrap();
    let reading = tokio::spawn(async move {
        let error = taken.stream.read(&mut [0]).await.unwrap_err();
        (error.kind(), taken)
    });
    tokio::task::yield_now().await;
    drop(answer);
    let (error, mut taken) = timeout(DEADLINE, reading).await.expect("it is noticed").unwrap();
    assert_eq!(error, std::io::ErrorKind::ConnectionReset);
    assert!(taken.stream.write(b"x").await.is_err());
    assert!(taken.stream.shutdown().await.is_err(), "it did not end in order");
    drop(taken);

    let answer = get(&mut send, "/events");
    let (_, taken) = proxy.asked_events().await;
    let mut body = answer.await.unwrap().into_body();
    taken.stream.reset_on_drop();
    drop(taken);
    let error = timeout(DEADLINE, body.data()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::CANCEL));
}

#[tokio::test]
async fn a_stream_that_is_dropped_ends_in_order_with_what_was_written() {
    let mut proxy = Proxy::new();
    let mut send = connect(&proxy).await;
    let answer = get(&mut send, "/events");
    let (_, mut taken) = proxy.asked_events().await;
    taken.stream.write_all(&[b'x'; 10_000]).await.unwrap();
    drop(taken);
    let mut body = answer.await.unwrap().into_body();
    expect(&mut body, &[b'x'; 10_000]).await;
    expect_end(&mut body).await;
}

#[tokio::test]
async fn a_request_that_waits_is_answered_or_its_reset_is_noticed() {
    let mut proxy = Proxy::new();
    let mut send = connect(&proxy).await;
    let answer = get(&mut send, "/poll");
    proxy.asked_poll().await.send("polled").unwrap();
    expect(&mut answer.await.unwrap().into_body(), b"polled").await;

    let answer = get(&mut send, "/poll");
    let mut poll = proxy.asked_poll().await;
    drop(answer);
    timeout(DEADLINE, poll.closed()).await.expect("it is noticed");
}

#[tokio::test]
async fn a_cut_ends_a_request_that_waits() {
    let mut proxy = Proxy::new();
    let mut send = connect(&proxy).await;
    let answer = get(&mut send, "/poll");
    let mut poll = proxy.asked_poll().await;
    proxy.state.drain.cut();
    timeout(DEADLINE, poll.closed()).await.expect("it ends");
    assert!(timeout(DEADLINE, answer).await.unwrap().is_err());
}

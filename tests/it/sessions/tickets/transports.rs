//! Tickets over whatever carries a WebSocket: TLS, HTTP/2, compressed messages.

use std::io::Read as _;

use flate2::read::DeflateDecoder;
use serde_json::Value;

use crate::support::http2::{Client, Socket};
use crate::support::session::session;
use crate::support::ticket_client::{Cut, TicketClient};
use crate::support::ticketed::Ticketed;
use crate::support::tls;
use crate::support::upstream::Upstream;
use crate::support::wire::RSV1;

#[tokio::test]
async fn a_client_comes_back_over_tls() {
    for cut in Cut::ALL {
        let mut session =
            Ticketed::shaped("", |dial| dial.tls(tls::client()), |proxy| proxy.tls(tls::listen())).await;
        session.works().await;
        session.client.cut(cut).await;
        session.server().text("missed").await;
        session.client.resume().await;
        session.client.hears(&["missed"]).await;
        session.works().await;
        assert_eq!(session.upstream.handshakes().len(), 1);
    }
}

/// A stream with the protocol, and its hello.
async fn stream(http2: &Client, resume: Option<(&str, u64)>) -> (Socket, Value) {
    let mut offer = "outrigger.plain, outrigger.v1, outrigger.nonce.AAAAAAAAAAAAAAAAAAAAAA".to_owned();
    if let Some((ticket, seen)) = resume {
        offer.push_str(&format!(", outrigger.resume.{ticket}.{seen}"));
    }
    let mut request = Client::handshake("/rooms/1");
    request.headers_mut().insert("sec-websocket-protocol", offer.parse().unwrap());
    let mut socket = http2.try_open(request).await.expect("it is let in");
    assert_eq!(socket.head.headers()["sec-websocket-protocol"], "outrigger.v1");
    let hello: Value = serde_json::from_slice(&socket.frame().await.payload).unwrap();
    (socket, hello["outrigger"].clone())
}

#[tokio::test]
async fn a_client_comes_back_over_http2_on_another_stream_and_another_connection() {
    let upstream = Upstream::by_hand().await;
    let proxy = session(&upstream, "").spawn().await;
    let mut http2 = Client::connect(proxy.address()).await;
    let (mut socket, mut hello) = stream(&http2, None).await;
    assert_eq!(hello["resumed"], false);
    let mut server = upstream.accept().await;
    for round in 0..4 {
        socket.text("up").await;
        server.expect_text("up").await;
        server.text("down").await;
        socket.expect_text("down").await;
        if round % 2 == 0 {
            socket.reset(h2::Reason::CANCEL);
        } else {
            drop(socket);
            http2.abort();
            http2 = Client::connect(proxy.address()).await;
        }
        proxy.away(1.0).await;
        server.text("missed").await;
        let ticket = hello["session"].as_str().unwrap().to_owned();
        (socket, hello) = stream(&http2, Some((&ticket, 2 * round + 1))).await;
        assert_eq!(
            (&hello["resumed"], hello["received"].as_u64()),
            (&true.into(), Some(round + 1)),
            "{hello}"
        );
        socket.expect_text("missed").await;
    }
    assert_eq!(upstream.handshakes().len(), 1);
    // And over HTTP/1.1.
    let mut client = TicketClient::new(proxy.dial().path("/rooms/1"));
    client.ticket = hello["session"].as_str().map(str::to_owned);
    (client.seen, client.said) = (8, 4);
    socket.reset(h2::Reason::CANCEL);
    client.resume().await;
    client.say("over HTTP/1.1").await;
    server.expect_text("over HTTP/1.1").await;
}

fn unpacked(payload: &[u8]) -> String {
    let mut text = String::new();
    // The sender took the end of a block off (RFC 7692 §7.2.1); one that ends the stream follows.
    let whole = [payload, b"\x00\x00\xff\xff\x01\x00\x00\xff\xff"].concat();
    DeflateDecoder::new(&whole[..]).read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn compressed_messages_and_plain_control_frames_go_over_one_link_and_either_link_may_have_them() {
    const DEFLATE: &str = "permessage-deflate; client_max_window_bits";
    let mut session = Ticketed::shaped(
        "compression: deflate",
        |dial| dial.header("Sec-WebSocket-Extensions", DEFLATE),
        |proxy| proxy,
    )
    .await;
    let long = |n: usize| format!("{n}: {}", "the same again and again ".repeat(100));
    for round in 0..4 {
        session.client.control(r#"{"ping":3}"#).await;
        assert_eq!(session.client.is_told("pong").await, 3);
        session.client.say("up").await;
        session.server().expect_text("up").await;
        session.server().text(&long(round)).await;
        // Compressed where that was agreed upon on this link.
        let frame = session.client.link.as_mut().unwrap().next_frame().await;
        let frame = if frame.payload.first() == Some(&b'~') {
            session.client.link.as_mut().unwrap().next_frame().await
        } else {
            frame
        };
        let text = match round % 2 {
            0 => {
                assert_eq!(frame.rsv, RSV1, "{frame:?}");
                unpacked(&frame.payload)
            }
            _ => {
                assert_eq!(frame.rsv, 0, "{frame:?}");
                frame.as_text().to_owned()
            }
        };
        assert_eq!(text, long(round));
        session.client.seen += 1;
        session.lose_client(Cut::Reset).await;
        // What was put into the log for one link goes over the other: compressed by nobody who did not ask for it.
        let dial = session.proxy.dial();
        let dial = if round % 2 == 0 { dial } else { dial.header("Sec-WebSocket-Extensions", DEFLATE) };
        session.client.redial(dial);
        session.client.resume().await;
    }
}

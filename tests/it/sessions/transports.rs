//! Sessions over whatever carries a WebSocket: TLS on either hop, HTTP/2, Unix sockets. Their servers die, and come back.

use crate::support::http2::{Came, Client};
use crate::support::session::{Death, Session, hears, session};
use crate::support::tls;
use crate::support::upstream::Upstream;
use crate::support::wire::{CLOSE, Frame};

/// The server dies while its client talks, and comes back.
async fn survives(session: &mut Session, deaths: &[Death]) {
    session.works().await;
    for death in deaths {
        session.lose(*death).await;
        session.says_meanwhile(&["one", "two"]).await;
        session.back().await;
        hears(session.server(), &["one", "two"]).await;
        session.works().await;
    }
    let long = vec![7; 1 << 20];
    let (client, server) = session.ends();
    client.binary(&long).await;
    server.expect_binary(&long).await;
    server.binary(&long).await;
    client.expect_binary(&long).await;
}

#[tokio::test]
async fn servers_are_lost_and_back_over_tls_on_either_hop_and_on_both() {
    for (client, server) in [(true, false), (false, true), (true, true)] {
        let mut upstream = Upstream::builder();
        if server {
            upstream = upstream.tls(tls::server());
        }
        let mut session = Session::before(
            upstream,
            "",
            |dial| if client { dial.tls(tls::client()) } else { dial },
            |proxy| {
                let proxy = if client { proxy.tls(tls::listen()) } else { proxy };
                if server { proxy.upstream_tls(tls::upstream()) } else { proxy }
            },
        )
        .await;
        survives(&mut session, &[Death::Reset, Death::Fin, Death::Close(1012)]).await;
        session.client.close(1000, "done").await;
        let (client, server) = session.closed().await;
        assert_eq!((client.code, server.code), (1000, 1000));
        session.is_over("client", "client_close").await;
    }
}

#[tokio::test]
async fn a_server_on_a_unix_socket_is_lost_and_back() {
    let mut session = Session::before(Upstream::builder().unix(), "", |dial| dial, |proxy| proxy).await;
    // Nothing is reset on a Unix socket.
    survives(&mut session, &[Death::Fin, Death::MidFrame, Death::Close(1012)]).await;
}

#[tokio::test]
async fn a_client_over_http2_keeps_its_stream_while_its_server_dies() {
    for is_secure in [false, true] {
        let mut upstream = Upstream::by_hand().await;
        let proxy = session(&upstream, "");
        let proxy = if is_secure { proxy.tls(tls::listen()) } else { proxy }.spawn().await;
        let http2 = match is_secure {
            false => Client::connect(proxy.address()).await,
            true => Client::secured(proxy.address()).await,
        };
        let mut client = http2.open("/rooms/1?x=y").await;
        let mut server = upstream.accept().await;
        assert_eq!(server.request.head.target(), "/rooms/1?x=y");
        client.text("first").await;
        server.expect_text("first").await;
        server.text("hello").await;
        client.expect_text("hello").await;
        for death in [Death::Reset, Death::Close(1001)] {
            upstream.stop().await;
            crate::support::session::die(server, death).await;
            proxy.connected(0.0).await;
            client.text("meanwhile").await;
            upstream.start().await;
            server = upstream.accept().await;
            assert_eq!(server.request.head.target(), "/rooms/1?x=y");
            server.expect_text("meanwhile").await;
            server.text("back").await;
            client.expect_text("back").await;
        }
        server.text("last words").await;
        server.close(4000, "over").await;
        client.expect_text("last words").await;
        let Came::Frame(close) = client.receive().await else { panic!("a Close is due") };
        assert_eq!((close.opcode, close.close_status()), (CLOSE, (4000, "over".to_owned())));
        client.send(&Frame::close(4000, "")).await;
        server.closed().await;
        proxy.is_over("server", "upstream_close").await;
    }
}

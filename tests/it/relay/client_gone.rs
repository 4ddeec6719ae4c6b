//! A client that is gone is gone at once: for the gauge, for the limits, and for the counters of ends. Its server may
//! take `close_timeout` to end its own side.

use crate::support::DEADLINE;
use crate::support::http2::Client;
use crate::support::proxy::Proxy;
use crate::support::tls;
use crate::support::upstream::Upstream;
use crate::support::wait::eventually;

/// One place, and a server that may take far more time than a test waits for anything ([`DEADLINE`]).
const ONE: &str = "policy: {close_timeout: 10m, limits: {connections: 1, per_ip: 1}}";

/// The metrics tell soon that nobody is there, and that one connection has ended for `reason`.
async fn counts_no_more(proxy: &Proxy, route: &str, reason: &str) {
    let ended = format!("outrigger_disconnections_total{{route=\"{route}\",reason=\"{reason}\"}}");
    eventually(DEADLINE, || async {
        let metrics = proxy.metrics().await;
        metrics.get(&format!("outrigger_clients{{route=\"{route}\"}}")) == Some(0.0)
            && metrics.get(&ended) == Some(1.0)
            && metrics.sum("outrigger_disconnections_total") == 1.0
    })
    .await;
}

#[tokio::test]
async fn over_tcp_and_tls_whether_it_goes_in_order_or_not() {
    for is_secure in [false, true] {
        for is_reset in [false, true] {
            let upstream = Upstream::by_hand().await;
            let proxy = Proxy::to(&upstream).yaml(ONE);
            let proxy = if is_secure { proxy.tls(tls::listen()) } else { proxy }.spawn().await;
            let dial = || if is_secure { proxy.dial().tls(tls::client()) } else { proxy.dial() };
            let mut client = dial().open().await;
            let mut server = upstream.accept().await;
            client.text("last words").await;
            server.expect_text("last words").await;
            if is_reset {
                client.reset();
            } else {
                drop(client);
            }
            counts_no_more(&proxy, "default", "client_lost").await;
            // Its server says nothing and holds on; the next client has its place.
            let mut next = dial().open().await;
            let mut behind = upstream.accept().await;
            next.text("next").await;
            behind.expect_text("next").await;
            assert_eq!(upstream.open(), 2);
            // The server is told in its own time, as it was.
            drop(server);
        }
    }
}

#[tokio::test]
async fn over_http2_whether_its_stream_is_reset_or_its_connection_is_lost() {
    for is_stream in [false, true] {
        let upstream = Upstream::by_hand().await;
        let proxy = Proxy::to(&upstream).yaml(ONE).spawn().await;
        let client = Client::connect(proxy.address()).await;
        let (mut socket, mut server) = tokio::join!(client.open("/"), upstream.accept());
        socket.text("last words").await;
        server.expect_text("last words").await;
        if is_stream {
            socket.reset(h2::Reason::CANCEL);
        } else {
            client.abort();
        }
        counts_no_more(&proxy, "default", "client_lost").await;
        let _next = proxy.connect("/").await;
    }
}

#[tokio::test]
async fn after_its_close_too_though_its_server_does_not_answer_that() {
    let upstream = Upstream::by_hand().await;
    let proxy = Proxy::to(&upstream).yaml(ONE).spawn().await;
    let mut client = proxy.connect("/").await;
    let mut server = upstream.accept().await;
    client.close(1000, "bye").await;
    assert_eq!(server.next_frame().await.close_status(), (1000, "bye".to_owned()));
    drop(client);
    counts_no_more(&proxy, "default", "client_close").await;
    let _next = proxy.connect("/").await;
}

#[tokio::test]
async fn of_a_feed_whose_server_does_not_hear_of_it_at_all() {
    for is_reset in [false, true] {
        let upstream = Upstream::by_hand().await;
        let route = "routes: [{name: feed, path: '/{*rest}', mode: broadcast}]";
        let proxy = Proxy::to(&upstream).yaml(ONE).yaml(route).spawn().await;
        let (client, mut server) = tokio::join!(proxy.connect("/"), upstream.accept());
        if is_reset {
            client.reset();
        } else {
            drop(client);
        }
        counts_no_more(&proxy, "feed", "client_lost").await;
        let mut next = proxy.connect("/").await;
        server.text("to whoever is there").await;
        next.expect_text("to whoever is there").await;
    }
}

#[tokio::test]
async fn and_it_has_one_line_in_the_log_when_its_server_has_ended_too() {
    let (logged, _guard) = crate::support::logged::Logged::of_this_thread();
    let upstream = Upstream::by_hand().await;
    let proxy = Proxy::to(&upstream).yaml("policy: {close_timeout: 10m}").spawn().await;
    let client = proxy.connect("/").await;
    let mut server = upstream.accept().await;
    client.reset();
    counts_no_more(&proxy, "default", "client_lost").await;
    assert_eq!(logged.find("disconnected"), None, "its server may say more");
    server.text("nobody hears this").await;
    drop(server);
    eventually(DEADLINE, || async { logged.find("disconnected").is_some() }).await;
    let line = logged.line("disconnected");
    assert_eq!((&line["reason"], &line["discarded_bytes"]), (&"client_lost".into(), &19.into()), "{line}");
}

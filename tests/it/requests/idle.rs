//! HTTP connections on which nothing is asked: how many are kept, and which go when there are too many.

use std::time::Duration;

use http::{Method, Request};
use tokio::time::Instant;

use crate::support::DEADLINE;
use crate::support::http2::Client;
use crate::support::link::{End, Link};
use crate::support::proxy::Proxy;
use crate::support::tls;
use crate::support::upstream::{Plain, Upstream};
use crate::support::wait::eventually;

/// Asks once; the connection is kept.
async fn ask(proxy: &Proxy, link: &mut Link) {
    link.send_bytes(&proxy.plain().request()).await;
    assert_eq!(link.read_response("GET").await.status(), 200);
}

/// A connection that has asked once.
async fn idle(proxy: &Proxy) -> Link {
    let mut link = proxy.plain().connect().await;
    ask(proxy, &mut link).await;
    link
}

async fn is_let_go(link: &mut Link) {
    assert_eq!(link.read_exactly(1).await, Err(End::Eof), "in order, and without a word");
}

async fn closed(proxy: &Proxy, reason: &str) -> f64 {
    proxy.metric(&format!("outrigger_http_idle_closed_total{{reason=\"{reason}\"}}")).await
}

#[tokio::test]
async fn fifteen_hundred_connections_of_one_address_that_ask_nothing_are_no_more_than_the_cap() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("listen: {max_handshakes: 100}").spawn().await;
    let mut links = Vec::new();
    for _ in 0..1500 {
        links.push(idle(&proxy).await);
    }
    let mut youngest = links.split_off(1400);
    for link in &mut youngest {
        ask(&proxy, link).await;
    }
    // The one that asks for the metrics is on another port.
    eventually(DEADLINE, || async { proxy.metric("outrigger_http_connections").await == 100.0 }).await;
    assert_eq!(proxy.metric("outrigger_http_idle").await, 100.0);
    assert_eq!(proxy.metric("outrigger_handshakes_in_progress").await, 0.0);
    assert_eq!(closed(&proxy, "max_idle_http").await, 1400.0);
    assert_eq!(proxy.metric("outrigger_limit{kind=\"idle_http\",route=\"\"}").await, 100.0);
    for link in &mut links {
        is_let_go(link).await;
    }
    drop(youngest);
    eventually(DEADLINE, || async { proxy.metric("outrigger_http_idle").await == 0.0 }).await;
}

#[tokio::test]
async fn the_one_that_has_waited_longest_goes_and_who_asks_again_has_not_waited() {
    let answering =
        |body: &str| Upstream::builder().on_request(Plain::fixed(200, &[("Connection", "close")], body));
    let upstream = answering("").spawn().await;
    let proxy = Proxy::to(&upstream).yaml("listen: {max_idle_http: 2}").spawn().await;
    let mut first = idle(&proxy).await;
    let mut second = idle(&proxy).await;
    ask(&proxy, &mut first).await;
    let mut third = idle(&proxy).await;
    is_let_go(&mut second).await;
    // A request that is being answered is not among them, and cannot be let go.
    upstream.change(answering("at last").after(Duration::from_millis(300)));
    let mut asking = proxy.plain().header("X-New", "1").send().await;
    for _ in 0..3 {
        proxy.connect("/").await.reset();
    }
    assert_eq!(asking.read_response("GET").await.text(), "at last");
    is_let_go(&mut first).await;
    third.send_bytes(&proxy.plain().request()).await;
    assert_eq!(third.read_response("GET").await.status(), 200);
    assert_eq!(closed(&proxy, "max_idle_http").await, 2.0, "WebSockets are none of them");
}

#[tokio::test]
async fn a_request_that_came_with_the_one_before_it_is_served_and_not_let_go() {
    let answering =
        |body: &str| Upstream::builder().on_request(Plain::fixed(200, &[("Connection", "close")], body));
    let upstream = answering("at last").after(Duration::from_secs(3)).spawn().await;
    let settings = "listen: {max_idle_http: 1}\nroutes: [{path: /none, policy: {http: {mode: refuse}}}]";
    let proxy = Proxy::to(&upstream).yaml(settings).spawn().await;
    let refused = proxy.plain().path("/none").request();
    let mut asking = proxy.plain().connect().await;
    asking.send_bytes(&[refused, proxy.plain().request()].concat()).await;
    assert_eq!(asking.read_response("GET").await.status(), 404);
    eventually(DEADLINE, || async { proxy.metric("outrigger_http_requests_in_flight").await == 1.0 }).await;
    assert_eq!(proxy.metric("outrigger_http_idle").await, 0.0, "it asks for something");
    assert_eq!(proxy.metric("outrigger_handshakes_in_progress").await, 1.0);
    upstream.change(answering(""));
    for _ in 0..3 {
        let _ = idle(&proxy).await;
    }
    assert_eq!(asking.read_response("GET").await.text(), "at last");
}

#[tokio::test]
async fn one_address_has_a_cap_of_its_own_and_the_header_of_a_balancer_names_it() {
    let upstream = Upstream::echo().await;
    let listen = "listen: {proxy_protocol: required, max_idle_http_per_ip: 2}";
    let proxy = Proxy::to(&upstream).yaml(listen).spawn().await;
    let of = async |address: &str| {
        let mut link = proxy.plain().connect().await;
        link.send_bytes(format!("PROXY TCP4 {address} 198.51.100.1 4711 443\r\n").as_bytes()).await;
        ask(&proxy, &mut link).await;
        link
    };
    let mut other = of("203.0.113.8").await;
    let mut many = Vec::new();
    for _ in 0..5 {
        many.push(of("203.0.113.7").await);
    }
    for link in &mut many[..3] {
        is_let_go(link).await;
    }
    for link in [&mut other].into_iter().chain(&mut many[3..]) {
        ask(&proxy, link).await;
    }
    assert_eq!(
        (closed(&proxy, "max_idle_http_per_ip").await, closed(&proxy, "max_idle_http").await),
        (3.0, 0.0)
    );
}

#[tokio::test]
async fn an_http2_connection_without_a_stream_is_one_of_them_and_hears_goaway() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("listen: {max_idle_http: 1}").spawn().await;
    let get = || {
        let request = Request::builder().method(Method::GET).uri("http://h2.example/").body(());
        request.unwrap_or_else(|error| panic!("{error}"))
    };
    let answers = async |client: &Client| {
        let Ok(answer) = client.plain(get(), b"").await else { panic!("no answer") };
        assert_eq!(answer.status, 200);
    };
    let (busy, first, second) = (
        Client::connect(proxy.address()).await,
        Client::connect(proxy.address()).await,
        Client::connect(proxy.address()).await,
    );
    let mut socket = busy.open("/").await;
    answers(&first).await;
    eventually(DEADLINE, || async { proxy.metric("outrigger_http_idle").await == 1.0 }).await;
    answers(&second).await;
    assert!(first.ended().await.is_ok(), "by GOAWAY");
    // One of HTTP/1.1 counts with them.
    let _third = idle(&proxy).await;
    assert!(second.ended().await.is_ok());
    socket.echoes("still here").await;
    drop(socket);
    eventually(DEADLINE, || async { closed(&proxy, "max_idle_http").await >= 2.0 }).await;
}

#[tokio::test]
async fn over_tls_the_end_is_announced() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).tls(tls::listen()).yaml("listen: {max_idle_http: 1}").spawn().await;
    let secured = async || {
        let mut link = proxy.plain().tls(tls::client()).connect().await;
        ask(&proxy, &mut link).await;
        link
    };
    let mut first = secured().await;
    let _second = secured().await;
    is_let_go(&mut first).await;
}

#[tokio::test]
async fn near_the_cap_connections_are_kept_for_a_shorter_time() {
    let upstream = Upstream::echo().await;
    let listen = "listen: {max_idle_http: 10, keep_alive: 1h}";
    let proxy = Proxy::to(&upstream).yaml(listen).spawn().await;
    let mut links = Vec::new();
    for _ in 0..10 {
        links.push(idle(&proxy).await);
    }
    // The tenth was kept for the shortest time there is.
    let since = Instant::now();
    let Some(last) = links.last_mut() else { panic!("ten") };
    is_let_go(last).await;
    assert!(since.elapsed() < DEADLINE, "after {:?}", since.elapsed());
    assert_eq!(closed(&proxy, "max_idle_http").await, 0.0, "its time was over");
    // Those of quieter times have theirs.
    ask(&proxy, &mut links[0]).await;
}

#[tokio::test]
async fn a_client_that_was_told_the_last_answer_and_stays_is_not_waited_for() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("listen: {max_idle_http: 1}").spawn().await;
    // It asked for the end and does not end its own side: it is given two seconds for that, unless others come.
    let last = proxy.plain().header("Connection", "close");
    for _ in 0..10 {
        let _stays = last.clone().answer().await;
        let _next = idle(&proxy).await;
        // A machine that takes two seconds for the next one gets another try.
        if closed(&proxy, "max_idle_http").await > 0.0 {
            return;
        }
    }
    panic!("it was never let go");
}

//! A server that keeps failing is left alone for a while: what clients are told, and what it is spared.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::DEADLINE;
use crate::support::client::Dial;
use crate::support::http::{Response, assert_ours};
use crate::support::link::Link;
use crate::support::logged::Logged;
use crate::support::proxy::Proxy;
use crate::support::upstream::{Answer, Upstream};
use crate::support::wait::eventually;

const STATE: &str = "outrigger_breaker_state{scope=\"upstream\",route=\"default\"}";

/// Opens on three failures, for as long as a test runs.
const SHORT: &str = "policy: {breaker: {min_calls: 3, open_for: 10m}}";

async fn transitions(proxy: &Proxy, to: &str) -> f64 {
    let name = "outrigger_breaker_transitions_total{scope=\"upstream\",route=\"default\",";
    proxy.metric(&format!("{name}to=\"{to}\"}}")).await
}

/// So many handshakes, one after another, each with the same answer.
async fn fail(dial: &Dial, times: usize, status: u16, reason: &str) {
    for _ in 0..times {
        assert_ours(&dial.clone().refused().await, status, reason);
    }
}

/// Refused because the breaker is open: when to come back.
#[track_caller]
fn open(response: &Response) -> u64 {
    assert_ours(response, 503, "breaker_open");
    response.header("Retry-After").expect("it is told when to come back").parse().expect("in whole seconds")
}

/// Until so many wait for a probe.
async fn waiting(proxy: &Proxy, route: &str, count: f64) {
    eventually(DEADLINE, async || {
        let waiting = proxy.metric(&format!("outrigger_breaker_waiting{{route=\"{route}\"}}")).await;
        if waiting == count { Ok(()) } else { Err(format!("{waiting} wait")) }
    })
    .await;
}

/// A handshake that reached the server, as the first after the breaker was open; not answered yet.
async fn probe(dial: &Dial, upstream: &Upstream) -> Link {
    let before = upstream.accepted();
    let sent = eventually(DEADLINE, async || {
        let mut link = dial.clone().send().await;
        tokio::select! {
            () = eventually(DEADLINE, async || upstream.accepted() > before) => Ok(link),
            head = link.try_read_head() => Err(head.map(|head| head.status())),
        }
    });
    sent.await
}

#[tokio::test]
async fn a_dead_server_is_met_with_an_instant_503_instead_of_a_pile_up() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::builder().answering(Answer::HangupAfterRequest).spawn().await;
    let proxy = Proxy::to(&upstream).spawn().await;
    fail(&proxy.dial(), 10, 502, "upstream_broken").await;
    assert_eq!(upstream.accepted(), 10);

    let since = Instant::now();
    for _ in 0..50 {
        let wait = open(&proxy.dial().refused().await);
        assert!((1..=6).contains(&wait), "5 s, and up to a fifth more: {wait}");
    }
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert_eq!(upstream.accepted(), 10, "nobody was dialled");
    let refused = "outrigger_handshakes_total{route=\"default\",outcome=\"breaker_open\"}";
    assert_eq!(proxy.metric(refused).await, 50.0);
    assert_eq!((proxy.metric(STATE).await, transitions(&proxy, "open").await), (2.0, 1.0));

    let line = logged.line("the upstream keeps failing: handshakes are refused for policy.breaker.open_for");
    assert_eq!((&line["level"], &line["route"]), (&"WARN".into(), &"default".into()));
    assert!(line["error"].as_str().is_some_and(|error| error.contains("broke off")), "{line}");
}

#[tokio::test]
async fn whatever_way_a_server_fails_it_is_left_alone() {
    let silent = "upstream: {handshake_timeout: 300ms}";
    for (answer, status, reason) in [
        (Answer::Hangup, 502, "upstream_broken"),
        (Answer::WrongAccept, 502, "upstream_bad_upgrade"),
        (Answer::Silent, 504, "upstream_timeout"),
    ] {
        let upstream = Upstream::builder().answering(answer).spawn().await;
        let proxy = Proxy::to(&upstream).yaml(SHORT).yaml(silent).spawn().await;
        fail(&proxy.dial(), 3, status, reason).await;
        open(&proxy.dial().refused().await);
        assert_eq!(upstream.accepted(), 3, "{reason}");
    }
    let nowhere = Upstream::nowhere().await;
    let proxy = Proxy::to_url(format!("http://{nowhere}")).yaml(SHORT).spawn().await;
    fail(&proxy.dial(), 3, 502, "upstream_unreachable").await;
    open(&proxy.dial().refused().await);
}

#[tokio::test]
async fn a_server_that_is_back_before_the_breaker_opens_is_not_shut_out_by_its_first_answer() {
    let upstream = Upstream::builder().answering(Answer::Hangup).spawn().await;
    let routes =
        "routes: [{name: feed, path: '/feed/{name}', mode: broadcast}]\npolicy: {breaker: {window: 10m}}";
    let proxy = Proxy::to(&upstream).yaml(routes).spawn().await;
    for path in ["/tunnel", "/feed/a"] {
        upstream.change(Upstream::builder().answering(Answer::Hangup));
        for _ in 0..9 {
            assert_ours(&proxy.dial().path(path).refused().await, 502, "upstream_broken");
        }
        upstream.change(Upstream::builder());
        for _ in 0..5 {
            drop(proxy.connect(path).await);
        }
        let route = if path == "/tunnel" { "default" } else { "feed" };
        let state = format!("outrigger_breaker_state{{scope=\"upstream\",route=\"{route}\"}}");
        assert_eq!(proxy.metric(&state).await, 0.0, "{path}");
    }
}

#[tokio::test]
async fn a_server_that_comes_back_is_asked_by_as_many_as_probes_and_lets_in_all_who_wait_for_them() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::builder().answering(Answer::Hangup).spawn().await;
    let settings = "policy: {breaker: {min_calls: 3, open_for: 1s, probes: 2}}";
    let proxy = Proxy::to(&upstream).yaml(settings).spawn().await;
    fail(&proxy.dial(), 3, 502, "upstream_broken").await;
    let before = upstream.accepted();
    // Slow enough for all of a crowd to come while the probes are under way.
    upstream.change(Upstream::builder().after(Duration::from_secs(5)));
    let mut first = probe(&proxy.dial(), &upstream).await;
    let crowd: Vec<_> = (0..49).map(|_| tokio::spawn(proxy.dial().answer())).collect();
    waiting(&proxy, "default", 48.0).await;
    assert_eq!(upstream.accepted() - before, 2, "two probes, and nobody else");
    upstream.change(Upstream::builder());
    assert_eq!(first.try_read_head().await.expect("it is answered").status(), 101);
    let mut accepted = Vec::new();
    for client in crowd {
        let client = client.await.expect("it is answered");
        assert_eq!(client.response.status(), 101, "{:?}", client.response.header("X-Outrigger-Reason"));
        accepted.push(client);
    }
    assert_eq!(proxy.metric("outrigger_breaker_waiting{route=\"default\"}").await, 0.0);
    assert_eq!(proxy.metric(STATE).await, 0.0);
    for to in ["open", "half_open", "closed"] {
        assert_eq!(transitions(&proxy, to).await, 1.0, "{to}");
    }
    logged.line("the upstream answers again: handshakes go through");
}

#[tokio::test]
async fn dials_of_feeds_wait_for_a_probe_as_handshakes_do() {
    let upstream = Upstream::builder().answering(Answer::Hangup).spawn().await;
    let settings = "routes: [{name: feed, path: '/{name}', mode: broadcast}]
policy: {breaker: {min_calls: 3, open_for: 1s}}";
    let proxy = Proxy::to(&upstream).yaml(settings).spawn().await;
    fail(&proxy.dial().path("/0"), 3, 502, "upstream_broken").await;
    upstream.change(Upstream::builder().after(Duration::from_secs(5)));
    let mut first = probe(&proxy.dial().path("/0"), &upstream).await;
    let dials = (1..10).map(|channel| proxy.dial().path(&format!("/{channel}")));
    let crowd = Vec::from_iter(dials.map(|dial| tokio::spawn(dial.answer())));
    waiting(&proxy, "feed", 9.0).await;
    upstream.change(Upstream::builder());
    assert_eq!(first.try_read_head().await.expect("it is answered").status(), 101);
    for client in crowd {
        assert_eq!(client.await.expect("it is answered").response.status(), 101);
    }
}

#[tokio::test]
async fn those_who_wait_for_a_probe_that_fails_are_told_so_at_once_and_further_ones_do_not_wait() {
    let upstream = Upstream::builder().answering(Answer::Hangup).spawn().await;
    let settings =
        "policy: {breaker: {min_calls: 3, open_for: 1s, max_waiting: 5}}\nupstream: {handshake_timeout: 3s}";
    let proxy = Proxy::to(&upstream).yaml(settings).spawn().await;
    fail(&proxy.dial(), 3, 502, "upstream_broken").await;
    let before = upstream.accepted();
    upstream.change(Upstream::builder().answering(Answer::Silent));
    let mut probe = probe(&proxy.dial(), &upstream).await;
    let crowd: Vec<_> = (0..5).map(|_| tokio::spawn(proxy.dial().refused())).collect();
    waiting(&proxy, "default", 5.0).await;
    assert_eq!(open(&proxy.dial().refused().await), 1, "there is no room to wait");
    assert_eq!(proxy.metric("outrigger_limit{kind=\"breaker_waiting\",route=\"default\"}").await, 5.0);
    assert_eq!(probe.try_read_head().await.expect("it is answered").status(), 504);
    for client in crowd {
        open(&client.await.expect("it is answered"));
    }
    assert_eq!(upstream.accepted() - before, 1, "none of them was let through");
}

#[tokio::test]
async fn a_probe_that_fails_keeps_it_shut() {
    let upstream = Upstream::builder().answering(Answer::Hangup).spawn().await;
    let settings = "policy: {breaker: {min_calls: 3, open_for: 100ms}}";
    let proxy = Proxy::to(&upstream).yaml(settings).spawn().await;
    fail(&proxy.dial(), 3, 502, "upstream_broken").await;
    for again in 2..4 {
        eventually(DEADLINE, async || {
            let response = proxy.dial().refused().await;
            response.header("X-Outrigger-Reason") == Some("upstream_broken")
        })
        .await;
        assert_eq!(transitions(&proxy, "open").await, f64::from(again));
    }
    assert_eq!((upstream.accepted(), transitions(&proxy, "closed").await), (5, 0.0));
}

#[tokio::test]
async fn answers_of_the_application_do_not_open_it_and_a_503_does() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml("policy: {breaker: {window: 2s}}").spawn().await;
    let answering = |status| {
        upstream.change(Upstream::builder().answering(Answer::refuse(status, &[], "no")));
    };
    for status in [403, 429, 500] {
        answering(status);
        for _ in 0..15 {
            let response = proxy.dial().refused().await;
            assert_eq!((response.status(), response.header("X-Outrigger-Reason")), (status, None));
        }
    }
    assert_eq!(proxy.metric(STATE).await, 0.0);
    answering(503);
    let opened = eventually(DEADLINE, async || {
        let response = proxy.dial().refused().await;
        assert_eq!(response.status(), 503);
        response.header("X-Outrigger-Reason").is_some().then_some(response)
    });
    // All of them are of one client: for as long as the server's answers are within the window, it may be the one
    // that asks for something that the server has not.
    open(&opened.await);
}

#[tokio::test]
async fn a_client_that_a_server_in_use_hangs_up_on_shuts_nobody_else_out() {
    for (answer, reason) in
        [(Answer::Hangup, "upstream_broken"), (Answer::WrongAccept, "upstream_bad_upgrade")]
    {
        let upstream = Upstream::echo().await;
        // What it has answered leaves the window while it is waited for.
        let settings = "policy: {breaker: {min_calls: 3, window: 1s, open_for: 10m}}";
        let proxy = Proxy::to(&upstream).yaml(settings).spawn().await;
        let client = proxy.connect("/").await;
        // What many servers do with a path that they do not know.
        upstream.change(Upstream::builder().answering(answer));
        fail(&proxy.dial(), 20, 502, reason).await;
        assert_eq!(proxy.metric(STATE).await, 0.0, "{reason}");
        upstream.change(Upstream::builder());
        drop(proxy.connect("/").await);

        // Where nobody is connected it may as well be dead.
        drop(client);
        eventually(DEADLINE, async || upstream.open() == 0).await;
        upstream.change(Upstream::builder().answering(Answer::Hangup));
        eventually(DEADLINE, async || {
            let response = proxy.dial().refused().await;
            response.header("X-Outrigger-Reason") == Some("breaker_open")
        })
        .await;
    }
}

#[tokio::test]
async fn a_feed_that_a_server_in_use_hangs_up_on_shuts_no_other_feed_out() {
    let upstream = Upstream::echo().await;
    let routes = "routes: [{name: feed, path: '/{name}', mode: broadcast}]";
    let proxy = Proxy::to(&upstream).yaml(SHORT).yaml(routes).spawn().await;
    let _client = proxy.connect("/a").await;
    upstream.change(Upstream::builder().answering(Answer::Hangup));
    for invented in 0..20 {
        let dial = proxy.dial().path(&format!("/invented-{invented}"));
        assert_ours(&dial.refused().await, 502, "upstream_broken");
    }
    upstream.change(Upstream::builder());
    drop(proxy.connect("/b").await);
}

#[tokio::test]
async fn a_server_in_use_that_is_gone_for_those_who_come_is_left_alone() {
    let upstream = Upstream::echo().await;
    let settings =
        "upstream: {handshake_timeout: 300ms}\npolicy: {breaker: {min_calls: 3, window: 3s, open_for: 10m}}";
    let proxy = Proxy::to(&upstream).yaml(settings).spawn().await;
    let _client = proxy.connect("/").await;
    upstream.change(Upstream::builder().answering(Answer::Silent));
    fail(&proxy.dial(), 2, 504, "upstream_timeout").await;
    // Once its answer to the first has left the window.
    eventually(DEADLINE, async || {
        let response = proxy.dial().refused().await;
        response.header("X-Outrigger-Reason") == Some("breaker_open")
    })
    .await;
    open(&proxy.dial().refused().await);
}

#[tokio::test]
async fn clients_that_leave_early_say_nothing_of_the_server() {
    let upstream = Upstream::builder().answering(Answer::Silent).spawn().await;
    let settings = "upstream: {handshake_timeout: 60s}\npolicy: {breaker: {min_calls: 3, slow_after: 60s}}";
    let proxy = Proxy::to(&upstream).yaml(settings).spawn().await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(proxy.dial().send().await);
    }
    eventually(DEADLINE, async || upstream.open() == 20).await;
    for (index, link) in waiting.into_iter().enumerate() {
        if index % 2 == 0 {
            link.reset();
        }
    }
    eventually(DEADLINE, async || upstream.open() == 0).await;
    assert_eq!(proxy.metric(STATE).await, 0.0);
    upstream.change(Upstream::builder());
    drop(proxy.connect("/").await);
}

/// Clients that wait for an answer for a while, and then leave.
async fn leave(dials: impl Iterator<Item = Dial>, after: Duration, upstream: &Upstream) {
    let mut waiting = Vec::new();
    for dial in dials {
        waiting.push(dial.send().await);
    }
    eventually(DEADLINE, async || upstream.open() >= waiting.len()).await;
    tokio::time::sleep(after).await;
    drop(waiting);
    eventually(DEADLINE, async || upstream.open() == 0).await;
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_left_alone_though_no_client_waits_for_the_end() {
    let slow = Duration::from_millis(300);
    let upstream = Upstream::builder().answering(Answer::Silent).spawn().await;
    let settings = "upstream: {connect_timeout: 60s, handshake_timeout: 60s}
policy: {breaker: {slow_after: 300ms, open_for: 10m}}
trusted_proxies: [127.0.0.1]";
    // Ten clients; and one behind which there may be ten.
    for addresses in [10, 1] {
        let proxy = Proxy::to(&upstream).yaml(settings).spawn().await;
        let client = |at: usize| format!("10.0.0.{}", at % addresses);
        let dials = (0..10).map(|at| proxy.dial().header("X-Forwarded-For", &client(at)));
        leave(dials, slow, &upstream).await;
        eventually(DEADLINE, async || proxy.metric(STATE).await == 2.0).await;
        open(&proxy.dial().header("X-Forwarded-For", &client(0)).refused().await);
    }
}

/// Hangs, hangs up or answers 503 below `/bad`, and is well everywhere else.
fn well_but_for(bad: &'static [u8]) -> Answer {
    Answer::With(std::sync::Arc::new(move |head: &crate::support::http::Head| {
        if head.target().starts_with("/bad") { bad.to_vec() } else { crate::support::http::switching(head) }
    }))
}

const SILENT: &[u8] = b"";
const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
const NO_HTTP: &[u8] = b"what?\r\n\r\n";

#[tokio::test]
async fn one_client_at_a_path_that_fails_opens_nothing_while_others_are_answered() {
    for bad in [SILENT, UNAVAILABLE, NO_HTTP] {
        let upstream = Upstream::builder().answering(well_but_for(bad)).spawn().await;
        let settings = "upstream: {handshake_timeout: 200ms}\ntrusted_proxies: [127.0.0.1]
policy: {breaker: {window: 10m, min_calls: 3, open_for: 10m}}";
        let proxy = Proxy::to(&upstream).yaml(settings).spawn().await;
        drop(proxy.dial().header("X-Forwarded-For", "10.0.0.1").open().await);
        for at in 0..30 {
            let attack = proxy.dial().path(&format!("/bad/{at}")).header("X-Forwarded-For", "10.6.6.6");
            let refused = attack.refused().await;
            assert_ne!(refused.header("X-Outrigger-Reason"), Some("breaker_open"), "{at}");
        }
        assert_eq!(proxy.metric(STATE).await, 0.0);
        drop(proxy.dial().header("X-Forwarded-For", "10.0.0.2").open().await);
        assert_eq!(transitions(&proxy, "open").await, 0.0);
    }
}

#[tokio::test]
async fn what_one_client_alone_has_brought_about_is_held_against_no_other() {
    for bad in [SILENT, UNAVAILABLE, NO_HTTP] {
        let (logged, _logging) = Logged::of_this_thread();
        let upstream = Upstream::builder().answering(well_but_for(bad)).spawn().await;
        let settings = "upstream: {handshake_timeout: 300ms}\ntrusted_proxies: [127.0.0.1]
policy: {breaker: {min_calls: 3, open_for: 10m}}";
        let proxy = Proxy::to(&upstream).yaml(settings).spawn().await;
        let attack = || proxy.dial().path("/bad").header("X-Forwarded-For", "10.6.6.6");
        for _ in 0..3 {
            attack().refused().await;
        }
        open(&attack().refused().await);
        assert_eq!(proxy.metric(STATE).await, 2.0);
        let line =
            logged.line("the upstream keeps failing: handshakes are refused for policy.breaker.open_for");
        assert_eq!(line["clients"], "the one that it fails", "{line}");
        // Nobody was connected, and nobody else had come.
        drop(proxy.dial().header("X-Forwarded-For", "10.0.0.1").open().await);
        assert_eq!(proxy.metric(STATE).await, 0.0);

        // A server that is dead fails a second one, and is left alone by all.
        upstream.change(Upstream::builder().answering(Answer::HangupAfterRequest));
        for _ in 0..3 {
            attack().refused().await;
        }
        proxy.dial().header("X-Forwarded-For", "10.0.0.1").refused().await;
        open(&proxy.dial().header("X-Forwarded-For", "10.0.0.2").refused().await);
    }
}

#[tokio::test]
async fn what_channels_that_one_client_invents_bring_about_is_held_against_no_other() {
    for bad in [SILENT, UNAVAILABLE, NO_HTTP] {
        let upstream = Upstream::builder().answering(well_but_for(bad)).spawn().await;
        let settings = "upstream: {handshake_timeout: 300ms}\ntrusted_proxies: [127.0.0.1]
routes: [{name: feed, path: '/{name}', mode: broadcast}]
policy: {breaker: {min_calls: 3, open_for: 10m}}";
        let proxy = Proxy::to(&upstream).yaml(settings).spawn().await;
        let attack =
            |at: usize| proxy.dial().path(&format!("/bad-{at}")).header("X-Forwarded-For", "10.6.6.6");
        for at in 0..3 {
            attack(at).refused().await;
        }
        open(&attack(3).refused().await);
        let other = proxy.dial().path("/good").header("X-Forwarded-For", "10.0.0.1");
        drop(other.open().await);
        // Its own channels are the same server's: that answers again.
        drop(attack(4).path("/better").open().await);
    }
}

#[tokio::test]
async fn a_probe_that_hears_nothing_does_not_keep_other_clients_waiting() {
    for mode in ["tunnel", "broadcast"] {
        let upstream = Upstream::builder().answering(Answer::HangupAfterRequest).spawn().await;
        let settings = format!(
            "upstream: {{handshake_timeout: 10m}}\ntrusted_proxies: [127.0.0.1]
routes: [{{name: r, path: '/{{name}}', mode: {mode}}}]
policy: {{breaker: {{min_calls: 2, open_for: 50ms, slow_after: 200ms}}}}"
        );
        let proxy = Proxy::to(&upstream).yaml(&settings).spawn().await;
        let client = |address: &str, path: &str| proxy.dial().path(path).header("X-Forwarded-For", address);
        for (address, path) in [("10.0.0.1", "/1"), ("10.0.0.2", "/2")] {
            client(address, path).refused().await;
        }
        let open = "outrigger_breaker_transitions_total{scope=\"upstream\",route=\"r\",to=\"open\"}";
        assert_eq!(proxy.metric(open).await, 1.0, "{mode}");
        upstream.change(Upstream::builder().answering(well_but_for(SILENT)));
        let _silent = probe(&client("10.6.6.6", "/bad-1"), &upstream).await;
        // Its others are no probes: they do not take the place of anybody who waits.
        let mut more = Vec::new();
        for at in 2..6 {
            more.push(client("10.6.6.6", &format!("/bad-{at}")).send().await);
        }
        drop(client("10.0.0.1", "/good").open().await);
        drop(client("10.0.0.2", "/good").open().await);
    }
}

#[tokio::test]
async fn a_drain_is_no_failure_of_the_server() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml(SHORT).yaml("drain: {spread: 0s, timeout: 60s}").spawn().await;
    // Keeps the drain from ending: it does not answer its Close.
    let _client = proxy.connect("/").await;
    proxy.drain();
    eventually(DEADLINE, async || {
        proxy.dial().answer().await.response.header("X-Outrigger-Reason") == Some("draining")
    })
    .await;
    fail(&proxy.dial(), 10, 503, "draining").await;
    assert_eq!(proxy.metric(STATE).await, 0.0);
}

#[tokio::test]
async fn requests_are_neither_asked_nor_counted() {
    let upstream = Upstream::builder().answering(Answer::Hangup).spawn().await;
    let proxy = Proxy::to(&upstream).yaml(SHORT).spawn().await;
    fail(&proxy.dial(), 3, 502, "upstream_broken").await;
    upstream.change(Upstream::builder());
    for _ in 0..5 {
        assert_eq!(proxy.plain().answer().await.response.status(), 200);
    }
    open(&proxy.dial().refused().await);
}

#[tokio::test]
async fn each_route_has_a_breaker_of_its_own_and_null_is_none() {
    let upstream = Upstream::builder().answering(Answer::Hangup).spawn().await;
    let routes = "routes: [{path: /a}, {path: /b}, {path: /off, policy: {breaker: null}}]";
    let proxy = Proxy::to(&upstream).yaml(SHORT).yaml(routes).spawn().await;
    for _ in 0..3 {
        assert_ours(&proxy.dial().path("/a").refused().await, 502, "upstream_broken");
    }
    open(&proxy.dial().path("/a").refused().await);
    assert_ours(&proxy.dial().path("/b").refused().await, 502, "upstream_broken");
    for _ in 0..30 {
        assert_ours(&proxy.dial().path("/off").refused().await, 502, "upstream_broken");
    }
    let state = |route| format!("outrigger_breaker_state{{scope=\"upstream\",route=\"{route}\"}}");
    assert_eq!(proxy.metric(&state("/a")).await, 2.0);
    assert_eq!(proxy.metric(&state("/b")).await, 0.0);
    assert_eq!(proxy.find_metric(&state("/off")).await, None);
}

#[tokio::test]
async fn browsers_can_read_it_as_a_close() {
    let upstream = Upstream::builder().answering(Answer::Hangup).spawn().await;
    let settings = "policy: {on_refuse: close, breaker: {min_calls: 3, open_for: 10m}}";
    let proxy = Proxy::to(&upstream).yaml(settings).spawn().await;
    for _ in 0..6 {
        let mut client = proxy.connect("/").await;
        assert_eq!(client.closed().await.code, 1013);
    }
    assert_eq!(upstream.accepted(), 3);
}

#[tokio::test]
async fn what_one_client_fails_to_offer_shuts_nobody_else_out() {
    let chat = Answer::accept_with(&[("Sec-WebSocket-Protocol", "chat")]);
    let upstream = Upstream::builder().answering(chat).spawn().await;
    let proxy = Proxy::to(&upstream).yaml(SHORT).spawn().await;
    fail(&proxy.dial(), 10, 502, "upstream_bad_upgrade").await;
    proxy.dial().header("Sec-WebSocket-Protocol", "chat").open().await;
    assert_eq!(transitions(&proxy, "open").await, 0.0);
}

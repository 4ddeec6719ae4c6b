//! Who is let in, how fast, how many, from which page: and how those are told who are not.

use std::sync::Arc;
use std::time::Duration;

use crate::support::DEADLINE;
use crate::support::client::Dial;
use crate::support::http::{Response, assert_ours};
use crate::support::link::{End, Received};
use crate::support::logged::Logged;
use crate::support::proxy::{Builder, Proxy};
use crate::support::upstream::{Act, Answer, Upstream};
use crate::support::wait::eventually;
use crate::support::wire::{Frame, Role};
use outrigger::config::{HttpMode, Limits, OnRefuse, OnUserLimit, OriginPattern, Origins, Policy, Rate};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// So slow that nothing comes back during a test.
fn never_again(burst: u32) -> Option<Rate> {
    Some(Rate { per_second: 0.001, burst })
}

const OPEN: Limits =
    Limits { connections: None, per_ip: None, per_user: None, on_user_limit: OnUserLimit::Refuse };

fn only_from(page: &str, missing: bool) -> Option<Origins> {
    let pattern =
        OriginPattern::Of { scheme: "https".into(), host: page.into(), subdomains: false, port: Some(443) };
    Some(Origins { allow: vec![pattern], missing })
}

fn retry_after(response: &Response) -> u64 {
    let after = response.header("Retry-After").expect("it says when to come back");
    after.parse().expect("in whole seconds")
}

async fn outcome(proxy: &Proxy, outcome: &str) -> f64 {
    proxy.metric(&format!("outrigger_handshakes_total{{route=\"default\",outcome=\"{outcome}\"}}")).await
}

#[tokio::test]
async fn handshakes_beyond_the_rate_are_refused_and_the_server_hears_nothing_of_them() {
    type Case = (&'static str, fn(&mut Policy));
    let cases: [Case; 2] = [
        ("rate_global", |policy| policy.handshake_rate.global = never_again(2)),
        ("rate_per_ip", |policy| policy.handshake_rate.per_ip = never_again(2)),
    ];
    for (reason, change) in cases {
        let upstream = Upstream::echo().await;
        let proxy = Proxy::to(&upstream).policy(change).spawn().await;
        let _inside = [proxy.connect("/").await, proxy.connect("/").await];
        let refused = proxy.dial().refused().await;
        assert_ours(&refused, 429, reason);
        assert!(retry_after(&refused) >= 999, "the next token is far: {}", retry_after(&refused));
        assert_eq!(upstream.handshakes().len(), 2, "{reason}");
        assert_eq!(outcome(&proxy, "rate_limited").await, 1.0);
    }
}

#[tokio::test]
async fn a_short_queue_smooths_what_comes_at_once() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).policy(|policy| {
        policy.handshake_rate.global = Some(Rate { per_second: 20.0, burst: 1 });
        policy.handshake_rate.queue = Duration::from_secs(5);
        policy.handshake_rate.max_queued = 10;
    });
    let proxy = Arc::new(proxy.spawn().await);
    let start = Instant::now();
    let mut coming = JoinSet::new();
    for _ in 0..8 {
        let proxy = Arc::clone(&proxy);
        coming.spawn(async move { proxy.connect("/").await });
    }
    eventually(DEADLINE, || async { proxy.metric("outrigger_handshakes_queued").await > 0.0 }).await;
    while let Some(client) = coming.join_next().await {
        client.expect("it was let in");
    }
    assert!(start.elapsed() >= Duration::from_millis(340), "seven waited their turn: {:?}", start.elapsed());
    assert_eq!(proxy.metric("outrigger_handshakes_queued").await, 0.0);
    assert_eq!(outcome(&proxy, "rate_limited").await, 0.0);
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_gives_its_place_back() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).policy(|policy| {
        policy.handshake_rate.global = Some(Rate { per_second: 0.1, burst: 1 });
        policy.handshake_rate.queue = Duration::from_secs(60);
        policy.handshake_rate.max_queued = 1;
    });
    let proxy = proxy.spawn().await;
    let _inside = proxy.connect("/").await;
    for _ in 0..3 {
        let waiting = proxy.dial().send().await;
        eventually(DEADLINE, || async { proxy.metric("outrigger_handshakes_queued").await == 1.0 }).await;
        assert_ours(&proxy.dial().refused().await, 429, "rate_global");
        waiting.reset();
        eventually(DEADLINE, || async { proxy.metric("outrigger_handshakes_queued").await == 0.0 }).await;
    }
    assert_eq!(outcome(&proxy, "abandoned").await, 3.0);
}

#[tokio::test]
async fn beyond_a_limit_there_is_no_room_until_somebody_leaves() {
    let cases = [
        ("capacity", Limits { connections: Some(2), ..OPEN }),
        ("capacity_per_ip", Limits { per_ip: Some(2), ..OPEN }),
    ];
    for (reason, limits) in cases {
        let upstream = Upstream::echo().await;
        let proxy = Proxy::to(&upstream).policy(move |policy| policy.limits = limits).spawn().await;
        let first = proxy.connect("/").await;
        let _second = proxy.connect("/").await;
        let refused = proxy.dial().refused().await;
        assert_ours(&refused, 503, reason);
        assert!(retry_after(&refused) >= 5, "places do not come back within a second");
        assert_eq!(upstream.handshakes().len(), 2, "{reason}");
        assert_eq!(outcome(&proxy, "at_capacity").await, 1.0);
        assert_eq!(proxy.plain().answer().await.response.status(), 200, "a request takes no place");
        drop(first);
        eventually(DEADLINE, || async { proxy.dial().answer().await.response.status() == 101 }).await;
    }
}

#[tokio::test]
async fn a_limit_and_what_is_taken_of_it_can_be_compared() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream)
        .yaml("routes: [{name: chat, path: /chat}]")
        .policy(|policy| policy.limits = Limits { connections: Some(5), per_ip: Some(4), ..OPEN })
        .spawn()
        .await;
    let _inside = [proxy.connect("/chat").await, proxy.connect("/chat").await];
    let metrics = proxy.metrics().await;
    let expected = [
        ("outrigger_clients{route=\"chat\"}", Some(2.0)),
        ("outrigger_limit{kind=\"connections\",route=\"chat\"}", Some(5.0)),
        ("outrigger_limit{kind=\"connections_per_ip\",route=\"chat\"}", Some(4.0)),
        ("outrigger_limit{kind=\"connections_per_user\",route=\"chat\"}", None),
        ("outrigger_limit{kind=\"connections\",route=\"default\"}", Some(5.0)),
        ("outrigger_limit{kind=\"handshake_rate\",route=\"chat\"}", Some(500.0)),
    ];
    for (sample, value) in expected {
        assert_eq!(metrics.get(sample), value, "{sample}");
    }
}

/// The proxy has one place; `visit` takes it, and when it is over the place is free.
async fn gives_its_place_back<F: Future<Output = ()>>(
    name: &str,
    upstream: Upstream,
    visit: impl Fn(Dial) -> F,
) {
    let proxy = Proxy::to(&upstream)
        .yaml("policy: {close_timeout: 250ms}\nupstream: {handshake_timeout: 5s}")
        .policy(|policy| policy.limits.connections = Some(1))
        .spawn()
        .await;
    for _ in 0..3 {
        visit(proxy.dial()).await;
        // Whatever this one is answered, it found room.
        eventually(DEADLINE, || async {
            let mut link = proxy.dial().path("/probe").send().await;
            let taken = link.try_read_head().await.is_ok_and(|head| head.status() == 503);
            if taken { Err(format!("{name}: the place is taken")) } else { Ok(()) }
        })
        .await;
        eventually(DEADLINE, || async { upstream.open() == 0 }).await;
    }
}

#[tokio::test]
async fn a_place_comes_back_whatever_ends_the_connection_or_the_handshake() {
    let open = |dial: Dial| async move { dial.open().await };
    let echo = || Upstream::builder();
    gives_its_place_back("the client closes", echo().spawn().await, |dial| async move {
        let mut client = open(dial).await;
        client.close(1000, "").await;
        client.closed().await;
    })
    .await;
    gives_its_place_back("the client is lost", echo().spawn().await, |dial| async move {
        open(dial).await.reset();
    })
    .await;
    let upstream = echo().on_text("close", [Act::Close(4000, "")]).spawn().await;
    gives_its_place_back("the server closes", upstream, |dial| async move {
        let mut client = open(dial).await;
        client.text("close").await;
        client.closed().await;
    })
    .await;
    let upstream = echo().on_text("reset", [Act::Reset]).spawn().await;
    gives_its_place_back("the server is lost", upstream, |dial| async move {
        let mut client = open(dial).await;
        client.text("reset").await;
        client.closed().await;
    })
    .await;
    let upstream = echo().answering(Answer::refuse(403, &[], "no")).spawn().await;
    gives_its_place_back("the server refuses", upstream, |dial| async move {
        assert_eq!(dial.refused().await.status(), 403);
    })
    .await;
    let upstream = echo().answering(Answer::WrongAccept).spawn().await;
    gives_its_place_back("the server's answer is none", upstream, |dial| async move {
        assert_eq!(dial.refused().await.status(), 502);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_in_its_handshake_gives_its_place_back() {
    let upstream = Upstream::builder().answering(Answer::Silent).spawn().await;
    let proxy = Proxy::to(&upstream).policy(|policy| policy.limits.connections = Some(1)).spawn().await;
    for round in 1..4 {
        let waiting = proxy.dial().send().await;
        eventually(DEADLINE, || async { upstream.handshakes().len() == round }).await;
        assert_ours(&proxy.dial().refused().await, 503, "capacity");
        waiting.reset();
        eventually(DEADLINE, || async { upstream.open() == 0 }).await;
    }
}

#[tokio::test]
async fn a_refusal_is_told_by_a_close_where_that_is_wanted() {
    type Case = (&'static str, u16, u16, &'static str, &'static str, fn(&mut Policy));
    let cases: [Case; 4] = [
        ("capacity", 503, 1008, "Server at capacity", "at_capacity", |policy| {
            policy.limits.connections = Some(0);
        }),
        ("rate_per_ip", 429, 4009, "try again later", "rate_limited", |policy| {
            policy.handshake_rate.per_ip = never_again(1);
            policy.close_codes.rate = 4009;
        }),
        ("origin", 403, 1008, "unauthorized", "foreign_origin", |policy| {
            policy.origins = only_from("app.example.com", false);
        }),
        ("upstream_unreachable", 502, 1013, "try again later", "unreachable", |_| {}),
    ];
    for (reason, status, code, words, counted, change) in cases {
        let nowhere = Upstream::nowhere().await;
        let proxy = |on_refuse| {
            let proxy = Proxy::to_url(format!("http://{nowhere}"));
            proxy.policy(move |policy| {
                policy.on_refuse = on_refuse;
                change(policy);
            })
        };
        let (by_status, by_close) =
            (proxy(OnRefuse::Http).spawn().await, proxy(OnRefuse::Close).spawn().await);
        if reason == "rate_per_ip" {
            let _last_tokens = (by_status.dial().answer().await, by_close.dial().answer().await);
        }
        assert_ours(&by_status.dial().refused().await, status, reason);
        let mut client = by_close.dial().open().await;
        assert_eq!(client.response.header("X-Outrigger-Reason"), Some(reason));
        assert_eq!(client.response.header("Sec-WebSocket-Protocol"), None);
        assert_eq!(client.response.header("Sec-WebSocket-Extensions"), None);
        let closed = client.closed().await;
        assert_eq!((closed.code, closed.reason.as_str(), closed.then), (code, words, End::Eof), "{reason}");
        assert!(closed.before.is_empty());
        assert_eq!(outcome(&by_status, counted).await, 1.0, "{reason}");
        assert_eq!(outcome(&by_close, counted).await, 1.0, "{reason}: a refusal all the same");
        let metrics = by_close.metrics().await;
        for name in ["outrigger_connections_total", "outrigger_clients", "outrigger_disconnections_total"] {
            assert_eq!(metrics.sum(name), 0.0, "{reason}: {name}: it is no connection");
        }
        eventually(DEADLINE, || async { by_close.metric("outrigger_refusals_closing").await == 0.0 }).await;
    }
}

fn full_and_closing(upstream: &Upstream) -> Builder {
    Proxy::to(upstream).policy(|policy| {
        policy.on_refuse = OnRefuse::Close;
        policy.limits.connections = Some(0);
        policy.handshake_rate.global = None;
    })
}

#[tokio::test]
async fn the_first_subprotocol_is_chosen_since_browsers_fail_without_one() {
    let upstream = Upstream::echo().await;
    let proxy = full_and_closing(&upstream).spawn().await;
    let dial = proxy
        .dial()
        .header("Sec-WebSocket-Protocol", " graphql-ws , chat")
        .also("Sec-WebSocket-Extensions", "permessage-deflate");
    let mut client = dial.open().await;
    assert_eq!(client.response.header("Sec-WebSocket-Protocol"), Some("graphql-ws"));
    assert_eq!(client.response.header("Sec-WebSocket-Extensions"), None);
    assert_eq!(client.closed().await.code, 1008);
    assert_eq!(upstream.accepted(), 0, "the server hears nothing of it");
}

#[tokio::test]
async fn who_is_no_browser_is_refused_by_a_status() {
    let upstream = Upstream::echo().await;
    let proxy = full_and_closing(&upstream).spawn().await;
    // Asked for room before they are looked at: refused for the one reason or the other.
    for dial in [
        proxy.dial().header("Sec-WebSocket-Version", "8"),
        proxy.dial().without("Sec-WebSocket-Key"),
        proxy.dial().method("POST"),
    ] {
        assert_ours(&dial.refused().await, 503, "capacity");
    }
    let rated = Proxy::to(&upstream).policy(|policy| {
        policy.on_refuse = OnRefuse::Close;
        policy.http.rate.per_ip = never_again(1);
    });
    let rated = rated.spawn().await;
    assert_eq!(rated.plain().answer().await.response.status(), 200);
    assert_ours(&rated.plain().answer().await.response, 429, "http_rate_per_ip");
    assert_ours(&rated.dial().without("Upgrade").answer().await.response, 429, "http_rate_per_ip");
}

#[tokio::test]
async fn whatever_a_refused_client_says_it_is_read_a_little_and_let_go() {
    let upstream = Upstream::echo().await;
    let proxy = full_and_closing(&upstream).spawn().await;
    // Too early, and the answer to the Close with it.
    let early = [Frame::text("early"), Frame::close(1008, "")].map(|frame| frame.encode(Role::Client));
    let mut client = proxy.dial().pipelined(early.concat()).open().await;
    assert_eq!(client.closed_unanswered().await.code, 1008);
    // Says nothing: it is let go all the same.
    let since = Instant::now();
    let mut client = proxy.dial().open().await;
    assert_eq!(client.closed_unanswered().await.code, 1008);
    assert!((1..5).contains(&since.elapsed().as_secs()), "{:?}", since.elapsed());
    // Never stops.
    let mut client = proxy.dial().open().await;
    let since = Instant::now();
    let frame = Frame::binary(vec![0; 60_000]);
    while client.try_send_frame(&frame).await.is_ok() {
        assert!(since.elapsed() < Duration::from_millis(1800), "it is still read");
    }
    eventually(DEADLINE, || async { proxy.metric("outrigger_refusals_closing").await == 0.0 }).await;
}

#[tokio::test]
async fn only_so_many_are_told_by_a_close_at_once() {
    let upstream = Upstream::echo().await;
    let proxy = full_and_closing(&upstream).config(|config| config.listen.max_refusals = 3).spawn().await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(proxy.dial().open().await);
    }
    assert_eq!(proxy.metric("outrigger_refusals_closing").await, 3.0);
    assert_ours(&proxy.dial().refused().await, 503, "capacity");
    assert_eq!(proxy.metric("outrigger_refusals_not_closed_total").await, 1.0);
    held.remove(0).closed().await;
    eventually(DEADLINE, || async { proxy.dial().answer().await.response.status() == 101 }).await;
}

/// What a refused client is sent, in bytes, and whether it was a 101. It never answers the Close; it leaves
/// with it, or stays as long as it is let.
async fn bytes_to(proxy: &Proxy, stays: bool) -> (usize, bool) {
    let mut client = proxy.dial().answer().await;
    let head = client.response.head.headers.0.iter().map(|(name, value)| name.len() + value.len() + 4);
    let mut bytes = client.response.head.first_line.len() + 4 + head.sum::<usize>();
    bytes += client.response.body.len();
    let is_accepted = client.response.status() == 101;
    while is_accepted && let Received::Frame(frame) = client.receive().await {
        bytes += frame.payload.len() + 2;
        if !stays {
            break;
        }
    }
    (bytes, is_accepted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_refused_clients_is_not_amplified() {
    const CLIENTS: usize = 3000;
    const ROOM: usize = 50;
    let upstream = Upstream::echo().await;
    let proxy = full_and_closing(&upstream).config(|config| config.listen.max_refusals = ROOM);
    let proxy = Arc::new(proxy.spawn().await);
    let mut workers = JoinSet::new();
    for worker in 0..200 {
        let proxy = Arc::clone(&proxy);
        workers.spawn(async move {
            let (mut most, mut accepted) = (0, 0);
            for round in 0..CLIENTS / 200 {
                // More want to stay than there is room for.
                let stays = worker < 2 * ROOM && round == 0;
                let (bytes, is_accepted) = bytes_to(&proxy, stays).await;
                most = most.max(bytes);
                accepted += usize::from(is_accepted);
            }
            (most, accepted)
        });
    }
    let (mut most, mut accepted) = (0, 0);
    let mut highest = 0.0_f64;
    while !workers.is_empty() {
        tokio::select! {
            Some(done) = workers.join_next() => {
                let (bytes, closed) = done.expect("each was answered");
                most = most.max(bytes);
                accepted += closed;
            }
            closing = proxy.metric("outrigger_refusals_closing") => {
                highest = highest.max(closing);
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    assert!(highest > 10.0 && highest <= ROOM as f64, "{highest} were told at once");
    assert!(most < 600, "one was sent {most} bytes");
    assert!(accepted >= ROOM, "{accepted}");
    let not_closed = proxy.metric("outrigger_refusals_not_closed_total").await;
    assert_eq!(accepted as f64 + not_closed, CLIENTS as f64);
    assert_eq!(outcome(&proxy, "at_capacity").await, CLIENTS as f64);
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn cross_site_websocket_hijacking() {
    let upstream = Upstream::echo().await;
    for missing in [true, false] {
        let proxy = Proxy::to(&upstream);
        let proxy = proxy.policy(move |policy| policy.origins = only_from("app.example.com", missing));
        let proxy = proxy.spawn().await;
        upstream.forget();
        for origin in
            ["https://evil.test", "null", "http://app.example.com", "https://app.example.com.evil.test"]
        {
            assert_ours(&proxy.dial().header("Origin", origin).refused().await, 403, "origin");
        }
        let twice =
            proxy.dial().header("Origin", "https://app.example.com").also("Origin", "https://evil.test");
        assert_ours(&twice.refused().await, 403, "origin");
        assert_eq!(outcome(&proxy, "foreign_origin").await, 5.0);
        if !missing {
            assert_ours(&proxy.dial().refused().await, 403, "origin");
        }
        assert_eq!(upstream.handshakes().len(), 0, "the server hears of none of them");
        proxy.dial().header("Origin", "https://app.example.com").open().await;
        if missing {
            proxy.connect("/").await;
        }
    }
}

#[tokio::test]
async fn pages_are_asked_about_plain_requests_where_those_are_guarded() {
    let upstream = Upstream::echo().await;
    for (mode, expected) in [(HttpMode::Pass, 200), (HttpMode::Guard, 403)] {
        let proxy = Proxy::to(&upstream).policy(move |policy| {
            policy.origins = only_from("app.example.com", true);
            policy.http.mode = mode;
        });
        let proxy = proxy.spawn().await;
        let foreign = proxy.plain().header("Origin", "https://evil.test").answer().await;
        assert_eq!(foreign.response.status(), expected, "{mode:?}");
        assert_eq!(proxy.plain().answer().await.response.status(), 200, "{mode:?}: from the page itself");
        let known = proxy.plain().header("Origin", "https://app.example.com").answer().await;
        assert_eq!(known.response.status(), 200, "{mode:?}");
    }
}

/// A policy's keys, and the origins that its pages come from.
fn guarding(yaml: &str) -> String {
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config/files/api_keys");
    yaml.replace("ORIGINS", "origins: ['https://app.example.com']")
        .replace("AUTH", &format!("auth: {{api_keys: {{file: '{keys}'}}}}"))
}

#[tokio::test]
async fn plain_http_meets_the_guards_of_its_policy_unless_pass_is_written() {
    // what is written; what a foreign page and a client without credentials get on the route, and off it
    let cases = [
        ("policy: {}", 200, 200),
        ("policy: {ORIGINS}", 403, 403),
        ("policy: {AUTH}", 401, 401),
        ("policy: {AUTH, http: {mode: auto}}", 401, 401),
        ("policy: {AUTH, ORIGINS, http: {mode: pass}}", 200, 200),
        ("policy: {AUTH, ORIGINS, http: {mode: refuse}}", 404, 404),
        ("routes: [{path: /socket.io/, policy: {AUTH}}]", 401, 200),
        ("policy: {AUTH}\nroutes: [{path: /socket.io/, policy: {auth: null}}]", 200, 401),
        ("policy: {AUTH}\nroutes: [{path: /socket.io/, policy: {http: {mode: pass}}}]", 200, 401),
        ("policy: {http: {mode: pass}}\nroutes: [{path: /socket.io/, policy: {AUTH}}]", 200, 200),
    ];
    for (written, on_route, off_route) in cases {
        let upstream = Upstream::echo().await;
        let proxy = Proxy::to(&upstream).yaml(&guarding(written)).spawn().await;
        let ask = |method, path| {
            let dial = proxy.plain().method(method).path(path).header("Origin", "https://evil.test");
            async move { dial.answer().await.response.status() }
        };
        // A Socket.IO client that polls: it connects, and emits.
        assert_eq!(ask("GET", "/socket.io/?EIO=4&transport=polling").await, on_route, "{written}");
        assert_eq!(ask("POST", "/socket.io/?EIO=4&transport=polling&sid=x").await, on_route, "{written}");
        assert_eq!(ask("GET", "/").await, off_route, "{written}");
        let reached = upstream.requests().len();
        assert_eq!(reached, [on_route, on_route, off_route].iter().filter(|status| **status == 200).count());
    }
}

#[tokio::test]
async fn another_sites_page_is_known_without_an_origin_where_requests_are_guarded() {
    let upstream = Upstream::echo().await;
    const NAVIGATION: [(&str, &str); 2] = [("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")];
    const IMAGE: [(&str, &str); 2] = [("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image")];
    const FRAME: [(&str, &str); 2] = [("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")];
    // Sec-Fetch-Site, what else the browser says, and what it gets where Origin may be missing, and where not
    type Case = (&'static str, &'static [(&'static str, &'static str)], u16, u16);
    let cases: [Case; 8] = [
        ("", &[], 200, 403),
        ("cross-site", &[], 403, 403),
        ("cross-site", &IMAGE, 403, 403),
        ("cross-site", &FRAME, 403, 403),
        // Somebody follows a link: the page that it was on does not see what comes.
        ("cross-site", &NAVIGATION, 200, 403),
        ("same-site", &IMAGE, 200, 403),
        ("same-origin", &IMAGE, 200, 200),
        ("none", &NAVIGATION, 200, 200),
    ];
    for missing in ["allow", "refuse"] {
        let written =
            format!("policy: {{origins: {{allow: ['https://app.example.com'], missing: {missing}}}}}");
        let proxy = Proxy::to(&upstream).yaml(&written).spawn().await;
        for (site, others, allowed, refused) in cases {
            let dial = others.iter().fold(proxy.plain(), |dial, (name, value)| dial.header(name, value));
            let dial = if site.is_empty() { dial } else { dial.header("Sec-Fetch-Site", site) };
            let status = dial.answer().await.response.status();
            let expected = if missing == "allow" { allowed } else { refused };
            assert_eq!(status, expected, "{missing}, {site} {others:?}");
        }
        let post = proxy.plain().method("POST").header("Sec-Fetch-Site", "cross-site");
        let post = NAVIGATION.iter().fold(post, |dial, (name, value)| dial.header(name, value));
        assert_ours(&post.answer().await.response, 403, "origin");
    }
}

#[tokio::test]
async fn a_preflight_passes_to_the_server_for_a_page_that_may_come_and_for_no_other() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml(&guarding("policy: {AUTH, ORIGINS}")).spawn().await;
    let preflight = |origin| {
        let dial = proxy.plain().method("OPTIONS").path("/socket.io/").header("Origin", origin);
        let dial =
            dial.header("Access-Control-Request-Method", "POST").header("Sec-Fetch-Site", "cross-site");
        async move { dial.answer().await.response }
    };
    assert_eq!(preflight("https://app.example.com").await.status(), 200);
    assert_ours(&preflight("https://evil.test").await, 403, "origin");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_foreign_page_is_named_in_the_answer_and_in_the_log() {
    let long = format!("https://{}.test", "a".repeat(5000));
    let cases = [
        ("https://evil.test", "https://evil.test"),
        ("null", "null"),
        ("https://user:hunter2@evil.test/x?token=hunter2", "https://evil.test/x?\u{2026}"),
        (&long, "https://aaaa"),
    ];
    for (sent, shown) in cases {
        for is_handshake in [true, false] {
            let (logged, _logging) = Logged::of_this_thread();
            let upstream = Upstream::echo().await;
            let proxy = Proxy::to(&upstream).yaml(&guarding("policy: {ORIGINS}")).spawn().await;
            let dial = if is_handshake { proxy.dial() } else { proxy.plain() };
            let refused = dial.path("/chat?token=hunter2").header("Origin", sent).answer().await.response;
            assert_ours(&refused, 403, "origin");
            let text = refused.text();
            assert!(text.contains(shown) && text.contains("policy.origins"), "{text}");
            assert!(text.len() < 600 && !text.contains("hunter2"), "{text}");
            let line = logged.line("refused");
            assert!(line["origin"].as_str().is_some_and(|origin| origin.starts_with(shown)), "{line}");
            assert_eq!((&line["reason"], &line["path"]), (&"origin".into(), &"/chat".into()), "{line}");
            assert!(line["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1:")), "{line}");
            assert!(line.to_string().len() < 1500 && !logged.text().contains("hunter2"), "{line}");
        }
    }
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::echo().await;
    let none = "policy: {origins: {allow: ['https://app.example.com'], missing: refuse}}";
    let proxy = Proxy::to(&upstream).yaml(none).spawn().await;
    let text = proxy.dial().refused().await.text();
    assert!(text.contains("no Origin") && text.contains("policy.origins.missing"), "{text}");
    assert_eq!(logged.line("refused")["origin"], serde_json::Value::Null);
}

#[tokio::test]
async fn requests_spend_no_handshakes_and_handshakes_no_requests() {
    let upstream = Upstream::echo().await;
    let written = "policy: {handshake_rate: {global: {rate: 1/h, burst: 2}, per_ip: {rate: 1/h, burst: 2}}}";
    let proxy = Proxy::to(&upstream).yaml(written).spawn().await;
    for _ in 0..100 {
        assert_eq!(proxy.plain().answer().await.response.status(), 200, "no rate holds for requests");
    }
    let _inside = [proxy.connect("/").await, proxy.connect("/").await];
    assert_ours(&proxy.dial().refused().await, 429, "rate_per_ip");
    assert_eq!(proxy.plain().answer().await.response.status(), 200);

    for (rate, reason) in [
        ("global: {rate: 1/h, burst: 3}", "http_rate_global"),
        ("per_ip: {rate: 1/h, burst: 3}", "http_rate_per_ip"),
    ] {
        let written = format!("policy: {{http: {{rate: {{{rate}}}}}}}");
        let proxy = Proxy::to(&upstream).yaml(&written).spawn().await;
        for _ in 0..3 {
            assert_eq!(proxy.plain().answer().await.response.status(), 200, "{reason}");
        }
        let refused = proxy.plain().answer().await.response;
        assert_ours(&refused, 429, reason);
        assert!(refused.text().contains("requests"), "{}", refused.text());
        assert!(retry_after(&refused) >= 50, "{}", retry_after(&refused));
        for _ in 0..10 {
            drop(proxy.connect("/").await);
        }
        let refusals = format!("outrigger_refusals_total{{route=\"default\",reason=\"{reason}\"}}");
        assert_eq!(proxy.metric(&refusals).await, 1.0);
        let limit = if reason == "http_rate_global" { "http_rate" } else { "http_rate_per_ip" };
        let limit = format!("outrigger_limit{{kind=\"{limit}\",route=\"default\"}}");
        assert!(proxy.metric(&limit).await < 0.001);
    }
}

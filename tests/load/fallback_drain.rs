//! Event streams and polls that wait are open when the proxy is stopped: they go one after the other within the spread, each
//! client is told that it is to come back, and nobody is waited for.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::fallback_client::{Ask, Caller};
use crate::support::proxy::Proxy;
use crate::support::upstream::Upstream;
use crate::support::wait::eventually;
use crate::support::{A_MOMENT, DEADLINE};

/// Of streams and of polls, on each of the two routes.
const EACH: usize = 25;
/// Every fifth comes over HTTP/2.
const HTTP2: usize = 5;
const SPREAD: Duration = Duration::from_secs(2);
/// Much longer than any of it may take.
const TIMEOUT: Duration = Duration::from_secs(40);

const ROUTES: &str = "routes: [{name: feed, path: '/feed/{*rest}', mode: broadcast}, \
                      {name: chat, path: '/chat/{*rest}', mode: session}]";

/// A stream until its end: when it was told to come back.
async fn stream(caller: Caller, path: String) -> Instant {
    let mut stream = caller.stream(&Ask::get(format!("{path}/events"))).await.expect("a stream");
    let (mut names, mut bye) = (Vec::new(), json!(null));
    while let Some((name, data)) = stream.next().await {
        if data.get("bye").is_some() {
            bye = data["bye"]["why"].clone();
        }
        names.push(name);
    }
    let told = Instant::now();
    assert!(stream.retry.is_some_and(|retry| retry >= 1000), "{path}: the last word is when to come back");
    assert!(names.iter().all(|name| name == "outrigger"), "{path}: {names:?}");
    if path.starts_with("/chat") {
        assert_eq!(bye, "drain", "{path}");
    }
    told
}

/// A poll until its answer.
async fn poll(caller: Caller, path: String) -> Instant {
    let mut after = Ask::get(format!("{path}/poll?timeout=50s"));
    if path.starts_with("/chat") {
        let begun = caller.ask(&Ask::get(format!("{path}/poll"))).await;
        let ticket = begun.body["session"].as_str().unwrap_or_else(|| panic!("{begun:?}")).to_owned();
        after =
            Ask::get(format!("{path}/poll?timeout=50s&afterSequence=0")).with("x-outrigger-session", &ticket);
    }
    let told = caller.ask(&after).await;
    let at = Instant::now();
    let draining = (&told.body["draining"], &told.body["events"]);
    assert_eq!((told.status, draining), (200, (&json!(true), &json!([]))), "{path}: {told:?}");
    at
}

#[tokio::test]
async fn fifty_streams_and_fifty_polls_do_not_hold_a_drain_and_go_one_after_the_other() {
    let _alone = crate::alone().await;
    let upstream = Upstream::echo().await;
    let seconds = |time: Duration| format!("{}s", time.as_secs());
    let proxy = Proxy::to(&upstream)
        .yaml(ROUTES)
        .yaml("policy: {fallback: {sse: true, poll: true}, handshake_rate: {global: null, per_ip: null}}")
        .yaml(&format!(
            "drain: {{delay: 500ms, spread: {}, timeout: {}}}",
            seconds(SPREAD),
            seconds(TIMEOUT)
        ));
    let proxy = proxy.spawn().await;
    let mut clients = JoinSet::new();
    for n in 0..EACH {
        let is_http2 = n % HTTP2 == 0;
        for route in ["feed", "chat"] {
            // Five to a channel.
            let path = format!("/{route}/{}", n / 5);
            clients.spawn(stream(Caller::new(proxy.address(), is_http2).await, path.clone()));
            clients.spawn(poll(Caller::new(proxy.address(), is_http2).await, path));
        }
    }
    eventually(DEADLINE * 2, || async {
        let metrics = proxy.metrics().await;
        let mut there = Vec::new();
        for route in ["feed", "chat"] {
            for transport in ["sse", "poll"] {
                let sample =
                    format!("outrigger_fallback_clients{{route=\"{route}\",transport=\"{transport}\"}}");
                there.push(metrics.get(&sample).unwrap_or_default());
            }
        }
        if there == [EACH as f64; 4] { Ok(()) } else { Err(there) }
    })
    .await;
    let since = Instant::now();
    proxy.drain();
    proxy.ended_within(TIMEOUT).await;
    let took = since.elapsed();
    let mut told = clients.join_all().await;
    told.sort_unstable();
    let (first, last) = (told[0] - since, told[told.len() - 1] - since);
    eprintln!(
        "{} clients were told between {first:?} and {last:?}; the proxy ended after {took:?}",
        told.len()
    );
    assert!(took < TIMEOUT / 4, "{took:?}: nobody is waited for");
    assert!(last - first > SPREAD / 2, "they go one after the other: {first:?} to {last:?}");
    assert!(last < took + A_MOMENT, "each was told before the proxy ended: {last:?}");
}

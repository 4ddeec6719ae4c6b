//! Pages in Chromium: one that is reloaded or duplicated keeps its session, and what a page of another origin may ask is what
//! `origins` and the browser's word for where it comes from say.
//!
//! The page with a session is `tests/interop/fallback/session.mjs`. It and its server number what they say to each other, and
//! whatever does not follow is in `wrong`.

use std::time::Duration;

use serde_json::{Value, json};

use super::script::Script;
use crate::support::client::RawClient;
use crate::support::link::Received;
use crate::support::peer::{Peer, skipped};
use crate::support::proxy::Proxy;
use crate::support::wait::eventually;

const SERVER: &str = "fallback/server.mjs";
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_page_that_is_reloaded_keeps_its_session() {
    if skipped() {
        return;
    }
    let browser = Script::browser();
    let server = Peer::start(SERVER).await;
    let proxy = Proxy::to_url(server.url()).yaml(&routes(browser.pages().await, "")).spawn().await;
    // It is left as the browser leaves it, with 1001, or with a word of its own.
    for (tab, query) in ["", "?detach"].into_iter().enumerate() {
        let page = &*format!("tab {tab}");
        browser.visits(page, &format!("http://{}/session.html{query}", proxy.address())).await;
        let mut before = json!({ "messages": 0, "heard": 0 });
        for reloads in 0..=3 {
            if reloads > 0 {
                browser.does("reload", json!({ "page": page })).await;
            }
            let goes_on = |kept: &Value| {
                ["messages", "heard"].iter().all(|it| kept[it].as_u64() > before[it].as_u64().map(|n| n + 20))
            };
            before = until(&browser, page, "both sides are heard", goes_on).await;
            let mut told = vec!["anew"];
            told.resize(reloads + 1, "resumed");
            assert_eq!(before["told"], json!(told), "{before}");
        }
        assert_eq!(ordinal(&before["last"]), tab as u64 + 1, "the server has noticed nothing: {before}");
        browser.does("close", json!({ "page": page })).await;
    }
    assert_eq!(next_ordinal(&proxy).await, 3, "one connection of the server's for each tab");
    browser.ends().await;
    proxy.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn two_tabs_with_one_ticket_do_not_fight_for_its_session() {
    if skipped() {
        return;
    }
    let browser = Script::browser();
    let server = Peer::start(SERVER).await;
    let proxy = Proxy::to_url(server.url()).yaml(&routes(browser.pages().await, "")).spawn().await;
    // What a tab has confirmed is not kept for its copy, which would begin anew.
    let url = format!("http://{}/session.html?confirm=1000000", proxy.address());
    browser.visits("older", &url).await;
    until(&browser, "older", "it hears its server", |kept| kept["messages"].as_u64() > Some(20)).await;
    browser.does("duplicate", json!({ "page": "older", "as": "newer" })).await;

    let newer = until(&browser, "newer", "it has the session", |kept| kept["told"] != json!(["anew"])).await;
    let is_anew = |kept: &Value| kept["told"].as_array().is_some_and(|told| told.len() == 4);
    let older = until(&browser, "older", "it begins anew", is_anew).await;
    // Five seconds of what the server says.
    for (page, then) in [("newer", newer), ("older", older)] {
        let messages = then["messages"].as_u64().unwrap();
        until(&browser, page, "time passes", |kept| kept["messages"].as_u64() > Some(messages + 250)).await;
    }
    let newer = until(&browser, "newer", "it is well", |_| true).await;
    let older = until(&browser, "older", "it is well", |_| true).await;
    assert_eq!(newer["told"], json!(["anew", "resumed"]), "{newer}");
    assert_eq!(older["told"], json!(["anew", "taken_over", 1008, "anew"]), "{older}");
    assert_eq!((ordinal(&newer["last"]), ordinal(&older["last"])), (1, 2), "{newer} {older}");
    proxy.becomes(r#"outrigger_connections_total{route="session"}"#, 3.0).await;
    assert_eq!(next_ordinal(&proxy).await, 3);
    browser.ends().await;
    proxy.stop().await;
    server.stop().await;
}

/// What becomes of what a page asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The page has the answer.
    Read,
    /// It is done, and the page cannot know what came of it.
    LetIn,
    Refused,
}

/// What a page asks, and whether it has the browser's cookies sent with it.
const ASKED: [(&str, &str, &str); 5] = [
    ("image", "poll?timeout=0", ""),
    ("fetch", "poll?timeout=0", ""),
    ("fetch", "poll?timeout=0", ", {credentials: 'include'}"),
    ("events", "events", ""),
    ("events", "events", ", {withCredentials: true}"),
];

#[tokio::test]
async fn what_a_page_may_ask_is_what_origins_and_its_browser_say() {
    use Fate::{LetIn, Read, Refused};
    if skipped() {
        return;
    }
    let browser = Script::browser();
    let server = Peer::start(SERVER).await;
    let port = browser.pages().await;
    let listed = format!("http://127.0.0.1:{port}");
    let foreign = format!("http://localhost:{port}");
    let own = [LetIn, Read, Read, Read, Read];
    let anybody = [LetIn, Read, LetIn, Read, LetIn];
    // An image has no Origin: it is refused where the page would be let in.
    let allowed = [Refused, Read, Read, Read, Read];
    let refused = [Refused; 5];
    for (name, origins, is_typed_let_in, fates) in [
        ("any", String::new(), true, [own, anybody, anybody]),
        ("listed", format!(", origins: ['{listed}']"), true, [own, allowed, refused]),
        (
            "strict",
            format!(", origins: {{allow: ['{listed}'], missing: refuse}}"),
            false,
            [own, allowed, refused],
        ),
    ] {
        let proxy = Proxy::to_url(server.url()).yaml(&routes(port, &origins)).spawn().await;
        let at = format!("http://{}", proxy.address());
        for (page, fates) in [&at, &listed, &foreign].into_iter().zip(fates) {
            browser.visits("page", &format!("{page}/asking.html")).await;
            for (number, ((how, endpoint, options), fate)) in ASKED.into_iter().zip(fates).enumerate() {
                let who = format!("{name}: {how} {endpoint}{options} from {page}");
                let channel = format!("/feed/{}/{number}", page.replace(['/', ':'], ""));
                let ask = format!("asks.{how}('{at}{channel}/{endpoint}'{options})");
                let told = browser.runs("page", &ask).await;
                let is_read = told == "open" || told["status"] == 200;
                assert_eq!(is_read, fate == Read, "{who}: {told}");
                let channels = proxy.channels().await;
                let is_let_in = channels.iter().any(|there| there["channel"] == *channel);
                assert_eq!(is_let_in, fate != Refused, "{who}: {told}: {channels:?}");
            }
        }
        // Somebody types it: no page asks.
        let typed = browser.visits("typed", &format!("{at}/feed/typed/poll?timeout=0")).await;
        let expected = if is_typed_let_in { (200, Value::Null) } else { (403, "origin".into()) };
        assert_eq!((&typed["status"], &typed["reason"]), (&expected.0.into(), &expected.1), "{name}");
        proxy.stop().await;
    }
    browser.ends().await;
    server.stop().await;
}

#[tokio::test]
async fn a_page_that_may_sends_with_its_ticket_and_reads_why_it_is_refused() {
    if skipped() {
        return;
    }
    let browser = Script::browser();
    let server = Peer::start(SERVER).await;
    let port = browser.pages().await;
    let origins = format!(", origins: ['http://127.0.0.1:{port}']");
    let proxy = Proxy::to_url(server.url()).yaml(&routes(port, &origins)).spawn().await;
    let at = format!("http://{}", proxy.address());
    browser.visits("listed", &format!("http://127.0.0.1:{port}/asking.html")).await;
    browser.visits("foreign", &format!("http://localhost:{port}/asking.html")).await;

    let polled = browser.runs("listed", &format!("asks.fetch('{at}/session/poll')")).await;
    let ticket = body(&polled)["session"].as_str().expect("a session has a ticket").to_owned();
    let send = |m: u64, n: u64| {
        format!(
            "asks.fetch('{at}/session/send?n={n}', {{method: 'POST', body: '{{\"m\":{m}}}', \
             headers: {{'X-Outrigger-Session': '{ticket}'}}}})"
        )
    };
    let sent = browser.runs("listed", &send(1, 1)).await;
    assert_eq!((&sent["status"], &body(&sent)["received"]), (&202.into(), &1.into()), "{sent}");
    // Whoever has a ticket of somebody else has nothing by it on a page that may not connect.
    assert_eq!(browser.runs("foreign", &send(2, 2)).await, "TypeError");
    let unasked = format!(
        "asks.fetch('{at}/session/send?n=2&session={ticket}', {{method: 'POST', mode: 'no-cors', body: '{{\"m\":2}}'}})"
    );
    assert_eq!(browser.runs("foreign", &unasked).await["status"], 0, "it cannot read that it is refused");
    let sent = browser.runs("listed", &send(2, 2)).await;
    assert_eq!((&sent["status"], &body(&sent)["received"]), (&202.into(), &2.into()), "{sent}");

    let wrong = browser.runs("listed", &format!("asks.fetch('{at}/session/poll?limit=0')")).await;
    assert_eq!((&wrong["status"], &wrong["reason"]), (&400.into(), &"bad_request".into()), "{wrong}");
    let occupant = proxy.connect("/full").await;
    let full = browser.runs("listed", &format!("asks.fetch('{at}/full/poll')")).await;
    assert_eq!((&full["status"], &full["reason"]), (&503.into(), &"capacity".into()), "{full}");
    let seconds = full["retryAfter"].as_str().and_then(|seconds| seconds.parse::<u32>().ok());
    assert!(seconds.is_some(), "{full}");
    drop(occupant);
    browser.ends().await;
    proxy.stop().await;
    server.stop().await;
}

/// A session, a feed for each path, one with a single place, and the pages.
fn routes(pages: u16, policy: &str) -> String {
    let policy = format!("fallback: {{sse: true, poll: true}}{policy}");
    [
        "routes: [".to_owned(),
        format!("{{name: session, path: /session, mode: session, policy: {{{policy}}}}}, "),
        format!("{{name: feed, path: '/feed/{{*rest}}', mode: broadcast, policy: {{{policy}}}}}, "),
        format!(
            "{{name: full, path: /full, mode: broadcast, policy: {{{policy}, limits: {{connections: 1}}}}}}, "
        ),
        format!("{{name: pages, path: '/{{*rest}}', upstream: {{url: 'http://127.0.0.1:{pages}'}}}}]"),
    ]
    .concat()
}

/// What the session of a tab has come to once this holds; nothing of it may be wrong.
async fn until(browser: &Script, page: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(PATIENCE, async || {
        let kept = browser.runs(page, "window.look?.()").await;
        let is_there = !kept.is_null();
        assert!(!is_there || kept["wrong"] == json!([]), "{page}, until {what}: {kept}");
        if is_there && holds(&kept) { Ok(kept) } else { Err(format!("{page}, until {what}: {kept}")) }
    })
    .await
}

/// The how manieth of its connections a server says this on.
fn ordinal(said: &Value) -> u64 {
    let connection = said["connection"].as_str().and_then(|connection| connection.split_once('.'));
    connection.and_then(|(_, number)| number.parse().ok()).unwrap_or_else(|| panic!("no connection: {said}"))
}

/// Of a connection that is opened now.
async fn next_ordinal(proxy: &Proxy) -> u64 {
    let mut client: RawClient = proxy.connect("/session").await;
    match client.receive().await {
        Received::Frame(frame) => ordinal(&serde_json::from_slice(&frame.payload).expect("it says JSON")),
        other => panic!("{other:?}"),
    }
}

fn body(answer: &Value) -> Value {
    let body = answer["body"].as_str().unwrap_or_else(|| panic!("{answer}"));
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"))
}

//! What single lines of the log say: it is all there is at 3 am.

use outrigger::config::Config;
use outrigger::server::Server;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::support::DEADLINE;
use crate::support::client::RawClient;
use crate::support::logged::Logged;
use crate::support::proxy::Proxy;
use crate::support::upstream::{Act, Plain, Upstream};
use crate::support::wait::eventually;

#[tokio::test]
async fn a_failed_request_is_told_with_its_id() {
    let (logged, _logging) = Logged::of_this_thread();
    let proxy = Proxy::to_url("unix:///nobody/listens/here").spawn().await;

    let refused = proxy.dial().header("X-Request-Id", "handshake-7").refused().await;
    assert_eq!(refused.status(), 502);
    assert_eq!(logged.line("handshake failed")["request_id"], "handshake-7");

    let answer = proxy.plain().header("X-Request-Id", "plain-7").answer().await.response;
    assert_eq!(answer.status(), 502);
    assert_eq!(logged.line("request failed")["request_id"], "plain-7");
}

#[tokio::test]
async fn a_storm_against_a_dead_server_is_a_line_a_second_and_a_count_of_the_rest() {
    const STORM: u64 = 60;
    let (logged, _logging) = Logged::of_this_thread();
    let yaml = "routes: [{name: feed, path: '/feed/{*rest}', mode: broadcast}]\npolicy: {breaker: null}\n";
    let proxy = Proxy::to_url("unix:///nobody/listens/here").yaml(yaml).spawn().await;
    let began = Instant::now();
    for at in 0..STORM {
        assert_eq!(proxy.dial().path("/chat").refused().await.status(), 502);
        assert_eq!(proxy.plain().answer().await.response.status(), 502);
        // Each has a channel of its own.
        assert_eq!(proxy.dial().path(&format!("/feed/{at}")).refused().await.status(), 502);
    }
    let all = || -> Vec<Value> {
        logged.text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    // On both routes, and on one; and the dials of the other.
    let kinds = [
        ("handshake failed", "more handshakes failed", "default"),
        ("handshake failed", "more handshakes failed", "feed"),
        ("request failed", "more requests failed", "default"),
        ("no feed", "more channels had no server", "feed"),
    ];
    for (first, rest, route) in kinds {
        let told = eventually(DEADLINE, || async {
            let lines: Vec<Value> = all()
                .into_iter()
                .filter(|line| {
                    (line["message"] == first || line["message"] == rest) && line["route"] == route
                })
                .collect();
            let left_out: u64 = lines.iter().filter_map(|line| line["left_out"].as_u64()).sum();
            let lines_of_one = lines.iter().filter(|line| line["message"] == first).count() as u64;
            if left_out + lines_of_one == STORM {
                Ok(lines.len() as u64)
            } else {
                Err(format!("{first}: {lines:?}"))
            }
        })
        .await;
        let seconds = began.elapsed().as_secs() + 2;
        assert!(told <= seconds, "{told} lines with {first} in {seconds} s");
    }
    let counted = proxy.metrics().await;
    let errors = counted.get("outrigger_upstream_errors_total{kind=\"connect\"}");
    assert_eq!(errors, Some(3.0 * STORM as f64), "the counter knows each");
}

#[tokio::test]
async fn servers_of_many_feeds_that_come_and_go_are_a_line_a_second_and_a_count_of_the_rest() {
    const FEEDS: usize = 10;
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::builder().on_open([Act::Close(1001, "")]).spawn().await;
    let yaml = "routes: [{name: feed, path: '/feed/{*rest}', mode: broadcast}]\n\
                policy: {redial: {base: 1ms, cap: 20ms}}\n";
    let proxy = Proxy::to(&upstream).yaml(yaml).spawn().await;
    let began = Instant::now();
    let mut clients = Vec::new();
    for at in 0..FEEDS {
        clients.push(proxy.connect(&format!("/feed/{at}")).await);
    }
    let dials = "outrigger_uplink_dials_total{outcome=\"ok\",route=\"feed\"}";
    let again = eventually(DEADLINE, async || match proxy.metric(dials).await as u64 {
        dials if dials >= 200 => Ok(dials - FEEDS as u64),
        dials => Err(dials),
    })
    .await;
    let told: Vec<Value> = logged.text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |words: &str| told.iter().filter(|line| line["message"] == words).count();
    let (first, on) = (of("a feed is connected"), of("the feed goes on"));
    assert_eq!(first, FEEDS, "each is told when it begins");
    let seconds = began.elapsed().as_secs() as usize + 2;
    assert!((1..=seconds).contains(&on), "{on} lines for {again} redials in {seconds} s");
    assert!(!logged.line("the feed goes on")["request_id"].is_null());
}

#[tokio::test]
async fn a_client_that_is_cut_before_its_turn_was_told_nothing() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::echo().await;
    let config = format!(
        "listen: {{address: '127.0.0.1:0'}}\nadmin: {{address: '127.0.0.1:0'}}\nupstream: {{url: '{}'}}\n\
         drain: {{delay: 1h, timeout: 2h}}\n",
        upstream.url()
    );
    let server = Server::bind(Config::from_yaml(&config).unwrap()).await.unwrap();
    let (address, lifecycle) = (server.address().unwrap(), server.lifecycle());
    let (hurry, hurried) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run_until(hurried));
    let mut client = RawClient::connect(address, "/").await;
    lifecycle.request_stop();
    eventually(DEADLINE, async || logged.find("draining")).await;
    // By the time this is back the connection knows its place in the schedule.
    client.text("still here").await;
    client.expect_text("still here").await;
    hurry.send(()).unwrap();
    running.await.unwrap();

    let line = logged.line("disconnected");
    assert_eq!(
        (&line["reason"], &line["code"], &line["by"]),
        (&"drained".into(), &Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn whoever_is_refused_has_a_line_with_route_reason_and_client() {
    let routes = "routes: [{name: chat, path: '/chat/{room}'}]";
    for (reason, policy) in [
        ("rate_global", "policy: {handshake_rate: {global: {rate: 1/h, burst: 1}}}"),
        ("rate_per_ip", "policy: {handshake_rate: {per_ip: {rate: 1/h, burst: 1}}}"),
        ("capacity", "policy: {limits: {connections: 1}}"),
        ("capacity_per_ip", "policy: {limits: {per_ip: 1}}"),
    ] {
        let (logged, _logging) = Logged::of_this_thread();
        let upstream = Upstream::echo().await;
        let trusting = "trusted_proxies: [loopback]";
        let proxy = Proxy::to(&upstream).yaml(routes).yaml(policy).yaml(trusting).spawn().await;
        let ask = || proxy.dial().path("/chat/7?token=secret").header("X-Forwarded-For", "203.0.113.9");
        let _inside = ask().open().await;
        assert_eq!(logged.find("refused"), None, "{reason}");
        let refused = ask().header("X-Request-Id", "request-7").refused().await;
        assert_eq!(refused.header("X-Outrigger-Reason"), Some(reason));
        let line = logged.line("refused");
        for (field, value) in [
            ("level", "WARN"),
            ("route", "chat"),
            ("reason", reason),
            ("client", "203.0.113.9"),
            ("request_id", "request-7"),
            ("path", "/chat/7"),
        ] {
            assert_eq!(line[field], value, "{field} of {line}");
        }
        assert_eq!(line["left_out"], Value::Null, "there were no others: {line}");
        assert!(!logged.text().contains("secret"), "{}", logged.text());
    }
}

#[tokio::test]
async fn a_storm_of_refusals_writes_few_lines_and_leaves_none_uncounted() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::echo().await;
    let settings = "policy: {limits: {connections: 1}}";
    let proxy = Proxy::to(&upstream).yaml(settings).spawn().await;
    let _inside = proxy.connect("/").await;
    let since = Instant::now();
    for _ in 0..100 {
        assert_eq!(proxy.dial().refused().await.header("X-Outrigger-Reason"), Some("capacity"));
    }
    let told = || {
        let text = logged.text();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lines = Vec::from_iter(lines.filter(|line| line["reason"] == "capacity"));
        let own = lines.iter().filter(|line| line["message"] == "refused").count() as u64;
        let others: u64 = lines.iter().filter_map(|line| line["left_out"].as_u64()).sum();
        (lines.len() as u64, own + others)
    };
    eventually(DEADLINE, async || told().1 == 100).await;
    let most = since.elapsed().as_secs() + 2;
    assert!(told().0 <= most, "{} lines in {most} seconds", told().0);
}

#[tokio::test]
async fn plain_requests_have_a_line_each_where_that_is_wanted() {
    // log.requests, and of which requests there is a line: answered 200, answered 404, not found by us, cut off
    for (wanted, told) in [("off", [false; 4]), ("errors", [false, true, true, true]), ("all", [true; 4])] {
        let (logged, _logging) = Logged::of_this_thread();
        let upstream = Upstream::builder()
            .on_request(Plain::fixed(200, &[("Connection", "close")], "hello"))
            .spawn()
            .await;
        let settings = format!(
            "log: {{requests: {wanted}}}\nroutes: [{{path: /no, policy: {{http: {{mode: refuse}}}}}}]"
        );
        let proxy = Proxy::to(&upstream).yaml(&settings).spawn().await;
        let ask = |id: &str, path: &str| proxy.plain().path(path).header("X-Request-Id", id);
        let line = |id: &str| {
            let text = logged.text();
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            lines.filter(|line| line["message"] == "request").find(|line| line["request_id"] == id)
        };
        assert_eq!(ask("good", "/a?token=hunter2").answer().await.response.status(), 200);
        upstream.change(Upstream::builder().on_request(Plain::fixed(404, &[("Connection", "close")], "no")));
        assert_eq!(ask("missing", "/b").method("POST").answer().await.response.status(), 404);
        assert_eq!(ask("refused", "/no").answer().await.response.status(), 404);
        upstream.change(Upstream::builder().on_request(Plain::Silent));
        let before = upstream.requests().len();
        let left = ask("left", "/c").send().await;
        eventually(DEADLINE, async || upstream.requests().len() > before).await;
        left.reset();
        for (id, told) in ["good", "missing", "refused", "left"].into_iter().zip(told) {
            if told {
                eventually(DEADLINE, async || line(id)).await;
            }
        }
        eventually(DEADLINE, async || upstream.open() == 0).await;
        let found = ["good", "missing", "refused", "left"].map(|id| line(id).is_some());
        assert_eq!(found, told, "{wanted}: {}", logged.text());
        if wanted == "all" {
            let good = line("good").unwrap();
            assert_eq!(
                (&good["method"], &good["path"], &good["status"]),
                (&"GET".into(), &"/a".into(), &200.into())
            );
            assert_eq!((&good["route"], &good["bytes_out"]), (&"default".into(), &5.into()), "{good}");
            assert!(good["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{good}");
            assert!(good["duration_ms"].is_u64(), "{good}");
            assert_eq!(line("missing").unwrap()["method"], "POST");
            assert_eq!(line("refused").unwrap()["reason"], "http_refused");
            assert_eq!(line("left").unwrap()["status"], Value::Null, "nobody was answered");
        }
        assert!(!logged.text().contains("hunter2"), "{}", logged.text());
    }
}

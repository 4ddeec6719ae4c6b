//! What single lines of the log say: it is all there is at 3 am.

#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test, as it should")]

mod support;

use outrigger::config::Config;
use outrigger::server::Server;
use serde_json::Value;
use tokio::sync::oneshot;

use support::DEADLINE;
use support::client::RawClient;
use support::logged::Logged;
use support::proxy::Proxy;
use support::upstream::Upstream;
use support::wait::eventually;

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
async fn a_client_that_is_cut_before_its_turn_was_told_nothing() {
    let (logged, _logging) = Logged::of_this_thread();
    let upstream = Upstream::echo().await;
    let config = format!(
        "listen: {{address: '127.0.0.1:0'}}\nadmin: {{address: '127.0.0.1:0'}}\nupstream: {{url: '{}'}}\n\
         drain: {{delay: 1h, timeout: 2h}}\n",
        upstream.url()
    );
    let server = Server::bind(Config::from_yaml(&config).unwrap()).await.unwrap();
    let (address, lifecycle) = (server.address(), server.lifecycle());
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

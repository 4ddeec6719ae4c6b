//! A drain lets sessions go one by one, whether their server is there or not, and a reload leaves them alone.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::DEADLINE;
use crate::support::binary::{Builder, Running};
use crate::support::client::RawClient;
use crate::support::files::Folder;
use crate::support::link::End;
use crate::support::session::{Death, RESTORED, Session, die, hears, said};
use crate::support::upstream::{Plain, ServerConn, Upstream};
use crate::support::wait::eventually;

/// A session, a drain that has begun, and a plain request that keeps the proxy there for long enough to be asked what
/// it saw.
async fn draining(policy: &str, drain: &str) -> (Session, (impl Sized, ServerConn)) {
    let upstream = Upstream::builder().on_request(Plain::HandOver);
    let drain = drain.to_owned();
    let session = Session::before(upstream, policy, |dial| dial, |proxy| proxy.yaml(&drain)).await;
    let straggler = (session.proxy.plain().send().await, session.upstream.accept().await);
    session.proxy.drain();
    eventually(DEADLINE, || async { session.proxy.metric("outrigger_draining").await == 1.0 }).await;
    (session, straggler)
}

#[tokio::test]
async fn a_drain_closes_both_sides_after_all_that_was_said() {
    let (mut session, _straggler) = draining("", "drain: {spread: 500ms, close_code: 4013}").await;
    session.server().text("last words").await;
    session.client.text("last words too").await;
    session.server().expect_text("last words too").await;
    session.client.expect_text("last words").await;
    let (client, server) = session.closed().await;
    assert_eq!(said(&client), (4013, "server is restarting", End::Eof));
    assert_eq!(said(&server), (1001, "proxy is draining", End::Eof));
    session.is_over("drain", "drained").await;
}

#[tokio::test]
async fn a_server_that_is_lost_in_a_drain_is_not_dialled_and_changes_nobodys_schedule() {
    for death in [Death::Reset, Death::Fin, Death::Close(1001), Death::Close(1012)] {
        let (mut session, _straggler) = draining("", "drain: {delay: 300ms, spread: 0s}").await;
        let since = Instant::now();
        session.server().text("last words").await;
        session.die(death).await;
        session.client.expect_text("last words").await;
        let closed = session.client.closed().await;
        assert_eq!(said(&closed), (1012, "server is restarting", End::Eof), "{death:?}");
        assert!(since.elapsed() >= Duration::from_millis(200), "at its own time: {:?}", since.elapsed());
        session.is_over("drain", "drained").await;
        assert_eq!(session.upstream.handshakes().len(), 1, "{death:?}: nobody dialled");
    }
}

#[tokio::test]
async fn a_server_that_is_away_when_the_drain_begins_is_not_dialled_any_more() {
    let upstream = Upstream::builder().on_request(Plain::HandOver);
    let yaml = "drain: {delay: 500ms, spread: 0s, timeout: 5s}";
    let mut session = Session::before(upstream, "", |dial| dial, |proxy| proxy.yaml(yaml)).await;
    session.lose(Death::Reset).await;
    session.proxy.drain();
    eventually(DEADLINE, || async { session.proxy.metric("outrigger_draining").await == 1.0 }).await;
    let handshakes = session.upstream.handshakes().len();
    session.upstream.start().await;
    let closed = session.client.closed().await;
    assert_eq!(said(&closed), (1012, "server is restarting", End::Eof));
    assert_eq!(session.upstream.handshakes().len(), handshakes);
    session.proxy.ended_within(DEADLINE).await;
}

#[tokio::test]
async fn a_final_word_of_the_server_in_a_drain_is_heard() {
    let (mut session, _straggler) = draining("", "drain: {spread: 4s}").await;
    session.server().close(4000, "game over").await;
    let (client, server) = session.closed().await;
    assert_eq!(said(&client), (4000, "game over", End::Eof));
    assert_eq!(server.code, 4000);
    session.is_over("server", "upstream_close").await;
}

#[tokio::test]
async fn a_drain_ends_when_the_last_session_has_ended_on_both_sides() {
    let session = Session::open("").await;
    let Session { mut client, proxy, upstream: _upstream, .. } = session;
    proxy.drain();
    let since = Instant::now();
    assert_eq!(client.closed().await.code, 1012);
    // Its server does not answer: what is waited for is its `close_timeout`, and not the end of the drain's time.
    proxy.ended_within(DEADLINE).await;
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
}

#[tokio::test]
async fn closes_of_many_sessions_are_spread() {
    let upstream = Upstream::echo().await;
    let proxy = crate::support::session::session(&upstream, "");
    let proxy = proxy.yaml("drain: {spread: 1s, timeout: 5s}").spawn().await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let mut client = proxy.connect("/").await;
        clients.spawn(async move {
            assert_eq!(client.closed().await.code, 1012);
            Instant::now()
        });
    }
    proxy.attached(60.0).await;
    proxy.drain();
    let mut times = clients.join_all().await;
    times.sort_unstable();
    let took = times[59] - times[0];
    assert!(took > Duration::from_millis(500), "over the spread: {took:?}");
    proxy.ended_within(DEADLINE).await;
    // The server may not have read its last Close yet.
    eventually(DEADLINE, || async { upstream.endings().len() == 60 }).await;
    let endings = upstream.endings();
    assert!(endings.iter().all(|end| (end.code, &*end.reason) == (1001, "proxy is draining")), "{endings:?}");
}

const APPLIED: &str = "outrigger_config_reloads_total{outcome=\"applied\"}";

async fn applied(running: &Running, count: f64) {
    eventually(DEADLINE, || async {
        let metrics = running.metrics().await;
        match metrics.get(APPLIED) == Some(count) {
            true => Ok(()),
            false => Err(format!("{:?}\n{}", metrics.get(APPLIED), running.binary.said())),
        }
    })
    .await;
}

fn yaml(upstream: &Upstream, policy: &str, mode: &str) -> String {
    format!(
        "listen: {{ address: '127.0.0.1:0' }}\nadmin: {{ address: '127.0.0.1:0' }}\nupstream: {{ url: '{}' }}\n\
         policy: {{ redial: {{ base: 10ms, cap: 50ms }}, {policy} }}\n\
         routes: [{{ name: chat, path: '/{{*rest}}', mode: {mode} }}]\n",
        upstream.url()
    )
}

#[tokio::test]
async fn a_reload_keeps_sessions_and_they_keep_the_settings_and_the_server_that_they_began_with() {
    let (old, new) = (Upstream::by_hand().await, Upstream::by_hand().await);
    let folder = Folder::new("sessions");
    folder
        .write("outrigger.yaml", &yaml(&old, "notices: true, max_message: 1000, max_frame: 1000", "session"));
    let file = folder.path("outrigger.yaml");
    let running = Builder::new(&["run", "--config", file.to_str().unwrap()]).spawn().ready().await;
    let mut client = RawClient::connect(running.address(), "/").await;
    let mut server = old.accept().await;

    for (round, mode) in [(1.0, "session"), (2.0, "tunnel"), (3.0, "broadcast")] {
        folder.write("outrigger.yaml", &yaml(&new, "max_message: 100, max_frame: 100", mode));
        // Once it watches, a file that is written is read; until then it is told.
        running.binary.signal("HUP").await;
        applied(&running, round).await;
        client.text(&"x".repeat(900)).await;
        server.expect_text(&"x".repeat(900)).await;
        server.answer_pings_for(Duration::from_millis(300)).await;
        die(server, Death::Reset).await;
        server = old.accept().await;
        client.expect_text(crate::support::session::LOST).await;
        client.expect_text(RESTORED).await;
        client.text(mode).await;
        hears(&mut server, &[mode]).await;
        server.text("back").await;
        client.expect_text("back").await;
        server.answer_pings_for(Duration::from_millis(300)).await;
    }
    assert_eq!(new.accepted(), 0, "nobody else has come");
    let mut newcomer = RawClient::connect(running.address(), "/").await;
    new.accept().await.text("hello").await;
    newcomer.expect_text("hello").await;
}

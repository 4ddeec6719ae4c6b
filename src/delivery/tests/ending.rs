//! How clients of a feed end.

use super::*;
use crate::connections::Command;
use crate::delivery::close::{CloseCause, Dismissal};
use crate::frame::CloseCode;
use crate::telemetry::{By, Reason};

#[tokio::test(start_paused = true)]
async fn a_close_is_answered_and_a_loss_noticed() {
    let mut stage = Stage::open("");
    let (mut polite, mut gone) = (stage.come(false), stage.come(false));
    stage.turn().await;
    polite.say(0x88, &1000_u16.to_be_bytes());
    gone.socket = None;
    stage.turn().await;
    assert_eq!(polite.close_code(), Some(1000));
    assert!(polite.is_ended && polite.held.upgrade().is_none() && gone.held.upgrade().is_none());
    let ends = stage.ends();
    assert_eq!((ends["client_close"], ends["client_lost"], stage.registry.len()), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_is_over_closes_its_clients_after_its_last_message() {
    let mut stage = Stage::open("");
    let mut clients: Vec<_> = (0..100).map(|_| stage.come(false)).collect();
    stage.turn().await;
    stage.write("last");
    let cause = CloseCause::new(Reason::UpstreamClose, By::Upstream, CloseCode(4001), "match over");
    stage.shard_handle.close(&Arc::new(cause));
    stage.turn().await;
    for client in &mut clients {
        let heard = client.hear();
        assert_eq!(heard[0], (0x81, b"last".to_vec()));
        assert_eq!((heard[1].0, &heard[1].1[2..]), (0x88, &b"match over"[..]));
        client.say(0x88, &4001_u16.to_be_bytes());
    }
    stage.turn().await;
    assert_eq!(stage.ends(), HashMap::from([("upstream_close".to_owned(), 100)]));
    let mut late = stage.come(false);
    stage.turn().await;
    assert_eq!(late.close_code(), Some(4001), "who comes later is closed as well");
    stage.shard_handle.shut();
    stage.turn().await;
    late.say(0x88, &4001_u16.to_be_bytes());
    stage.turn().await;
    assert!(stage.shard.is_none(), "nobody is left, and nobody comes");
}

/// What a feed whose server is another one now closes its clients with.
fn dismissal(over: Duration) -> Arc<Dismissal> {
    let cause = CloseCause::new(Reason::UpstreamLost, By::Proxy, CloseCode(1012), "upstream lost");
    Arc::new(Dismissal { cause: Arc::new(cause), from: Instant::now(), over })
}

#[tokio::test(start_paused = true)]
async fn clients_that_are_dismissed_are_closed_one_by_one_and_served_until_then() {
    let mut stage = Stage::open("policy: {heartbeat: null}");
    let mut clients: Vec<_> = (0..200).map(|_| stage.come(false)).collect();
    stage.turn().await;
    stage.shard_handle.dismiss(&dismissal(secs(20)));
    // On the way when it was said: it has not been heard yet.
    let mut late = stage.come(false);
    stage.turn().await;
    let mut closed = 0;
    for second in 1..=20 {
        stage.write(&second.to_string());
        stage.pass(secs(1)).await;
        let now = clients.extract_if(.., |client| {
            let heard = client.hear();
            let is_closed = heard.last().is_some_and(|(first, _)| *first == 0x88);
            assert!(heard.iter().any(|(first, _)| *first == 0x81), "it hears what comes until then");
            is_closed
        });
        let now = now.count();
        assert!((8..=12).contains(&now), "{now} in second {second}");
        closed += now;
        assert_eq!(late.messages(), [second.to_string()]);
    }
    assert_eq!((closed, clients.len()), (200, 0), "all of them");
    stage.pass(secs(60)).await;
    assert_eq!(stage.ends(), HashMap::from([("upstream_lost".to_owned(), 200)]));
    assert!(!late.is_ended, "whoever came later stays");
}

#[tokio::test(start_paused = true)]
async fn a_dismissal_keeps_nobody_beyond_an_earlier_one_or_the_end_of_the_feed() {
    let mut stage = Stage::open("policy: {heartbeat: null}");
    let mut first = stage.come(false);
    stage.turn().await;
    stage.shard_handle.dismiss(&dismissal(Duration::ZERO));
    // Before it was heard of.
    stage.shard_handle.dismiss(&dismissal(Duration::ZERO));
    stage.turn().await;
    assert_eq!(first.close_code(), Some(1012));
    let mut second = stage.come(false);
    stage.turn().await;
    let early =
        Dismissal { from: Instant::now() + secs(5), ..Arc::into_inner(dismissal(Duration::ZERO)).unwrap() };
    stage.shard_handle.dismiss(&Arc::new(early));
    stage.turn().await;
    // Again and again, as a server does that comes and goes.
    for _ in 0..4 {
        let late = Arc::into_inner(dismissal(Duration::ZERO)).unwrap();
        stage.shard_handle.dismiss(&Arc::new(Dismissal { from: Instant::now() + secs(5), ..late }));
        stage.pass(secs(1)).await;
        assert_eq!(second.close_code(), None);
    }
    stage.pass(secs(1)).await;
    assert_eq!(second.close_code(), Some(1012));
    // The end of the feed comes first, also for one that was to stay for a while.
    let mut third = stage.come(false);
    stage.turn().await;
    let late = Arc::into_inner(dismissal(Duration::ZERO)).unwrap();
    stage.shard_handle.dismiss(&Arc::new(Dismissal { from: Instant::now() + secs(60), ..late }));
    stage.turn().await;
    let over = CloseCause::new(Reason::UpstreamClose, By::Upstream, CloseCode(4001), "over");
    stage.shard_handle.close(&Arc::new(over));
    stage.turn().await;
    assert_eq!(third.close_code(), Some(4001));
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_given_up() {
    let mut stage = Stage::open("policy: {heartbeat: {interval: 10s, timeout: 5s, max_missed: 2}}");
    let mut silent = stage.come(false);
    let mut alive = stage.come(false);
    for _ in 0..30 {
        stage.pass(secs(1)).await;
        for (first, payload) in alive.hear() {
            assert_eq!(first, 0x89);
            alive.say(0x8a, &payload);
        }
    }
    assert_eq!(stage.ends(), HashMap::from([("heartbeat_timeout".to_owned(), 1)]));
    silent.hear();
    assert!(silent.is_ended && !alive.is_ended);
}

#[tokio::test(start_paused = true)]
async fn the_json_heartbeat_is_told_from_messages() {
    let mut stage =
        Stage::open("policy: {heartbeat: {mode: json, interval: 10s, timeout: 5s, max_missed: 1}}");
    let mut client = stage.come(false);
    stage.pass(secs(10)).await;
    assert_eq!(client.messages(), [r#"{"type":"heartbeat"}"#]);
    client.say(0x81, br#"{"type":"pong"}"#);
    client.say(0x81, br#"{"type":"other"}"#);
    stage.pass(secs(8)).await;
    assert_eq!(stage.metric("uplink_dropped_total"), 1.0);
    assert_eq!(stage.registry.len(), 1);
    stage.pass(secs(8)).await;
    assert_eq!(stage.registry.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn idle_lifetime_drain_and_cut_end_a_client() {
    for (settings, code, reason, within) in [
        ("policy: {heartbeat: null, idle_timeout: 20s}", Some(1001), "idle_timeout", 20),
        ("policy: {max_lifetime: 25s}", Some(1012), "lifetime", 25),
    ] {
        let mut stage = Stage::open(settings);
        let mut client = stage.come(false);
        stage.pass(secs(within)).await;
        assert_eq!(client.close_code(), code, "{reason}");
        client.say(0x88, &1000_u16.to_be_bytes());
        stage.turn().await;
        assert_eq!(stage.ends(), HashMap::from([(reason.to_owned(), 1)]));
    }
    let mut stage = Stage::open("");
    let (mut drained, mut cut) = (stage.come(false), stage.come(false));
    stage.turn().await;
    let at = Instant::now() + secs(3);
    drained.handle.send(Command::CloseAt { at, code: CloseCode(1012) });
    cut.handle.send(Command::Cut);
    stage.pass(secs(2)).await;
    assert!(cut.hear().is_empty() && cut.is_ended);
    stage.write("still served");
    stage.turn().await;
    assert_eq!(drained.messages(), ["still served"]);
    stage.pass(secs(2)).await;
    assert_eq!(drained.close_code(), Some(1012));
    // It never answers.
    stage.pass(secs(5)).await;
    assert_eq!(stage.ends(), HashMap::from([("aborted".to_owned(), 1), ("drained".to_owned(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_user_has_a_newer_connection_is_told_so_whether_it_answers_or_not() {
    for answers in [true, false] {
        let mut stage = Stage::open("");
        let mut client = stage.come(false);
        stage.turn().await;
        // A drain has given it a date: that is not waited for.
        client.handle.send(Command::CloseAt { at: Instant::now() + secs(60), code: CloseCode(1012) });
        stage.turn().await;
        client.handle.send(Command::Replace);
        stage.turn().await;
        assert_eq!(client.close_code(), Some(1008));
        if answers {
            client.say(0x88, &1008_u16.to_be_bytes());
            stage.turn().await;
        } else {
            // Others come, and one more has to go: this one is waited for no longer.
            client.handle.send(Command::Cut);
            stage.turn().await;
        }
        assert_eq!(stage.ends(), HashMap::from([("replaced".to_owned(), 1)]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_rule_is_named() {
    for (bytes, code) in [
        (vec![0x83, 0x80, 0, 0, 0, 0], 1002),
        (frame(0x81, b"unmasked", false), 1002),
        (frame(0xc1, b"compressed", true), 1002),
        (vec![0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0], 1009),
    ] {
        let mut stage = Stage::open("");
        let mut client = stage.come(false);
        stage.turn().await;
        client.socket.as_mut().unwrap().write_all(&bytes).unwrap();
        stage.turn().await;
        assert_eq!(client.close_code(), Some(code), "{bytes:x?}");
        client.socket = None;
        stage.turn().await;
        assert_eq!(stage.registry.len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pong_that_came_in_time_counts_though_its_clock_is_looked_at_first() {
    for standstill in [secs(0), secs(3600)] {
        let mut stage = Stage::open("policy: {heartbeat: {interval: 30s, timeout: 10s, max_missed: 1}}");
        let mut client = stage.come(false);
        stage.pass(secs(30)).await;
        let (first, payload) = client.hear().remove(0);
        assert_eq!(first, 0x89);
        if standstill.is_zero() {
            client.say(0x8a, &payload);
            tokio::time::advance(secs(10)).await;
        } else {
            // Nothing but the timer tells that anything has happened.
            tokio::time::advance(standstill).await;
            client.say(0x8a, &payload);
            assert!(stage.poll());
        }
        stage.turn().await;
        stage.pass(secs(5)).await;
        assert_eq!(stage.registry.len(), 1, "{standstill:?}: {:?}", stage.ends());
        assert_eq!(stage.metric("heartbeat_missed_total"), 0.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_keeps_nobody_beyond_the_end_of_credentials_or_of_a_life_or_of_the_feed() {
    // The settings, the end of the credentials, the date of the drain; what comes when.
    for (settings, expires, drain, at, code, reason) in [
        ("", Some(20), 60, 20, 1008, "expired"),
        ("", Some(60), 20, 20, 1012, "drained"),
        ("policy: {max_lifetime: 20s}", None, 60, 20, 1012, "lifetime"),
    ] {
        let mut stage = Stage::open(settings);
        let start = Instant::now();
        stage.expires = expires.map(secs);
        let mut client = stage.come(false);
        stage.turn().await;
        client.handle.send(Command::CloseAt { at: start + secs(drain), code: CloseCode(1012) });
        stage.pass(secs(at) * 9 / 10 - millis(1)).await;
        assert_eq!(client.close_code(), None, "{reason}");
        stage.pass(start + secs(at) - Instant::now()).await;
        assert_eq!(client.close_code(), Some(code), "{reason}");
        client.say(0x88, &code.to_be_bytes());
        stage.turn().await;
        assert_eq!(stage.ends(), HashMap::from([(reason.to_owned(), 1)]));
    }
    // One that takes nothing, of a feed that is over.
    let mut stage = Stage::open("policy: {heartbeat: null, close_timeout: 5s}");
    let client = stage.come(true);
    stage.turn().await;
    stage.flood(30, 1000);
    let cause = CloseCause::new(Reason::UpstreamClose, By::Upstream, CloseCode(4001), "over");
    stage.shard_handle.close(&Arc::new(cause));
    stage.turn().await;
    client.handle.send(Command::CloseAt { at: Instant::now() + secs(60), code: CloseCode(1012) });
    stage.pass(secs(11)).await;
    assert_eq!(stage.ends(), HashMap::from([("upstream_close".to_owned(), 1)]));
}

/// A place in a quota, for example, that cannot be given back.
struct Panics;

impl Drop for Panics {
    fn drop(&mut self) {
        panic!("as it is to be");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_panics_ends_its_clients_with_a_reason_and_whoever_comes_later_is_served() {
    let mut stage = Stage::open("policy: {heartbeat: null, history: {on_join: none}}");
    let mut culprit = stage.come_by_itself(Box::new(Panics));
    let mut beside = stage.come_by_itself(Box::new(()));
    stage.write("one");
    rest().await;
    assert_eq!((culprit.messages(), beside.messages()), (vec!["one".to_owned()], vec!["one".to_owned()]));
    culprit.socket = None;
    rest().await;
    assert_eq!(beside.close_code(), Some(1011));
    assert_eq!(stage.registry.len(), 0);
    assert_eq!(
        stage.ends(),
        HashMap::from([("client_lost".to_owned(), 1), ("internal_error".to_owned(), 1)])
    );
    assert_eq!(stage.metric("task_panics_total"), 1.0);
    // Nobody is put where nobody looks any more.
    let mut later = stage.come_by_itself(Box::new(()));
    rest().await;
    stage.write("two");
    rest().await;
    assert_eq!(later.messages(), ["two"]);
    assert_eq!(stage.fanout.shared().clients(), 1, "those who have gone do not count");
}

/// Lets the tasks of the runtime do what they were woken for.
async fn rest() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn credentials_that_ended_while_the_machine_was_suspended_end_soon_after() {
    let mut stage = Stage::open("");
    (stage.expires, stage.suspended) = (Some(secs(3600)), secs(4000));
    let mut client = stage.come(false);
    stage.pass(secs(30)).await;
    assert_eq!(client.close_code(), Some(1008), "the wall clock is looked at each 30 s");
}

#[tokio::test(start_paused = true)]
async fn clients_that_have_gone_leave_no_moments_behind() {
    let mut stage = Stage::open("policy: {heartbeat: null}");
    let _stays = stage.come(false);
    for _ in 0..1000 {
        let mut client = stage.come(false);
        stage.turn().await;
        client.socket = None;
        stage.turn().await;
    }
    let timers = stage.shard.as_ref().unwrap().timers();
    assert!(timers < 100, "{timers} for one client, of which none is near");
}

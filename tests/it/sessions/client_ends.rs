//! Ends of the client, and those that the proxy decides upon for it: what the server hears of them, and that nothing is left.

use std::time::Duration;

use outrigger::config::{ApiKeys, Auth, OnUserLimit, TokenSource};

use crate::support::A_MOMENT;
use crate::support::http::assert_ours;
use crate::support::link::End;
use crate::support::session::{Death, Session, hears, said, session};
use crate::support::token;
use crate::support::upstream::Upstream;
use crate::support::wire::Frame;

#[tokio::test]
async fn a_close_of_the_client_reaches_the_server_after_its_last_messages() {
    for code in [1000, 1001, 1003, 3000, 4999] {
        let mut session = Session::open("").await;
        session.works().await;
        session.client.text("last words").await;
        session.client.binary(&[7; 100_000]).await;
        session.client.close(code, "and why: ä").await;
        let server = session.server();
        server.expect_text("last words").await;
        server.expect_binary(&[7; 100_000]).await;
        let (client, server) = session.closed().await;
        assert_eq!(said(&server), (code, "and why: ä", End::Eof), "at the server");
        assert_eq!((client.code, client.then), (code, End::Eof), "the client is answered");
        session.is_over("client", "client_close").await;
        assert_eq!(session.upstream.accepted(), 1);
    }
}

#[tokio::test]
async fn a_close_without_a_code_says_no_more_to_the_server_than_that_it_was_orderly() {
    let mut session = Session::open("").await;
    session.client.send_frame(&Frame::empty_close()).await;
    let (client, server) = session.closed().await;
    assert_eq!((client.code, client.then), (1005, End::Eof));
    assert!(matches!(server.code, 1000 | 1005), "{server:?}");
    session.is_over("client", "client_close").await;
}

#[tokio::test]
async fn the_client_is_answered_at_once_whatever_its_server_does() {
    let mut session = Session::open("close_timeout: 60s").await;
    session.client.close(1000, "bye").await;
    let closed = session.client.closed().await;
    assert_eq!((closed.code, closed.then), (1000, End::Eof));
    // The server has said nothing yet.
    assert_eq!(session.server().next_frame().await.close_status(), (1000, "bye".to_owned()));
    session.server().close(1000, "").await;
    session.server().finish_writing().await;
    session.is_over("client", "client_close").await;
}

#[tokio::test]
async fn a_client_that_is_lost_without_a_ticket_is_not_waited_for() {
    for is_reset in [true, false] {
        let mut session = Session::open("").await;
        session.client.text("last words").await;
        session.server().expect_text("last words").await;
        session.proves().await;
        let Session { client, proxy, upstream, .. } = &mut session;
        let client = std::mem::replace(client, proxy.dial().path("/another").open().await);
        let _another = upstream.accept().await;
        if is_reset {
            client.reset();
        } else {
            drop(client);
        }
        let closed = session.server().closed().await;
        assert_eq!((closed.code, closed.then), (1001, End::Eof), "the server is told");
        let ended = "outrigger_disconnections_total{reason=\"client_lost\",route=\"chat\"}";
        assert_eq!(session.proxy.metric(ended).await, 1.0);
        assert_eq!(session.proxy.session_ends("client").await, 1.0);
        session.proxy.attached(1.0).await;
        assert_eq!(session.proxy.metric("outrigger_sessions{route=\"chat\",state=\"away\"}").await, 0.0);
    }
}

#[tokio::test]
async fn the_last_words_of_a_client_that_is_lost_reach_the_server() {
    let mut session = Session::open("").await;
    session.client.text("last words").await;
    session.client.finish_writing().await;
    session.server().expect_text("last words").await;
    let closed = session.server().closed().await;
    assert_eq!(closed.code, 1001, "{closed:?}");
    session.is_over("client", "client_lost").await;
}

#[tokio::test]
async fn a_client_that_goes_while_its_server_is_away_is_answered_and_nobody_dials_for_it_any_more() {
    for is_closed in [true, false] {
        let mut session = Session::open("").await;
        session.lose(Death::Reset).await;
        session.says_meanwhile(&["for nobody"]).await;
        if is_closed {
            session.client.close(1000, "bye").await;
            let closed = session.client.closed().await;
            assert_eq!((closed.code, closed.then), (1000, End::Eof));
            session.is_over("client", "client_close").await;
        } else {
            session.client.finish_writing().await;
            session.is_over("client", "client_lost").await;
        }
        let accepted = session.upstream.accepted();
        session.upstream.start().await;
        // Longer than two pauses between dials.
        tokio::time::sleep(A_MOMENT).await;
        assert_eq!(session.upstream.accepted(), accepted);
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_it_is_redialled_has_the_dial_dropped() {
    let mut session = Session::open("").await;
    session.upstream.change(Upstream::builder().answering(crate::support::upstream::Answer::HandOver));
    session.die(Death::Reset).await;
    let mut half_open = session.upstream.accept().await;
    session.client.close(1000, "").await;
    session.client.closed().await;
    session.is_over("client", "client_close").await;
    half_open.discard_to_end().await;
}

#[tokio::test]
async fn an_idle_session_ends_on_both_sides() {
    let mut session = Session::open("idle_timeout: 400ms, close_codes: {idle: 4001}").await;
    session.works().await;
    let (client, server) = session.closed().await;
    assert_eq!(said(&client), (4001, "idle timeout", End::Eof));
    assert_eq!(said(&server), (1001, "idle timeout", End::Eof));
    session.is_over("idle", "idle_timeout").await;
}

#[tokio::test]
async fn a_lost_server_does_not_make_a_client_idle_that_talks() {
    let mut session = Session::open("idle_timeout: 600ms, idle_activity: messages").await;
    session.lose(Death::Reset).await;
    for n in 0..10 {
        session.client.text(&n.to_string()).await;
        session.client.expect_silence(Duration::from_millis(100)).await;
    }
    session.back().await;
    hears(session.server(), &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]).await;
}

#[tokio::test]
async fn a_lifetime_ends_the_link_and_without_a_ticket_the_session() {
    let mut session = Session::open("max_lifetime: 500ms").await;
    session.works().await;
    let (client, server) = session.closed().await;
    assert_eq!(said(&client), (1012, "maximum lifetime reached", End::Eof));
    assert_eq!(said(&server), (1001, "maximum lifetime reached", End::Eof));
    session.is_over("lifetime", "lifetime").await;
}

#[tokio::test]
async fn credentials_that_expire_end_it_also_while_the_server_is_away() {
    for is_away in [false, true] {
        let auth = token::by_secret(&[TokenSource::Header]);
        let bearer = format!("Bearer {}", token::for_user("ann", 2));
        let mut session = Session::shaped(
            "close_codes: {expired: 4403}",
            |dial| dial.header("Authorization", &bearer),
            move |proxy| proxy.policy(move |policy| policy.auth = Some(auth.clone())),
        )
        .await;
        if is_away {
            session.lose(Death::Reset).await;
            let closed = session.client.closed().await;
            assert_eq!(said(&closed), (4403, "credentials expired", End::Eof));
        } else {
            let (client, server) = session.closed().await;
            assert_eq!(said(&client), (4403, "credentials expired", End::Eof));
            assert_eq!(said(&server), (1001, "credentials expired", End::Eof));
        }
        session.is_over("expired", "expired").await;
    }
}

#[tokio::test]
async fn the_server_learns_who_the_client_is_at_each_redial() {
    let auth = Auth::ApiKeys(ApiKeys {
        file: token::file("keys", format!("ann:{}\n", token::sha256_hex("key-ann"))),
        header: "x-api-key".into(),
    });
    let mut session = Session::shaped(
        "",
        |dial| dial.header("X-Api-Key", "key-ann").header("X-Outrigger-User", "mallory"),
        move |proxy| proxy.policy(move |policy| policy.auth = Some(auth.clone())),
    )
    .await;
    for _ in 0..2 {
        let head = &session.server().request.head;
        assert_eq!(head.headers.all("X-Outrigger-User"), ["ann"], "{head:#?}");
        session.die(Death::Reset).await;
        session.next_link().await;
    }
}

#[tokio::test]
async fn the_oldest_session_of_a_user_goes_for_the_next_one_also_while_its_server_is_away() {
    let line = format!("ann:{}\n", token::sha256_hex("key-ann"));
    let auth = Auth::ApiKeys(ApiKeys { file: token::file("keys", line), header: "x-api-key".into() });
    let upstream = Upstream::by_hand().await;
    let proxy = session(&upstream, "").policy(move |policy| {
        policy.auth = Some(auth.clone());
        policy.limits.per_user = Some(1);
        policy.limits.on_user_limit = OnUserLimit::ReplaceOldest;
    });
    let proxy = proxy.spawn().await;
    let dial = || proxy.dial().header("X-Api-Key", "key-ann");
    let (mut first, mut server) = (dial().open().await, upstream.accept().await);
    let (mut second, mut next) = (dial().open().await, upstream.accept().await);
    let (closed, heard) = tokio::join!(first.closed(), server.closed());
    assert_eq!((closed.code, &*closed.reason), (1008, "replaced by a newer connection"));
    assert_eq!((heard.code, &*heard.reason), (1001, "replaced by a newer connection"));
    assert_eq!(proxy.session_ends("replaced").await, 1.0);
    second.text("here").await;
    next.expect_text("here").await;
    // Now its server is slow to come back.
    upstream.change(Upstream::builder().answering(crate::support::upstream::Answer::refuse(503, &[], "")));
    next.reset();
    proxy.connected(0.0).await;
    upstream.change(Upstream::builder().by_hand());
    let _third = dial().open().await;
    assert_eq!(second.closed().await.code, 1008);
    assert_eq!(proxy.session_ends("replaced").await, 2.0);
}

#[tokio::test]
async fn a_place_is_given_back_when_the_session_ends_and_not_while_its_server_is_away() {
    let mut session = Session::open("limits: {connections: 1}, close_timeout: 60s").await;
    session.lose(Death::Reset).await;
    assert_ours(&session.proxy.dial().refused().await, 503, "capacity");
    session.back().await;
    assert_ours(&session.proxy.dial().refused().await, 503, "capacity");
    session.client.close(1000, "").await;
    session.client.closed().await;
    // Its server takes its time to answer the Close, which is nobody's place.
    session.proxy.attached(0.0).await;
    let mut next = session.proxy.connect("/").await;
    let mut server = session.upstream.accept().await;
    next.text("in").await;
    server.expect_text("in").await;
    assert_eq!(session.server().closed().await.code, 1000, "the first server was told");
}

#[tokio::test]
async fn a_session_that_is_cut_at_the_end_of_a_drain_is_reset() {
    let yaml = "drain: {timeout: 400ms}";
    let mut session = Session::shaped("close_timeout: 60s", |dial| dial, |proxy| proxy.yaml(yaml)).await;
    session.proxy.drain();
    let closed = session.client.closed_unanswered().await;
    assert_eq!(closed.code, 1012, "{closed:?}");
    // Whether it was told before is a matter of luck.
    let closed = session.server().closed_unanswered().await;
    assert!(closed.before.is_empty(), "{closed:?}");
    session.proxy.ended_within(crate::support::DEADLINE).await;
}

#[tokio::test]
async fn what_a_client_said_right_before_it_left_is_with_its_server() {
    let mut session = Session::open("").await;
    for n in 0..200 {
        session.client.text(&n.to_string()).await;
    }
    session.client.close(1000, "").await;
    session.client.closed().await;
    let closed = session.server().closed().await;
    let heard = closed.before.iter().filter(|frame| frame.opcode == 1).map(Frame::as_text);
    let all = Vec::from_iter((0..200).map(|n| n.to_string()));
    assert_eq!(Vec::from_iter(heard), all);
    assert_eq!(closed.code, 1000);
}

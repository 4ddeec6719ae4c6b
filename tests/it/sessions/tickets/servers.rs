//! Servers that are lost while their client is away, or just before, or just after.

use std::time::Duration;

use serde_json::json;

use crate::support::client::Dial;
use crate::support::session::{Death, die};
use crate::support::ticket_client::Cut;
use crate::support::ticketed::Ticketed;
use crate::support::upstream::{Answer, Upstream};

#[tokio::test]
async fn a_server_that_is_lost_while_its_client_is_away_is_dialled_when_the_client_comes_back() {
    for death in [Death::Reset, Death::Fin, Death::Close(1012)] {
        let mut session = Ticketed::open("").await;
        session.works().await;
        session.lose_client(Cut::Reset).await;
        session.server().text("last words").await;
        die(session.take_server(), death).await;
        session.proxy.connected(0.0).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(session.upstream.handshakes().len(), 1, "{death:?}: nobody is there to be dialled for");
        session.client.resume().await;
        assert_eq!(session.client.is_told("server").await, "lost", "{death:?}");
        session.client.hears(&["last words"]).await;
        session.next_server().await;
        assert_eq!(session.client.is_told("server").await, "back", "{death:?}");
        session.works().await;
        assert_eq!(session.upstream.handshakes().len(), 2, "{death:?}");
    }
}

#[tokio::test]
async fn a_client_that_goes_while_its_server_is_away_takes_the_redial_with_it() {
    let mut session = Ticketed::open("").await;
    session.works().await;
    session.upstream.stop().await;
    session.take_server().reset();
    assert_eq!(session.client.is_told("server").await, "lost");
    session.client.say("while nobody is there").await;
    session.all_received().await;
    session.lose_client(Cut::Reset).await;
    session.upstream.start().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(session.upstream.handshakes().len(), 1, "nobody dials");
    let hello = session.client.resume().await;
    assert_eq!(hello["received"], 3, "{hello}");
    session.next_server().await;
    session.server().expect_text("while nobody is there").await;
    session.works().await;
}

#[tokio::test]
async fn a_redial_shows_what_the_client_showed_last() {
    let mut session =
        Ticketed::shaped("", |dial| dial.header("Cookie", "id=1").path("/a?q=1"), |proxy| proxy).await;
    session.works().await;
    session.lose_client(Cut::Reset).await;
    let dial = session.proxy.dial().header("Cookie", "id=2").header("X-New", "yes").path("/a?q=2");
    session.client.redial(dial);
    session.client.resume().await;
    session.take_server().reset();
    session.next_server().await;
    let head = session.server().request.head.clone();
    assert_eq!(
        (head.header("Cookie"), head.header("X-New"), head.target()),
        (Some("id=2"), Some("yes"), "/a?q=2")
    );
    assert_eq!(head.header("Sec-WebSocket-Protocol"), None, "nothing of ours");
    session.works().await;
}

#[tokio::test]
async fn a_cookie_that_a_redial_was_given_outlives_a_client_that_could_not_be_told() {
    let dial = |dial: Dial| dial.header("Cookie", "id=1; theme=dark");
    let mut session = Ticketed::shaped("", dial, |proxy| proxy).await;
    session.works().await;
    let rotates = Answer::accept_with(&[("Set-Cookie", "id=rotated; HttpOnly")]);
    session.upstream.change(Upstream::builder().answering(rotates).by_hand());
    session.take_server().reset();
    session.next_server().await;
    session.upstream.change(Upstream::builder().by_hand());
    // What it shows when it is back, and what the next server is shown.
    for (shown, expected) in [
        ("id=1; theme=light", "id=rotated; theme=light"),
        ("id=1; theme=dark", "id=rotated; theme=dark"),
        ("id=2; theme=dark", "id=2; theme=dark"),
    ] {
        session.lose_client(Cut::Reset).await;
        let dial = session.proxy.dial().header("Cookie", shown);
        session.client.redial(dial);
        session.client.resume().await;
        session.take_server().reset();
        session.next_server().await;
        assert_eq!(session.server().request.head.header("Cookie"), Some(expected));
    }
    session.works().await;
}

#[tokio::test]
async fn the_servers_last_word_while_its_client_is_away_is_told_after_all_it_said() {
    let mut session = Ticketed::open("").await;
    session.works().await;
    session.lose_client(Cut::Reset).await;
    for number in 0..50 {
        session.server().text(&number.to_string()).await;
    }
    session.server().close(4001, "enough").await;
    assert_eq!(session.server().closed().await.code, 4001);
    session.client.say("nobody hears this").await;
    session.client.resume().await;
    for number in 0..50 {
        session.client.hears(&[&number.to_string()]).await;
    }
    let (code, reason, bye) = session.client.let_go().await;
    assert_eq!((code, &*reason), (4001, "enough"));
    let bye = bye.unwrap();
    assert_eq!((&bye["why"], &bye["resume"]), (&json!("server"), &json!(false)), "{bye}");
    session.proxy.ends_sessions("server", 1.0).await;
}

#[tokio::test]
async fn the_client_is_told_of_its_own_messages_that_may_be_lost_by_their_numbers() {
    let mut session = Ticketed::open("session: {receipts: true}").await;
    session.works().await;
    // It answers no pings, so that nothing is sure.
    for text in ["three", "four"] {
        session.client.say(text).await;
        session.server().expect_text(text).await;
    }
    session.take_server().reset();
    session.next_server().await;
    let uncertain = session.client.is_told("uncertain").await;
    // What was asked for when the first was said, the server has answered.
    assert_eq!(uncertain, json!({"from": 2, "to": 4}));
    session.works().await;
    assert_eq!(session.proxy.messages_lost("uncertain").await, 3.0);
}

#[tokio::test]
async fn what_is_too_old_for_the_queue_is_told_by_its_numbers() {
    let mut session = Ticketed::open("session: {queue: {age: 300ms}, receipts: false}").await;
    session.upstream.stop().await;
    session.take_server().reset();
    session.client.is_told("server").await;
    for text in ["one", "two"] {
        session.client.say(text).await;
    }
    let lost = session.client.is_told("lost").await;
    assert_eq!((&lost["from"], &lost["why"]), (&json!(1), &json!("age")), "{lost}");
    session.upstream.start().await;
    session.next_server().await;
    session.works().await;
}

#[tokio::test]
async fn a_queue_of_a_client_with_a_ticket_drops_nothing_and_the_client_waits() {
    let mut session = Ticketed::open("session: {queue: {messages: 5}}").await;
    session.upstream.stop().await;
    session.take_server().reset();
    session.client.is_told("server").await;
    for number in 0..40 {
        session.client.say(&number.to_string()).await;
    }
    session.proxy.connected(0.0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let received = session.proxy.metric("outrigger_messages_in_total").await;
    assert!(received < 40.0 || session.proxy.messages_lost("queue").await == 0.0);
    session.upstream.start().await;
    session.next_server().await;
    for number in 0..40 {
        session.server().expect_text(&number.to_string()).await;
    }
    assert_eq!(session.proxy.messages_lost("queue").await, 0.0);
    session.works().await;
}

#[tokio::test]
async fn a_server_that_does_not_want_its_client_back_ends_the_session_with_its_last_words() {
    let mut session = Ticketed::open("").await;
    session.works().await;
    session.lose_client(Cut::Reset).await;
    session.take_server().reset();
    session.proxy.connected(0.0).await;
    session.upstream.change(Upstream::builder().answering(Answer::refuse(401, &[], "")));
    session.client.resume().await;
    let (code, _, bye) = session.client.let_go().await;
    assert_eq!(code, 1008);
    assert_eq!(bye, Some(json!({"why": "unauthorized", "resume": false, "ack": 2})));
    session.proxy.ends_sessions("unauthorized", 1.0).await;
}

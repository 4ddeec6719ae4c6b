//! What became of a client's messages is told over whichever link it has, until it has surely read it.

use serde_json::json;

use crate::support::session::{Death, die};
use crate::support::ticket_client::{Cut, Event};
use crate::support::ticketed::Ticketed;

#[tokio::test]
async fn a_client_that_was_away_or_is_cut_right_after_hears_which_of_its_messages_are_uncertain() {
    for is_away in [true, false] {
        let mut session = Ticketed::open("").await;
        // Its server answers no ping behind the last one, so that this is not sure.
        session.client.say("maybe").await;
        session.server().expect_text("maybe").await;
        if is_away {
            session.lose_client(Cut::Reset).await;
        }
        session.upstream.stop().await;
        die(session.take_server(), Death::Reset).await;
        session.proxy.loses_messages("uncertain", 1.0).await;
        if !is_away {
            // It was told, and reads nothing of it.
            session.lose_client(Cut::Reset).await;
        }
        // Over each link, as long as it does not show that it has read it.
        for _ in 0..2 {
            session.client.resume().await;
            let uncertain = session.client.is_told("uncertain").await;
            assert_eq!(uncertain, json!({"from": 1, "to": 1}), "{is_away}");
            session.lose_client(Cut::Reset).await;
        }
        session.client.resume().await;
        session.client.is_told("uncertain").await;
        let question = session.client.is_told("ping").await;
        session.client.control(&json!({ "pong": question }).to_string()).await;
        session.confirm().await;
        session.upstream.start().await;
        session.next_server().await;
        session.lose_client(Cut::Reset).await;
        session.client.resume().await;
        session.server().text("all that comes").await;
        while let Event::Control(control) = session.client.next().await {
            assert!(control.get("uncertain").is_none(), "{control}");
        }
        assert_eq!(session.client.seen, 1);
        assert_eq!(session.proxy.messages_lost("uncertain").await, 1.0, "counted once");
    }
}

#[tokio::test]
async fn what_no_server_will_hear_is_told_before_the_last_words() {
    let mut session = Ticketed::open("redial: {base: 10ms, cap: 50ms, give_up: 1s, reset_after: 1s}").await;
    session.works().await;
    session.upstream.stop().await;
    session.take_server().reset();
    assert_eq!(session.client.is_told("server").await, "lost");
    for text in ["three", "four"] {
        session.client.say(text).await;
    }
    let lost = session.client.is_told("lost").await;
    assert_eq!(lost, json!({"from": 3, "to": 4, "why": "queue"}));
    let (code, _, bye) = session.client.let_go().await;
    let bye = bye.unwrap();
    assert_eq!((code, &bye["ack"], &bye["why"]), (1012, &json!(4), &json!("upstream_lost")), "{bye}");
    assert_eq!(session.proxy.messages_lost("queue").await, 2.0);
}

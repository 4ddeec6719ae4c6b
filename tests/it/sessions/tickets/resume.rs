//! A client whose network goes comes back to the connection that its server has had all the time, with nothing lost and
//! nothing twice.

use std::time::Duration;

use crate::support::link::Message;
use crate::support::ticket_client::Cut;
use crate::support::ticketed::Ticketed;
use crate::support::wire::{Frame, Length, Role};
use serde_json::json;

#[tokio::test]
async fn a_client_comes_back_after_a_reset_an_end_and_silence_and_the_server_does_not_notice() {
    for cut in Cut::ALL {
        let mut session = Ticketed::open("").await;
        session.works().await;
        for round in 0..3 {
            session.lose_client(cut).await;
            let said = [format!("missed {round}"), format!("and this {round}")];
            for text in &said {
                session.server().text(text).await;
            }
            // While it is away it talks too.
            session.client.say("to be said again").await;
            session.client.resume().await;
            session.client.hears(&[&said[0], &said[1]]).await;
            session.server().expect_text("to be said again").await;
            session.works().await;
        }
        assert_eq!(session.upstream.handshakes().len(), 1, "{cut:?}");
        assert_eq!(session.proxy.resumes("resumed").await, 3.0, "{cut:?}");
        assert_eq!(session.proxy.metrics().await.sum("outrigger_session_ends_total"), 0.0, "{cut:?}");
        session.server().expect_silence(Duration::from_millis(30)).await;
    }
}

#[tokio::test]
async fn what_was_under_way_in_both_directions_arrives_once() {
    for cut in Cut::ALL {
        let mut session = Ticketed::open("").await;
        let (mut up, mut down) = (0, 0);
        let mut heard = 0;
        for round in 0..8 {
            for _ in 0..20 {
                session.client.say(&up.to_string()).await;
                up += 1;
                session.server().text(&down.to_string()).await;
                down += 1;
            }
            // It has read some of it, and confirmed less.
            for _ in 0..round * 2 {
                assert_eq!(session.client.next_message().await, Message::Text(heard.to_string()));
                heard += 1;
            }
            if round == 4 {
                session.client.confirm().await;
            }
            session.client.cut(cut).await;
            session.client.resume().await;
        }
        while heard < down {
            assert_eq!(session.client.next_message().await, Message::Text(heard.to_string()), "{cut:?}");
            heard += 1;
        }
        for number in 0..up {
            session.server().expect_text(&number.to_string()).await;
        }
        session.works().await;
        assert_eq!(session.upstream.handshakes().len(), 1);
    }
}

#[tokio::test]
async fn bytes_empty_messages_and_long_ones_count_as_one_each() {
    let mut session = Ticketed::open("").await;
    let long = vec![7; 200_000];
    for round in 0..2 {
        session.client.say_frame(Frame::binary(b"")).await;
        session.client.say("").await;
        session.client.say_frame(Frame::binary(&long)).await;
        let server = session.server();
        server.expect_binary(b"").await;
        server.expect_text("").await;
        server.expect_binary(&long).await;
        server.text("").await;
        server.binary(&long).await;
        let fragments = Frame::fragments(1, &[b"one ", b"", b"message"]);
        for fragment in &fragments {
            server.send_frame(fragment).await;
        }
        session.lose_client(Cut::Reset).await;
        session.server().binary(b"").await;
        let hello = session.client.resume().await;
        assert_eq!(hello["received"], 3 * (round + 1), "{hello}");
        session.client.hears(&[""]).await;
        assert_eq!(session.client.next_message().await, Message::Binary(long.clone()));
        session.client.hears(&["one message"]).await;
        assert_eq!(session.client.next_message().await, Message::Binary(Vec::new()));
        assert_eq!(session.client.seen, 4 * (round + 1));
    }
}

#[tokio::test]
async fn half_a_message_of_a_client_that_is_gone_was_not_received() {
    let mut session = Ticketed::open("").await;
    session.works().await;
    let whole = Frame::text("the whole of it");
    let torn = Frame::text("the whole").length(Length::Claimed(15)).encode(Role::Client);
    session.client.link.as_mut().unwrap().send_bytes(&torn).await;
    session.lose_client(Cut::Reset).await;
    session.client.say_frame(whole).await;
    let hello = session.client.resume().await;
    assert_eq!(hello["received"], 2, "{hello}");
    session.server().expect_text("the whole of it").await;
    // The first frames of one do not count either.
    session.client.link.as_mut().unwrap().send_frame(&Frame::text("the first part").not_final()).await;
    session.lose_client(Cut::Reset).await;
    let hello = session.client.resume().await;
    assert_eq!(hello["received"], 3, "{hello}");
    session.works().await;
}

#[tokio::test]
async fn a_hello_that_never_arrives_locks_nobody_out() {
    let mut session = Ticketed::open("").await;
    session.works().await;
    for _ in 0..5 {
        session.client.cut(Cut::Reset).await;
        // The handshake is answered, and the hello that comes with it is never read.
        let link = session.client.handshake().open().await;
        link.reset();
    }
    session.client.resume().await;
    session.works().await;
    assert_eq!(session.upstream.handshakes().len(), 1);
}

#[tokio::test]
async fn a_session_that_was_idle_for_all_its_life_is_resumed_too() {
    let mut session = Ticketed::open("").await;
    for _ in 0..3 {
        session.lose_client(Cut::Fin).await;
        let hello = session.client.resume().await;
        assert_eq!((&hello["sequence"], &hello["received"]), (&json!(0), &json!(0)));
    }
    session.works().await;
    session.confirm().await;
    session.lose_client(Cut::Fin).await;
    session.client.resume().await;
    session.works().await;
}

//! Which Closes of a client end its session and which do not, and what it is told in the last words of the proxy.

use serde_json::json;

use crate::support::link::End;
use crate::support::ticket_client::{Cut, TicketClient};
use crate::support::ticketed::Ticketed;
use crate::support::token;
use outrigger::config::TokenSource;

#[tokio::test]
async fn a_close_ends_the_session_and_goes_to_the_server() {
    for code in [1000, 3000, 4999] {
        let mut session = Ticketed::open("").await;
        session.works().await;
        let mut server = session.take_server();
        let (closed, heard) = tokio::join!(session.client.close(code), server.closed());
        assert_eq!((closed.code, heard.code, heard.then), (code, code, End::Eof));
        session.proxy.ends_sessions("client", 1.0).await;
        session.client.begin_anew().await;
    }
}

#[tokio::test]
async fn a_page_that_is_left_detaches_and_its_successor_goes_on() {
    let mut session = Ticketed::open("").await;
    for _ in 0..3 {
        session.works().await;
        let closed = session.client.close(1001).await;
        assert_eq!((closed.code, closed.then), (1001, End::Eof), "it is answered");
        session.proxy.away(1.0).await;
        session.server().text("meanwhile").await;
        session.client.resume().await;
        session.client.hears(&["meanwhile"]).await;
    }
    assert_eq!(session.upstream.handshakes().len(), 1);
}

#[tokio::test]
async fn whoever_says_detach_may_close_with_any_code_and_come_back() {
    let mut session = Ticketed::open("").await;
    for code in [1000, 4000] {
        session.works().await;
        session.client.control(r#"{"detach":true}"#).await;
        assert_eq!(session.client.close(code).await.code, code);
        session.proxy.away(1.0).await;
        session.client.resume().await;
        session.works().await;
    }
    // It was said of that link, and not of this one.
    let mut server = session.take_server();
    let (_, heard) = tokio::join!(session.client.close(1000), server.closed());
    assert_eq!(heard.code, 1000);
}

#[tokio::test]
async fn a_client_that_detaches_without_being_the_owner_of_a_ticket_is_gone() {
    let mut session = Ticketed::open("session: {resume_window: 0s}").await;
    let mut server = session.take_server();
    let (_, heard) = tokio::join!(session.client.close(1001), server.closed());
    assert_eq!(heard.code, 1001);
    session.proxy.ends_sessions("client", 1.0).await;
}

#[tokio::test]
async fn a_lifetime_ends_the_link_and_not_the_session() {
    let mut session = Ticketed::open("max_lifetime: 1s").await;
    session.works().await;
    for _ in 0..2 {
        let (code, reason, bye) = session.client.let_go().await;
        assert_eq!((code, &*reason), (1012, "maximum lifetime reached"));
        assert_eq!(bye, Some(json!({"why": "lifetime", "resume": true, "ack": session.client.said})));
        session.client.resume().await;
        session.works().await;
    }
    assert_eq!(session.upstream.handshakes().len(), 1);
}

#[tokio::test]
async fn an_idle_session_ends_whole() {
    let mut session = Ticketed::open("idle_timeout: 400ms").await;
    session.works().await;
    let (code, _, bye) = session.client.let_go().await;
    assert_eq!(code, 1001);
    assert_eq!(bye, Some(json!({"why": "idle", "resume": false, "ack": 2})));
    assert_eq!(session.server().closed().await.code, 1001);
    session.client.begin_anew().await;
}

#[tokio::test]
async fn the_servers_own_word_ends_the_session_after_all_it_said() {
    let mut session = Ticketed::open("").await;
    session.works().await;
    for number in 0..100 {
        session.server().text(&number.to_string()).await;
    }
    session.server().close(4000, "enough").await;
    for number in 0..100 {
        session.client.hears(&[&number.to_string()]).await;
    }
    let (code, reason, bye) = session.client.let_go().await;
    assert_eq!((code, &*reason), (4000, "enough"));
    assert_eq!(bye, Some(json!({"why": "server", "resume": false, "ack": 2})));
}

fn bearer(lasts: u64) -> String {
    format!("Bearer {}", token::for_user("ann", lasts))
}

async fn with_credentials(lasts: u64, policy: &str) -> Ticketed {
    Ticketed::shaped(
        policy,
        |dial| dial.header("Authorization", &bearer(lasts)),
        |proxy| proxy.policy(|policy| policy.auth = Some(token::by_secret(&[TokenSource::Header]))),
    )
    .await
}

#[tokio::test]
async fn a_client_whose_credentials_end_comes_back_with_new_ones() {
    let mut session = with_credentials(2, "").await;
    session.works().await;
    let (code, reason, bye) = session.client.let_go().await;
    assert_eq!((code, &*reason), (1008, "credentials expired"));
    assert_eq!(bye, Some(json!({"why": "expired", "resume": true, "ack": 2})));
    session.server().text("meanwhile").await;
    session.client.redial(session.proxy.dial().header("Authorization", &bearer(60)));
    session.client.resume().await;
    session.client.hears(&["meanwhile"]).await;
    session.works().await;
    assert_eq!(session.upstream.handshakes().len(), 1);
}

#[tokio::test]
async fn a_session_whose_credentials_end_while_its_client_is_away_is_over() {
    let mut session = with_credentials(2, "").await;
    session.works().await;
    session.lose_client(Cut::Reset).await;
    let closed = session.server().closed().await;
    assert_eq!((closed.code, &*closed.reason), (1001, "credentials expired"));
    session.proxy.ends_sessions("expired", 1.0).await;
    let mut again = TicketClient::new(session.proxy.dial().header("Authorization", &bearer(60)));
    again.ticket = session.client.ticket.clone();
    let hello = again.begin_anew().await;
    assert_eq!(hello["previous"], json!({"received": 2, "why": "expired"}));
}

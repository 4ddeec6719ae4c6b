//! What a new server has to hear first: which messages of the client that is, in which order, which replies are waited for
//! and kept from the client.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::A_MOMENT;
use crate::support::link::Message;
use crate::support::logged::Logged;
use crate::support::session::{Death, Session, hears, said};
use crate::support::wire::Frame;

/// As graphql-ws wants it.
const GRAPHQL: &str = "session: {greeting: [\
    {match: {pointer: /type, values: [init]}, reply: {pointer: /type, values: [ack]}}, \
    {match: {pointer: /type, values: [subscribe]}, key: /id, forget: {pointer: /type, values: [complete, error]}}]}";

const INIT: &str = r#"{"type":"init"}"#;
const ACK: &str = r#"{"type":"ack"}"#;

fn subscribe(id: &str, what: &str) -> String {
    format!(r#"{{"type":"subscribe","id":"{id}","what":"{what}"}}"#)
}

fn of(kind: &str, id: &str) -> String {
    format!(r#"{{"type":"{kind}","id":"{id}"}}"#)
}

/// A session whose first server has heard these, and has answered for them.
async fn greeted(policy: &str, texts: &[&str]) -> Session {
    let mut session = Session::open(policy).await;
    for text in texts {
        let (client, server) = session.ends();
        client.text(text).await;
        server.expect_text(text).await;
    }
    session
}

#[tokio::test]
async fn a_new_server_hears_the_greeting_in_order_and_its_replies_are_awaited_and_kept_from_the_client() {
    let mut session = greeted(GRAPHQL, &[INIT]).await;
    session.server().text(ACK).await;
    session.client.expect_text(ACK).await;
    let (first, second) = (subscribe("1", "old"), subscribe("2", "it"));
    let newest = subscribe("1", "new");
    for text in [&first, &second, "a query", &newest] {
        let (client, server) = session.ends();
        client.text(text).await;
        server.expect_text(text).await;
    }
    for _ in 0..2 {
        session.server().answer_pings_for(Duration::from_millis(300)).await;
        session.lose(Death::Reset).await;
        session.says_meanwhile(&["meanwhile"]).await;
        session.back().await;
        let server = session.server();
        server.expect_text(INIT).await;
        server.answer_pings_for(A_MOMENT).await;
        // What is no reply is the client's.
        server.text("of the server").await;
        session.client.expect_text("of the server").await;
        session.client.text("said while it is greeted").await;
        session.server().text(ACK).await;
        // The newest of each key, at the place of its first; then what waited.
        hears(session.server(), &[&newest, &second, "meanwhile", "said while it is greeted"]).await;
        session.works().await;
    }
    assert_eq!(session.proxy.metrics().await.sum("outrigger_messages_lost_total"), 0.0);
}

#[tokio::test]
async fn what_either_side_has_ended_is_forgotten() {
    let all = ["1", "2", "3", "4"].map(|id| subscribe(id, "it"));
    let [one, two, three, four] = &all;
    let mut session = greeted(GRAPHQL, &[one, two, three, four]).await;
    let (client, server) = session.ends();
    client.text(&of("complete", "1")).await;
    server.expect_text(&of("complete", "1")).await;
    for (kind, id) in [("complete", "2"), ("error", "3"), ("next", "4"), ("complete", "of nobody")] {
        server.text(&of(kind, id)).await;
        client.expect_text(&of(kind, id)).await;
    }
    session.server().answer_pings_for(Duration::from_millis(300)).await;
    session.die(Death::Reset).await;
    session.next_link().await;
    session.server().expect_text(four).await;
    session.works().await;
}

#[tokio::test]
async fn the_first_messages_are_the_greeting_where_the_rule_says_so_whatever_they_are() {
    let mut session = Session::open("session: {greeting: [{match: {first: 2}}]}").await;
    for round in 0..3 {
        if round == 0 {
            session.client.binary(b"\x00\xff").await;
            session.client.text("second").await;
        }
        session.server().expect_binary(b"\x00\xff").await;
        session.server().expect_text("second").await;
        session.works().await;
        session.proves_all().await;
        session.die(Death::Reset).await;
        session.next_link().await;
    }
}

impl Session {
    /// The server answers for all that it has heard.
    async fn proves_all(&mut self) {
        self.server().answer_pings_for(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn without_a_key_equal_messages_are_one_and_different_ones_are_all_kept() {
    let rule = "session: {greeting: [{match: {regex: '^join '}, keep: 3}]}";
    let said = ["join a", "join b", "join a", "join c", "join b", "join d"];
    let mut session = greeted(rule, &said).await;
    session.proves_all().await;
    session.die(Death::Reset).await;
    session.next_link().await;
    // The oldest has gone for the fourth.
    hears(session.server(), &["join b", "join c", "join d"]).await;
    session.works().await;
    assert_eq!(session.proxy.messages_lost("greeting").await, 1.0);
}

#[tokio::test]
async fn a_server_that_speaks_first_is_waited_for_and_its_welcome_is_for_the_first_time_only() {
    let rule = "session: {greeting: [{reply: {pointer: /type, values: [welcome]}}]}";
    let mut session = Session::open(rule).await;
    let welcome = r#"{"type":"welcome","id":1}"#;
    session.server().text(welcome).await;
    session.client.expect_text(welcome).await;
    session.works().await;
    session.proves_all().await;
    session.lose(Death::Fin).await;
    session.says_meanwhile(&["meanwhile"]).await;
    session.back().await;
    let (client, server) = session.ends();
    server.expect_silence(A_MOMENT).await;
    server.text(r#"{"type":"welcome","id":2}"#).await;
    server.expect_text("meanwhile").await;
    client.expect_silence(A_MOMENT).await;
    // A second one is a message as any.
    server.text(welcome).await;
    client.expect_text(welcome).await;
    session.works().await;
}

#[tokio::test]
async fn what_was_said_while_the_server_was_away_is_said_once_and_greets_the_one_after() {
    let mut session = greeted(GRAPHQL, &[]).await;
    session.lose(Death::Reset).await;
    let one = subscribe("1", "it");
    session.says_meanwhile(&["before", &one, "after"]).await;
    session.back().await;
    hears(session.server(), &["before", &one, "after"]).await;
    session.works().await;
    session.proves_all().await;
    session.die(Death::Reset).await;
    session.next_link().await;
    hears(session.server(), &[&one]).await;
    session.works().await;
}

#[tokio::test]
async fn an_older_version_that_was_said_and_a_newer_that_waits_go_both_in_order() {
    let (old, new) = (subscribe("1", "old"), subscribe("1", "new"));
    let mut session = greeted(GRAPHQL, &[&old]).await;
    session.proves_all().await;
    session.lose(Death::Reset).await;
    session.says_meanwhile(&[&new]).await;
    session.back().await;
    hears(session.server(), &[&old, &new]).await;
    session.proves_all().await;
    session.die(Death::Reset).await;
    session.next_link().await;
    hears(session.server(), &[&new]).await;
    session.works().await;
}

#[tokio::test]
async fn what_the_greeting_says_is_not_said_again_as_what_was_uncertain() {
    let policy = format!("{}, queue: {{replay: unacknowledged}}}}", GRAPHQL.strip_suffix('}').unwrap());
    let one = subscribe("1", "it");
    let mut session = Session::open(&policy).await;
    session.client.text("first").await;
    session.client.text(&one).await;
    session.client.text("last").await;
    // Nothing of it is answered for.
    for _ in 0..3 {
        session.server().next_frame().await;
    }
    session.lose(Death::Reset).await;
    session.back().await;
    hears(session.server(), &[&one, "first", "last"]).await;
    session.works().await;
}

#[tokio::test]
async fn a_reply_that_does_not_come_is_waited_for_five_seconds_and_then_the_next_server_is_tried() {
    let (logged, _logging) = Logged::of_this_thread();
    let mut session = greeted(GRAPHQL, &[INIT]).await;
    session.proves_all().await;
    session.die(Death::Reset).await;
    session.next_link().await;
    let since = Instant::now();
    session.server().expect_text(INIT).await;
    session.client.text("meanwhile").await;
    let closed = session.server().closed().await;
    assert_eq!(closed.code, 1001, "{closed:?}");
    assert!(closed.before.iter().all(Frame::is_control), "{closed:?}");
    let waited = since.elapsed();
    assert!((4.5..8.0).contains(&waited.as_secs_f64()), "{waited:?}");
    session.next_link().await;
    session.server().expect_text(INIT).await;
    session.server().text(ACK).await;
    session.server().expect_text("meanwhile").await;
    session.works().await;
    assert_eq!(session.proxy.redials("failed").await, 1.0);
    assert!(logged.text().contains("did not reply to the greeting"), "{}", logged.text());
}

#[tokio::test]
async fn a_server_that_dies_at_each_greeting_is_given_up_and_no_message_is_blamed() {
    let policy = format!("redial: {{base: 10ms, cap: 50ms, give_up: 500ms}}, {GRAPHQL}");
    let mut session = greeted(&policy, &[INIT]).await;
    session.proves_all().await;
    session.upstream.change(
        crate::support::upstream::Upstream::builder().on_text(INIT, [crate::support::upstream::Act::Reset]),
    );
    session.die(Death::Reset).await;
    let closed = session.client.closed().await;
    assert_eq!((closed.code, &*closed.reason), (1012, "upstream lost"));
    session.is_over("upstream_lost", "upstream_lost").await;
    assert!(session.upstream.accepted() > 3, "{}", session.upstream.accepted());
}

#[tokio::test]
async fn a_final_close_within_the_greeting_is_the_servers_word() {
    let mut session = greeted(GRAPHQL, &[INIT]).await;
    session.proves_all().await;
    session.die(Death::Reset).await;
    session.next_link().await;
    session.server().expect_text(INIT).await;
    session.server().text("why").await;
    session.server().close(4403, "forbidden").await;
    session.client.expect_text("why").await;
    let closed = session.client.closed().await;
    assert_eq!(said(&closed), (4403, "forbidden", crate::support::link::End::Eof));
    session.server().closed().await;
    session.is_over("server", "upstream_close").await;
}

#[tokio::test]
async fn a_greeting_that_is_answered_by_a_flood_passes_it_to_the_client_and_goes_on() {
    let mut session = greeted(GRAPHQL, &[INIT]).await;
    session.proves_all().await;
    session.die(Death::Reset).await;
    session.next_link().await;
    session.server().expect_text(INIT).await;
    let (client, server) = session.ends();
    let flood = async {
        for n in 0..500 {
            server.text(&format!(r#"{{"type":"news","n":{n}}}"#)).await;
        }
        server.text(ACK).await;
        server.text("the end").await;
    };
    let reading = async {
        for n in 0..500 {
            client.expect_text(&format!(r#"{{"type":"news","n":{n}}}"#)).await;
        }
        client.expect_text("the end").await;
    };
    tokio::join!(flood, reading);
    session.works().await;
}

/// Threat: a client that has more and more kept for it as its greeting.
#[tokio::test]
async fn a_flooded_greeting_is_bounded_counted_and_costs_nobody_else() {
    let policy = "session: {greeting: [{match: {regex: '^join '}, keep: 1000}], queue: {bytes: 20000}}";
    let mut session = Session::open(policy).await;
    let other = session.proxy.connect("/other").await;
    let mut other_server = session.upstream.accept().await;
    let join = |n: usize| format!("join {n} {}", "x".repeat(990));
    let (client, server) = session.ends();
    for n in 0..200 {
        client.text(&join(n)).await;
        server.expect_text(&join(n)).await;
    }
    session.proves_all().await;
    let given_up = session.proxy.messages_lost("greeting").await as usize;
    assert!((180..195).contains(&given_up), "{given_up} of 200 KB were given up for 20 kB");
    assert!(session.proxy.metric("outrigger_memory_buffered_bytes").await < 25_000.0, "and no more is held");
    session.die(Death::Reset).await;
    session.next_link().await;
    for n in given_up..200 {
        session.server().expect_text(&join(n)).await;
    }
    session.works().await;
    let mut other = other;
    other.text("hello").await;
    assert_eq!(other_server.next_message().await, Message::Text("hello".to_owned()));
}

//! Tickets that open nothing, and numbers that cannot be: each begins a new session, and leaves the one it was tried on alone.

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::session::session;
use crate::support::ticket_client::{Cut, TicketClient};
use crate::support::ticketed::Ticketed;
use crate::support::token;
use crate::support::upstream::{Answer, Upstream};
use outrigger::config::{ApiKeys, Auth};

const PROTOCOL: &str = "Sec-WebSocket-Protocol";

/// Another client with this as its resume entry: what its hello says.
async fn tries(session: &mut Ticketed, entry: &str) -> Value {
    let mut other = TicketClient::new(session.proxy.dial());
    let dial = other.handshake();
    let offer = format!("outrigger.v1, outrigger.nonce.{}, {entry}", other.nonces[0]);
    let link = dial.header(PROTOCOL, &offer).open().await;
    let hello = other.adopt(link).await.expect("there is a link").expect("there is a hello");
    let mut server = session.upstream.accept().await;
    let (closed, heard) = tokio::join!(other.close(1000), server.closed());
    assert_eq!((closed.code, heard.code), (1000, 1000), "{entry}: a session of its own");
    hello
}

#[tokio::test]
async fn threat_forged_cut_and_flipped_tickets_begin_anew_and_leave_the_session_alone() {
    let mut session = Ticketed::open("").await;
    session.works().await;
    let ticket = session.client.ticket.clone().unwrap();
    let mut entries = vec![
        format!("outrigger.resume.{}.1", "A".repeat(60)),
        format!("outrigger.resume.{}.1", &ticket[..59]),
        format!("outrigger.resume.{}.1", &ticket[1..]),
        format!("outrigger.resume.{ticket}A.1"),
        format!("outrigger.resume.{ticket}"),
        format!("outrigger.resume.{ticket}."),
        "outrigger.resume.".to_owned(),
        "outrigger.resume..1".to_owned(),
        format!("outrigger.resume.-{}.1", "0".repeat(16)),
        // Two of them are none.
        format!("outrigger.resume.{ticket}.1, outrigger.resume.{ticket}.1"),
        // Numbers that are none.
        format!("outrigger.resume.{ticket}.-1"),
        format!("outrigger.resume.{ticket}.+1"),
        format!("outrigger.resume.{ticket}.1e0"),
        format!("outrigger.resume.{ticket}.0x1"),
        format!("outrigger.resume.{ticket}.9007199254740992"),
        format!("outrigger.resume.{ticket}.18446744073709551616"),
        format!("outrigger.resume.{ticket}.one"),
    ];
    // One character after the other.
    for at in 0..60 {
        let mut flipped = ticket.clone().into_bytes();
        flipped[at] = if flipped[at] == b'A' { b'B' } else { b'A' };
        entries.push(format!("outrigger.resume.{}.1", String::from_utf8(flipped).unwrap()));
    }
    for entry in &entries {
        let hello = tries(&mut session, entry).await;
        assert_eq!((&hello["resumed"], &hello["lost"]), (&json!(false), &Value::Null), "{entry}: {hello}");
        assert!(hello.get("previous").is_none(), "{entry}: {hello}");
    }
    assert_eq!(session.proxy.resumes("forged").await, entries.len() as f64);
    session.works().await;
    session.lose_client(Cut::Reset).await;
    session.client.resume().await;
    session.works().await;
}

#[tokio::test]
async fn a_ticket_that_was_replaced_is_worth_nothing() {
    let mut session = Ticketed::open("").await;
    session.works().await;
    for _ in 0..3 {
        session.lose_client(Cut::Reset).await;
        session.client.resume().await;
        session.confirm().await;
    }
    let tickets = session.client.tickets.clone();
    let (last, used) = tickets.split_last().unwrap();
    for ticket in used {
        let hello = tries(&mut session, &format!("outrigger.resume.{ticket}.1")).await;
        assert_eq!((&hello["resumed"], &hello["lost"]), (&json!(false), &Value::Null), "{hello}");
    }
    assert_eq!(session.proxy.resumes("used").await, used.len() as f64);
    session.works().await;
    assert_eq!(session.client.ticket.as_ref(), Some(last));
    session.lose_client(Cut::Reset).await;
    session.client.resume().await;
    session.works().await;
}

#[tokio::test]
async fn a_ticket_of_another_process_is_told_from_a_forged_one_only_with_a_common_key() {
    let keys = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n";
    let file = crate::support::files::TempFile::new("keys", keys);
    let policy = format!("session: {{token_key_file: '{}'}}", file.path());
    for (policy, outcome) in [("", "forged"), (&*policy, "elsewhere")] {
        let first = Ticketed::open(policy).await;
        let mut second = Ticketed::open(policy).await;
        let ticket = first.client.ticket.clone().unwrap();
        let hello = tries(&mut second, &format!("outrigger.resume.{ticket}.0")).await;
        assert_eq!(hello["resumed"], false);
        assert_eq!(second.proxy.resumes(outcome).await, 1.0, "{outcome}");
    }
}

fn keys_of(users: &[&str]) -> Auth {
    let line = |user: &&str| format!("{user}:{}\n", token::sha256_hex(&format!("key-{user}")));
    let list: String = users.iter().map(line).collect();
    Auth::ApiKeys(ApiKeys { file: token::file("keys", list), header: "x-api-key".into() })
}

#[tokio::test]
async fn a_ticket_is_for_its_user_path_and_subprotocol_and_nobody_else() {
    let upstream = Upstream::builder().answering(Answer::With(std::sync::Arc::new(|head| {
        let mut answer = String::from_utf8(crate::support::http::switching(head)).unwrap();
        if let Some(first) = head.header(PROTOCOL).and_then(|offer| offer.split(',').next()) {
            answer.insert_str(answer.len() - 2, &format!("{PROTOCOL}: {first}\r\n"));
        }
        answer.into_bytes()
    })));
    let upstream = upstream.by_hand().spawn().await;
    let proxy = session(&upstream, "").policy(|policy| policy.auth = Some(keys_of(&["ann", "bob"])));
    let proxy = proxy.spawn().await;
    let dial = |user: &str, path: &str| proxy.dial().path(path).header("X-Api-Key", &format!("key-{user}"));
    let mut owner = TicketClient::new(dial("ann", "/rooms/1?a=b")).offering("chat.v2");
    owner.begin_anew().await;
    let mut server = upstream.accept().await;
    // Each of them has the ticket, and something else.
    let others = [
        (dial("bob", "/rooms/1"), "chat.v2"),
        (dial("ann", "/rooms/2"), "chat.v2"),
        (dial("ann", "/rooms"), "chat.v2"),
        (dial("ann", "/rooms/1/"), "chat.v2"),
        (dial("ann", "/rooms/1"), "chat.v3"),
    ];
    let count = others.len() as f64;
    for (dial, protocol) in others {
        let told = format!("{protocol}: {:?}", String::from_utf8_lossy(&dial.request()));
        let mut other = TicketClient::new(dial).offering(protocol);
        other.ticket = owner.ticket.clone();
        let hello = other.begin_anew().await;
        assert!(hello.get("previous").is_none() && hello["lost"] == Value::Null, "{told}: {hello}");
        drop(upstream.accept().await);
    }
    assert_eq!(proxy.resumes("foreign").await, count);
    owner.say("still here").await;
    server.expect_text("still here").await;
    // The query may be another one, and another subprotocol may be offered beside.
    owner.cut(Cut::Reset).await;
    owner.redial(dial("ann", "/rooms/1?c=d"));
    owner = owner.offering("chat.v1, chat.v2");
    owner.resume().await;
    server.text("hello").await;
    owner.hears(&["hello"]).await;
}

#[tokio::test]
async fn a_ticket_is_for_its_route() {
    let upstream = Upstream::by_hand().await;
    let routes = "routes: [{name: chat, path: /a, mode: session}, {name: other, path: /b, mode: session}]";
    let proxy = crate::support::proxy::Proxy::to(&upstream).yaml(routes).spawn().await;
    let mut client = TicketClient::new(proxy.dial().path("/a"));
    client.begin_anew().await;
    client.redial(proxy.dial().path("/b"));
    client.begin_anew().await;
    assert_eq!(proxy.metric("outrigger_resumes_total{outcome=\"forged\",route=\"other\"}").await, 1.0);
    assert_eq!(proxy.metrics().await.sum("outrigger_resumes_total"), 1.0);
}

#[tokio::test]
async fn a_client_that_has_had_what_was_never_sent_ends_its_session_whoever_is_there() {
    for is_there in [false, true] {
        let mut session = Ticketed::open("").await;
        session.works().await;
        session.confirm().await;
        let mut again = TicketClient::new(session.proxy.dial());
        again.ticket = session.client.ticket.clone();
        again.seen = session.client.seen + 1;
        if !is_there {
            session.lose_client(Cut::Reset).await;
        }
        let hello = again.begin_anew().await;
        assert_eq!(hello["lost"], Value::Null, "{hello}");
        assert_eq!(hello["previous"]["received"], 2, "so that nothing is said twice: {hello}");
        assert_eq!(session.proxy.resumes("ahead").await, 1.0);
        assert_eq!(session.proxy.resumes("expired").await, 0.0, "it is counted once");
        let closed = session.server().closed().await;
        assert_eq!(closed.code, 1002, "{closed:?}");
        session.proxy.ends_sessions("fault", 1.0).await;
        if is_there {
            // The link that it had is closed, too.
            let since = Instant::now();
            let (code, _, _) = session.client.let_go().await;
            assert_eq!(code, 1002);
            assert!(since.elapsed().as_secs() < 3);
        }
    }
}

#[tokio::test]
async fn who_has_missed_what_is_not_kept_any_more_begins_anew_and_is_told_how_much_it_was() {
    for is_there in [false, true] {
        let mut session = Ticketed::open("history: {messages: 10}").await;
        session.works().await;
        session.client.holds_seen = true;
        // Sent and never confirmed: the newest ten of them stay.
        for number in 0..30 {
            session.server().text(&number.to_string()).await;
        }
        for number in 0..30 {
            session.client.hears(&[&number.to_string()]).await;
        }
        let (mut again, had) = (TicketClient::new(session.proxy.dial()), session.client.seen);
        again.ticket = session.client.ticket.clone();
        if !is_there {
            session.lose_client(Cut::Reset).await;
        }
        // Of 31 messages 22 to 31 are there, so that 21 is the last that may be the newest one it had.
        again.seen = had - 12;
        let hello = again.begin_anew().await;
        assert_eq!(hello["lost"], 2, "{hello}");
        assert_eq!(hello["previous"]["received"], 2, "{hello}");
        assert_eq!(session.proxy.resumes("gap").await, 1.0);
        assert_eq!(session.proxy.resumes("expired").await, 0.0, "it is counted once");
        assert_eq!(session.server().closed().await.code, 1001);
        session.proxy.ends_sessions("overflow", 1.0).await;
        if is_there {
            assert_eq!(session.client.let_go().await.0, 1013);
        }
    }
    // One more that it has had, and all of it is there.
    let mut session = Ticketed::open("history: {messages: 10}").await;
    session.client.holds_seen = true;
    for number in 0..31 {
        session.server().text(&number.to_string()).await;
        session.client.hears(&[&number.to_string()]).await;
    }
    session.lose_client(Cut::Reset).await;
    session.client.seen = 21;
    session.client.resume().await;
    session
        .client
        .hears(&Vec::from_iter((21..31).map(|n| n.to_string())).iter().map(|n| &**n).collect::<Vec<_>>())
        .await;
}

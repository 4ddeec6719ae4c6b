//! Ends of the server that are its word, and those that break a rule: the client gets all that came before, and then that.

use crate::support::link::{Closed, End, Message};
use crate::support::logged::Logged;
use crate::support::session::{Session, said};
use crate::support::wire::{Frame, Length};

#[tokio::test]
async fn a_code_that_is_the_servers_word_reaches_the_client_with_its_reason_and_is_not_redialled() {
    for (code, label) in [
        (1000, "1000"),
        (1002, "1002"),
        (1003, "1003"),
        (1007, "1007"),
        (1008, "1008"),
        (1009, "1009"),
        (1010, "1010"),
        (1014, "1014"),
        (3000, "3xxx"),
        (4000, "4xxx"),
        (4999, "4xxx"),
    ] {
        let mut session = Session::open("").await;
        session.works().await;
        session.server().text("last words").await;
        session.server().close(code, "and why: ä").await;
        session.client.expect_text("last words").await;
        let (client, server) = session.closed().await;
        assert_eq!(said(&client), (code, "and why: ä", End::Eof));
        assert_eq!((server.code, server.then), (code, End::Eof), "the server is answered");
        session.is_over("server", "upstream_close").await;
        let told = format!("outrigger_closes_total{{by=\"upstream\",code=\"{label}\"}}");
        assert_eq!(session.proxy.metric(&told).await, 1.0, "{code}");
        assert_eq!(session.upstream.accepted(), 1, "{code}: nobody dialled again");
        assert_eq!(session.proxy.metrics().await.sum("outrigger_redials_total"), 0.0);
    }
}

#[tokio::test]
async fn a_close_without_a_code_is_the_servers_word_too_and_passed_on_as_it_is() {
    let mut session = Session::open("").await;
    session.server().text("last words").await;
    session.server().send_frame(&Frame::empty_close()).await;
    session.client.expect_text("last words").await;
    let (client, server) = session.closed().await;
    assert_eq!(said(&client), (1005, "", End::Eof));
    assert!(matches!(server.code, 1000 | 1005), "{server:?}");
    session.is_over("server", "upstream_close").await;
    assert_eq!(session.upstream.accepted(), 1);
}

#[tokio::test]
async fn the_client_gets_everything_that_was_said_before_however_much_it_is() {
    let mut session = Session::open("delivery: {max_lag: {messages: 10000, bytes: 64MiB}}").await;
    let (client, server) = session.ends();
    let count = 2000_u32;
    let speaking = async {
        for n in 0..count {
            server.binary(&[&n.to_be_bytes()[..], &[0; 1000]].concat()).await;
        }
        server.close(4001, "that was all").await;
        server.closed().await
    };
    let listening = async {
        for n in 0..count {
            let Message::Binary(bytes) = client.next_message().await else { panic!("bytes are due") };
            assert_eq!((bytes.len(), &bytes[..4]), (1004, &n.to_be_bytes()[..]));
        }
        client.closed().await
    };
    let (_, closed): (Closed, Closed) = tokio::join!(speaking, listening);
    assert_eq!(said(&closed), (4001, "that was all", End::Eof));
    session.is_over("server", "upstream_close").await;
}

#[tokio::test]
async fn a_close_of_the_server_reaches_the_client_at_once_also_where_the_server_does_not_end_tcp() {
    let mut session = Session::open("close_timeout: 60s").await;
    session.server().close(4001, "over").await;
    let closed = session.client.closed().await;
    assert_eq!(said(&closed), (4001, "over", End::Eof));
    let server = session.server();
    assert_eq!(server.next_frame().await.close_status().0, 4001);
    server.finish_writing().await;
    assert_eq!(server.discard_to_end().await, End::Eof);
    session.is_over("server", "upstream_close").await;
}

#[tokio::test]
async fn what_a_client_says_to_a_server_that_has_said_its_last_word_ends_nothing_early() {
    let mut session = Session::open("").await;
    session.server().text("last words").await;
    session.server().close(4000, "over").await;
    for n in 0..10 {
        // It may be closed by then.
        let _ = session.client.try_send_frame(&Frame::text(format!("too late {n}"))).await;
    }
    session.client.expect_text("last words").await;
    let closed = session.client.closed().await;
    assert_eq!((closed.code, &*closed.reason), (4000, "over"));
    session.is_over("server", "upstream_close").await;
}

#[tokio::test]
async fn a_server_that_breaks_a_rule_is_not_redialled_since_it_would_do_so_again() {
    let too_long = vec![0; 5000];
    let cases: [(&str, Vec<Frame>, u16, &str); 7] = [
        ("a mask", vec![Frame::text("masked").masked([1, 2, 3, 4])], 1002, "protocol_error"),
        ("a reserved bit", vec![Frame::text("rsv").rsv(0b010)], 1002, "protocol_error"),
        ("a reserved opcode", vec![Frame::new(0x3, b"")], 1002, "protocol_error"),
        ("a long ping", vec![Frame::ping([0; 126])], 1002, "protocol_error"),
        ("a length in too long a form", vec![Frame::text("x").length(Length::U64)], 1002, "protocol_error"),
        ("text that is none", vec![Frame::new(1, b"\xff\xfe")], 1007, "protocol_error"),
        ("too large a message", vec![Frame::binary(&too_long)], 1009, "too_large"),
    ];
    for (what, frames, code, reason) in cases {
        let (logged, _logging) = Logged::of_this_thread();
        let mut session = Session::open("max_message: 4000, max_frame: 4000").await;
        session.works().await;
        session.server().text("before").await;
        for frame in frames {
            session.server().send_frame(&frame).await;
        }
        session.client.expect_text("before").await;
        let (client, server) = session.closed().await;
        assert_eq!((client.code, client.then), (code, End::Eof), "{what}");
        assert_eq!(server.code, code, "{what}: the server is told the same");
        session.is_over("fault", reason).await;
        assert_eq!(session.upstream.accepted(), 1, "{what}");
        assert!(logged.text().contains("\"fault\""), "{what} is told:\n{}", logged.text());
    }
}

#[tokio::test]
async fn a_message_whose_fragments_are_too_large_together_is_too_large() {
    let mut session = Session::open("max_message: 4000, max_frame: 4000").await;
    for part in 0..3 {
        let opcode = if part == 0 { 2 } else { 0 };
        session.server().send_frame(&Frame::new(opcode, [0; 1500]).not_final()).await;
    }
    let (client, server) = session.closed().await;
    assert_eq!((client.code, server.code), (1009, 1009));
    session.is_over("fault", "too_large").await;
}

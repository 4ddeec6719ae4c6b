//! How a connection ends, cause by cause: what either side is told, how its stream ends, what the
//! metrics say. The table is in `src/tunnel/ending.rs`; its row of the drain is in `drain.rs`.

use std::time::Duration;

use crate::support::link::{Closed, End, Link, Received};
use crate::support::pair::{Pair, half_a_frame, send_half_a_frame};
use crate::support::upstream::Upstream;
use crate::support::wire::{self, Frame, Role};
use tokio::time::Instant;

/// A close handshake that is cut short soon, for peers that do not play along.
const QUICK: &str = "policy: {close_timeout: 300ms}";

fn said(closed: &Closed) -> (u16, &str, End) {
    (closed.code, &closed.reason, closed.then)
}

// ---- somebody says Close

#[tokio::test]
async fn a_client_says_close_and_the_upstream_has_the_last_word() {
    let mut pair = Pair::open("").await;
    pair.client.close(3001, "enough").await;
    let close = pair.server.next_frame().await;
    assert_eq!((close.close_status(), close.is_masked()), ((3001, "enough".to_owned()), true));
    pair.server.text("one more thing").await;
    pair.server.close(3002, "as you like").await;
    pair.server.finish_writing().await;
    let client = pair.client.closed().await;
    assert_eq!(said(&client), (3002, "as you like", End::Eof));
    assert_eq!(client.before, [Frame::text("one more thing").unmasked()]);
    assert_eq!(pair.server.receive().await, Received::End(End::Eof));
    pair.tells("client_close", Some(("client", "3xxx"))).await;
}

#[tokio::test]
async fn an_upstream_says_close_and_the_client_has_the_last_word() {
    let mut pair = Pair::open("").await;
    pair.server.close(4001, "go").await;
    let close = pair.client.next_frame().await;
    assert_eq!((close.close_status(), close.is_masked()), ((4001, "go".to_owned()), false));
    pair.client.text("one more thing").await;
    pair.client.close(4002, "gone").await;
    let server = pair.server.closed().await;
    assert_eq!(said(&server), (4002, "gone", End::Eof));
    assert_eq!(server.before.iter().map(|frame| frame.as_text()).collect::<Vec<_>>(), ["one more thing"]);
    assert_eq!(pair.client.receive().await, Received::End(End::Eof));
    pair.tells("upstream_close", Some(("upstream", "4xxx"))).await;
}

#[tokio::test]
async fn a_close_without_a_code_passes_without_one() {
    let mut pair = Pair::open("").await;
    pair.client.send_frame(&Frame::empty_close()).await;
    let (server, client) = tokio::join!(pair.server.closed(), pair.client.closed());
    assert_eq!((said(&server), said(&client)), ((1005, "", End::Eof), (1005, "", End::Eof)));
    pair.tells("client_close", Some(("client", "none"))).await;

    let mut pair = Pair::open("").await;
    pair.server.send_frame(&Frame::empty_close()).await;
    let (server, client) = tokio::join!(pair.server.closed(), pair.client.closed());
    assert_eq!((said(&server), said(&client)), ((1005, "", End::Eof), (1005, "", End::Eof)));
    pair.tells("upstream_close", Some(("upstream", "none"))).await;
}

#[tokio::test]
async fn a_close_is_passed_on_as_it_is_however_odd_its_payload() {
    let payloads: [&[u8]; 6] =
        [b"\x03", b"\x00\x00", b"\x03\xe7", b"\x03\xed", b"\xff\xff", b"\x03\xe8\xff\xfe not UTF-8"];
    for payload in payloads {
        let mut pair = Pair::open("").await;
        let close = Frame::new(wire::CLOSE, payload);
        pair.client.send_frame(&close).await;
        assert_eq!(pair.server.next_frame().await.payload, payload);
        pair.server.send_frame(&close).await;
        pair.server.finish_writing().await;
        assert_eq!(pair.client.next_frame().await.payload, payload);
        assert_eq!(pair.client.receive().await, Received::End(End::Eof));
    }
}

#[tokio::test]
async fn both_say_close_at_once_and_each_hears_the_other() {
    for _ in 0..20 {
        let mut pair = Pair::open("").await;
        let (client, server) = (&mut pair.client, &mut pair.server);
        tokio::join!(client.close(3003, "from the client"), server.close(4004, "from the server"));
        server.finish_writing().await;
        let (server, client) = tokio::join!(server.closed(), client.closed());
        assert_eq!(said(&server), (3003, "from the client", End::Eof));
        assert_eq!(said(&client), (4004, "from the server", End::Eof));
        let metrics = pair.proxy.metrics().await;
        assert_eq!(metrics.sum("outrigger_closes_total"), 1.0, "one of them was first");
        assert_eq!(metrics.sum("outrigger_disconnections_total"), 1.0);
    }
}

#[tokio::test]
async fn nothing_is_forwarded_after_a_close() {
    for (by, reason) in [(Role::Client, "client_close"), (Role::Server, "upstream_close")] {
        for cut in [0, 3, 8, 9] {
            let mut pair = Pair::open("").await;
            let (sayer, hearer): (&mut Link, &mut Link) = match by {
                Role::Client => (&mut pair.client, &mut pair.server),
                Role::Server => (&mut pair.server, &mut pair.client),
            };
            let frames =
                [Frame::close(1000, ""), Frame::text("too late"), Frame::close(4000, "changed my mind")];
            let bytes = frames.iter().flat_map(|frame| frame.encode(by)).collect::<Vec<_>>();
            // In one write, or cut within the Close or what follows it.
            sayer.send_bytes(&bytes[..cut]).await;
            hearer.ping(b"go on").await;
            sayer.next_frame().await;
            sayer.send_bytes(&bytes[cut..]).await;
            let close = hearer.next_frame().await;
            assert_eq!(close.close_status().0, 1000);
            // More of it, while the answer is still due.
            for _ in 0..10 {
                sayer.text("even later").await;
            }
            hearer.text("so long").await;
            sayer.expect_text("so long").await;
            hearer.close(1000, "").await;
            hearer.finish_writing().await;
            assert_eq!(sayer.next_frame().await.close_status().0, 1000);
            sayer.finish_writing().await;
            assert_eq!(hearer.receive().await, Received::End(End::Eof), "{by:?} cut at {cut}");
            pair.tells(reason, Some((if by == Role::Client { "client" } else { "upstream" }, "1000"))).await;
        }
    }
}

// ---- and the other side does not play along

#[tokio::test]
async fn an_upstream_that_never_answers_a_close_does_not_keep_the_client() {
    let mut pair = Pair::open(QUICK).await;
    let since = Instant::now();
    pair.client.close(3005, "bye").await;
    assert_eq!(said(&pair.client.closed().await), (3005, "", End::Eof));
    assert!(since.elapsed() >= Duration::from_millis(300), "the upstream had its time");
    assert_eq!(said(&pair.server.closed_unanswered().await), (3005, "bye", End::Eof));
    pair.tells("client_close", Some(("client", "3xxx"))).await;
}

#[tokio::test]
async fn a_client_that_never_answers_a_close_does_not_keep_the_upstream() {
    let mut pair = Pair::open(QUICK).await;
    let since = Instant::now();
    pair.server.close(4005, "go").await;
    assert_eq!(said(&pair.server.closed_unanswered().await), (4005, "", End::Eof));
    assert!(since.elapsed() >= Duration::from_millis(300), "the client had its time");
    assert_eq!(said(&pair.client.closed_unanswered().await), (4005, "go", End::Eof));
    pair.tells("upstream_close", Some(("upstream", "4xxx"))).await;
}

#[tokio::test]
async fn an_upstream_that_leaves_its_socket_open_after_the_closes_is_let_go_after_close_timeout() {
    let mut pair = Pair::open(QUICK).await;
    pair.client.close(1000, "").await;
    pair.server.next_frame().await;
    pair.server.close(1000, "").await;
    assert_eq!(said(&pair.client.closed().await), (1000, "", End::Eof));
    assert_eq!(pair.server.receive().await, Received::End(End::Eof));
    pair.tells("client_close", Some(("client", "1000"))).await;
}

#[tokio::test]
async fn a_side_that_goes_instead_of_answering_a_close_is_answered_for() {
    let mut pair = Pair::open("").await;
    pair.client.close(3006, "bye").await;
    pair.server.next_frame().await;
    drop(pair.server);
    assert_eq!(said(&pair.client.closed().await), (3006, "", End::Eof));
    pair.proxy.tells("client_close", Some(("client", "3xxx"))).await;

    let mut pair = Pair::open("").await;
    pair.server.close(4006, "go").await;
    pair.client.next_frame().await;
    pair.client.reset();
    assert_eq!(said(&pair.server.closed().await), (4006, "", End::Eof));
    pair.proxy.tells("upstream_close", Some(("upstream", "4xxx"))).await;
}

// ---- somebody is lost

#[tokio::test]
async fn a_client_that_ends_without_a_close_takes_the_upstream_link_with_it() {
    let mut pair = Pair::open("").await;
    pair.client.text("last words").await;
    pair.client.finish_writing().await;
    let server = pair.server.closed().await;
    assert_eq!((said(&server), server.before.len()), ((1006, "", End::Eof), 1));
    assert_eq!(pair.client.receive().await, Received::End(End::Eof));
    pair.tells("client_lost", None).await;
}

#[tokio::test]
async fn a_client_that_ends_within_a_frame_leaves_the_upstream_within_it() {
    let mut pair = Pair::open("").await;
    let half = half_a_frame(Role::Client);
    pair.client.send_bytes(&half).await;
    pair.client.finish_writing().await;
    assert_eq!(said(&pair.server.closed().await), (1006, "", End::EofMidFrame));
    assert_eq!(pair.server.leftover(), half);
    pair.tells("client_lost", None).await;
}

#[tokio::test]
async fn a_client_that_is_reset_takes_the_upstream_link_with_it() {
    for is_inside in [false, true] {
        let mut pair = Pair::open("").await;
        pair.works().await;
        if is_inside {
            send_half_a_frame(&mut pair.client, Role::Client, &mut pair.server).await;
        }
        pair.client.reset();
        assert_eq!(said(&pair.server.closed().await), (1006, "", End::Eof), "no Close was said to us either");
        pair.proxy.tells("client_lost", None).await;
    }
}

#[tokio::test]
async fn an_upstream_that_ends_without_a_close_has_its_client_told_1012() {
    for is_reset in [false, true] {
        let mut pair = Pair::open("").await;
        for number in 0..100 {
            pair.server.text(&format!("{number}")).await;
        }
        if is_reset {
            // A reset overtakes what is on its way: all of it has to be there first.
            for number in 0..100 {
                pair.client.expect_text(&format!("{number}")).await;
            }
            pair.server.reset();
        } else {
            drop(pair.server);
        }
        let client = pair.client.closed().await;
        assert_eq!(said(&client), (1012, "upstream lost", End::Eof), "reset: {is_reset}");
        assert_eq!(client.before.len(), if is_reset { 0 } else { 100 });
        pair.proxy.tells("upstream_lost", Some(("proxy", "1012"))).await;
    }
}

#[tokio::test]
async fn the_code_for_a_lost_upstream_is_a_setting() {
    let mut pair = Pair::open("policy: {close_codes: {upstream_lost: 4012}}").await;
    drop(pair.server);
    assert_eq!(said(&pair.client.closed().await), (4012, "upstream lost", End::Eof));
}

#[tokio::test]
async fn an_upstream_that_dies_within_a_frame_leaves_no_place_for_a_close() {
    for is_reset in [false, true] {
        let mut pair = Pair::open("").await;
        send_half_a_frame(&mut pair.server, Role::Server, &mut pair.client).await;
        if is_reset {
            pair.server.reset();
        } else {
            drop(pair.server);
        }
        assert_eq!(
            said(&pair.client.closed().await),
            (1006, "", End::Eof),
            "half of its frame was taken off"
        );
        pair.proxy.tells("upstream_lost", Some(("proxy", "1012"))).await;
    }
}

#[tokio::test]
async fn an_upstream_that_dies_between_fragments_has_its_client_told() {
    let mut pair = Pair::open("").await;
    pair.server.send_frame(&Frame::text("not all of it").not_final()).await;
    drop(pair.server);
    let client = pair.client.closed().await;
    assert_eq!((said(&client), client.before.len()), ((1012, "upstream lost", End::Eof), 1));
}

#[tokio::test]
async fn a_client_that_is_gone_behind_bytes_that_nobody_takes_is_noticed_within_close_timeout() {
    for is_reset in [false, true] {
        let mut pair = Pair::open(QUICK).await;
        pair.block_the_upstream().await;
        if is_reset {
            pair.client.reset();
        } else {
            pair.client.finish_writing().await;
        }
        let since = Instant::now();
        pair.proxy.tells("client_lost", None).await;
        assert!(since.elapsed() < Duration::from_secs(5), "took {:?}", since.elapsed());
        pair.server.resume_reading();
        assert_eq!(pair.server.discard_to_end().await, End::Reset);
    }
}

// ---- the proxy ends it

#[tokio::test]
async fn an_idle_connection_is_closed_on_both_sides() {
    let mut pair = Pair::open("policy: {idle_timeout: 300ms}").await;
    let since = Instant::now();
    let (client, server) = tokio::join!(pair.client.closed(), pair.server.closed());
    assert_eq!(said(&client), (1001, "idle timeout", End::Eof));
    assert_eq!(said(&server), (1001, "idle timeout", End::Eof));
    assert!(since.elapsed() > Duration::from_millis(200), "not before its time: {:?}", since.elapsed());
    pair.tells("idle_timeout", Some(("proxy", "1001"))).await;
}

#[tokio::test]
async fn a_close_waits_for_the_end_of_the_frame_that_is_on_its_way() {
    let mut pair = Pair::open("policy: {idle_timeout: 300ms}").await;
    let frame = Frame::binary([7; 1000]).encode(Role::Server);
    pair.server.send_bytes(&frame[..500]).await;
    // The way to the server is at an edge: it is told at once.
    assert_eq!(pair.server.next_frame().await.close_status().0, 1001);
    pair.client.expect_silence(Duration::from_millis(100)).await;
    pair.server.send_bytes(&frame[500..]).await;
    pair.server.close(1001, "").await;
    pair.server.finish_writing().await;
    let client = pair.client.closed().await;
    assert_eq!(said(&client), (1001, "idle timeout", End::Eof));
    assert_eq!(client.before.iter().map(|frame| frame.payload.len()).collect::<Vec<_>>(), [1000]);
    pair.tells("idle_timeout", Some(("proxy", "1001"))).await;
}

#[tokio::test]
async fn a_client_within_a_frame_that_never_ends_is_reset_after_close_timeout() {
    let mut pair = Pair::open("policy: {idle_timeout: 200ms, close_timeout: 200ms}").await;
    send_half_a_frame(&mut pair.server, Role::Server, &mut pair.client).await;
    assert_eq!(said(&pair.client.closed().await), (1006, "", End::Reset));
    assert_eq!(pair.server.closed_unanswered().await.code, 1001);
    pair.tells("idle_timeout", Some(("proxy", "1001"))).await;
}

#[tokio::test]
async fn a_connection_that_is_too_old_is_closed_and_the_upstream_hears_its_client_to_the_end() {
    let mut pair = Pair::open("policy: {max_lifetime: 400ms}").await;
    let since = Instant::now();
    let close = pair.client.next_frame().await;
    assert_eq!(close.close_status(), (1012, "maximum lifetime reached".to_owned()));
    assert!(since.elapsed() > Duration::from_millis(250), "closed after {:?}", since.elapsed());
    pair.client.text("last words").await;
    pair.server.expect_text("last words").await;
    pair.client.close(1012, "").await;
    assert_eq!(said(&pair.server.closed().await), (1001, "maximum lifetime reached", End::Eof));
    assert_eq!(pair.client.receive().await, Received::End(End::Eof));
    pair.tells("lifetime", Some(("proxy", "1012"))).await;
}

#[tokio::test]
async fn a_client_without_a_pulse_is_cut_and_the_upstream_told() {
    let mut pair = Pair::open("policy: {heartbeat: {interval: 100ms, timeout: 100ms, max_missed: 2}}").await;
    let (client, server) = tokio::join!(pair.client.closed_unanswered(), pair.server.closed());
    assert_eq!((client.code, &*client.reason), (1001, "heartbeat timeout"));
    assert_eq!(client.before.iter().map(|frame| frame.opcode).collect::<Vec<_>>(), [wire::PING; 2]);
    assert_eq!(said(&server), (1001, "client heartbeat timeout", End::Eof));
    pair.tells("heartbeat_timeout", Some(("proxy", "1001"))).await;
    assert_eq!(pair.proxy.metric("outrigger_heartbeat_missed_total").await, 2.0);
}

#[tokio::test]
async fn an_upstream_without_a_pulse_is_reset_and_the_client_told() {
    let yaml = "upstream: {heartbeat: {interval: 100ms, timeout: 100ms, max_missed: 2}}";
    let mut pair = Pair::open(yaml).await;
    let (client, server) = tokio::join!(pair.client.closed(), pair.server.closed_unanswered());
    assert_eq!(said(&client), (1012, "upstream lost", End::Eof));
    assert_eq!(server.before.iter().map(|frame| frame.opcode).collect::<Vec<_>>(), [wire::PING; 2]);
    assert_eq!((server.code, server.then), (1006, End::Reset));
    pair.tells("upstream_heartbeat_timeout", Some(("proxy", "1012"))).await;
}

#[tokio::test]
async fn an_offence_and_a_message_above_its_limit_end_both_sides() {
    let mut pair = Pair::open("").await;
    pair.client.send_frame(&Frame::text("unmasked").unmasked()).await;
    let (client, server) = tokio::join!(pair.client.closed(), pair.server.closed());
    assert_eq!(said(&client), (1002, "protocol error", End::Eof));
    assert_eq!(said(&server), (1002, "protocol error", End::Eof));
    pair.tells("protocol_error", Some(("proxy", "1002"))).await;

    let mut pair = Pair::open("policy: {max_frame: 1KiB, max_message: 1KiB}").await;
    pair.server.send_frame(&Frame::binary([0; 1025])).await;
    let (client, server) = tokio::join!(pair.client.closed(), pair.server.closed());
    assert_eq!(said(&client), (1009, "message too large", End::Eof));
    assert_eq!(said(&server), (1009, "message too large", End::Eof));
    pair.tells("too_large", Some(("proxy", "1009"))).await;
}

// ---- somebody does not read

/// A connection whose client reads nothing of a flood of messages of `size`, until the server is told.
async fn flooded(yaml: &str, size: usize) -> Pair {
    let mut pair = Pair::shaped(yaml, Upstream::builder(), |dial| dial.receive_buffer(16 * 1024)).await;
    pair.client.stop_reading();
    let flood = Frame::binary(vec![0; size]).encode(Role::Server).repeat((8 << 20) / size);
    let sent = pair.server.try_send_bytes(&flood).await;
    let server = pair.server.closed().await;
    assert_eq!((server.code, &*server.reason), (1001, "slow consumer"));
    if size < 64 * 1024 {
        // What is left of it when the client is given up is read and thrown away. (Not so where the
        // client is within a message: there nothing more can be read until it goes on.)
        sent.expect("the flood is taken to its end");
        assert_eq!(server.then, End::Eof);
    }
    pair
}

#[tokio::test]
async fn slow_consumer_is_told_when_it_reads_again_in_time() {
    let mut pair = flooded("policy: {delivery: {stall_timeout: 300ms}}", 1000).await;
    pair.client.resume_reading();
    let client = pair.client.closed().await;
    assert_eq!(said(&client), (1013, "slow consumer", End::Eof));
    assert!(client.before.iter().all(|frame| frame.payload == [0; 1000]), "whole messages, up to the Close");
    pair.tells("slow_consumer", Some(("proxy", "1013"))).await;
}

#[tokio::test]
async fn slow_consumer_is_reset_after_close_timeout() {
    for size in [1000, 4 << 20] {
        let yaml = "policy: {close_timeout: 300ms, delivery: {stall_timeout: 300ms}}";
        let mut pair = flooded(yaml, size).await;
        pair.tells("slow_consumer", Some(("proxy", "1013"))).await;
        pair.client.resume_reading();
        assert_eq!(pair.client.discard_to_end().await, End::Reset, "messages of {size}");
    }
}

#[tokio::test]
async fn slow_upstream_is_reset_and_its_client_told_1012() {
    let mut pair = Pair::open("upstream: {stall_timeout: 300ms}").await;
    pair.server.stop_reading();
    let flood = Frame::binary([0; 1000]).encode(Role::Client).repeat(8000);
    pair.client.send_bytes(&flood).await;
    assert_eq!(said(&pair.client.closed().await), (1012, "upstream lost", End::Eof));
    pair.server.resume_reading();
    assert_eq!(pair.server.discard_to_end().await, End::Reset);
    pair.tells("slow_upstream", Some(("proxy", "1012"))).await;
}

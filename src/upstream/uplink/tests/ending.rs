//! How it ends, whoever begins.

use super::*;
use crate::frame::{CloseCode, ProtocolError};

#[tokio::test(start_paused = true)]
async fn a_close_of_the_server_is_told_and_answered_at_once_and_its_end_awaited() {
    let mut stage = Stage::open(RULES).await;
    stage.say(&[frame(0x81, b"last"), close(1001, "going"), frame(0x81, b"after")].concat()).await;
    assert_eq!(stage.texts(), ["last"]);
    assert_eq!(stage.hear(), [(0x88, 1001_u16.to_be_bytes().to_vec())]);
    assert_eq!(stage.end, Some(UplinkEnd::Closed(CloseCode(1001), "going".into())));
    assert!(!stage.send(Kind::Text, b"too late"));
    assert!(!stage.is_over, "a server ends the TCP connection first");
    stage.leave().await;
    assert!(stage.is_over);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_and_goes_at_once_has_closed() {
    let mut stage = Stage::open(RULES).await;
    stage.send(Kind::Text, b"on its way");
    stage.server.as_mut().unwrap().write_all(&close(1012, "restart")).unwrap();
    stage.leave().await;
    assert_eq!(stage.end, Some(UplinkEnd::Closed(CloseCode(1012), "restart".into())));
}

#[tokio::test(start_paused = true)]
async fn a_close_without_a_code_or_with_a_forbidden_one_is_answered_as_the_rfc_wants() {
    // what is said, what is told, what is answered
    let cases: [(Vec<u8>, u16, &[u8]); 3] = [
        (frame(0x88, b""), 1005, b""),
        (close(1006, "?"), 1006, b"\x03\xea"),
        (close(4000, ""), 4000, b"\x0f\xa0"),
    ];
    for (said, code, answer) in cases {
        let mut stage = Stage::open(RULES).await;
        stage.say(&said).await;
        assert_eq!(stage.hear(), [(0x88, answer.to_vec())]);
        stage.leave().await;
        assert!(matches!(stage.end, Some(UplinkEnd::Closed(told, _)) if told.0 == code), "{:?}", stage.end);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_end_after_its_close_is_left_after_close_timeout() {
    let mut stage = Stage::open(RULES).await;
    stage.pass_until(secs(1)).await;
    stage.say(&close(1000, "")).await;
    stage.pass_until(secs(6) - millis(1)).await;
    assert!(!stage.is_over);
    stage.pass(millis(1)).await;
    assert!(stage.is_over);
    assert_eq!(stage.end, Some(UplinkEnd::Closed(CloseCode(1000), String::new())));
    assert!(stage.hear_all().1, "the socket is closed");
}

#[tokio::test(start_paused = true)]
async fn our_close_follows_what_was_sent_and_the_rest_is_heard_until_it_is_answered() {
    let mut stage = Stage::open(RULES).await;
    stage.send(Kind::Text, b"before");
    stage.uplink.close(CloseCode(1000), "nobody listens");
    assert!(!stage.send(Kind::Text, b"after"));
    stage.turn().await;
    let close_frame = (0x88, b"\x03\xe8nobody listens".to_vec());
    assert_eq!(stage.hear(), [(0x81, b"before".to_vec()), close_frame]);
    stage.say(&[frame(0x81, b"still"), frame(0x89, b"?")].concat()).await;
    assert_eq!(stage.hear(), [], "nothing follows our Close");
    assert_eq!(stage.texts(), ["still"]);
    stage.say(&close(1000, "")).await;
    assert_eq!(stage.end, Some(UplinkEnd::Done));
    stage.leave().await;
    assert!(stage.is_over);
}

#[tokio::test(start_paused = true)]
async fn what_still_waits_for_a_server_that_closes_goes_out_beside_what_follows() {
    let mut stage = Stage::open(RULES).await;
    SockRef::from(stage.server.as_ref().unwrap()).set_recv_buffer_size(4096).unwrap();
    while stage.send(Kind::Binary, &[1; 10_000]) {
        stage.turn().await;
    }
    assert!(stage.uplink.buffered() > 0);
    stage.server.as_mut().unwrap().write_all(&close(1001, "")).unwrap();
    stage.turn().await;
    assert!(stage.end.is_some() && !stage.is_over, "nobody waits until it has taken all that");
    let mut heard = Vec::new();
    while stage.uplink.buffered() > 0 {
        heard.extend(stage.hear_all().0);
        stage.turn().await;
    }
    heard.extend(stage.hear_all().0);
    let frames = frames(&heard);
    assert_eq!(said_close(&frames), 1001);
    assert!(frames.len() > 50, "the last of it is our Close");
    stage.leave().await;
    assert!(stage.is_over);
}

#[tokio::test(start_paused = true)]
async fn a_greeting_goes_first_however_little_may_wait() {
    let mut stage = Stage::open(UplinkRules { max_waiting: 20, ..RULES }).await;
    stage.uplink.greet(Kind::Text, b"more than may wait of clients' words");
    stage.uplink.greet(Kind::Binary, b"");
    assert!(!stage.send(Kind::Text, b"later"), "there is no room");
    stage.turn().await;
    assert!(stage.send(Kind::Text, b"now"));
    stage.turn().await;
    let greeting = (0x81, b"more than may wait of clients' words".to_vec());
    assert_eq!(stage.hear(), [greeting, (0x82, Vec::new()), (0x81, b"now".to_vec())]);
}

#[tokio::test(start_paused = true)]
async fn our_close_that_nobody_answers_ends_after_close_timeout() {
    let mut stage = Stage::open(UplinkRules { heartbeat: Some(BEAT), ..RULES }).await;
    stage.uplink.close(CloseCode(1001), "");
    stage.pass_until(secs(5) - millis(1)).await;
    assert_eq!(stage.end, None);
    stage.pass(millis(1)).await;
    assert_eq!(stage.end, Some(UplinkEnd::Done));
    // The first cause stands, too, when the server goes or breaks a rule then.
    for odd in [&b""[..], b"\xff\xff"] {
        let mut stage = Stage::open(RULES).await;
        stage.uplink.close(CloseCode(1000), "");
        stage.say(odd).await;
        stage.turn().await;
        let (heard, is_ended) = stage.hear_all();
        assert_eq!(said_close(&frames(&heard)), 1000);
        assert!(!is_ended, "it has close_timeout to answer");
        stage.leave().await;
        assert_eq!(stage.end, Some(UplinkEnd::Done));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_without_a_close_is_lost_also_inside_a_frame() {
    for last in [&b""[..], b"\x81\x05ab", b"\x81", b"\x01\x02ab"] {
        let mut stage = Stage::open(RULES).await;
        stage.say(&frame(0x81, b"whole")).await;
        stage.say(last).await;
        stage.leave().await;
        assert_eq!((stage.texts(), &stage.end), (vec!["whole"], &Some(UplinkEnd::Lost)), "{last:x?}");
        assert_eq!(stage.uplink.buffered(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_breaks_a_rule_is_told_to_the_server_why() {
    let too_large = ProtocolError::FrameTooLarge { limit: 1000 };
    let message = ProtocolError::MessageTooLarge { limit: 1500 };
    let fragments = [frame(0x02, &[0; 1000]), frame(0x80, &[0; 501])].concat();
    let cases: [(Vec<u8>, ProtocolError, u16); 6] = [
        (vec![0x81, 0x85, 1, 2, 3, 4], ProtocolError::Masked, 1002),
        (frame(0x80, b"?"), ProtocolError::UnexpectedContinuation, 1002),
        (frame(0xc1, b"?"), ProtocolError::ReservedBits, 1002),
        (frame(0x81, b"\xff"), ProtocolError::InvalidUtf8, 1007),
        (frame(0x82, &[0; 1001]), too_large, 1009),
        (fragments, message, 1009),
    ];
    for (bad, fault, code) in cases {
        let mut stage = Stage::open(RULES).await;
        stage.say(&[frame(0x81, b"good"), bad, frame(0x81, b"unheard")].concat()).await;
        assert_eq!(stage.texts(), ["good"], "{fault}");
        let (heard, is_ended) = stage.hear_all();
        assert_eq!(said_close(&frames(&heard)), code, "{fault}");
        assert!(is_ended, "our side of the stream ends once it was told");
        assert_eq!(stage.end, Some(UplinkEnd::ProtocolError(fault)));
        assert!(!stage.is_over, "its end is waited for");
        stage.leave().await;
        assert!(stage.is_over);
        // One that goes on talking is left.
        let mut stage = Stage::open(RULES).await;
        stage.say(b"\xff\xff").await;
        stage.pass(secs(5)).await;
        assert!(stage.is_over && matches!(stage.end, Some(UplinkEnd::ProtocolError(_))), "{:?}", stage.end);
    }
}

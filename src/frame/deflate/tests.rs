use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::frame::header::Header;

fn inflated(payload: &[u8], max: u64) -> Result<Vec<u8>, ProtocolError> {
    let mut into = Vec::new();
    inflate(payload, max, &mut into).map(|()| into)
}

#[test]
fn offers_are_taken_in_order_and_declined_by_the_rfc() {
    let both = Some(ANSWER);
    let cases: &[(&[&str], Option<&str>)] = &[
        (&[], None),
        (&[""], None),
        (&["permessage-deflate"], both),
        // What browsers say.
        (&["permessage-deflate; client_max_window_bits"], both),
        (&["permessage-deflate;client_max_window_bits=8"], both),
        (&["permessage-deflate; client_max_window_bits = \"15\""], both),
        (&["permessage-deflate; client_max_window_bits=7"], None),
        (&["permessage-deflate; client_max_window_bits=16"], None),
        (&["permessage-deflate; client_max_window_bits=08"], None),
        (&["permessage-deflate; client_max_window_bits="], None),
        (&["permessage-deflate; client_max_window_bits=\"15"], None),
        (&["permessage-deflate; server_no_context_takeover; client_no_context_takeover"], both),
        (&["permessage-deflate; server_no_context_takeover=1"], None),
        (&["permessage-deflate; client_no_context_takeover=\"\""], None),
        (&["permessage-deflate; server_max_window_bits=15"], Some(ANSWER_WITH_WINDOW)),
        (&["permessage-deflate; server_max_window_bits=\"15\""], Some(ANSWER_WITH_WINDOW)),
        (&["permessage-deflate; server_max_window_bits=14"], None),
        (&["permessage-deflate; server_max_window_bits"], None),
        (&["permessage-deflate; mux"], None),
        (&["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], None),
        (&["permessage-deflate; client_max_window_bits; client_max_window_bits=9"], None),
        (&["permessage-deflate;"], None),
        (&["permessage-deflate; ; client_max_window_bits"], None),
        (&["permessage-deflate2"], None),
        (&["x-webkit-deflate-frame"], None),
        // The first that will do.
        (&["permessage-deflate; server_max_window_bits=10, permessage-deflate"], both),
        (&["x-mine; a=\"b, permessage-deflate\", y"], None),
        (&["x-mine; a=\"\\\", permessage-deflate", "permessage-deflate"], both),
        (&["x-mine; a=\"b;c\" , permessage-deflate;server_max_window_bits=15"], Some(ANSWER_WITH_WINDOW)),
        (&["mux", "permessage-deflate; server_max_window_bits=8", "permessage-deflate"], both),
    ];
    for (offers, answer) in cases {
        assert_eq!(accept(offers.iter().copied()), *answer, "{offers:?}");
    }
}

#[test]
fn the_samples_of_the_rfc_inflate() {
    let cases: [(&[u8], &str); 7] = [
        // RFC 7692 §7.2.3.1
        (&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], "Hello"),
        // §7.2.3.3: stored
        (&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], "Hello"),
        // §7.2.3.4: BFINAL
        (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], "Hello"),
        // and without the byte that the RFC wants behind it
        (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], "Hello"),
        // §7.2.3.5: two blocks
        (&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00], "Hello"),
        // §7.2.3.6: empty
        (&[0x00], ""),
        (&[], ""),
    ];
    for (payload, text) in cases {
        assert_eq!(inflated(payload, 5).unwrap(), text.as_bytes(), "{payload:x?}");
    }
    // Two that each call themselves the last.
    let twice = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00].repeat(2);
    assert_eq!(inflated(&[&twice[..], &[0]].concat(), 10).unwrap(), b"HelloHello");
}

#[test]
fn what_is_no_deflate_or_is_cut_off_is_a_fault() {
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let cases: [&[u8]; 6] = [
        &[0xff, 0xff, 0xff],
        b"not deflate at all",
        // reserved block type
        &[0x06],
        // stored, with a length that does not fit its complement
        &[0x00, 0x05, 0x00, 0x05, 0x00, 1, 2, 3, 4, 5],
        &hello[..3],
        &hello[..5],
    ];
    for payload in cases {
        assert_eq!(inflated(payload, 1000), Err(ProtocolError::InvalidDeflate), "{payload:x?}");
    }
    // A thread that met one inflates the next all the same.
    assert_eq!(inflated(&hello, 5).unwrap(), b"Hello");
}

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    let bomb = message(Kind::Binary, &vec![0; 32 << 20]).unwrap();
    let header = Header::parse(&bomb).unwrap().unwrap();
    let payload = &bomb[header.size..];
    assert!(payload.len() < 1 << 19, "{}", payload.len());
    for max in [0, 1, 999, 1 << 16, (1 << 20) + 1, (32 << 20) - 1] {
        let mut into = Vec::new();
        assert_eq!(inflate(payload, max, &mut into), Err(ProtocolError::MessageTooLarge { limit: max }));
        assert!(into.capacity() as u64 <= max + INITIAL_CAPACITY as u64, "{} for {max}", into.capacity());
    }
    assert_eq!(inflated(payload, 32 << 20).unwrap().len(), 32 << 20);
    assert_eq!(inflated(payload, u64::MAX).unwrap().len(), 32 << 20);
}

#[test]
fn empty_blocks_without_end_cost_little() {
    // Each calls itself the last, so that a new stream begins behind it.
    let payload = [0x03, 0x00].repeat(1 << 19);
    let since = tokio::time::Instant::now();
    assert_eq!(inflated(&payload, 10).unwrap(), b"");
    assert!(since.elapsed().as_secs() < 10, "{:?}", since.elapsed());
}

#[test]
fn a_message_becomes_one_compressed_frame() {
    let text = r#"{"type":"update","symbol":"ABC","price":100.25,"size":10}"#.repeat(3);
    let frame = message(Kind::Text, text.as_bytes()).unwrap();
    assert_eq!(frame[0], 0xc1);
    let header = Header::parse(&frame).unwrap().unwrap();
    assert_eq!(header.size + header.payload as usize, frame.len());
    assert!(frame.len() < text.len() / 2, "{}", frame.len());
    assert_eq!(message(Kind::Binary, text.as_bytes()).unwrap()[0], 0xc2);
    assert_eq!(inflated(&frame[header.size..], text.len() as u64).unwrap(), text.as_bytes());
}

#[test]
fn what_becomes_no_smaller_stays_as_it_is() {
    assert_eq!(message(Kind::Text, b""), None);
    assert_eq!(message(Kind::Text, &[b'a'; MIN_PAYLOAD - 1]), None);
    assert!(message(Kind::Text, &[b'a'; MIN_PAYLOAD]).is_some());
    let mut random = fastrand::Rng::with_seed(1);
    for len in [32, 100, 1000, 100_000, 1_000_000] {
        let noise: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
        assert_eq!(message(Kind::Binary, &noise), None, "{len}");
    }
}

#[test]
fn a_large_message_leaves_no_large_buffer() {
    let large: Vec<u8> = (0..4_000_000_u32).map(|i| (i % 251) as u8).collect();
    assert!(message(Kind::Binary, &large).is_some());
    COMPRESSOR.with_borrow(|compressor| assert!(compressor.as_ref().unwrap().out.capacity() <= MAX_KEPT));
}

/// Something that compresses, more or less.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    (vec(any::<u8>(), 1..40), 0..3000_usize, vec(any::<u8>(), 0..200))
        .prop_map(|(word, times, rest)| [word.repeat(times), rest].concat())
}

proptest! {
    #[test]
    fn what_is_compressed_comes_back(payload in payload()) {
        if let Some(frame) = message(Kind::Binary, &payload) {
            let header = Header::parse(&frame).unwrap().unwrap();
            let compressed = &frame[header.size..];
            prop_assert!(compressed.len() < payload.len());
            prop_assert_eq!(inflated(compressed, payload.len() as u64).unwrap(), &payload[..]);
            let short = payload.len() as u64 - 1;
            prop_assert_eq!(inflated(compressed, short), Err(ProtocolError::MessageTooLarge { limit: short }));
        }
    }

    #[test]
    fn any_bytes_inflate_or_do_not(garbage in vec(any::<u8>(), 0..500), max in 0_u64..10_000) {
        let mut into = b"before".to_vec();
        let result = inflate(&garbage, max, &mut into);
        prop_assert!(into.starts_with(b"before"));
        if result.is_ok() {
            prop_assert!(into.len() as u64 - 6 <= max);
        }
    }

    #[test]
    fn any_offer_is_answered(offers in vec("[a-z_=;,\" \\\\0-9-]{0,40}", 0..4)) {
        let _ = accept(offers.iter().map(String::as_str));
        let mut offers = offers;
        offers.push("permessage-deflate".to_owned());
        prop_assert!(accept(offers.iter().map(String::as_str)).is_some());
    }
}

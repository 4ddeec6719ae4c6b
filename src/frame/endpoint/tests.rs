use proptest::collection::vec;
use proptest::prelude::*;

use super::state::{Read, Write};
use super::*;
use crate::frame::{Assembled, Assembler, Extensions, Kind, Rules, encode};

const READS: [Read; 5] = [
    Read::Frames,
    Read::Discarding,
    Read::CloseReceived,
    Read::Ended { close_received: false },
    Read::Ended { close_received: true },
];

const WRITES: [Write; 6] = [
    Write::Frames,
    Write::CloseQueued,
    Write::CloseSent,
    Write::FinSent { close_sent: false },
    Write::FinSent { close_sent: true },
    Write::Broken,
];

const ROLES: [Role; 2] = [Role::Client, Role::Server];

/// Everything that can happen to a state.
const MOVES: [fn(&mut ConnectionState); 7] = [
    ConnectionState::discard,
    ConnectionState::on_close_received,
    ConnectionState::on_read_end,
    |state| {
        let can_send = state.can_send();
        assert_eq!(state.queue_close(), can_send);
    },
    ConnectionState::on_close_sent,
    ConnectionState::on_fin_sent,
    ConnectionState::on_broken,
];

fn states() -> impl Iterator<Item = ConnectionState> {
    ROLES.into_iter().flat_map(|role| {
        READS
            .into_iter()
            .flat_map(move |read| WRITES.into_iter().map(move |write| ConnectionState::at(role, read, write)))
    })
}

#[test]
fn every_move_of_every_state_leads_where_the_table_says() {
    let (read, write) = (READS, WRITES);
    // In the order of `READS`: what comes of discard, on_close_received, on_read_end.
    let reads = [
        [read[1], read[2], read[3]],
        [read[1], read[2], read[3]],
        [read[2], read[2], read[4]],
        [read[3], read[3], read[3]],
        [read[4], read[4], read[4]],
    ];
    // In the order of `WRITES`: what comes of queue_close, on_close_sent, on_fin_sent, on_broken.
    let writes = [
        [write[1], write[2], write[3], write[5]],
        [write[1], write[2], write[3], write[5]],
        [write[2], write[2], write[4], write[5]],
        [write[3], write[3], write[3], write[5]],
        [write[4], write[4], write[4], write[5]],
        [write[5], write[5], write[5], write[5]],
    ];
    let mut seen = 0;
    for role in ROLES {
        for (r, w) in (0..READS.len()).flat_map(|r| (0..WRITES.len()).map(move |w| (r, w))) {
            let before = ConnectionState::at(role, READS[r], WRITES[w]);
            for (index, mv) in MOVES.iter().enumerate() {
                let mut after = before;
                mv(&mut after);
                let expected = match index {
                    0..3 => ConnectionState::at(role, reads[r][index], WRITES[w]),
                    _ => ConnectionState::at(role, READS[r], writes[w][index - 3]),
                };
                assert_eq!(after, expected, "move {index} of {before:?}");
                assert!(after.read() >= before.read() && after.write() >= before.write());
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 2 * 5 * 6 * 7);
}

#[test]
fn every_state_answers_what_its_two_directions_say() {
    for state in states() {
        let (read, write) = (state.read(), state.write());
        assert_eq!(state.can_read(), read == READS[0], "{state:?}");
        assert_eq!(state.close_received(), read == READS[2] || read == READS[4], "{state:?}");
        assert_eq!(state.is_read_ended(), read == READS[3] || read == READS[4], "{state:?}");
        assert_eq!(state.can_send(), write == WRITES[0], "{state:?}");
        assert_eq!(state.close_sent(), write == WRITES[2] || write == WRITES[4], "{state:?}");
        assert_eq!(state.fin_sent(), write == WRITES[3] || write == WRITES[4], "{state:?}");
        assert_eq!(state.is_broken(), write == WRITES[5], "{state:?}");
    }
}

#[test]
fn a_connection_is_done_when_its_role_has_nothing_to_wait_for() {
    // For each of `WRITES` what is read in the order of `READS`; C: done for a client, S: for a server, and with a small
    // letter only if all was flushed.
    let table = [
        ["", "", "", "", ""],
        ["", "", "", "", ""],
        ["", "", "s", "cs", "cs"],
        ["", "", "", "CS", "CS"],
        ["", "", "S", "CS", "CS"],
        ["", "", "", "CS", "CS"],
    ];
    for (w, row) in table.into_iter().enumerate() {
        for (r, done) in row.into_iter().enumerate() {
            for (role, letter) in [(Role::Client, 'C'), (Role::Server, 'S')] {
                let state = ConnectionState::at(role, READS[r], WRITES[w]);
                let unflushed = done.contains(letter);
                assert_eq!(state.is_done(false), unflushed, "{state:?}");
                let flushed = unflushed || done.contains(letter.to_ascii_lowercase());
                assert_eq!(state.is_done(true), flushed, "{state:?}");
            }
        }
    }
}

#[test]
fn only_a_peer_that_failed_and_was_told_so_gets_the_end_of_the_stream_first() {
    for state in states() {
        let is_told = state.read() == Read::Discarding && state.write() == Write::CloseSent;
        assert_eq!(state.needs_fin(true), is_told, "{state:?}");
        assert!(!state.needs_fin(false), "{state:?}");
        assert!(!(state.needs_fin(true) && state.is_done(true)), "{state:?}");
    }
}

#[test]
fn a_state_is_three_bytes() {
    assert_eq!(size_of::<ConnectionState>(), 3);
    assert_eq!(size_of::<Endpoint>(), 2 * size_of::<usize>());
}

/// Opcode and payload of a frame, which is masked as `role` has to.
fn parts(frame: &ControlFrame, role: Role) -> (Opcode, Vec<u8>) {
    let sent = frame.as_bytes();
    let header = crate::frame::Header::parse(sent).unwrap().unwrap();
    assert_eq!(header.mask.is_some(), role == Role::Client);
    let mut payload = sent[header.size..].to_vec();
    if let Some(mask) = header.mask {
        super::super::masking::apply(&mut payload, mask);
    }
    (header.opcode, payload)
}

fn next(endpoint: &mut Endpoint) -> Option<(Opcode, Vec<u8>)> {
    let role = endpoint.state().role();
    endpoint.next_control().map(|frame| parts(&frame, role))
}

fn close(code: u16, reason: &str) -> Option<(Opcode, Vec<u8>)> {
    Some((Opcode::Close, [&code.to_be_bytes()[..], reason.as_bytes()].concat()))
}

fn pong(payload: &[u8]) -> Option<(Opcode, Vec<u8>)> {
    Some((Opcode::Pong, payload.to_vec()))
}

/// Something that happens to an endpoint.
#[derive(Debug, Clone)]
enum Event {
    Ping(u8),
    CloseReceived,
    StartClosing,
    Fail,
    ReadEnd,
    Next,
    FinSent,
    Broken,
}

use Event as E;

const EVENTS: [Event; 8] =
    [E::Ping(2), E::CloseReceived, E::StartClosing, E::Fail, E::ReadEnd, E::Next, E::FinSent, E::Broken];

/// Does it; answers what was sent for it.
fn run(endpoint: &mut Endpoint, event: &Event) -> Option<(Opcode, Vec<u8>)> {
    match event {
        E::Ping(payload) => endpoint.on_ping(&[*payload]),
        E::CloseReceived => endpoint.on_close_received(CloseCode(3000)),
        E::StartClosing => drop(endpoint.start_closing(CloseCode(1001), "bye")),
        E::Fail => drop(endpoint.fail(CloseCode(1002), "wrong")),
        E::ReadEnd => endpoint.on_read_end(),
        E::Next => return next(endpoint),
        E::FinSent => endpoint.on_fin_sent(),
        E::Broken => endpoint.on_broken(),
    }
    None
}

#[test]
fn every_event_in_every_state_queues_what_the_table_says() {
    // What was before; then, in the order of `EVENTS`, what goes out next after each: the pong of ping 1 or 2, the (r)eply,
    // (b)ye, (w)rong or nothing; and `sent` for the event that asks for it.
    let ping = [E::Ping(1)];
    let closing = [E::Ping(1), E::StartClosing];
    let closed = [E::StartClosing, E::Next];
    let replying = [E::CloseReceived];
    let replied = [E::CloseReceived, E::Next];
    let failing = [E::Fail];
    let failed = [E::Fail, E::Next];
    let fin = [E::Ping(1), E::FinSent];
    let closed_fin = [E::StartClosing, E::Next, E::FinSent];
    let broken = [E::Ping(1), E::Broken];
    let ended = [E::ReadEnd];
    let ping_ended = [E::Ping(1), E::ReadEnd];
    let table: [(&[Event], &str); 13] = [
        //             pCSFE-fb
        (&[], /*   */ "2rbw    "),
        (&ping, /* */ "2rbw1   "),
        (&closing, /**/ "bbbbb   "),
        (&closed, /**/ "        "),
        (&replying, "rrrrr   "),
        (&replied, /**/ "        "),
        (&failing, "wwwww   "),
        (&failed, /**/ "        "),
        (&fin, /*  */ "        "),
        (&closed_fin, "        "),
        (&broken, /**/ "        "),
        (&ended, /**/ " rbw    "),
        (&ping_ended, "1rbw1   "),
    ];
    let frame = |letter| match letter {
        '1' => pong(&[1]),
        '2' => pong(&[2]),
        'r' => close(3000, ""),
        'b' => close(1001, "bye"),
        'w' => close(1002, "wrong"),
        _ => None,
    };
    for role in ROLES {
        for (before, row) in table {
            for (event, letter) in EVENTS.iter().zip(row.chars()) {
                let mut endpoint = Endpoint::new(role);
                for event in before {
                    run(&mut endpoint, event);
                }
                run(&mut endpoint, event);
                let sent = next(&mut endpoint);
                assert_eq!(sent, frame(letter), "{role:?}: {event:?} after {before:?}");
                assert_eq!(next(&mut endpoint), None, "one frame at most is queued");
            }
        }
    }
}

#[test]
fn of_two_closes_the_first_is_sent_whoever_began() {
    for role in ROLES {
        let mut endpoint = Endpoint::new(role);
        assert!(endpoint.start_closing(CloseCode(1001), "first"));
        assert!(!endpoint.start_closing(CloseCode(1011), "second"));
        assert!(!endpoint.state().can_send(), "no data goes in front of a queued Close");
        assert!(endpoint.state().can_read(), "the peer may finish what it was sending");
        endpoint.on_close_received(CloseCode(3000));
        assert_eq!(next(&mut endpoint), close(1001, "first"));
        assert!(endpoint.state().close_sent() && endpoint.state().close_received());
        assert_eq!(
            endpoint.state().is_done(true),
            role == Role::Server,
            "the server ends the TCP connection"
        );
        endpoint.on_read_end();
        assert!(endpoint.state().is_done(true));
    }
}

#[test]
fn a_close_without_a_code_is_answered_with_an_empty_one() {
    let mut endpoint = Endpoint::new(Role::Server);
    endpoint.on_close_received(CloseCode::NONE.answer());
    assert_eq!(next(&mut endpoint), Some((Opcode::Close, Vec::new())));
}

/// What an endpoint that reads `chunks` sends, when it can send after each.
fn replies<'a>(role: Role, chunks: impl Iterator<Item = &'a [u8]>) -> Vec<(Opcode, Vec<u8>)> {
    let sender = if role == Role::Client { Role::Server } else { Role::Client };
    let extensions = Extensions::None;
    let mut assembler =
        Assembler::new(Rules { sender, extensions, max_frame: 1000, max_message: 1000, show_text: false });
    let mut endpoint = Endpoint::new(role);
    let mut sent = Vec::new();
    for chunk in chunks {
        let pushed = assembler.push(chunk, |assembled| match assembled {
            Assembled::Ping(payload) => endpoint.on_ping(payload),
            Assembled::Close(code, _) => endpoint.on_close_received(code.answer()),
            Assembled::Message(..) | Assembled::Pong(_) => {}
        });
        if let Err(error) = pushed {
            endpoint.fail(error.close_code(), "");
        }
        sent.extend(next(&mut endpoint));
    }
    sent
}

#[test]
fn the_last_word_is_the_same_wherever_the_stream_is_cut() {
    let control = |opcode, payload: &[u8], mask| ControlFrame::new(opcode, payload, mask).as_bytes().to_vec();
    for role in ROLES {
        let mask = if role == Role::Server { Some([1, 2, 3, 4]) } else { None };
        let data = encode::frame(Kind::Text, 0, b"text", mask);
        let ends = [
            (control(Opcode::Close, &[0x0b, 0xb8, b'x'], mask), close(3000, "")),
            (control(Opcode::Close, &[0x03, 0xee], mask), close(1002, "")),
            (control(Opcode::ReservedControl(11), b"", mask), close(1002, "")),
        ];
        for (end, answer) in ends {
            let stream = [
                &control(Opcode::Ping, b"one", mask)[..],
                &data,
                &control(Opcode::Ping, b"two", mask),
                &end,
                &control(Opcode::Ping, b"after the end", mask),
            ]
            .concat();
            for cut in 0..=stream.len() {
                let (head, tail) = stream.split_at(cut);
                let sent = replies(role, [head, tail].into_iter());
                let (last, pongs) = sent.split_last().unwrap();
                assert_eq!(Some(last.clone()), answer, "{role:?} cut at {cut}");
                let of_either =
                    |sent: &(Opcode, Vec<u8>)| [pong(b"one"), pong(b"two")].contains(&Some(sent.clone()));
                assert!(pongs.len() <= 1 && pongs.iter().all(of_either), "{role:?} cut at {cut}: {pongs:?}");
            }
            let bytewise = replies(role, stream.chunks(1));
            assert_eq!(bytewise, [pong(b"one"), pong(b"two"), answer].map(Option::unwrap));
        }
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => any::<u8>().prop_map(E::Ping),
        4 => Just(E::Next),
        1 => Just(E::CloseReceived),
        1 => Just(E::StartClosing),
        1 => Just(E::Fail),
        1 => Just(E::ReadEnd),
        1 => Just(E::FinSent),
        1 => Just(E::Broken),
    ];
    vec(event, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_endpoint_only_moves_towards_its_end(events in events(), is_client: bool) {
        let mut endpoint = Endpoint::new(if is_client { Role::Client } else { Role::Server });
        let (mut newest, mut first_close, mut has_closed) = (None, None, false);
        for event in &events {
            let before = endpoint.state();
            if before.can_send() {
                match event {
                    E::Ping(payload) if before.can_read() => newest = pong(&[*payload]),
                    E::CloseReceived => first_close = close(3000, ""),
                    E::StartClosing => first_close = close(1001, "bye"),
                    E::Fail => first_close = close(1002, "wrong"),
                    _ => {}
                }
            }
            let sent = run(&mut endpoint, event);
            let after = endpoint.state();
            prop_assert!(after.read() >= before.read() && after.write() >= before.write());
            let stays_done = after.is_done(true) || after.is_broken();
            prop_assert!(!before.is_done(true) || stays_done, "{:?} -> {:?}", before, after);
            if let Some(sent) = sent {
                prop_assert!(!has_closed, "something was sent after a Close");
                has_closed = sent.0 == Opcode::Close;
                prop_assert_eq!(has_closed, after.close_sent());
                let expected = if has_closed { &first_close } else { &newest };
                prop_assert_eq!(&Some(sent), expected);
            }
        }
    }
}

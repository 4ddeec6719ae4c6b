//! Tickets of any session, changed anywhere, and any text as one: what is read of a ticket is what was put into it, and
//! nothing is read of any other text.
//!
//! The first bytes of the input are a session and a generation; pairs follow of a place and a character to be put there.
//! All of the input is taken for a ticket too.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use outrigger::internals::{Claims, InvalidTicket, ProcessId, SessionId, TicketKeys, TicketText};

fuzz_target!(|input: &[u8]| {
    static WORLD: OnceLock<(TicketKeys, TicketKeys, ProcessId)> = OnceLock::new();
    let (keys, unused, process) =
        WORLD.get_or_init(|| (TicketKeys::random(), TicketKeys::random(), ProcessId::random()));
    // Not with the keys of the tickets below: the fuzzer sees what is compared with a ticket, and tries that too.
    if let Some(ticket) = TicketText::read(input) {
        assert_eq!(unused.read(*process, "route", &ticket), Err(InvalidTicket::Forged));
    }
    let Some((session, rest)) = input.split_first_chunk::<16>() else { return };
    let Some((generation, changes)) = rest.split_first_chunk::<4>() else { return };
    let claims = Claims { session: SessionId(*session), generation: u32::from_be_bytes(*generation) };
    let ticket = keys.issue(*process, "route", claims).expect("there is a key");
    let mut text: Vec<u8> = ticket.as_str().into();
    for change in changes.chunks_exact(2) {
        let at = usize::from(change[0]) % text.len();
        text[at] = change[1];
    }
    let Some(changed) = TicketText::read(&text) else { return };
    let expected = if changed == ticket { Ok(claims) } else { Err(InvalidTicket::Forged) };
    assert_eq!(keys.read(*process, "route", &changed), expected);
    assert_eq!(keys.read(*process, "other", &changed), Err(InvalidTicket::Forged));
});

use proptest::prelude::*;

use super::*;

const HERE: ProcessId = ProcessId([7; 8]);
const CLAIMS: Claims = Claims { session: SessionId([9; 16]), generation: 3 };

fn keys(secrets: &[&[u8]]) -> TicketKeys {
    TicketKeys::new(secrets.iter().copied())
}

fn claims() -> impl Strategy<Value = Claims> {
    (any::<[u8; 16]>(), any::<u32>())
        .prop_map(|(session, generation)| Claims { session: SessionId(session), generation })
}

#[test]
fn the_layout_is_the_one_that_other_programs_write() {
    // As Python's hmac and base64 make it of the same parts.
    let ticket = keys(&[b"0123456789abcdef0123456789abcdef"]).issue(HERE, "chat", CLAIMS).unwrap();
    assert_eq!(ticket.as_str(), PYTHON);
}

const PYTHON: &str = "AQcHBwcHBwcHCQkJCQkJCQkJCQkJCQkJCQAAAAMadKbv-VawCNiEupy-e-Lp";

#[test]
fn a_key_that_was_replaced_still_verifies_and_no_longer_signs() {
    let (old, new) = (keys(&[&[1; 32]]), keys(&[&[2; 32], &[1; 32]]));
    let of_old = old.issue(HERE, "r", CLAIMS).unwrap();
    let of_new = new.issue(HERE, "r", CLAIMS).unwrap();
    assert_eq!(new.read(HERE, "r", &of_old), Ok(CLAIMS));
    assert_eq!(new.read(HERE, "r", &of_new), Ok(CLAIMS));
    assert_eq!(old.read(HERE, "r", &of_new), Err(InvalidTicket::Forged));
    assert_eq!(keys(&[&[2; 32]]).read(HERE, "r", &of_old), Err(InvalidTicket::Forged), "it was taken out");
    let (one, other) = (TicketKeys::random(), TicketKeys::random());
    assert_eq!(other.read(HERE, "r", &one.issue(HERE, "r", CLAIMS).unwrap()), Err(InvalidTicket::Forged));
    assert!(keys(&[]).issue(HERE, "r", CLAIMS).is_none(), "nothing is signed without a key");
}

#[test]
fn keys_are_not_shown() {
    assert_eq!(format!("{:?}", keys(&[&[1; 32], &[2; 32]])), "TicketKeys(2 of them)");
    assert_eq!(format!("{:?}", CLAIMS.session), "SessionId(***)");
}

proptest! {
    #[test]
    fn a_ticket_says_what_was_put_in_to_its_own_route_and_process_only(
        claims in claims(), process in any::<[u8; 8]>(), route in ".{0,12}", other in ".{0,12}",
    ) {
        let (keys, process) = (TicketKeys::random(), ProcessId(process));
        let ticket = keys.issue(process, &route, claims).unwrap();
        prop_assert_eq!(keys.read(process, &route, &ticket), Ok(claims));
        if other != route {
            prop_assert_eq!(keys.read(process, &other, &ticket), Err(InvalidTicket::Forged));
        }
        let elsewhere = ProcessId(process.0.map(|byte| !byte));
        prop_assert_eq!(keys.read(elsewhere, &route, &ticket), Err(InvalidTicket::Elsewhere));
    }

    #[test]
    fn a_ticket_that_was_changed_anywhere_is_forged(claims in claims(), at in 0..TICKET_LENGTH, to in any::<u8>()) {
        let keys = TicketKeys::random();
        let ticket = keys.issue(HERE, "r", claims).unwrap();
        let mut text: Vec<u8> = ticket.as_str().into();
        // Every bit of every character, where that is a character still.
        for bit in 0..8 {
            let mut flipped = text.clone();
            flipped[at] ^= 1 << bit;
            if let Some(flipped) = TicketText::read(&flipped) {
                prop_assert_eq!(keys.read(HERE, "r", &flipped), Err(InvalidTicket::Forged));
            }
        }
        let is_same = text[at] == to;
        text[at] = to;
        if let Some(changed) = TicketText::read(&text).filter(|_| !is_same) {
            prop_assert_eq!(keys.read(HERE, "r", &changed), Err(InvalidTicket::Forged));
        }
    }

    #[test]
    fn a_ticket_of_another_length_has_not_its_form(text in prop::collection::vec(any::<u8>(), 0..130)) {
        let read = TicketText::read(&text);
        prop_assert!(read.is_none() || text.len() == TICKET_LENGTH);
        if let Some(ticket) = read {
            prop_assert_eq!(TicketKeys::random().read(HERE, "r", &ticket), Err(InvalidTicket::Forged));
        }
    }

    /// Beside a plain list of which tickets a client holds, and which of them it was seen to hold.
    #[test]
    fn two_tickets_are_valid_at_the_most(steps in prop::collection::vec((any::<bool>(), 0_u32..6), 1..60)) {
        let mut generations = Generations::default();
        let (mut given, mut proven) = (0, 0);
        for (is_issue, back) in steps {
            if is_issue {
                given += 1;
                prop_assert_eq!(generations.issue(), Some(given));
            } else {
                let shown = u32::saturating_sub(given, back);
                let is_valid = shown > 0 && (shown == proven || shown == given);
                prop_assert_eq!(generations.is_valid(shown), is_valid);
                prop_assert_eq!(generations.prove(shown), is_valid);
                if is_valid {
                    proven = shown;
                }
            }
            let valid = (0..=given + 1).filter(|number| generations.is_valid(*number)).count();
            prop_assert!(valid <= 2 && (valid > 0) == (given > 0));
        }
    }
}

#[test]
fn a_hello_that_is_lost_locks_nobody_out_and_a_used_ticket_is_dead() {
    let mut tickets = Generations::default();
    assert!(!tickets.is_valid(0) && !tickets.is_valid(1), "none was given");
    assert_eq!(tickets.issue(), Some(1));
    // The client comes back with it, and the hello with the second one is lost, twice.
    for next in [2, 3] {
        assert!(tickets.prove(1));
        assert_eq!(tickets.issue(), Some(next));
    }
    assert!(!tickets.is_valid(2), "nobody can have it");
    assert!(tickets.prove(3));
    assert!(!tickets.prove(1), "its client was seen to have a newer one");
    let mut last = Generations { proven: 1, latest: u32::MAX };
    assert_eq!(last.issue(), None);
    assert!(last.is_valid(1) && last.is_valid(u32::MAX));
}

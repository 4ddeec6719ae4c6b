//! Tickets: what a client shows to get back to its session. Pure, but for random bytes.
//!
//! A ticket is base64url of 45 bytes: version, process, session, generation, and a code (HMAC-SHA-256, cut to 128 bits)
//! over all of them and the name of the route. So a ticket can be told from garbage before anything is looked up, and one
//! of another replica with the same key from a forged one.
//!
//! # Invariants
//! 1. Nothing of a ticket is looked at but its version before its code was found to be right, and codes are compared in
//!    constant time.
//! 2. One text is one ticket: 45 bytes fill their 60 characters, so that no bit of the text is without meaning.
//! 3. Of one session two tickets are valid at the most: the newest one that its client has shown to have, and the newest one
//!    that it was given. A hello that is lost locks nobody out, and a ticket that was replaced is worth nothing.
//!
//! # Not here
//! Which sessions there are ([`super::registry`]); what a ticket is not bound to: the address, since phones move, and a
//! time, since the session's own window decides.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::connections::SessionId;
use crate::net::own_protocols::{TICKET_LENGTH, TicketText};
use crate::net::random_bytes;

const VERSION: u8 = 1;

/// Version, process, session and generation.
const SIGNED: usize = 1 + 8 + 16 + 4;
/// Enough that nobody finds one by trying.
const CODE: usize = 16;

/// Which process gave a ticket: replicas may share a key, and sessions live in one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessId([u8; 8]);

impl ProcessId {
    /// One that no other process has.
    pub fn random() -> Self {
        Self(random_bytes())
    }
}

/// The keys that tickets are signed with: the first one signs, and all of them verify, so that a key can be replaced
/// while there are tickets of the one before.
pub struct TicketKeys(Vec<hmac::Key>);

/// What a verified ticket says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    /// Whose ticket it is.
    pub session: SessionId,
    /// Which one of its tickets.
    pub generation: u32,
}

/// Why a ticket says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidTicket {
    /// Not signed with any of the keys for this route, or of another version.
    Forged,
    /// Right, and of another process.
    Elsewhere,
}

impl TicketKeys {
    /// `secrets`: at least one. Their length is the configuration's business.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let keys = secrets.into_iter().map(|secret| hmac::Key::new(HMAC_SHA256, secret)).collect();
        Self(keys)
    }

    /// One that nobody else has: tickets end with the process.
    pub fn random() -> Self {
        Self::new([&random_bytes::<32>()[..]])
    }

    /// A ticket; `None` without a key.
    pub fn issue(&self, process: ProcessId, route: &str, claims: Claims) -> Option<TicketText> {
        let mut ticket = [0; SIGNED + CODE];
        ticket[0] = VERSION;
        ticket[1..9].copy_from_slice(&process.0);
        ticket[9..25].copy_from_slice(&claims.session.0);
        ticket[25..SIGNED].copy_from_slice(&claims.generation.to_be_bytes());
        let code = code(self.0.first()?, &ticket[..SIGNED], route);
        ticket[SIGNED..].copy_from_slice(&code);
        let mut text = [0; TICKET_LENGTH];
        URL_SAFE_NO_PAD.encode_slice(ticket, &mut text).ok()?;
        TicketText::read(&text)
    }

    /// What `ticket` says to `route`.
    ///
    /// # Errors
    /// It was not made by this process for this route.
    pub fn read(
        &self,
        process: ProcessId,
        route: &str,
        ticket: &TicketText,
    ) -> Result<Claims, InvalidTicket> {
        let mut bytes = [0; SIGNED + CODE];
        // Room for exactly what 60 characters are.
        let length = URL_SAFE_NO_PAD.decode_slice(ticket.as_str(), &mut bytes).unwrap_or(0);
        let (signed, offered) = bytes.split_at(SIGNED);
        let is_signed = |key| verify_slices_are_equal(&code(key, signed, route), offered).is_ok();
        if length != bytes.len() || bytes[0] != VERSION || !self.0.iter().any(is_signed) {
            return Err(InvalidTicket::Forged);
        }
        if signed[1..9] != process.0 {
            return Err(InvalidTicket::Elsewhere);
        }
        let (mut session, mut generation) = ([0; 16], [0; 4]);
        session.copy_from_slice(&signed[9..25]);
        generation.copy_from_slice(&signed[25..]);
        Ok(Claims { session: SessionId(session), generation: u32::from_be_bytes(generation) })
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKeys({} of them)", self.0.len())
    }
}

/// The code of a ticket. What comes before the route's name has a fixed length, so that no two pairs are one text.
fn code(key: &hmac::Key, signed: &[u8], route: &str) -> [u8; CODE] {
    let mut context = hmac::Context::with_key(key);
    context.update(signed);
    context.update(route.as_bytes());
    let mut code = [0; CODE];
    code.copy_from_slice(&context.sign().as_ref()[..CODE]);
    code
}

/// The tickets of one session, numbered from 1 as they are given.
#[derive(Debug, Default)]
pub(crate) struct Generations {
    /// The newest one that its client was seen to have; 0: none.
    proven: u32,
    /// The newest one that was given; 0: none.
    latest: u32,
}

impl Generations {
    /// Whether the ticket of this number opens the session.
    pub(crate) fn is_valid(&self, generation: u32) -> bool {
        generation != 0 && (generation == self.proven || generation == self.latest)
    }

    /// A client has shown this one: with it all before it are worth nothing.
    pub(crate) fn prove(&mut self, generation: u32) -> bool {
        let is_valid = self.is_valid(generation);
        if is_valid {
            self.proven = generation;
        }
        is_valid
    }

    /// The number of the next ticket; with it all that were not proven are worth nothing. `None` after four thousand
    /// million of them.
    pub(crate) fn issue(&mut self) -> Option<u32> {
        self.latest = self.latest.checked_add(1)?;
        Some(self.latest)
    }
}

#[cfg(test)]
mod tests;

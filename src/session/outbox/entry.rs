//! One message that the outbox keeps with its bytes. Pure.

use tokio::time::Instant;

use crate::frame::Kind;

pub(super) struct Entry {
    number: u64,
    kind: Kind,
    payload: Box<[u8]>,
    at: Instant,
    /// Where it stands on the present link, if that was handed it.
    position: u64,
    /// How often the server died while this was the oldest uncertain message.
    deaths: u8,
}

/// A message for the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) struct Saying<'a> {
    pub(in crate::session) number: u64,
    pub(in crate::session) kind: Kind,
    pub(in crate::session) payload: &'a [u8],
    /// A server before may have heard it.
    pub(in crate::session) is_replay: bool,
}

impl Entry {
    pub(super) fn new(number: u64, kind: Kind, payload: &[u8], now: Instant) -> Self {
        Self { number, kind, payload: payload.into(), at: now, position: 0, deaths: 0 }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// When it was said.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// Where it stands on the link that was handed it last.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn bytes(&self) -> usize {
        self.payload.len()
    }

    /// What it costs to keep it.
    pub(super) fn cost(&self) -> usize {
        size_of::<Self>() + self.payload.len()
    }

    pub(super) fn saying(&self, is_replay: bool) -> Saying<'_> {
        Saying { number: self.number, kind: self.kind, payload: &self.payload, is_replay }
    }

    /// A link was handed it.
    pub(super) fn hand_over(&mut self, position: u64) {
        self.position = position;
    }

    /// The server has died while it was the oldest uncertain one. Answers how often so far.
    pub(super) fn count_death(&mut self) -> u8 {
        self.deaths = self.deaths.saturating_add(1);
        self.deaths
    }
}

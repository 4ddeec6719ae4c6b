//! What is kept of what the server has said, and shown to a client that asks for it once more.
//!
//! # Invariants
//! 1. With `fallback.replay` as much is kept behind the newest message as `history` says, whether or not the client has confirmed
//!    it. What it has not confirmed is kept in any case, as far as the session promises it.
//! 2. A replay confirms nothing, and nobody is there for it.

use super::Task;
use crate::log::Cursor;
use crate::session::machine::Client;
use crate::session::request::{Asked, Refusal, Replay, Replayed};

/// Bytes of frames that are answered at once, and one message at the least.
const ANSWER_BYTES: usize = 1024 * 1024;

impl Task {
    pub(super) fn on_replay(&mut self, asked: Asked<Replay, Replayed>) {
        let Asked { what: Replay { generation, from, limit }, answer } = asked;
        let _ = answer.send(self.replayed(generation, from, limit));
    }

    fn replayed(&mut self, generation: u32, from: u64, limit: usize) -> Result<Replayed, Refusal> {
        if self.machine.client() == Client::Gone {
            return Err(self.gone());
        }
        self.check_ticket(generation)?;
        let log = self.writer.log();
        let (head, first) = (log.head(), log.first());
        if from > head + 1 {
            return Err(Refusal::Ahead(head));
        }
        let next = from.max(first);
        let cursor = Cursor { next, all_from: next };
        let mut entries = Vec::new();
        let progress = log.read(cursor, head, limit, ANSWER_BYTES, &mut entries);
        // From now on the client may say that it has had them.
        self.newest_sent = self.newest_sent.max(progress.cursor.next - 1);
        Ok(Replayed { epoch: log.epoch(), entries, total: head + 1 - next, first })
    }

    /// What stands in front of this is not kept any more, but for a replay.
    pub(super) fn let_go(&mut self, kept_from: u64) {
        let first_of_history =
            if self.plan.policy.fallback.replay { self.first_of_history() } else { u64::MAX };
        self.writer.let_go(kept_from.min(first_of_history));
    }

    /// The oldest message of as many as `history` says.
    fn first_of_history(&self) -> u64 {
        let (log, history) = (self.writer.log(), &self.plan.policy.history);
        let head = log.head();
        let mut first = (head + 1).saturating_sub(history.messages as u64).max(log.first());
        let bytes_from = |number| log.lag(Cursor { next: number, all_from: number }).bytes;
        while first <= head && bytes_from(first) > history.bytes as u64 {
            first += 1;
        }
        first
    }
}

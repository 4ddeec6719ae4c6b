//! What the client of a session is sent: what its log has for it, and control frames between.
//!
//! # Not here
//! What it says ([`super::reading`]); its last words ([`super::ending`]).

use std::task::Context;

use tokio::time::Instant;

use super::Task;
use crate::delivery::{SendStatus, WriteStatus};
use crate::log::Cursor;
use crate::session::cause::Cause;
use crate::session::machine::Client;

/// Messages that go out together, and their bytes.
const BATCH: usize = 1024;
const BATCH_BYTES: usize = 64 * 1024;

/// Batches that a client is sent before other tasks get their turn: at least as much as is read of a server in one, so that
/// a client that takes all it is sent never falls behind.
const MAX_BATCHES: usize = 8;

impl Task {
    /// Sends the client what is left, control frames, and what the log has for it.
    pub(super) fn deliver(&mut self, cx: &mut Context<'_>, now: Instant) {
        for _ in 0..MAX_BATCHES {
            let (sequence, until) = (self.next - 1, self.sent_until());
            let Some(client) = &mut self.client else { return self.check_lag(now) };
            match client.poll_send(cx, sequence, now) {
                SendStatus::Ready => {}
                SendStatus::Blocked => return self.check_lag(now),
                SendStatus::Closed => {
                    self.on_client_closed(now);
                    // More may wait for a client that is away: a server that was not read for its sake is read again.
                    return self.check_lag(now);
                }
            }
            if !client.is_open() {
                return;
            }
            if let Some(frame) = self
                .control
                .as_mut()
                .and_then(|control| control.next_frame(|frame| client.control_piece(frame)))
            {
                // Whatever becomes of it, the next round finds out.
                client.send(cx, &frame, 0, now);
                continue;
            }
            if self.next > until {
                return self.check_lag(now);
            }
            match self.send_batch(cx, until, now) {
                WriteStatus::Flushed => {}
                WriteStatus::Blocked => return self.check_lag(now),
                // The next round finds how it ended.
                WriteStatus::Broken => {}
            }
        }
        cx.waker().wake_by_ref();
    }

    /// The newest message that the client may be sent.
    fn sent_until(&self) -> u64 {
        let head = self.writer.log().head();
        self.rest.map_or(head, |(until, _)| until.min(head))
    }

    fn send_batch(&mut self, cx: &mut Context<'_>, until: u64, now: Instant) -> WriteStatus {
        let due = usize::try_from(until + 1 - self.next).unwrap_or(BATCH);
        let mut entries = Vec::with_capacity(due.min(BATCH));
        let cursor = Cursor { next: self.next, all_from: self.next };
        let progress = self.writer.log().read(cursor, until, BATCH, BATCH_BYTES, &mut entries);
        if progress.missed > 0 {
            self.plan.metrics.missed.inc_by(progress.missed);
            self.machine.leave(Cause::Memory);
            return WriteStatus::Flushed;
        }
        let Some(client) = &mut self.client else { return WriteStatus::Broken };
        let id_prefix = self.polls.as_ref().and_then(|polls| polls.id_prefix());
        let status = if let ([entry], None) = (&entries[..], id_prefix) {
            client.send_slice(cx, client.frame_of(entry), 1, now)
        } else {
            let size = entries.iter().map(|entry| client.frame_of(entry).len()).sum();
            let mut frames = Vec::with_capacity(size);
            for entry in &entries {
                client.push_message(entry, id_prefix.unwrap_or_default(), &mut frames);
            }
            client.send(cx, &frames.into(), entries.len() as u32, now)
        };
        self.next = progress.cursor.next;
        self.newest_sent = self.newest_sent.max(self.next - 1);
        self.let_go_of_sent();
        status
    }

    /// How far the client is behind, and what follows.
    fn check_lag(&mut self, now: Instant) {
        let is_away = matches!(self.machine.client(), Client::Away { .. });
        let Self { writer, uplink, plan, next, resumable, .. } = self;
        let head = writer.log().head();
        // What was there when the client came back is its to catch up with: only what came since makes it slow.
        let backlog = resumable.as_ref().filter(|_| !is_away).map_or(0, |resumable| resumable.backlog());
        let from = (*next).max(backlog + 1);
        let behind = (head + 1).saturating_sub(from);
        let (max_lag, history) = (&plan.policy.delivery.max_lag, &plan.policy.history);
        let (messages, bytes) = match is_away {
            false => (max_lag.messages, max_lag.bytes),
            true => (history.messages as u64, history.bytes),
        };
        let is_beyond = behind > 0 && {
            let lag = writer.log().lag(Cursor { next: from, all_from: from });
            lag.messages > messages || lag.bytes > bytes as u64
        };
        let is_given_up = is_away && plan.is_isolating();
        if let Some(uplink) = uplink {
            // A client that takes what it can is no slower than its line: its server waits, as it would without us.
            if is_beyond && !is_given_up { uplink.pause(now) } else { uplink.resume(now) }
        }
        self.is_beyond_lag = is_beyond;
        if is_beyond && is_given_up {
            // It could not be given all that it has missed.
            self.machine.end(Cause::Overflow);
        }
    }
}

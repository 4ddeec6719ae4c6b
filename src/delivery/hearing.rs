//! Reading one client: its pongs, its pings, its Close, and what else it says.

use std::task::{Context, Poll};

use bytes::Bytes;

use super::FromClients;
use super::closing::Farewell;
use super::ear::Said;
use super::subscriber::{Reading, Subscriber, Table};
use crate::config::IdleActivity;
use crate::frame::{CloseCode, ControlFrame, Opcode};
use crate::net::scratch::{self, HELD_ROOM};

/// What came of reading once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// There is nothing; the task is woken when there is.
    Nothing,
    /// Something; there may be more.
    Some,
    /// As much as fits into one read.
    Enough,
    /// Nothing more will come, or nothing is to be read now.
    End,
}

impl Subscriber {
    /// Reads once.
    pub(super) fn hear(&mut self, cx: &mut Context<'_>, table: &Table<'_>) -> Heard {
        scratch::with(|scratch| {
            let n = match self.take_early(&mut scratch[HELD_ROOM..]) {
                0 => match self.wire.read(cx, &mut scratch[HELD_ROOM..], table.now) {
                    Poll::Pending => return Heard::Nothing,
                    Poll::Ready(Ok(n)) if n > 0 => n,
                    Poll::Ready(_) => {
                        self.on_end();
                        return Heard::End;
                    }
                },
                n => n,
            };
            let is_full = n == scratch.len() - HELD_ROOM;
            self.on_bytes(&mut scratch[..HELD_ROOM + n], table);
            match (self.reading, is_full) {
                _ if self.is_paused() => Heard::End,
                (_, true) => Heard::Enough,
                (_, false) => Heard::Some,
            }
        })
    }

    fn on_bytes(&mut self, buf: &mut [u8], table: &Table<'_>) {
        let now = table.now;
        if let Some(pulse) = &mut self.pulse {
            pulse.on_life(now);
        }
        if table.crew.settings.policy.idle_activity == IdleActivity::Any {
            self.last_activity = now;
        }
        if self.reading != Reading::Frames {
            self.live.handle().on_discarded(buf.len() - HELD_ROOM);
            return;
        }
        let (live, sent) = (&self.live, self.sent);
        let metrics = live.metrics();
        let pulse = &mut self.pulse;
        let mut pong = None;
        let mut closed: Option<CloseCode> = None;
        let mut acknowledged = 0;
        let taken = self.ear.take(buf, |said| {
            match said {
                Said::Ping(payload) => pong = Some(ControlFrame::new(Opcode::Pong, payload, None)),
                Said::Pong(payload) => {
                    if let Some(pulse) = pulse {
                        acknowledged += pulse.on_pong(payload, sent, now, metrics);
                    }
                }
                Said::ShortText(payload) => {
                    return pulse.as_mut().is_some_and(|pulse| pulse.takes_text(payload, now, metrics));
                }
                Said::Message(kind, payload) => {
                    if let FromClients::Forward(server) = &table.crew.from_clients {
                        let budget = table.crew.settings.holders.budget();
                        let message =
                            (!budget.is_over()).then(|| (kind, budget.hold(Bytes::copy_from_slice(payload))));
                        match message.and_then(|message| server.try_send(message).ok()) {
                            Some(()) => live.handle().on_in(1, payload.len()),
                            // It is full, or the feed is over.
                            None => table.crew.settings.metrics.uplink_dropped.inc(),
                        }
                    }
                }
                Said::Close(code) => closed = Some(code),
            }
            false
        });
        if acknowledged > 0 {
            table.crew.settings.metrics.acknowledged.inc_by(acknowledged);
            live.handle().on_acknowledged(acknowledged);
        }
        if let Some(pong) = pong {
            // The newest only (RFC 6455 §5.5.3).
            self.pong = Some(Box::new(pong));
        }
        self.on_said(taken.messages, table);
        if let Some(code) = closed {
            self.on_close(code, table);
        }
        if let Some(fault) = taken.fault {
            tracing::debug!(connection = self.live.handle().id, %fault, "fault");
            self.close(&Farewell::fault(fault), table);
        }
    }
}

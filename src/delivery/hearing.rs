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
use crate::resilience::Turn;
use crate::upstream::Uplink;

/// Bytes read at once. Less than the buffer: only after a read can be told how many frames are in it.
const READ: usize = 16 * 1024;
/// The same where messages are inflated here, to a thousand times as much.
const READ_DEFLATED: usize = 2 * 1024;

/// What came of reading once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// There is nothing; the task is woken when there is.
    Nothing,
    /// Something; there may be more.
    Some,
    /// Nothing more will come, or nothing is to be read now.
    End,
}

impl Subscriber {
    /// Reads once, for which `turn` and the shard's are charged.
    pub(super) fn hear(&mut self, cx: &mut Context<'_>, table: &mut Table<'_>, turn: &mut Turn) -> Heard {
        scratch::with(|scratch| {
            let most = if self.ear.inflates() { READ_DEFLATED } else { READ };
            let room = &mut scratch[HELD_ROOM..HELD_ROOM + most];
            let n = match self.take_early(room) {
                0 => match self.wire.read(cx, room, table.now) {
                    Poll::Pending => return Heard::Nothing,
                    Poll::Ready(Ok(n)) if n > 0 => n,
                    Poll::Ready(_) => {
                        self.on_end();
                        return Heard::End;
                    }
                },
                n => n,
            };
            let records = self.wire.stream.take_records();
            let (bytes, frames) = self.on_bytes(&mut scratch[..HELD_ROOM + n], table);
            let frames = frames.max(records);
            turn.take(n.max(bytes), frames);
            table.reading.take(n.max(bytes), frames);
            if self.is_paused() { Heard::End } else { Heard::Some }
        })
    }

    /// Takes what came; answers how many bytes its messages came to, where they are put together, and how many frames
    /// began.
    fn on_bytes(&mut self, buf: &mut [u8], table: &Table<'_>) -> (usize, u32) {
        let now = table.now;
        if let Some(pulse) = &mut self.pulse {
            pulse.on_life(now);
        }
        if table.crew.settings.policy.idle_activity == IdleActivity::Any {
            self.last_activity = now;
        }
        if self.reading != Reading::Frames {
            self.live.handle().on_discarded(buf.len() - HELD_ROOM);
            return (0, 0);
        }
        let (live, sent) = (&self.live, self.sent);
        let metrics = live.metrics();
        let pulse = &mut self.pulse;
        let mut pong = None;
        let mut closed: Option<CloseCode> = None;
        let (mut acknowledged, mut bytes) = (0, 0);
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
                    bytes += payload.len();
                    if let FromClients::Forward(server) = &table.crew.from_clients {
                        let settings = &table.crew.settings;
                        let budget = settings.holders.budget();
                        // One that the uplink will never have room for is not copied and queued for it.
                        let may_go =
                            Uplink::room_for(payload.len()) <= settings.policy.delivery.max_lag.bytes;
                        let message = (may_go && !budget.is_over())
                            .then(|| (kind, budget.hold(Bytes::copy_from_slice(payload))));
                        match message.and_then(|message| server.try_send(message).ok()) {
                            Some(()) => live.handle().on_in(1, payload.len()),
                            // It is full, or the feed is over.
                            None => settings.metrics.uplink_dropped.inc(),
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
        self.on_controls(taken.controls, table);
        if let Some(code) = closed {
            self.on_close(code, table);
        }
        if let Some(fault) = taken.fault {
            tracing::debug!(connection = self.live.handle().id, %fault, "fault");
            self.close(&Farewell::fault(fault), table);
        }
        (bytes, taken.frames)
    }
}

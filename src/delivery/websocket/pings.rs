//! Pings one client, and reads from its pongs how far deliveries have got.
//!
//! A ping carries how far the client had been sent when the ping was made. Its echo tells that the client's WebSocket
//! stack took everything up to there: a strong hint and not a proof, since stacks answer before the application reads.
//!
//! # Why do pings carry it?
//! Every client has to answer a ping with what was in it (RFC 6455 §5.5.3), so that no client has to be changed.
//!
//! # Not here
//! When a ping is due and what a missing pong means ([`crate::resilience::Heartbeat`]).

use tokio::time::Instant;

use crate::config::{ClientHeartbeat, HeartbeatMode};
use crate::delivery::control::{FromProxy, Prefix};
use crate::delivery::receipts::{Position, Receipts};
use crate::frame::{ControlFrame, Opcode};
use crate::resilience::{Heartbeat, HeartbeatAction, JSON_PING, PING_PAYLOAD, PongKind, is_json_pong};
use crate::telemetry::Metrics;

/// A ping's payload: the heartbeat's own, then the two numbers of a [`Position`].
const PAYLOAD: usize = PING_PAYLOAD + 16;

/// One client's heartbeat.
#[derive(Debug)]
pub(in crate::delivery) struct PingScheduler {
    heartbeat: Heartbeat,
    mode: HeartbeatMode,
    /// Whether one is to be written.
    is_due: bool,
    /// Whether a ping was written and may not have left.
    is_in_flight: bool,
    /// Here and not with the cursor: a client without pings has none, and each byte there is paid for by every client.
    receipts: Receipts,
}

impl PingScheduler {
    pub(super) fn new(settings: ClientHeartbeat, now: Instant) -> Self {
        Self {
            heartbeat: Heartbeat::new(settings.timing, fastrand::u64(..), now),
            mode: settings.mode,
            is_due: false,
            is_in_flight: false,
            receipts: Receipts::default(),
        }
    }

    /// When [`PingScheduler::on_timer`] wants to be called. While the client is not read no pong can be seen, so that its
    /// clock stands still.
    pub(super) fn deadline(&self, is_paused: bool) -> Option<Instant> {
        self.heartbeat.deadline(is_paused)
    }

    /// Asks for a ping where one is due; true when the client is to be given up.
    pub(super) fn on_timer(&mut self, is_paused: bool, now: Instant, metrics: &Metrics) -> bool {
        if self.deadline(is_paused).is_none_or(|deadline| now < deadline) {
            return false;
        }
        let (action, is_missed) = self.heartbeat.on_timer(now);
        if is_missed {
            metrics.connections.heartbeat_missed.inc();
        }
        match action {
            Some(HeartbeatAction::SendPing(_)) => self.is_due = true,
            Some(HeartbeatAction::GiveUp) => return true,
            None => {}
        }
        false
    }

    /// The ping that is due, if one is, for a place between two messages.
    /// `prefix`: of the client's control frames, where it has such: then a text that is a ping is one of them.
    pub(super) fn next_ping(&mut self, sent: Position, prefix: Option<&Prefix>) -> Option<ControlFrame> {
        if !std::mem::take(&mut self.is_due) {
            return None;
        }
        self.is_in_flight = true;
        let nonce = self.heartbeat.payload();
        Some(match (self.mode, prefix) {
            (HeartbeatMode::Json, None) => ControlFrame::new(Opcode::Text, JSON_PING, None),
            (HeartbeatMode::Json, Some(prefix)) => {
                let [.., a, b, c, d] = nonce;
                let number = u64::from(u32::from_be_bytes([a, b, c, d]));
                ControlFrame::new(Opcode::Text, &FromProxy::Ping(number).text(prefix), None)
            }
            (HeartbeatMode::Ping, _) => {
                let mut payload = [0; PAYLOAD];
                payload[..PING_PAYLOAD].copy_from_slice(&nonce);
                payload[PING_PAYLOAD..PING_PAYLOAD + 8].copy_from_slice(&sent.sequence.to_be_bytes());
                payload[PING_PAYLOAD + 8..].copy_from_slice(&sent.messages.to_be_bytes());
                ControlFrame::new(Opcode::Ping, &payload, None)
            }
        })
    }

    /// Everything that was written has left.
    pub(super) fn on_flushed(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_in_flight) {
            self.heartbeat.on_flushed(now);
        }
    }

    /// Anything came from the client.
    pub(super) fn on_activity(&mut self) {
        self.heartbeat.on_activity();
    }

    /// The client was not read for so long, until now.
    pub(super) fn shift(&mut self, pause: std::time::Duration, now: Instant) {
        self.heartbeat.shift(pause, now);
    }

    /// A pong came. Answers how many messages it acknowledges that none before did. `sent`: how far the client was sent,
    /// which is all that it can have taken.
    pub(super) fn on_pong(&mut self, payload: &[u8], sent: Position, now: Instant, metrics: &Metrics) -> u64 {
        if self.mode == HeartbeatMode::Json || payload.len() != PAYLOAD {
            return 0;
        }
        let (own, position) = payload.split_at(PING_PAYLOAD);
        let PongKind::Ours(rtt) = self.heartbeat.on_pong(own, now) else { return 0 };
        observe(rtt, metrics);
        let (sequence, messages) = position.split_at(8);
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_be_bytes);
        let position = Position { sequence: number(sequence), messages: number(messages) };
        self.receipts.on_receipt(position, sent)
    }

    /// A short text came: whether it was the client's pong (JSON form).
    pub(super) fn on_text(&mut self, payload: &[u8], now: Instant, metrics: &Metrics) -> bool {
        let is_pong = self.mode == HeartbeatMode::Json && is_json_pong(payload);
        if is_pong {
            self.on_control_pong(now, metrics);
        }
        is_pong
    }

    /// A pong came in a control frame of the protocol among the messages.
    pub(super) fn on_control_pong(&mut self, now: Instant, metrics: &Metrics) {
        if self.mode == HeartbeatMode::Json
            && let PongKind::Ours(rtt) = self.heartbeat.on_plain_pong(now)
        {
            observe(rtt, metrics);
        }
    }

    /// How far the client has acknowledged what it was sent; `None`: a JSON heartbeat does not tell.
    pub(super) fn acknowledged(&self) -> Option<Position> {
        (self.mode == HeartbeatMode::Ping).then(|| self.receipts.acknowledged())
    }
}

fn observe(rtt: Option<std::time::Duration>, metrics: &Metrics) {
    if let Some(rtt) = rtt {
        metrics.connections.heartbeat_rtt.observe(rtt.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SETTINGS: ClientHeartbeat = ClientHeartbeat {
        mode: HeartbeatMode::Ping,
        timing: crate::config::Heartbeat {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            max_missed: 3,
        },
    };

    fn sent(messages: u64) -> Position {
        Position { sequence: 100 + messages, messages }
    }

    /// Lets the next ping come due, and answers its payload.
    async fn ping(pings: &mut PingScheduler, sent: Position, metrics: &Metrics) -> Vec<u8> {
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(!pings.on_timer(false, Instant::now(), metrics));
        let frame = pings.next_ping(sent, None).unwrap();
        pings.on_flushed(Instant::now());
        frame.as_bytes()[2..].to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pong_acknowledges_what_was_sent_before_its_ping_once() {
        let metrics = Metrics::new("outrigger").unwrap();
        let mut pings = PingScheduler::new(SETTINGS, Instant::now());
        let first = ping(&mut pings, sent(5), &metrics).await;
        let now = Instant::now();
        assert_eq!(pings.on_pong(&first, sent(9), now, &metrics), 5, "not those sent since");
        assert_eq!(pings.on_pong(&first, sent(9), now, &metrics), 0, "again");
        let second = ping(&mut pings, sent(9), &metrics).await;
        let third = ping(&mut pings, sent(12), &metrics).await;
        let now = Instant::now();
        assert_eq!(pings.on_pong(&third, sent(12), now, &metrics), 7, "pongs are cumulative");
        assert_eq!(pings.on_pong(&second, sent(12), now, &metrics), 0, "late");
        assert_eq!(pings.acknowledged(), Some(sent(12)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_forged_pong_acknowledges_nothing_that_was_not_sent() {
        let metrics = Metrics::new("outrigger").unwrap();
        let mut pings = PingScheduler::new(SETTINGS, Instant::now());
        let mut payload = ping(&mut pings, sent(3), &metrics).await;
        payload[PING_PAYLOAD..].fill(0xff);
        let now = Instant::now();
        assert_eq!(pings.on_pong(&payload, sent(3), now, &metrics), 3);
        payload[0] ^= 1;
        for other in [&payload[..], b"", b"x", &payload[..PING_PAYLOAD]] {
            assert_eq!(pings.on_pong(other, sent(30), now, &metrics), 0);
        }
    }
}

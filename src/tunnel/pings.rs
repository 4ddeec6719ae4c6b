//! The heartbeat of one link: which form a ping takes, and when it can go out.
//!
//! # Not here
//! When a ping is due and what a silence means ([`crate::resilience::Heartbeat`]).

use std::time::Duration;

use tokio::time::Instant;

use super::link::Link;
use crate::config::{self, HeartbeatMode};
use crate::frame::{Edge, Opcode, Verdict};
use crate::resilience::{Heartbeat, HeartbeatAction, JSON_PING, PongKind, is_json_pong};
use crate::telemetry::Metrics;

/// One link's heartbeat.
#[derive(Debug)]
pub(super) struct PingScheduler {
    heartbeat: Heartbeat,
    mode: HeartbeatMode,
    state: PingState,
}

/// How far the newest ping has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PingState {
    /// None is to be sent: it was answered, or its pong is awaited, or none is due.
    Idle,
    /// It waits for a frame edge.
    Due,
    /// It is among the bytes that the peer has not taken.
    Queued,
}

impl PingScheduler {
    pub(super) fn new(timing: config::Heartbeat, mode: HeartbeatMode, now: Instant) -> Self {
        Self { heartbeat: Heartbeat::new(timing, fastrand::u64(..), now), mode, state: PingState::Idle }
    }

    /// When [`PingScheduler::on_timer`] wants to be called. While the link is not read (`is_paused`) no pong can
    /// be seen, so that its clock stands still.
    pub(super) fn deadline(&self, is_paused: bool) -> Option<Instant> {
        self.heartbeat.deadline(is_paused)
    }

    /// Asks for a ping where one is due; true when the peer is to be given up.
    pub(super) fn on_timer(&mut self, now: Instant, metrics: &Metrics) -> bool {
        let (action, is_missed) = self.heartbeat.on_timer(now);
        if is_missed {
            metrics.connections.heartbeat_missed.inc();
        }
        match action {
            Some(HeartbeatAction::SendPing(_)) => self.state = PingState::Due,
            Some(HeartbeatAction::GiveUp) => return true,
            None => {}
        }
        false
    }

    /// Whether there is something for [`PingScheduler::send_due`] to do.
    pub(super) fn is_pending(&self) -> bool {
        self.state != PingState::Idle
    }

    /// Sends a ping that is due between the frames that go to `link`, if these are at an `edge` where it may stand.
    pub(super) fn send_due(&mut self, link: &mut Link, edge: Edge, now: Instant) {
        if self.state == PingState::Due && link.can_send() {
            match self.mode {
                HeartbeatMode::Ping if edge != Edge::Inside => {
                    link.push(Opcode::Ping, &self.heartbeat.payload(), now);
                }
                HeartbeatMode::Json if edge == Edge::Message => link.push(Opcode::Text, JSON_PING, now),
                HeartbeatMode::Ping | HeartbeatMode::Json => return,
            }
            self.state = PingState::Queued;
        }
    }

    /// Everything queued for the link has left.
    pub(super) fn on_flushed(&mut self, now: Instant) {
        if self.state == PingState::Queued {
            self.state = PingState::Idle;
            self.heartbeat.on_flushed(now);
        }
    }

    /// Anything came from the peer.
    pub(super) fn on_activity(&mut self) {
        self.heartbeat.on_activity();
    }

    /// The other side's ping goes to this peer.
    pub(super) fn on_other_side_ping(&mut self, now: Instant) {
        self.heartbeat.on_other_side_ping(now);
    }

    /// The peer was not read for `pause`, until now.
    pub(super) fn shift(&mut self, pause: Duration, now: Instant) {
        self.heartbeat.shift(pause, now);
    }

    /// A pong came: the answers to our pings are dropped, all others are forwarded.
    pub(super) fn on_pong(&mut self, payload: &[u8], now: Instant, metrics: &Metrics) -> Verdict {
        if self.mode == HeartbeatMode::Json {
            return Verdict::Pass;
        }
        let kind = self.heartbeat.on_pong(payload, now);
        verdict_on(&kind, metrics)
    }

    /// A short text came: in the JSON form, the client's pong is dropped.
    pub(super) fn on_text(&mut self, payload: &[u8], now: Instant, metrics: &Metrics) -> Verdict {
        if self.mode == HeartbeatMode::Json && is_json_pong(payload) {
            let kind = self.heartbeat.on_plain_pong(now);
            verdict_on(&kind, metrics)
        } else {
            Verdict::Pass
        }
    }
}

fn verdict_on(kind: &PongKind, metrics: &Metrics) -> Verdict {
    match kind {
        PongKind::OtherSide => Verdict::Pass,
        PongKind::Ours(rtt) => {
            if let Some(rtt) = rtt {
                metrics.connections.heartbeat_rtt.observe(rtt.as_secs_f64());
            }
            Verdict::Drop
        }
    }
}

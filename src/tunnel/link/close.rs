//! How one hop ends: its [`CloseAction`], taken step by step, each at the first moment it can be.
//!
//! # Invariants
//! 1. Each step is taken once, so that repeating them ends.
//!
//! # Not here
//! Which action a cause asks for, and by when it has to be done ([`super::super::closing`]).

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::Link;
use crate::frame::ControlFrame;
use crate::tunnel::ending::{CloseAction, CloseFrame};

/// What a step did.
#[derive(Debug, Clone, Copy)]
pub(in crate::tunnel) struct Step {
    /// Something is different now: there may be a next step.
    pub(in crate::tunnel) changed: bool,
    /// Bytes that the link will never take.
    pub(in crate::tunnel) lost: usize,
}

impl Link {
    /// Begins what `action` asks for, whatever was to be done before.
    pub(in crate::tunnel) fn begin_close(&mut self, action: CloseAction) {
        self.set_close_action(action);
    }

    fn close_action(&self) -> CloseAction {
        self.cold.as_ref().map_or(CloseAction::Nothing, |cold| cold.close_action)
    }

    fn set_close_action(&mut self, action: CloseAction) {
        if self.close_action() != action {
            self.cold().close_action = action;
        }
    }

    /// Whether anything is still to be done.
    pub(in crate::tunnel) fn has_close_action(&self) -> bool {
        self.close_action() != CloseAction::Nothing
    }

    /// Whether the peer gets a Close of ours at the next frame edge.
    pub(in crate::tunnel) fn waits_for_edge(&self) -> bool {
        matches!(self.close_action(), CloseAction::Close(_))
    }

    /// Whether the peer gets a Close of ours in place of one of the other side.
    pub(in crate::tunnel) fn replaces_close(&self) -> bool {
        matches!(self.close_action(), CloseAction::AfterPeer { instead: true, .. } | CloseAction::Close(_))
    }

    /// Whether the peer waits for a Close until the other side has ended, and can still get one.
    pub(in crate::tunnel) fn waits_for_other(&self) -> bool {
        self.can_send() && matches!(self.close_action(), CloseAction::AfterPeer { .. })
    }

    /// Waits no longer for the other side: our Close is next. False if it was not waited for.
    pub(in crate::tunnel) fn stop_waiting(&mut self) -> bool {
        if self.waits_for_other()
            && let CloseAction::AfterPeer { frame, .. } = self.close_action()
        {
            self.set_close_action(CloseAction::Close(frame));
            return true;
        }
        false
    }

    /// One step; the peer's frames come from `other`. `is_slow`: the peer did not take what it was sent.
    pub(in crate::tunnel) fn step(
        &mut self,
        other: &Self,
        is_slow: bool,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Step {
        if !self.is_open() {
            return Step { changed: false, lost: 0 };
        }
        let before = (self.close_action(), self.state);
        let mut lost = 0;
        match self.close_action() {
            CloseAction::Nothing => {}
            CloseAction::AfterPeer { .. } | CloseAction::Close(_) if !self.can_send() => {
                self.set_close_action(CloseAction::Nothing);
            }
            CloseAction::AfterPeer { frame, .. } => {
                if !other.can_read() {
                    self.set_close_action(CloseAction::Close(frame));
                }
            }
            CloseAction::Close(frame) => {
                let dropped = if is_slow { self.egress.cut_to_edge() } else { None };
                if dropped.is_some() || other.scanner.at_frame_edge() {
                    lost += dropped.unwrap_or(0);
                    self.send_close(frame, now);
                    self.set_close_action(CloseAction::Nothing);
                } else if is_slow || !other.can_read() {
                    self.set_close_action(CloseAction::Fin);
                }
            }
            CloseAction::Fin => {
                let is_sent = self.state.fin_sent() || self.state.is_broken();
                if is_sent || self.is_flushed() && self.send_fin(cx, now) {
                    self.set_close_action(CloseAction::Nothing);
                }
            }
            CloseAction::Reset(frame) => {
                if let Some(frame) = frame
                    && self.can_send()
                    && self.is_flushed()
                    && other.scanner.at_frame_edge()
                {
                    self.send_close(frame, now);
                    lost += self.flush(cx, now);
                }
                // Even if everything was sent: a peer that answers no ping will not answer a Close either.
                lost += self.reset();
                return Step { changed: true, lost };
            }
        }
        lost += self.flush(cx, now);
        if self.state.is_done(self.is_flushed()) {
            lost += self.close();
            return Step { changed: true, lost };
        }
        if self.state.needs_fin(self.is_flushed()) {
            self.send_fin(cx, now);
        }
        Step { changed: before != (self.close_action(), self.state), lost }
    }

    fn send_close(&mut self, frame: CloseFrame, now: Instant) {
        let frame = ControlFrame::close(frame.code, frame.reason, self.mask());
        self.push_frame(&frame, now);
        self.state.on_close_sent();
    }

    /// Sends the end of the stream; true once it was sent, or never can be.
    pub(in crate::tunnel) fn send_fin(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(stream) = &mut self.stream else { return true };
        let before = stream.sent();
        let shut = Pin::new(stream).poll_shutdown(cx);
        self.note_sent(before, now);
        match shut {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => {
                self.state.on_fin_sent();
                true
            }
            Poll::Ready(Err(_)) => {
                self.on_broken();
                true
            }
        }
    }
}

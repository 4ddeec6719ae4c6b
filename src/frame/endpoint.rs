//! One end of a WebSocket connection that ends here: what it may still send and read, and which pong or Close it owes.
//!
//! It takes what the peer sent and what became of writes, and answers what is to be sent next. Its owner calls
//! [`Endpoint::next_control`] whenever the stream stands between two frames and takes more, and sends data only while
//! [`ConnectionState::can_send`]. It ends the stream when [`ConnectionState::needs_fin`] says so, and goes on reading until
//! [`ConnectionState::is_done`].
//!
//! # Invariants
//! 1. Nothing is sent after our Close, and after the peer's Close or a protocol error of its, nothing counts but the end of
//!    its stream (RFC 6455 §5.5.1, §7.1.7).
//! 2. The first Close that is begun is the one that is sent; a Close of the peer is answered unless ours was begun (§5.5.1).
//! 3. Of several pings the newest is answered (§5.5.3), and none once a Close was begun: one frame at most is queued.
//!
//! # Not here
//! Sockets, and how long an ending may take; data frames ([`super::Assembler`], [`super::encode`]); why a connection ends.

mod state;

use super::CloseCode;
use super::control::ControlFrame;
use super::header::Opcode;
use super::role::Role;

pub(crate) use state::ConnectionState;

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Endpoint {
    state: ConnectionState,
    /// Our Close if one is queued, or else a pong.
    queued: Option<Box<ControlFrame>>,
}

impl Endpoint {
    /// After the handshake.
    pub(crate) fn new(role: Role) -> Self {
        Self { state: ConnectionState::new(role), queued: None }
    }

    /// What may still be sent and read.
    pub(crate) fn state(&self) -> ConnectionState {
        self.state
    }

    /// A ping came.
    pub(crate) fn on_ping(&mut self, payload: &[u8]) {
        if self.state.can_read() && self.state.can_send() {
            self.queue(ControlFrame::new(Opcode::Pong, payload, self.state.role().masking_key()));
        }
    }

    /// A Close came. It is answered with `reply` (see [`CloseCode::answer`]), unless a Close of ours was begun.
    pub(crate) fn on_close_received(&mut self, reply: CloseCode) {
        self.state.on_close_received();
        self.start_closing(reply, "");
    }

    /// Begins the closing handshake (RFC 6455 §7.1.2): a Close is sent next, as the last frame, and the peer is read until its
    /// own has come. False if one was begun before, or nothing can be sent any more.
    pub(crate) fn start_closing(&mut self, code: CloseCode, reason: &str) -> bool {
        let is_first = self.state.queue_close();
        if is_first {
            self.queue(ControlFrame::close(code, reason, self.state.role().masking_key()));
        }
        is_first
    }

    /// Fails the connection (RFC 6455 §7.1.7): as [`Endpoint::start_closing`], but whatever the peer still sends is discarded.
    pub(crate) fn fail(&mut self, code: CloseCode, reason: &str) -> bool {
        self.state.discard();
        self.start_closing(code, reason)
    }

    /// The peer's stream has ended, in order or by an error. What is queued may still be sent.
    pub(crate) fn on_read_end(&mut self) {
        self.state.on_read_end();
    }

    /// Takes the control frame that goes out next. Only to be called where one can be sent at once. After a Close there is none.
    pub(crate) fn next_control(&mut self) -> Option<ControlFrame> {
        let frame = self.queued.take()?;
        if !self.state.can_send() {
            self.state.on_close_sent();
        }
        Some(*frame)
    }

    /// The end of the stream was sent.
    pub(crate) fn on_fin_sent(&mut self) {
        self.state.on_fin_sent();
        self.queued = None;
    }

    /// A write failed, or nothing is to be sent any more. What the peer sent before may still be read.
    pub(crate) fn on_broken(&mut self) {
        self.state.on_broken();
        self.queued = None;
    }

    fn queue(&mut self, frame: ControlFrame) {
        match &mut self.queued {
            Some(queued) => **queued = frame,
            None => self.queued = Some(Box::new(frame)),
        }
    }
}

#[cfg(test)]
mod tests;

//! How an uplink ends: the first cause, our Close, the end of the stream.

use tokio::time::Instant;

use super::{Uplink, UplinkEnd, new_assembler};
use crate::frame::{CloseCode, ProtocolError};

impl Uplink {
    /// Sends a Close; [`Uplink::poll`] then ends with [`UplinkEnd::Done`], within `close_timeout`. Until the
    /// server has answered, its messages still come.
    pub(crate) fn close(&mut self, code: CloseCode, reason: &str) {
        let now = Instant::now();
        self.begin(UplinkEnd::Done, now);
        self.endpoint.start_closing(code, reason);
        self.send_close();
        self.wake();
    }

    /// The server's Close came: it is answered.
    pub(super) fn on_close_received(&mut self, code: CloseCode, reason: String, now: Instant) {
        self.begin(UplinkEnd::Closed(code, reason), now);
        self.endpoint.on_close_received(code.answer());
        self.send_close();
    }

    /// The server broke a rule: its Close says which, and nothing of it is read any more but the end of its stream.
    pub(super) fn on_protocol_error(&mut self, error: ProtocolError, now: Instant) {
        self.begin(UplinkEnd::ProtocolError(error), now);
        self.endpoint.fail(error.close_code(), &error.to_string());
        self.send_close();
    }

    /// Begins to end, unless that has begun.
    fn begin(&mut self, end: UplinkEnd, now: Instant) {
        if self.end.is_none() && self.stream.is_some() {
            self.end = Some(end);
            self.heartbeat = None;
            self.paused_since = None;
            self.deadline = Some(now + self.rules.close_timeout);
        }
    }

    /// Queues our Close behind what waits, if it was not sent before; it takes the place of a pong that was to follow.
    fn send_close(&mut self) {
        if self.stream.is_some()
            && let Some(close) = self.endpoint.next_control()
        {
            self.push(&close);
        }
    }

    /// Nothing can be sent any more; what the server sent before that is still read, until the deadline. Also where nobody has
    /// room for it: it would be lost with the socket, and a server that is gone says no more than the kernel holds of it.
    pub(super) fn on_broken(&mut self, now: Instant) {
        self.endpoint.on_broken();
        self.heartbeat = None;
        self.egress.clear();
        self.stall.clear();
        self.resume(now);
        self.deadline.get_or_insert(now + self.rules.close_timeout);
    }

    /// Drops the socket, whatever is still under way.
    pub(super) fn finish(&mut self, end: UplinkEnd, is_cut: bool) {
        self.end.get_or_insert(end);
        let is_settled = self.endpoint.state().close_sent() && self.waiting() == 0;
        if let Some(mut stream) = self.stream.take() {
            if is_cut && !is_settled {
                stream.reset_on_drop();
            } else if !self.endpoint.state().is_broken() {
                stream.send_close_notify();
            }
        }
        self.endpoint.on_read_end();
        self.heartbeat = None;
        self.egress.clear();
        self.assembler = new_assembler(&self.rules);
    }
}

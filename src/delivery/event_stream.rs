//! A client's event stream (WHATWG HTML §9.2): the body of an answer that does not end, over a socket that HTTP is done with.
//!
//! It is sent whole pieces only, as a WebSocket is sent whole frames, and held to the same bounds. It says nothing back:
//! what it sends is discarded, and it leaves by ending its side.
//!
//! # Invariants
//! 1. What came with it, the head of the answer in front, goes out before anything else.
//! 2. After [`EventStream::poll_send`] and [`EventStream::receive`] the socket has its waker for whatever is to go on, or there
//!    is a deadline for it ([`EventStream::next_deadline`]).
//! 3. The first cause of an end is the one that is reported.
//!
//! # Why is there no ping?
//! An event stream has no answer to one. A comment now and then keeps what stands on the way from ending the connection, and
//! has the kernel find out that a client is gone; one that is there and takes nothing is found as any other is, by how far
//! it is behind and for how long. `idle_timeout` is not for it: it could say nothing to end that time, and would be back at
//! once.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::close::CloseCause;
use super::encoding::Encoding;
use super::events::{DataForm, stream};
use super::outbound::Outbound;
use super::status::{Input, ReadStatus, SendStatus, WriteStatus};
use crate::connections::{ConnectionGuard, EndReport, Handle};
use crate::net::{Transport, scratch};
use crate::telemetry::Reason;

/// A client to which nothing was sent for so long is sent a comment: what stands on the way commonly waits for 30 s or more.
const COMMENT_AFTER: Duration = Duration::from_secs(15);

/// Bytes read at once.
const READ: usize = 1024;

/// What a client may send of what nobody reads, before it is cut. A request that it has put behind its first one is shorter.
const MAX_DISCARDED: usize = 16 * 1024;

/// What an event stream begins with.
#[derive(Debug)]
pub(crate) struct EventsWire {
    /// How texts stand in it.
    pub form: DataForm,
    /// The head of the answer, where it is to be written, and what stands in front of the first message: pieces of
    /// [`stream`].
    pub preface: Bytes,
}

/// The server's end of one event stream.
#[derive(Debug)]
pub(crate) struct EventStream {
    outbound: Outbound,
    state: State,
    inbound: Inbound,
    /// An end that has begun.
    ending: Option<Ending>,
    /// When something was written last, or has left.
    last_write: Instant,
    connection: ConnectionGuard,
}

/// What is sent.
#[derive(Debug)]
enum State {
    /// Messages.
    Open,
    /// This is sent next, and is the last piece.
    Closing(Bytes),
    /// The last piece was written; behind it the stream ends.
    Finishing,
    /// Nothing.
    Ended,
}

/// What is read.
#[derive(Debug, PartialEq, Eq)]
enum Inbound {
    /// Bytes for nobody, so many up to now.
    Discarding(usize),
    /// The client has ended its side.
    Ended,
}

/// An end that has begun.
#[derive(Debug, Clone, Copy)]
struct Ending {
    report: EndReport,
    /// When it has to be over.
    deadline: Option<Instant>,
}

impl EventStream {
    pub(crate) fn new(
        transport: Transport,
        wire: EventsWire,
        connection: ConnectionGuard,
        now: Instant,
    ) -> Self {
        let EventsWire { form, preface } = wire;
        connection.handle().on_out(0, preface.len());
        Self {
            outbound: Outbound::new(transport.stream, Encoding::Events(form), preface),
            state: State::Open,
            inbound: Inbound::Discarding(transport.read_ahead.len()),
            ending: None,
            last_write: now,
            connection,
        }
    }

    /// How the client is sent messages.
    pub(super) fn encoding(&self) -> Encoding {
        self.outbound.encoding()
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.connection.handle()
    }

    /// Whether no end has begun.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    pub(super) fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    pub(super) fn outbound_mut(&mut self) -> &mut Outbound {
        &mut self.outbound
    }

    /// Bytes held for the client alone or together with others.
    pub(crate) fn held(&self) -> usize {
        self.outbound.held()
    }

    /// Bytes held for the client alone.
    pub(super) fn held_alone(&self) -> usize {
        self.outbound.held_by_stream()
    }

    /// Sends what is left, and a comment where that is due.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, now: Instant) -> SendStatus {
        loop {
            if matches!(self.state, State::Ended) {
                return SendStatus::Closed;
            }
            if !self.outbound.is_idle() {
                // Some streams are flushed each time, whether anything waits or not.
                let is_waiting = !self.outbound.is_flushed();
                match self.outbound.flush(cx, now) {
                    WriteStatus::Flushed if is_waiting => self.last_write = now,
                    WriteStatus::Flushed => {}
                    WriteStatus::Blocked => return SendStatus::Blocked,
                    WriteStatus::Broken => {
                        self.on_lost();
                        continue;
                    }
                }
            }
            match &mut self.state {
                State::Open if now < self.last_write + COMMENT_AFTER => return SendStatus::Ready,
                State::Open => {
                    self.send_slice(cx, stream::COMMENT, 0, now);
                }
                State::Closing(last) => {
                    let last = std::mem::take(last);
                    self.state = State::Finishing;
                    self.send(cx, &last, 0, now);
                }
                State::Finishing => match self.outbound.poll_shutdown(cx) {
                    // What the kernel has it sends, whether we wait for that or not.
                    Poll::Ready(_) => self.state = State::Ended,
                    Poll::Pending => return SendStatus::Ready,
                },
                State::Ended => return SendStatus::Closed,
            }
        }
    }

    /// Writes whole events with `messages` in them, without a copy: what the socket does not take at once is kept as a part of
    /// `events`. Only to be called when nothing is left of what was written before.
    pub(crate) fn send(
        &mut self,
        cx: &mut Context<'_>,
        events: &Bytes,
        messages: u32,
        now: Instant,
    ) -> WriteStatus {
        self.on_send(messages, events.len(), now);
        let status = self.outbound.write(cx, events, now);
        self.after_write(status)
    }

    /// The same for events that are only borrowed: what the socket does not take at once is copied.
    pub(crate) fn send_slice(
        &mut self,
        cx: &mut Context<'_>,
        events: &[u8],
        messages: u32,
        now: Instant,
    ) -> WriteStatus {
        self.on_send(messages, events.len(), now);
        let status = self.outbound.write_slice(cx, events, now);
        self.after_write(status)
    }

    fn on_send(&mut self, messages: u32, bytes: usize, now: Instant) {
        self.last_write = now;
        self.handle().on_out(messages, bytes);
    }

    fn after_write(&mut self, status: WriteStatus) -> WriteStatus {
        if status == WriteStatus::Broken {
            self.on_lost();
        }
        status
    }

    /// Whether the client is to be read.
    pub(crate) fn is_readable(&self) -> bool {
        self.inbound != Inbound::Ended
    }

    /// Reads once, and discards what came.
    pub(crate) fn receive(&mut self, cx: &mut Context<'_>, now: Instant) -> ReadStatus {
        let read = scratch::with(|scratch| self.outbound.read(cx, &mut scratch[..READ], now));
        match read {
            Poll::Pending => ReadStatus::Pending,
            Poll::Ready(Ok(n)) if n > 0 => {
                let frames = self.outbound.take_records();
                self.on_discarded(n);
                ReadStatus::Read(Input { bytes: n, frames, ..Input::default() })
            }
            Poll::Ready(end) => {
                self.inbound = Inbound::Ended;
                // What is on its way to a client that was closed may still arrive.
                if self.is_open() {
                    self.abort(if end.is_ok() { Reason::ClientClose } else { Reason::ClientLost });
                }
                ReadStatus::Ended
            }
        }
    }

    fn on_discarded(&mut self, bytes: usize) {
        self.handle().on_discarded(bytes);
        if let Inbound::Discarding(before) = &mut self.inbound {
            *before += bytes;
            if *before > MAX_DISCARDED {
                self.reset(Reason::ProtocolError);
            }
        }
    }

    /// Begins to close, unless an end has begun. It has to be over within `timeout`. What was written before leaves first,
    /// unless the cause has it dropped ([`CloseCause::replaces_unsent`]).
    pub(crate) fn close(&mut self, cause: &CloseCause, timeout: Duration, now: Instant) {
        if !self.is_open() {
            return;
        }
        if cause.replaces_unsent() {
            let lost = self.outbound.cut_to_edge();
            self.handle().on_discarded(lost);
        }
        let last =
            if cause.is_replacement() { stream::replaced() } else { stream::last(cause.said_by_server()) };
        self.state = State::Closing(last);
        self.ending = Some(Ending { report: cause.report(), deadline: Some(now + timeout) });
    }

    /// What is reported of the end that has begun.
    pub(crate) fn end_report(&self) -> Option<EndReport> {
        Some(self.ending?.report)
    }

    /// The socket is of no use any more.
    fn on_lost(&mut self) {
        self.abort(Reason::ClientLost);
    }

    /// Ends now, whatever is unsent.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.outbound.reset_on_drop();
        self.abort(reason);
    }

    /// Nothing more is sent nor read; `reason` is reported if no end had begun.
    fn abort(&mut self, reason: Reason) {
        self.state = State::Ended;
        self.inbound = Inbound::Ended;
        let lost = self.outbound.abandon();
        self.handle().on_discarded(lost);
        let report = EndReport { reason, close: None, fault: None };
        self.ending.get_or_insert(Ending { report, deadline: None });
    }

    /// The task that serves the client has failed. It comes back as after any end.
    pub(crate) fn fail(mut self) {
        let failure = EndReport { reason: Reason::InternalError, close: None, fault: None };
        let report = self.ending.map_or(failure, |ending| ending.report);
        if self.outbound.is_flushed() {
            self.outbound.send_close_notify();
        } else {
            self.outbound.reset_on_drop();
        }
        self.connection.leave(report);
    }

    /// The client's place in the registry is given back, once an end has begun.
    pub(crate) fn leave(&mut self) {
        if let Some(ending) = &self.ending {
            self.connection.leave(ending.report);
        }
    }

    /// When [`EventStream::on_deadlines`] and [`EventStream::poll_send`] are to be called.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Open => self.outbound.is_flushed().then(|| self.last_write + COMMENT_AFTER),
            State::Closing(_) | State::Finishing => self.ending?.deadline,
            State::Ended => None,
        }
    }

    /// Deadlines may have come. A comment that is due goes out by the next [`EventStream::poll_send`].
    pub(crate) fn on_deadlines(&mut self, now: Instant) {
        if !self.is_open() && self.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.reset(Reason::ClientLost);
        }
    }
}

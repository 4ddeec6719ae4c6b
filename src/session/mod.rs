//! Mode `session`: both WebSocket links of a client end here, so that neither side notices when the other one drops.
//!
//! * [`task`]: one task owns both links of a session, and the log between them.
//! * [`machine`]: where a session stands on both sides (pure); [`cause`]: what its end means to each of them.
//! * [`outbox`]: what the client said, and what the server has surely taken of it (pure); [`greeting`]: what a new server
//!   has to hear first (pure).
//! * [`sessions`]: all of the process; [`request`]: what others want of one, as a client that has no WebSocket does.
//!
//! # What is promised
//! A server that is lost is dialled again while the client's link stays; it is greeted by the route's rules, is said what the one
//! before surely has not taken, and goes on. What the client is sent has no gaps: a session is complete, or it is over and
//! the client is told so.
//!
//! # Why no shards, and no breaker for each client?
//! A shard saves wake-ups when one message goes to many. Here each message goes to one: a task that owns both links wakes once
//! for both, needs no lock between them, and sees the whole state when the session ends.
//!
//! # Not here
//! The links themselves ([`crate::delivery`] for the client's, [`crate::upstream`] for the server's); the messages that the
//! client was not sent yet ([`crate::log`]).

mod cause;
mod detached;
mod graves;
mod greeting;
mod handle;
mod lines;
mod machine;
mod outbox;
mod plan;
mod registry;
mod request;
mod sessions;
mod shared;
mod task;
mod ticket;

pub(crate) use handle::{Handle, Identity};
pub(crate) use plan::Plan;
pub(crate) use registry::SessionGuard;
pub(crate) use request::{
    Attach, EventsStart, Newcomer, NotResumed, Poll, Polled, Refusal, Replay, Send, Sent, Stream, Visitor,
    Wire,
};
pub(crate) use sessions::Sessions;
pub(crate) use task::{Arrival, Greeted, Opened};
pub use ticket::{Claims, InvalidTicket, ProcessId, TicketKeys};

#[cfg(test)]
mod tests;

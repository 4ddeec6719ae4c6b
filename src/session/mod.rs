//! Mode `session`: both WebSocket links of a client end here, so that neither side notices when the other one drops.
//!
//! # Not here
//! The links themselves ([`crate::delivery`] for the client's, [`crate::upstream`] for the server's); the messages that the
//! client was not sent yet ([`crate::log`]).
#![allow(dead_code, reason = "it is not wired to the server yet")]

mod detached;
mod graves;
mod handle;
mod registry;
mod ticket;

pub(crate) use handle::{Ask, Attach, EndRequest, Handle, Identity, NotResumed, Request};
pub use ticket::{Claims, InvalidTicket, ProcessId, TicketKeys};

pub(crate) use registry::{Gate, SessionGuard, Sessions};

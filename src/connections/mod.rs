//! The connections that are open now and what may be asked of them from outside: the control plane of the process.
//!
//! A connection's task owns its sockets, and no other task touches them. A drain, a quota that replaces a connection,
//! or an operator who publishes finds its [`Handle`] in the [`Registry`] and puts a [`Command`] or a message into its
//! mailbox. [`lifecycle`] is the same for the process as a whole.
//!
//! # Not here
//! What a command does to sockets ([`crate::tunnel`], [`crate::delivery`]); how the numbers are named where they
//! are scraped ([`crate::telemetry`]).

mod admitted;
mod handle;
mod injections;
pub(crate) mod lifecycle;
mod registry;
mod resume;

pub(crate) use admitted::{Admitted, Connection, ConnectionPermit, Held, PermitHolder};
#[cfg(test)]
pub(crate) use handle::DeliveryStats;
pub(crate) use handle::{Command, ConnectionInfo, EndReport, Handle, Via};
pub(crate) use registry::{ConnectionGuard, Registry};
pub use resume::SessionId;
pub(crate) use resume::{EndedSession, LogGate, ResumeGate, ResumeGrant};

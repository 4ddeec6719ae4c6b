//! How many there may be at the same time: connections on their way to something ([`handshakes`]), connections that
//! ask nothing ([`idle`]), refusals that are sent by a Close ([`refusals`]).
//!
//! Each limit counts, and hands out permits that give back what they took when they are dropped. Nobody waits here.
//!
//! # Not here
//! Limits of a route, an address or a user ([`crate::admission`]); what happens beyond a limit.

pub(super) mod gauge;
pub(super) mod handshakes;
pub(super) mod idle;
pub(super) mod refusals;

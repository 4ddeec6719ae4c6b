//! Which requests are admitted, how fast, how many: the layers that every request passes before its mode. A handshake
//! that was admitted becomes a connection by [`RequestContext::into_admitted`].
//!
//! [`stack()`] lists them once, in order. Each layer is a [`Check`](check::Check) in a file of its own, which looks at
//! a [`RequestContext`] and lets it pass, changed or not, or answers [`Refused`].
//!
//! * [`identity`]: who is the client, behind trusted proxies?
//! * [`rate`]: how fast, from this address, in total, by this user? ([`keyed`] and [`queue`] are its buckets,
//!   [`counts`] hands them on to the next configuration).
//! * [`resume`]: is it a client that comes back to its session?
//! * [`origin`]: from which page? [`auth`]: by whom?
//! * [`quota_check`]: is there room? A permit of the route's [`quota`] is held until the connection or its session ends,
//!   whatever ends it ([`users`]: which connection of a user is replaced).
//! * [`breaker`]: does the upstream's breaker permit a handshake?
//!
//! # Invariants
//! 1. The address is checked first: one attacker can neither empty the global bucket nor cause authentication work.
//! 2. Whatever is kept for an address or a user is bounded, and counted where the bound is met.
//! 3. A request that is refused does not reach the upstream.
//!
//! # Not here
//! Requests to the upstream, and how a refusal is sent ([`crate::server`]).

mod address;
mod answer;
mod auth;
mod breaker;
mod check;
mod context;
mod counts;
mod forwarded;
mod identity;
mod keyed;
mod origin;
mod queue;
mod quota;
mod quota_check;
mod rate;
mod refused;
mod resume;
mod stack;
mod users;

pub(crate) use address::{AddressKey, Client};
pub(crate) use auth::{AuthError, Authenticator};
pub(crate) use breaker::BreakerGuard;
pub(crate) use context::{FallbackUse, Kind, LogFields, RequestContext, ResumeDecision, Ticket, User};
pub(crate) use counts::Counts;
pub(crate) use origin::is_origin_allowed;
pub(crate) use refused::{Bound, Refused};
pub(crate) use stack::{Stack, StackDeps, afresh, left_out, stack};

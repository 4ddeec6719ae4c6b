//! Decisions that take time into account, pure: events and `now` in, what to do out.
//!
//! # Not here
//! Sockets, tasks, timers: a driver asks for the next deadline and comes back when it has passed.

mod breaker;
mod bucket;
mod heartbeat;
mod spread;

pub use breaker::{Breaker, BreakerRules, BreakerState, CallOutcome, Ticket};
pub use bucket::Bucket;
pub use heartbeat::{Act, Heartbeat, PING_PAYLOAD, PongKind};
pub use spread::spread_evenly;

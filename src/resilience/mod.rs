//! Decisions that take time into account, pure: events and `now` in, what to do out.
//!
//! # Not here
//! Sockets, tasks, timers: a driver asks for the next deadline and comes back when it has passed.

mod backoff;
mod breaker;
mod bucket;
mod budget;
mod dates;
mod heartbeat;
mod spacing;
mod spread;
mod stall;
mod standstill;
mod turn;

pub use backoff::Backoff;
pub use breaker::{Breaker, BreakerRules, BreakerState, CallOutcome, Caller, Ticket};
pub use bucket::Bucket;
pub use budget::{Budget, Share};
pub use dates::{Date, Dates, Expiry};
pub use heartbeat::{Act, Heartbeat, JSON_PING, PING_PAYLOAD, PongKind, is_json_pong};
pub use spacing::Spacing;
pub use spread::spread_evenly;
pub use stall::Stall;
pub use standstill::Standstill;
pub use turn::Turn;

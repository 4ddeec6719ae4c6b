//! Decisions that take time into account, pure: events and `now` in, what to do out.
//!
//! # Not here
//! Sockets, tasks, timers: a driver asks for the next deadline and calls again when it has passed.

mod backoff;
mod breaker;
mod dates;
mod gcra;
mod heartbeat;
mod read_budget;
mod spread;
mod stall;
mod standstill;

pub(crate) use backoff::Backoff;
pub(crate) use breaker::{Breaker, BreakerRules, BreakerState, CallOutcome, Caller, Ticket};
pub(crate) use dates::{Date, Dates, Expiry};
pub(crate) use gcra::{ArrivalTime, Bucket, Gcra};
pub(crate) use heartbeat::{Heartbeat, HeartbeatAction, JSON_PING, PING_PAYLOAD, PongKind, is_json_pong};
pub(crate) use read_budget::ReadBudget;
pub(crate) use spread::spread_evenly;
pub(crate) use stall::Stall;
pub(crate) use standstill::Standstill;

//! Decisions that take time into account, pure: events and `now` in, what to do out.
//!
//! # Time
//! * Each connection has one timer, and each shard of clients has one for all of them. Activity writes a timestamp;
//!   only when the timer fires is the nearest deadline worked out again. So a busy connection does not touch the
//!   timer wheel, and an idle one wakes for its heartbeat and nothing else.
//! * A ping is due each interval, whatever else is sent ([`Heartbeat`]). Any byte that is received counts as
//!   activity.
//! * A peer that takes nothing has one clock ([`Stall`]), which is told after everything that touches its stream:
//!   what TLS has encrypted may leave with a read as well.
//! * A process that stood still has not heard its peers, and its runtime may fire timers before it reports what came.
//!   A timer that is 50 ms late is taken for that ([`Standstill`]): peers are read for 1 s before anybody is judged.
//!   Dates do not wait.
//! * Credentials end by the clock that says so first (`Expiry`): the monotonic clock stands still while a machine is
//!   suspended, the wall clock may be set back.
//! * Everything uses [`tokio::time::Instant`]: tests run with the clock paused.
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

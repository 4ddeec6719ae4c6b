//! Mode `broadcast`: one upstream link for all clients of a channel, 1 : N.
//!
//! Each file imports only from files further down:
//!
//! * `hubs`: all hubs of the process ([`Hubs`]); `hub`: the channels of one route, on which clients get a
//!   [`Reservation`].
//! * `task`: a channel's task: its link to the server, from the first dial to its end. `declined`: the server's refusal,
//!   kept for all who wait for it.
//! * `feed`: what becomes of a message on its way into the log; `lines`: metrics and log lines about a channel's server.
//! * `state`: what a hub and the tasks of its channels share; `channel`: who is on a channel.
//! * `key`: which clients share a channel (pure); `error`: why a client cannot join one.
//!
//! # When something fails
//!
//! | failure | what follows | who notices |
//! | --- | --- | --- |
//! | a client takes less than it is sent | it is not served while its socket is full, and goes on from its cursor | nobody |
//! | … and is beyond `max_lag`, or takes no byte for `stall_timeout` | its breaker (`delivery::consumer`) opens: it is left alone for `cool_down`, then goes on as `resume_from` says; it is closed at `max_trips` | the client: a gap |
//! | a client is dead | it sends no pong and is closed; or its socket fills up: as above | nobody |
//! | the server sends more at once than the log keeps | it is read no faster than passes go; the log keeps what they have not had | nobody |
//! | so many clients trip that the channel's breaker opens | each segment that is read goes as its newest message, and critical ones, while the breaker is not closed. Half-open, one pass sends everything: the next judgement closes it, or opens it again | all clients of the channel |
//! | the server is lost, sends a Close that is not final, breaks a rule, is silent or stalled | it is dialled again ([`crate::upstream::redial`]), and gets the greeting again. What is left of the old link's close handshake runs beside it. Publishing goes on | clients, with `notices`, or with `on_redial: close` |
//! | the server cannot be had at the first dial | all who wait get the same answer; the channel is forgotten *before* that, so that who comes then dials anew | those who waited |
//! | the server's breaker is open | first dial: 503 at once. Redial: it waits at least as long as the breaker says. While a probe is under way both wait for it | new clients |
//! | `memory.max_buffered` is exceeded | whoever appended makes room (`Logs::enforce_budget`): what all readers have read, the longest log first; the unread of the log that is furthest behind; critical messages. If that frees nothing it is not tried again for each message: what clients have half taken is bounded by half of it (`delivery::memory`) | readers that are behind: a gap |
//! | a channel's task panics | its `TaskGuard` closes its clients with `close_codes.upstream_lost`; who waits to be let in or to publish hears that it has ended | the channel |
//! | a shard panics | its clients, and those on their way to it, are closed with 1011 where that can be sent between two frames; its `ShardHandle` gives back whoever comes later, for whom there is a new shard | its clients |
//! | a drain | clients have their dates; nothing is dialled any more; a channel goes with its last client, without `linger` | the clients, one by one |
//!
//! # Why is a lost server not passed on as a Close?
//! All clients would come back at once, to a server that has just started: the storm that a shared link saves it
//! from. Codes that an application chose are its word, and pass (`final_codes`). 1000 is none of them: it is what
//! servers send to whoever was silent, and what many send when they stop.
//!
//! # Why does `on_redial: close` close clients when the server is back, and not when it is lost?
//! They would come back to a server that is not there, and be refused. And what clients send while it is away is
//! dropped: whoever comes meanwhile has to send it again too.
//!
//! # What a reload does to a hub
//! A hub hangs on the route's name, policy, upstream and `strip_prefix`. If one of these changes there is a new hub
//! for whoever comes; the old one lives as long as it has a channel, since the `TaskGuard` of each channel's task holds
//! it. [`Hubs`] knows both: what is published by the route's name reaches both, and a drain waits for both.
//!
//! # Not here
//! How messages reach a client ([`crate::delivery`]); who may come in ([`crate::admission`]); what the server is sent for
//! a channel, and when it is dialled ([`crate::upstream::opening`], [`crate::upstream::redial`]).

mod channel;
mod declined;
mod error;
mod feed;
mod greeting;
mod hub;
mod hubs;
mod key;
mod lines;
mod state;
mod task;

pub(crate) use self::channel::{Over, Reservation};
pub(crate) use self::error::JoinError;
pub(crate) use self::greeting::Joiner;
pub(crate) use self::hub::{Hub, JoinRequest};
pub(crate) use self::hubs::{ChannelInfo, Hubs, Published};
pub(crate) use self::state::Plan;

#[cfg(test)]
mod tests;

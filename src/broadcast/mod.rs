//! Mode `broadcast`: one upstream link for all clients of a channel, 1 : N.
//!
//! Each file imports only from files further down:
//!
//! * `hubs`: every hub of the process ([`Hubs`]); `hub`: the channels of one route, which promise clients a
//!   [`Reservation`].
//! * `task`: a channel's task: its link to the server, from the first dial to its end. `declined`: the server's refusal,
//!   kept for all who wait for it.
//! * `feed`: what becomes of a message on its way into the log; `lines`: what operators are told of a channel's server.
//! * `state`: what a hub and the tasks of its channels share; `channel`: who is on a channel.
//! * `key`: which clients share a channel (pure); `error`: why a client cannot join one.
//!
//! # Not here
//! How messages reach a client ([`crate::delivery`]); who may come in ([`crate::admission`]); what the server is sent for
//! a channel, and when it is dialled ([`crate::upstream::opening`], [`crate::upstream::redial`]).

mod channel;
mod declined;
mod error;
mod feed;
mod hub;
mod hubs;
mod key;
mod lines;
mod state;
mod task;

pub(crate) use self::channel::Reservation;
pub(crate) use self::error::JoinError;
pub(crate) use self::hub::{Hub, JoinRequest};
pub(crate) use self::hubs::{ChannelInfo, Hubs, Published};
pub(crate) use self::state::Plan;

#[cfg(test)]
mod tests;

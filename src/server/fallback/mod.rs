//! Clients that have no WebSocket: what they ask, and the form of what they are answered. Pure.
//!
//! An endpoint stands below the path of the WebSocket that its client would have, and a request to it is turned into the
//! handshake of that WebSocket before anything else looks at it ([`asked`]): admission, the channel's key and the server
//! see the same as of a client that has one.
//!
//! * [`asked`]: the handshake that a request stands for, and what else it says. [`parameters`]: its query.
//! * [`messages`]: the body of a `POST`.
//! * [`cors`]: which pages may read an answer. [`answers`]: errors, refusals and the heads of answers. [`passed_on`]: what others
//!   have answered.
//!
//! # Invariants
//! 1. One input, one meaning: what may stand there once and stands there twice is refused, and so is what cannot be read.
//! 2. A ticket goes neither to a server nor into a log line.
//!
//! # Not here
//! Which path is an endpoint's ([`super::router`]); who may come in ([`crate::admission`]); what becomes of a request that may
//! ([`super::request`]).

mod answers;
mod asked;
mod cors;
mod messages;
mod methods;
mod parameters;
mod passed_on;

pub(in crate::server) use self::answers::{
    AnswerReason, EndpointError, json, method_error, options, passes, refusal, refused_stream, stream_head,
    with_messages,
};
pub(in crate::server) use self::asked::Asked;
pub(in crate::server) use self::cors::Cors;
pub(in crate::server) use self::messages::Messages;
pub(in crate::server) use self::parameters::{BadParameter, Parameters};
pub(in crate::server) use self::passed_on::{NO_STORE, set_passed_on};

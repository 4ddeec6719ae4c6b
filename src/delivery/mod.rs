//! From a log to its clients: each has a cursor, and no client waits for another one.
//!
//! * [`Fanout`]: all clients of a feed, and what its tasks share ([`shared`]). [`shard`]: one task that serves a part of
//!   them; [`wake_list`] and [`timer_heap`]: which of them were woken or are due.
//! * [`subscriber`]: one client, made of what reads the log ([`consumer`]) and its [`link`]: what its messages go out by. That is a
//!   [`websocket`], which sessions use as well, or an [`event_stream`]; [`encoding`] is how they stand there.
//! * [`batch`]: what goes out together. [`channel_breaker`]: when all are sent the newest message only. [`close`]: why
//!   clients are closed. [`receipts`]: what they have acknowledged. [`events`]: a message as JSON. [`poll`]: clients that ask.
//! * [`control`]: the protocol that clients may speak with this proxy among their messages.
//! * [`ClientMemory`]: what waits for clients, in the whole process, and which of them hold most of it.
//!
//! # Who wakes whom
//!
//! | what happens | who is woken |
//! | --- | --- |
//! | the server sent something; something was published; a notice | every shard of the channel (its [`Reader`](crate::log::Reader)), for a pass over its clients |
//! | the server sent something, and a request waits for it | the request ([`poll`]), through the log |
//! | a client's socket can be read or written; its handle has a command | the client's `SubscriberWaker` puts its number on the shard's [`wake_list`] once, and wakes the task if the list was empty |
//! | a deadline of a client has passed | the shard, by its one timer; [`timer_heap`] knows whose deadline it is |
//! | a client joins; the feed is over, or its clients are dismissed; nobody can join any more | the shard, through its `ShardHandle` |
//! | clients of feeds hold too much memory | the shard whose client may hold most ([`memory`]) |
//! | a client sent something that goes to the server; a publish request; the last client left; a drain; the linger | the channel's task ([`crate::broadcast`]) |
//!
//! # What holds a server up
//! A message that a pass has not had yet stays in the log, whatever its bounds (`Reader::set_delivered`). When such
//! messages are more than half of the bounds, the uplink is not read until passes have had them
//! (`Writer::poll_room`). A pass waits for no client, so that no client can hold the server up. A throttled shard is
//! not waited for, and holds nothing.
//!
//! # Not here
//! Where the messages come from ([`crate::broadcast`]); the log itself ([`crate::log`]). A session ([`crate::session`]) uses
//! the WebSocket of its client alone: it has one client, and serves it in its own task.

mod batch;
mod channel_breaker;
mod close;
mod consumer;
pub(crate) mod control;
mod encoding;
mod event_stream;
pub(crate) mod events;
mod fanout;
mod link;
mod memory;
mod outbound;
pub(crate) mod poll;
mod receipts;
mod shard;
mod shared;
mod status;
mod subscriber;
mod timer_heap;
mod wake_list;
mod websocket;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::config::Policy;
use crate::connections::Connection;
use crate::frame::Kind;
use crate::net::{Transport, Workers};
use crate::telemetry::{BreakerMetrics, FeedMetrics, Metrics};

pub(crate) use close::CloseCause;
pub(crate) use event_stream::{EventStream, EventsWire};
pub(crate) use fanout::Fanout;
pub(crate) use link::Link;
pub(crate) use memory::ClientMemory;
pub(crate) use status::{Input, ReadStatus, Received, SendStatus, WriteStatus};
pub(crate) use websocket::{ReadLimits, SpentRates, WebSocket};

/// What holds for all feeds of a route, worked out once.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The route's policy.
    pub policy: Arc<Policy>,
    /// What its feeds count.
    pub metrics: Arc<FeedMetrics>,
    /// The breakers of single clients.
    pub recipients: Arc<BreakerMetrics>,
    /// The breakers of whole channels.
    pub channels: Arc<BreakerMetrics>,
    /// The memory for what waits for clients, of all feeds together.
    pub client_memory: Arc<ClientMemory>,
    /// What is counted of the process.
    pub process: Arc<Metrics>,
    /// Tasks that share the clients of a channel.
    pub shards: usize,
    /// Where they live: each on another one.
    pub workers: Workers,
}

/// What becomes of messages from the clients of one feed.
#[derive(Debug, Clone)]
pub(crate) enum FromClients {
    /// They are dropped and counted.
    Drop,
    /// A client that sends one is closed.
    Refuse,
    /// They are queued here; what there is no room for is dropped and counted.
    Forward(mpsc::Sender<(Kind, Bytes)>),
}

/// A client whose 101 was sent, or whose answer is an event stream.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Its socket.
    pub transport: Transport,
    /// How it is spoken to.
    pub wire: Wire,
    /// Its place in the registry, and what is held for it.
    pub connection: Connection,
}

/// How a client is spoken to.
#[derive(Debug)]
pub(crate) enum Wire {
    WebSocket {
        /// Whether it may be sent compressed messages, and may send such.
        has_deflate: bool,
        /// What it is told before anything else, if it speaks the protocol among the messages.
        hello: Option<Box<FeedHello>>,
    },
    Events(Box<EventsWire>),
}

/// The first message of a client that speaks the protocol among the messages.
#[derive(Debug)]
pub(crate) struct FeedHello {
    /// Of its control frames, as the hello tells it.
    pub prefix: control::Prefix,
    /// The hello.
    pub frame: Bytes,
    /// The number before that of the next message, as the hello tells it.
    pub sequence: u64,
}

#[cfg(test)]
mod tests;

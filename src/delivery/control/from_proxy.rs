//! The control frames of this proxy. Pure.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::Prefix;
use crate::frame::{Kind, encode};

/// One control frame of this proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FromProxy {
    /// So many of the client's messages were received.
    Ack(u64),
    /// The answer to a ping of the client.
    Pong(u64),
    /// A heartbeat, where it is not one of RFC 6455.
    Ping(u64),
    /// The server is gone, or there again.
    Server(ServerState),
    /// These of the client's messages may have been taken by a server that is gone, and are not said again.
    Uncertain { from: u64, to: u64 },
    /// These of the client's messages will reach no server.
    Lost { from: u64, to: u64, why: LossCause },
    /// On feeds: the next message has the number after this one.
    At(u64),
    /// The last thing before a Close of ours.
    Bye(Bye),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ServerState {
    Lost,
    Back,
}

/// Why a message of a client is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LossCause {
    /// It has waited for too long.
    Age,
    /// Too many have waited.
    Queue,
}

/// What a client is told before it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Bye {
    /// Why, as metrics have it.
    pub why: &'static str,
    /// Whether the client may come back to this session.
    pub resume: bool,
    /// When it should come back.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "millis")]
    pub after: Option<Duration>,
    /// So many of its messages were received.
    pub ack: u64,
}

impl FromProxy {
    /// The server is gone.
    pub(crate) const SERVER_LOST: Self = Self::Server(ServerState::Lost);
    /// The server is there again.
    pub(crate) const SERVER_BACK: Self = Self::Server(ServerState::Back);

    /// The whole frame, ready for the wire.
    pub(crate) fn frame(&self, prefix: &Prefix) -> Bytes {
        encode::message(Kind::Text, &self.text(prefix))
    }

    /// What is in it.
    pub(crate) fn text(&self, prefix: &Prefix) -> Vec<u8> {
        let mut text = Vec::with_capacity(64);
        text.extend_from_slice(prefix.as_str().as_bytes());
        // Numbers and words of our own: there is nothing that could fail.
        let _ = serde_json::to_writer(&mut text, self);
        text
    }
}

fn millis<S: serde::Serializer>(after: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    let millis = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    millis.serialize(to)
}

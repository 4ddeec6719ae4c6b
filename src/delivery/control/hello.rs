//! The first message of a link whose client speaks the protocol. Pure.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::Prefix;
use crate::config::{Fallback, Heartbeat};
use crate::connections::EndedSession;
use crate::frame::{Kind, encode};
use crate::net::own_protocols::{Nonce, TicketText};

/// What the hello says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hello<'a> {
    /// Of the client's handshake. A hello without it may be anybody's, and a client is free not to believe it.
    pub nonce: Option<&'a Nonce>,
    /// What the client comes back with; `None`: it cannot come back.
    pub ticket: Option<&'a TicketText>,
    /// Whether the session, or the feed, goes on where the client was. If not, this is a new connection to it.
    pub is_resumed: bool,
    /// Of the log that the numbers of messages mean something in.
    pub epoch: u64,
    /// The number before that of the next message.
    pub sequence: u64,
    /// The number of the newest message there is.
    pub head: u64,
    /// How many of the client's messages were received, over all links of the session.
    pub received: u64,
    /// How many messages a client that is not resumed will never get.
    pub missed: Missed,
    /// `None`: over HTTP nothing is said among the messages.
    pub prefix: Option<&'a Prefix>,
    /// How long the session is held without its client.
    pub window: Duration,
    /// Of the client.
    pub heartbeat: Option<Heartbeat>,
    /// The longest message that is taken from the client.
    pub max_message: u64,
    /// By what else the client may come, should its network let no WebSocket through.
    pub fallback: &'a Fallback,
    /// The session that the client has asked for, and that is over.
    pub previous: Option<EndedSession>,
}

/// How many messages a client will never get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missed {
    Known(u64),
    Unknown,
}

#[derive(Serialize)]
struct Envelope<'a> {
    outrigger: Members<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    v: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    session: Option<&'a str>,
    resumed: bool,
    /// 64 bits do not fit a number.
    epoch: String,
    sequence: u64,
    head: u64,
    received: u64,
    lost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<&'a str>,
    window: u64,
    heartbeat: Option<HeartbeatMembers>,
    max_message: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fallback: Vec<&'static str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    prefix: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<PreviousMembers>,
}

#[derive(Serialize)]
struct HeartbeatMembers {
    interval: u64,
    timeout: u64,
    misses: u32,
}

#[derive(Serialize)]
struct PreviousMembers {
    received: u64,
    why: &'static str,
}

impl Hello<'_> {
    /// The whole frame, ready for the wire.
    pub(crate) fn frame(&self) -> Bytes {
        encode::message(Kind::Text, &to_json(&Envelope { outrigger: self.as_members() }))
    }

    /// What it says, as one line of JSON.
    pub(crate) fn members(&self) -> Vec<u8> {
        to_json(&self.as_members())
    }

    fn as_members(&self) -> Members<'_> {
        Members {
            v: 1,
            nonce: self.nonce.map(Nonce::as_str),
            session: self.ticket.map(TicketText::as_str),
            resumed: self.is_resumed,
            epoch: format!("{:016x}", self.epoch),
            sequence: self.sequence,
            head: self.head,
            received: self.received,
            lost: match self.missed {
                Missed::Known(messages) => Some(messages),
                Missed::Unknown => None,
            },
            control: self.prefix.map(Prefix::as_str),
            window: millis(self.window),
            heartbeat: self.heartbeat.map(|heartbeat| HeartbeatMembers {
                interval: millis(heartbeat.interval),
                timeout: millis(heartbeat.timeout),
                misses: heartbeat.max_missed,
            }),
            max_message: self.max_message,
            fallback: fallback_names(self.fallback),
            prefix: &self.fallback.prefix,
            previous: self.previous.map(|EndedSession { received, why }| PreviousMembers { received, why }),
        }
    }
}

/// What is on, by the names of the settings.
fn fallback_names(fallback: &Fallback) -> Vec<&'static str> {
    let Fallback { sse, poll, replay, prefix: _ } = fallback;
    let all = [("sse", *sse), ("poll", *poll), ("replay", *replay)];
    all.into_iter().filter_map(|(name, is_on)| is_on.then_some(name)).collect()
}

/// Numbers, and texts that are ASCII: there is nothing that could fail.
fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

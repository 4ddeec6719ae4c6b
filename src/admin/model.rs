//! The JSON objects of the operators' port.

use hyper::body::Bytes;
use tokio::time::Instant;

use crate::connections::Handle;
use crate::frame::Kind;

/// A message that an operator publishes, and its recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publication {
    /// The route's name.
    pub route: String,
    /// One channel of it; `None`: all.
    pub channel: Option<String>,
    /// One user's clients; `None`: all.
    pub user: Option<String>,
    /// Text or bytes.
    pub kind: Kind,
    /// The message.
    pub payload: Bytes,
}

/// The result of publishing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Published {
    /// The number of clients that will get it.
    pub recipients: u64,
    /// Its sequence number, if it went into exactly one log.
    pub sequence: Option<u64>,
}

/// Why nothing was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublishError {
    /// There is no route of that name.
    NoRoute {
        /// The requested name.
        name: String,
        /// All names that exist.
        known: Vec<String>,
    },
    /// There is no channel of that name on the route.
    NoChannel {
        /// The route.
        route: String,
        /// The requested name.
        name: String,
        /// All names that exist.
        known: Vec<String>,
    },
    /// A channel was asked for of a route that has none.
    NoChannels {
        /// The route.
        route: String,
    },
    /// The message is above a bound of the route.
    TooLong {
        /// The setting of the bound.
        setting: &'static str,
        /// Its value, in bytes.
        max: u64,
    },
    /// `memory.max_buffered` is used up.
    NoMemory,
    /// The task panicked: some clients may have got the message.
    Failed,
}

/// A channel of mode broadcast, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Channel {
    /// Its route.
    pub route: String,
    /// Its name.
    pub channel: String,
    /// Clients it has.
    pub clients: u64,
    /// Whether its upstream is connected.
    pub connected: bool,
    /// Of its log, 16 hexadecimal digits: as a number it would be rounded by many readers of JSON.
    pub epoch: String,
    /// The newest sequence number.
    pub sequence: u64,
}

/// A client of mode broadcast, as operators see it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Subscriber {
    /// As log lines call it.
    pub connection: u64,
    /// Its route.
    pub route: String,
    /// Its channel, by name.
    pub channel: String,
    /// Who it is, where it was authenticated.
    pub user: Option<String>,
    /// What it has: `websocket` or `sse`.
    pub transport: String,
    /// Seconds since it was opened.
    pub age_seconds: u64,
    /// Messages that it was sent.
    pub sent: u64,
    /// Those of them that a pong has acknowledged: see `delivery_rate`.
    pub acknowledged: u64,
    /// The part of the messages sent before a ping that a pong has acknowledged. A hint: the client's WebSocket stack
    /// took them. `null`: no ping was sent yet, or `heartbeat.mode` is `json`.
    pub delivery_rate: Option<f64>,
    /// Messages of the log that it was not sent yet.
    pub lag: u64,
    /// Bytes that wait for its socket.
    pub buffered_bytes: u64,
}

impl Subscriber {
    /// `None`: the connection is not of mode broadcast.
    pub(crate) fn of(handle: &Handle, now: Instant) -> Option<Self> {
        let stats = handle.delivery_stats()?;
        Some(Self {
            connection: handle.id,
            route: handle.route.name.to_string(),
            channel: handle.channel().unwrap_or_default().to_owned(),
            user: handle.user.as_deref().map(str::to_owned),
            transport: handle.via.as_str().to_owned(),
            age_seconds: now.saturating_duration_since(handle.since).as_secs(),
            sent: stats.sent,
            acknowledged: stats.acknowledged,
            delivery_rate: (stats.asked > 0).then(|| stats.acknowledged as f64 / stats.asked as f64),
            lag: stats.lag,
            buffered_bytes: stats.buffered,
        })
    }
}

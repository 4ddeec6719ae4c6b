//! The operators' port: is it alive, is it ready, how is it doing, let your clients go, and:
//! tell them something.
//!
//! | method | path | class | what it is for |
//! | --- | --- | --- | --- |
//! | GET | `/healthz` | probe | 200 as long as the process answers |
//! | GET | `/readyz` | probe | 200 while clients should be sent here, else 503 and why |
//! | GET | `/metrics` | probe | metrics in Prometheus' text format |
//! | GET | `/api/admin/drain` | operator | how far a drain has got |
//! | POST | `/api/admin/drain` | operator | start the drain; with `?wait=true` answer when it is over |
//! | POST | `/api/admin/broadcast` | operator | publish a message to the clients of a route |
//! | GET | `/api/admin/channels` | operator | the channels of mode broadcast; `?route=` and `?limit=` narrow it, 100 if not said |
//! | GET | `/api/admin/subscribers` | operator | the clients of mode broadcast, those furthest behind first; `?route=`, `?channel=` and `?limit=` narrow it, 100 if not said |
//!
//! HEAD works where GET does. Errors are JSON, `{"error": "…"}`, and say what to do.
//!
//! # Invariants
//! 1. [`ROUTES`] is the one list of what there is: requests are dispatched by it, answers of 404 and 405
//!    are written from it, and the table above is tested against it.
//! 2. Every route of class [`Class::Operator`] passes the port's [`Guard`], because the dispatcher asks
//!    it by class and not by route; a port of [`Access::Probes`] has no such routes at all.
//! 3. No body is read but of a route that wants one, after the guard, and with a bound ([`body`]).
//! 4. Nothing here outlasts [`serve`]: when it returns, its connections have ended.
//!
//! # Not here
//! What draining does ([`Lifecycle`] is only told), and where the numbers come from: this folder stands
//! below the server and is given closures.

mod answer;
mod body;
pub(crate) mod client;
mod guard;
mod listings;
mod publish;
mod routes;
mod server;

use std::pin::Pin;
use std::sync::Arc;

use hyper::body::Bytes;
use prometheus::proto::MetricFamily;

use crate::config::Mode;
use crate::connections::lifecycle::Lifecycle;
use crate::frame::Kind;

pub(crate) use guard::Guard;
pub(crate) use server::serve;

/// What the admin port shows and moves.
#[derive(Clone)]
pub(crate) struct Admin {
    /// Shown by `/readyz`, moved by the drain route.
    pub lifecycle: Lifecycle,
    /// Everything `/metrics` shows, collected anew for each request.
    pub gather: Arc<dyn Fn() -> Vec<MetricFamily> + Send + Sync>,
    /// WebSocket clients connected now.
    pub clients: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Asked by `/readyz` where the configuration wants that (`admin.ready_needs_upstream`).
    pub upstream_ready: Option<UpstreamCheck>,
    /// Asked by the broadcast route. Dropped when whoever asked hangs up: what was begun must go on by itself.
    pub publish: Publish,
    /// The longest body of the broadcast route (`admin.max_publish`).
    pub max_publish: usize,
    /// The routes by name, and what they do.
    pub routes: Arc<dyn Fn() -> Vec<(String, Mode)> + Send + Sync>,
    /// The channels of mode broadcast, in any order.
    pub channels: Arc<dyn Fn() -> Vec<Channel> + Send + Sync>,
    /// The clients of mode broadcast, in any order.
    pub subscribers: Arc<dyn Fn() -> Vec<Subscriber> + Send + Sync>,
}

/// Gives a message to those it is for.
pub(crate) type Publish = Arc<dyn Fn(Publication) -> PublishAnswer + Send + Sync>;

/// What a [`Publish`] gives.
pub(crate) type PublishAnswer = Pin<Box<dyn Future<Output = Result<Published, PublishError>> + Send>>;

/// What an operator has to say, and to whom.
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

/// What came of publishing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Published {
    /// Clients it is on its way to.
    pub recipients: u64,
    /// Its number, where it went into exactly one log.
    pub sequence: Option<u64>,
}

/// Why nothing was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublishError {
    /// There is no route of that name.
    NoRoute {
        /// What was asked for.
        name: String,
        /// All there are.
        known: Vec<String>,
    },
    /// There is no channel of that name on the route.
    NoChannel {
        /// The route.
        route: String,
        /// What was asked for.
        name: String,
        /// All there are.
        known: Vec<String>,
    },
    /// A channel was asked for of a route that has none.
    NoChannels {
        /// The route.
        route: String,
    },
    /// The message is above a bound of the route.
    TooLong {
        /// Which.
        setting: &'static str,
        /// What it says, in bytes.
        most: u64,
    },
    /// `memory.max_buffered` is used up.
    NoMemory,
    /// A fault of ours in the middle of it: some may have got it.
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
    /// Seconds since it was opened.
    pub age_seconds: u64,
    /// Messages that it was sent.
    pub sent: u64,
    /// Those of them that a pong has told of: see `delivery_rate`.
    pub acknowledged: u64,
    /// Of the messages that it was asked about by a ping, the part that a pong has told of. A hint: its WebSocket
    /// stack took them. `null`: it was not asked yet, or `heartbeat.mode` is `json`.
    pub delivery_rate: Option<f64>,
    /// Messages of the log that it was not sent yet.
    pub lag: u64,
    /// Bytes that wait for its socket.
    pub buffered_bytes: u64,
}

/// Whether the upstream can be reached; an error says in words why not.
pub(crate) type UpstreamCheck = Arc<dyn Fn() -> UpstreamAnswer + Send + Sync>;

/// What an [`UpstreamCheck`] gives: dropped when it takes longer than a probe waits.
pub(crate) type UpstreamAnswer = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// What one port may be asked for.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// Routes of [`Class::Probe`] only: for a port that others than operators can reach.
    Probes,
    /// All routes; those of [`Class::Operator`] behind this guard.
    All(Guard),
}

#[cfg(test)]
mod tests;

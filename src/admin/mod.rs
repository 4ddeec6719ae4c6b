//! The operators' port: liveness, readiness, metrics, draining, publishing, and the lists of mode broadcast.
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
//! 1. [`routes::ROUTES`] is the one list of what there is: requests are dispatched by it, answers of 404 and 405
//!    are written from it, and the table above is tested against it.
//! 2. Every route of class [`routes::Class::Operator`] passes the port's [`Guard`], because the dispatcher asks
//!    it by class and not by route; a port of [`Access::Probes`] has no such routes at all.
//! 3. A body is only read for a route that needs one, after the guard, and with a bound ([`body`]).
//! 4. Nothing here outlasts [`serve`]: when it returns, its connections have ended.
//!
//! # Not here
//! What requests do: this folder stands below the server, which implements [`Operations`].

mod answer;
mod body;
pub(crate) mod client;
mod guard;
mod listings;
mod model;
mod publish;
mod routes;
mod server;

use std::pin::Pin;
use std::sync::Arc;

use prometheus::proto::MetricFamily;

use crate::config::Mode;
use crate::connections::lifecycle::Lifecycle;

pub(crate) use guard::Guard;
pub(crate) use model::{Channel, Publication, PublishError, Published, Subscriber};
pub(crate) use server::serve;

/// What an operator may see and do. The answer to each route of the port is made of these.
pub(crate) trait Operations: Send + Sync {
    /// Shown by `/readyz`, moved by the drain route.
    fn lifecycle(&self) -> &Lifecycle;

    /// Everything `/metrics` shows, collected anew for each request.
    fn metrics(&self) -> Vec<MetricFamily>;

    /// WebSocket clients connected now.
    fn clients(&self) -> u64;

    /// The routes by name, and what they do.
    fn routes(&self) -> Vec<(String, Mode)>;

    /// The channels of mode broadcast, in any order.
    fn channels(&self) -> Vec<Channel>;

    /// The clients of mode broadcast, in any order.
    fn subscribers(&self) -> Vec<Subscriber>;

    /// Whether the upstream can be reached; an error says in words why not. Dropped when it takes longer than a probe
    /// waits.
    fn check_upstream(self: Arc<Self>) -> BoxFuture<Result<(), String>>;

    /// Sends a message to its recipients. The future is dropped when the operator hangs up: a publish that has begun must
    /// not depend on it.
    fn publish(self: Arc<Self>, publication: Publication) -> BoxFuture<Result<Published, PublishError>>;
}

/// A future whose type is not named, so that a trait object can give it.
pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the ports for operators serve from.
#[derive(Clone)]
pub(crate) struct Admin {
    /// Those of the process.
    pub operations: Arc<dyn Operations>,
    /// Whether `/readyz` asks for the upstream too (`admin.ready_needs_upstream`).
    pub ready_needs_upstream: bool,
    /// The longest body of the broadcast route (`admin.max_publish`).
    pub max_publish: usize,
}

/// What one port may be asked for.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// Routes of [`routes::Class::Probe`] only: for a port that others than operators can reach.
    Probes,
    /// All routes; those of [`routes::Class::Operator`] behind this guard.
    All(Guard),
}

#[cfg(test)]
mod tests;

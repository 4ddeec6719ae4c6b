//! The operators' port: is it alive, is it ready, how is it doing, and: let your clients go.
//!
//! | method | path | class | what it is for |
//! | --- | --- | --- | --- |
//! | GET | `/healthz` | probe | 200 as long as the process answers |
//! | GET | `/readyz` | probe | 200 while clients should be sent here, else 503 and why |
//! | GET | `/metrics` | probe | metrics in Prometheus' text format |
//! | GET | `/api/admin/drain` | operator | how far a drain has got |
//! | POST | `/api/admin/drain` | operator | start the drain; with `?wait=true` answer when it is over |
//!
//! HEAD works where GET does. Errors are JSON, `{"error": "…"}`, and say what to do.
//!
//! # Invariants
//! 1. [`ROUTES`] is the one list of what there is: requests are dispatched by it, answers of 404 and 405
//!    are written from it, and the table above is tested against it.
//! 2. Every route of class [`Class::Operator`] passes the port's [`Guard`], because the dispatcher asks
//!    it by class and not by route; a port of [`Access::Probes`] has no such routes at all.
//! 3. Nothing here outlasts [`serve`]: when it returns, its connections have ended.
//!
//! # Not here
//! What draining does ([`Lifecycle`] is only told), and where the numbers come from: this folder stands
//! below the server and is given closures.

mod answer;
pub mod client;
mod guard;
mod routes;
mod server;

use std::pin::Pin;
use std::sync::Arc;

use prometheus::proto::MetricFamily;

use crate::telemetry::lifecycle::Lifecycle;

pub use guard::Guard;
pub use routes::{Class, ROUTES, Route};
pub use server::serve;

/// What the admin port shows and moves.
#[derive(Clone)]
pub struct Admin {
    /// Shown by `/readyz`, moved by the drain route.
    pub lifecycle: Lifecycle,
    /// Everything `/metrics` shows, collected anew for each request.
    pub gather: Arc<dyn Fn() -> Vec<MetricFamily> + Send + Sync>,
    /// WebSocket clients connected now.
    pub clients: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Asked by `/readyz` where the configuration wants that (`admin.ready_needs_upstream`).
    pub upstream_ready: Option<UpstreamCheck>,
}

/// Whether the upstream can be reached; an error says in words why not.
pub type UpstreamCheck = Arc<dyn Fn() -> UpstreamAnswer + Send + Sync>;

/// What an [`UpstreamCheck`] gives: dropped when it takes longer than a probe waits.
pub type UpstreamAnswer = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// What one port may be asked for.
#[derive(Debug, Clone)]
pub enum Access {
    /// Routes of [`Class::Probe`] only: for a port that others than operators can reach.
    Probes,
    /// All routes; those of [`Class::Operator`] behind this guard.
    All(Guard),
}

#[cfg(test)]
mod tests;

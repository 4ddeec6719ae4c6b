//! Routes: which requests they match, and what holds for these.

use std::sync::Arc;

use crate::config::model::policy::{Endpoint, Policy};
use crate::config::model::upstream::Upstream;

/// A path pattern, its mode and everything that holds for its connections.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The metric label; unique. `default` for the fallback.
    pub name: String,
    /// Which paths.
    pub path: PathPattern,
    /// Which hosts, in lower case and without a port; empty is any.
    pub hosts: Vec<String>,
    /// What becomes of its WebSockets.
    pub mode: Mode,
    /// Taken off the path before it goes upstream.
    pub strip_prefix: Option<String>,
    /// Routes with equal settings share one.
    pub upstream: Arc<Upstream>,
    /// Complete: the global policy with this route's overrides merged in.
    pub policy: Arc<Policy>,
}

impl Route {
    /// Name of the fallback; no other route has it.
    pub const DEFAULT: &str = "default";

    /// What matches where nothing else did: every path on every host.
    pub fn fallback(upstream: Arc<Upstream>, policy: Arc<Policy>) -> Self {
        Self {
            name: Self::DEFAULT.into(),
            path: PathPattern { segments: vec![Segment::Rest("rest".into())], text: "/{*rest}".into() },
            hosts: Vec::new(),
            mode: Mode::Tunnel,
            strip_prefix: None,
            upstream,
            policy,
        }
    }
}

impl Route {
    /// Whether it has this endpoint.
    pub fn has_endpoint(&self, endpoint: Endpoint) -> bool {
        let fallback = &self.policy.fallback;
        let is_on = match endpoint {
            Endpoint::Poll => fallback.poll,
            Endpoint::Send => fallback.poll && self.mode == Mode::Session,
            Endpoint::Events => fallback.sse,
            Endpoint::Replay => fallback.replay,
        };
        is_on && self.mode != Mode::Tunnel
    }
}

/// `mode` of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// 1 : 1, nothing kept.
    Tunnel,
    /// 1 : 1, and either side may drop without the other one noticing.
    Session,
    /// 1 : N, one upstream feed for all clients of a channel.
    Broadcast,
}

/// A checked path pattern: `/ws/{room}`, `/ws/{*rest}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    /// In order; matched against the path's segments.
    pub segments: Vec<Segment>,
    /// As it was written.
    pub text: String,
}

/// One piece of a [`PathPattern`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Exactly this.
    Literal(String),
    /// `{name}`: one segment, not empty.
    One(String),
    /// `{*name}`: the rest, which may be empty; always last.
    Rest(String),
}

//! What all connections of the process share, built once from the configuration.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::drain::Drain;
use super::router::{Matched, Router};
use crate::config::{self, Config, PathPattern};
use crate::telemetry::lifecycle::Lifecycle;
use crate::telemetry::{Metrics, Registry, RouteMetrics};
use crate::tunnel;
use crate::upstream::Upstream;

/// Everything a request may need.
#[derive(Debug)]
pub(super) struct State {
    pub(super) listen: config::Listen,
    pub(super) router: Router<Route>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) registry: Arc<Registry>,
    pub(super) lifecycle: Lifecycle,
    pub(super) drain: Drain,
    /// A client that takes not one byte of an HTTP answer for so long is given up.
    pub(super) stall_timeout: Option<Duration>,
    /// The upstream of requests that match no route.
    pub(super) fallback: Arc<Upstream>,
}

/// One route with all that belongs to it, resolved before the first request.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) config: config::Route,
    pub(super) metrics: Arc<RouteMetrics>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) tunnel: Arc<tunnel::Settings>,
}

impl Matched for Route {
    fn path(&self) -> &PathPattern {
        &self.config.path
    }

    fn hosts(&self) -> &[String] {
        &self.config.hosts
    }
}

impl State {
    pub(super) fn new(config: Config, metrics: Arc<Metrics>) -> Arc<Self> {
        let mut upstreams = HashMap::new();
        let mut routes: Vec<Arc<Route>> = Vec::with_capacity(config.routes.len());
        for route in config.routes {
            // Routes with equal settings share a pool and a bound on dials.
            let upstream = upstreams
                .entry(Arc::as_ptr(&route.upstream))
                .or_insert_with(|| Upstream::new(Arc::clone(&route.upstream), Arc::clone(&metrics)));
            let tunnel = tunnel::Settings {
                policy: Arc::clone(&route.policy),
                upstream_stall: route.upstream.stall_timeout,
                upstream_heartbeat: route.upstream.heartbeat,
            };
            routes.push(Arc::new(Route {
                metrics: metrics.route(&route.name),
                upstream: Arc::clone(upstream),
                tunnel: Arc::new(tunnel),
                config: route,
            }));
        }
        let Some(fallback) = routes.pop() else { unreachable!("the last route is the fallback") };
        Arc::new(Self {
            drain: Drain::new(config.drain),
            registry: Registry::new(Arc::clone(&metrics), config.log.connections),
            lifecycle: Lifecycle::new(),
            listen: config.listen,
            stall_timeout: fallback.config.policy.delivery.stall_timeout,
            fallback: Arc::clone(&fallback.upstream),
            router: Router::new(routes, fallback),
            metrics,
        })
    }
}

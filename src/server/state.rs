//! What all connections of the process share: what stays ([`State`]), and what a reload replaces as a
//! whole ([`Table`]).
//!
//! # Invariants
//! 1. A table never changes once it is made: whoever holds one sees one configuration, not two halves.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::carried::Carried;
use super::drain::Drain;
use super::router::{Matched, Router};
use super::service::{Load, Mode};
use super::session::AnswerBody;
use crate::admission::{self, Doors, Stack};
use crate::config::{self, Config, ConfigErrors, PathPattern};
use crate::telemetry::lifecycle::Lifecycle;
use crate::telemetry::{Metrics, Registry, RouteMetrics};
use crate::tunnel;
use crate::upstream::Upstream;

/// What lives as long as the process.
#[derive(Debug)]
pub(super) struct State {
    table: ArcSwap<Table>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) registry: Arc<Registry>,
    pub(super) lifecycle: Lifecycle,
    pub(super) drain: Drain,
}

/// What the configuration says, made ready for requests.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) listen: config::Listen,
    pub(super) router: Router<Route>,
    /// A client that takes not one byte of an HTTP answer for so long is given up.
    pub(super) stall_timeout: Option<Duration>,
    /// The upstream of requests that match no route.
    pub(super) fallback: Arc<Upstream>,
    /// How a drain that begins now goes.
    pub(super) drain: config::Drain,
    /// Routes with equal settings share a pool and a bound on dials.
    upstreams: Carried<Arc<config::Upstream>, Arc<Upstream>>,
}

/// One route with all that belongs to it, resolved before the first request.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) config: config::Route,
    pub(super) metrics: Arc<RouteMetrics>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) tunnel: Arc<tunnel::Settings>,
    /// What a request passes on its way to the upstream.
    pub(super) stack: Stack<Load, http::Response<AnswerBody>>,
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
    pub(super) fn new(config: Config, metrics: Arc<Metrics>) -> Result<Arc<Self>, ConfigErrors> {
        Ok(Arc::new(Self {
            drain: Drain::default(),
            registry: Registry::new(Arc::clone(&metrics), config.log.connections),
            lifecycle: Lifecycle::new(),
            table: ArcSwap::from_pointee(Table::new(config, None, &metrics)?),
            metrics,
        }))
    }

    /// Has `table` hold for whoever comes from now on.
    pub(super) fn replace(&self, table: Table) {
        self.table.store(Arc::new(table));
    }

    /// What holds for whoever comes now.
    pub(super) fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }
}

impl Table {
    /// Makes everything that `config` needs before a request comes. What `previous` has of equal settings
    /// is carried over.
    ///
    /// # Errors
    /// Something that settings name cannot be used.
    pub(super) fn new(
        config: Config,
        previous: Option<&Self>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ConfigErrors> {
        let trusted = Arc::new(config.trusted_proxies);
        let mut upstreams = Carried::after(previous.map(|previous| &previous.upstreams));
        let mut routes: Vec<Arc<Route>> = Vec::with_capacity(config.routes.len());
        for route in config.routes {
            let settings = &route.upstream;
            let Ok(upstream) = upstreams.part(settings, || {
                Ok::<_, Infallible>(Upstream::new(Arc::clone(settings), Arc::clone(metrics)))
            });
            let tunnel = tunnel::Settings {
                policy: Arc::clone(&route.policy),
                upstream_stall: route.upstream.stall_timeout,
                upstream_heartbeat: route.upstream.heartbeat,
            };
            let doors = Doors { trusted: Arc::clone(&trusted) };
            routes.push(Arc::new(Route {
                metrics: metrics.route(&route.name),
                upstream,
                tunnel: Arc::new(tunnel),
                config: route,
                stack: admission::stack(&doors, Mode),
            }));
        }
        let Some(fallback) = routes.pop() else { unreachable!("the last route is the fallback") };
        upstreams.settle();
        Ok(Self {
            listen: config.listen,
            drain: config.drain,
            upstreams,
            stall_timeout: fallback.config.policy.delivery.stall_timeout,
            fallback: Arc::clone(&fallback.upstream),
            router: Router::new(routes, fallback),
        })
    }
}

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
use super::crowd::Crowd;
use super::drain::Drain;
use super::idle::Idle;
use super::lines::Lines;
use super::refusal::Refusals;
use super::router::{self, Matched, Router};
use super::service::{self, Load};
use super::session::AnswerBody;
use crate::admission::{self, AuthError, Authenticator, Counts, Stack, StackDeps};
use crate::broadcast::{Hub, Hubs, Plan};
use crate::config::{self, Config, ConfigErrors, Mode, PathPattern, Policy, TrustedProxies};
use crate::log::Logs;
use crate::memory::Budget;
use crate::net::tls::{Acceptor, Offer, TlsError};
use crate::telemetry::lifecycle::Lifecycle;
use crate::telemetry::{CertificateKind, Metrics, Registry, RouteMetrics};
use crate::tunnel;
use crate::upstream::{Upstream, UpstreamBreaker};

/// What lives as long as the process.
#[derive(Debug)]
pub(super) struct State {
    table: ArcSwap<Table>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) registry: Arc<Registry>,
    pub(super) lifecycle: Lifecycle,
    pub(super) drain: Drain,
    pub(super) refusals: Arc<Refusals>,
    /// Who was turned away.
    pub(super) crowd: Crowd,
    /// HTTP connections that ask nothing.
    pub(super) idle: Idle,
    /// Bytes of all overflow and logs together (`memory.max_buffered`).
    pub(super) budget: Arc<Budget>,
    pub(super) logs: Arc<Logs>,
    pub(super) hubs: Arc<Hubs>,
    /// Who may write a line of the log about what clients did.
    pub(super) lines: Lines,
}

/// What the configuration says, made ready for requests.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) listen: config::Listen,
    /// Whose PROXY headers are believed.
    pub(super) trusted: Arc<TrustedProxies>,
    pub(super) router: Router<Route>,
    /// What the doors of all routes count.
    pub(super) counts: Counts,
    /// Ends TLS for clients, where they have it.
    pub(super) tls: Option<Acceptor>,
    /// A client that takes not one byte of an HTTP answer for so long is given up.
    pub(super) stall_timeout: Option<Duration>,
    /// The upstream of requests that match no route.
    pub(super) fallback: Arc<Upstream>,
    /// How a drain that begins now goes.
    pub(super) drain: config::Drain,
    /// Routes with equal settings share a pool and a bound on dials.
    upstreams: Carried<Arc<config::Upstream>, Arc<Upstream>>,
    /// Those of equal settings are one, with one set of keys.
    authenticators: Carried<config::Auth, Arc<Authenticator>>,
    /// Those of equal settings go on: a reload does not have a server that fails asked again.
    breakers: Carried<BreakerKey, Arc<UpstreamBreaker>>,
    /// Those of equal settings go on, with their channels.
    hubs: Carried<HubKey, Arc<Hub>>,
}

/// What a breaker hangs on: the route, what it asks, and how.
type BreakerKey = (String, Arc<config::Upstream>, config::Breaker);

/// What a hub hangs on: the route, what holds for its clients, and what its servers are asked.
type HubKey = (String, Arc<Policy>, Arc<config::Upstream>, Option<String>);

/// Something that settings name cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A certificate or key of either hop.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A key of `policy.auth`.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

impl From<TableError> for ConfigErrors {
    fn from(error: TableError) -> Self {
        Self::unusable("", error.to_string())
    }
}

/// One route with all that belongs to it, resolved before the first request.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) config: config::Route,
    pub(super) metrics: Arc<RouteMetrics>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) tunnel: Arc<tunnel::Settings>,
    /// Mode `broadcast`: its channels.
    pub(super) hub: Option<Arc<Hub>>,
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

    fn is_as_strict_as(&self, other: &Self) -> bool {
        router::is_as_strict(&self.config, &other.config)
    }
}

impl State {
    pub(super) fn new(config: Config, metrics: Arc<Metrics>) -> Result<Arc<Self>, TableError> {
        let (connections, requests) = (config.log.connections, config.log.requests);
        let budget = Arc::new(Budget::new(config.max_buffered));
        let lifecycle = Lifecycle::new();
        let logs = Logs::new(Arc::clone(&budget), Arc::clone(&metrics));
        let hubs = Hubs::new(
            Arc::clone(&logs),
            Arc::clone(&budget),
            Arc::clone(&metrics),
            config.listen.workers,
            lifecycle.clone(),
        );
        let table = Table::new(config, None, &metrics, &budget, &hubs)?;
        table.show(None, &metrics);
        hubs.spread_over(table.drain.spread);
        Ok(Arc::new(Self {
            drain: Drain::default(),
            crowd: Crowd::new(),
            idle: Idle::new(),
            budget,
            lines: Lines::new(requests),
            registry: Registry::new(Arc::clone(&metrics), connections),
            logs,
            hubs,
            lifecycle,
            refusals: Refusals::new(Arc::clone(&metrics)),
            table: ArcSwap::from_pointee(table),
            metrics,
        }))
    }

    /// Has `table` hold for whoever comes from now on.
    pub(super) fn replace(&self, table: Table) {
        table.show(Some(&self.table()), &self.metrics);
        self.hubs.spread_over(table.drain.spread);
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
        budget: &Arc<Budget>,
        hubs: &Hubs,
    ) -> Result<Self, TableError> {
        let offer = if config.listen.http2.is_some() { Offer::Http2 } else { Offer::Http1 };
        let earlier = previous.and_then(|previous| previous.tls.as_ref());
        let tls = config.listen.tls.as_ref().map(|tls| Acceptor::new(tls, offer, earlier)).transpose()?;
        let counts = Counts::of(&config.routes, previous.map(|previous| &previous.counts), metrics);
        let mut authenticators = Carried::after(previous.map(|previous| &previous.authenticators));
        let trusted = Arc::new(config.trusted_proxies);
        let mut upstreams = Carried::after(previous.map(|previous| &previous.upstreams));
        let mut known_hubs = Carried::after(previous.map(|previous| &previous.hubs));
        let mut breakers = Carried::after(previous.map(|previous| &previous.breakers));
        let mut routes: Vec<Arc<Route>> = Vec::with_capacity(config.routes.len());
        for route in config.routes {
            let settings = &route.upstream;
            let make = || Upstream::new(Arc::clone(settings), Arc::clone(metrics));
            let upstream = upstreams.part(settings, make)?;
            let tunnel = tunnel::Settings {
                policy: Arc::clone(&route.policy),
                upstream_stall: route.upstream.stall_timeout,
                upstream_heartbeat: route.upstream.heartbeat.in_tunnels(),
                budget: Arc::clone(budget),
            };
            let breaker = breaker(&route, &mut breakers, metrics);
            let auth = route.policy.auth.as_ref();
            let doors = StackDeps {
                trusted: Arc::clone(&trusted),
                policy: Arc::clone(&route.policy),
                rates: counts.rates(&route.policy),
                quota: counts.quota(&route.name),
                auth: auth
                    .map(|auth| {
                        let earlier = previous.into_iter().flat_map(|table| table.authenticators.parts());
                        authenticators.part(auth, || Authenticator::new(auth, earlier, metrics).map(Arc::new))
                    })
                    .transpose()?,
                breaker: breaker.clone().filter(|_| route.mode == Mode::Tunnel),
            };
            let plan = || Plan {
                route: route.name.clone(),
                strip_prefix: route.strip_prefix.clone(),
                policy: Arc::clone(&route.policy),
                upstream: Arc::clone(&upstream),
                breaker: breaker.clone(),
            };
            let hub = (route.mode == Mode::Broadcast).then(|| {
                let (policy, upstream) = (Arc::clone(&route.policy), Arc::clone(&route.upstream));
                let key = (route.name.clone(), policy, upstream, route.strip_prefix.clone());
                let Ok(hub) = known_hubs.part(&key, || Ok::<_, Infallible>(hubs.hub(plan())));
                hub
            });
            routes.push(Arc::new(Route {
                metrics: metrics.route(&route.name),
                upstream,
                tunnel: Arc::new(tunnel),
                hub,
                config: route,
                stack: admission::stack(&doors, service::Mode),
            }));
        }
        let Some(fallback) = routes.pop() else { unreachable!("the last route is the fallback") };
        upstreams.settle();
        authenticators.settle();
        known_hubs.settle();
        breakers.settle();
        Ok(Self {
            stall_timeout: fallback.config.policy.delivery.stall_timeout,
            fallback: Arc::clone(&fallback.upstream),
            router: Router::new(routes, fallback, config.listen.ambiguous_paths),
            listen: config.listen,
            drain: config.drain,
            tls,
            trusted,
            upstreams,
            counts,
            authenticators,
            hubs: known_hubs,
            breakers,
        })
    }

    /// Has the metrics tell what holds from now on: limits, and when certificates end.
    fn show(&self, previous: Option<&Self>, metrics: &Metrics) {
        let routes = self.router.routes().map(|route| &route.config);
        self.counts.report_limits(routes, previous.map(|previous| &previous.counts), metrics);
        metrics.set_certificate_expiry(CertificateKind::Listen, self.tls.as_ref().map(Acceptor::not_after));
        let shown = self.upstreams.parts().filter_map(|upstream| upstream.certificate_expiry()).min();
        metrics.set_certificate_expiry(CertificateKind::UpstreamClient, shown);
    }
}

/// The breaker of a route, if it has one.
fn breaker(
    route: &config::Route,
    known: &mut Carried<BreakerKey, Arc<UpstreamBreaker>>,
    metrics: &Metrics,
) -> Option<Arc<UpstreamBreaker>> {
    let settings = route.policy.breaker.as_ref()?;
    let key = (route.name.clone(), Arc::clone(&route.upstream), settings.clone());
    let make = || Ok::<_, Infallible>(UpstreamBreaker::new(settings, &route.upstream, &route.name, metrics));
    let Ok(breaker) = known.part(&key, make);
    Some(breaker)
}

//! What all connections of the process share: what stays ([`State`]), and what a reload replaces as a
//! whole ([`Table`]).
//!
//! # Invariants
//! 1. A table never changes once it is made: whoever holds one sees one configuration, not two halves.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::crowd::Crowd;
use super::drain::Drain;
use super::refusal::Refusals;
use super::router::{Matched, Router};
use super::service::{Load, Mode};
use super::session::AnswerBody;
use super::sparingly::Sparingly;
use crate::admission::{self, AuthError, Authenticators, Counts, Doors, Stack};
use crate::config::{self, Config, PathPattern, TrustedProxies};
use crate::net::tls::{Acceptor, Offer, TlsError};
use crate::telemetry::lifecycle::Lifecycle;
use crate::telemetry::{CertificateKind, Metrics, Registry, RouteMetrics};
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
    pub(super) refusals: Arc<Refusals>,
    /// Who was turned away.
    pub(super) crowd: Crowd,
    /// Of PROXY headers that were none.
    pub(super) proxy_warned: Sparingly,
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
    /// When the first of the certificates that upstreams are shown ends.
    certificate_expiry: Option<i64>,
    /// The upstream of requests that match no route.
    pub(super) fallback: Arc<Upstream>,
    /// One for each `policy.auth` that differs; the next table takes over those that it has too.
    pub(super) authenticators: Authenticators,
}

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
    pub(super) fn new(config: Config, metrics: Arc<Metrics>) -> Result<Arc<Self>, TableError> {
        let (drain, connections) = (config.drain, config.log.connections);
        let table = Table::new(config, &metrics, None)?;
        table.tell_expiry(&metrics);
        Ok(Arc::new(Self {
            drain: Drain::new(drain),
            crowd: Crowd::new(),
            proxy_warned: Sparingly::new(),
            registry: Registry::new(Arc::clone(&metrics), connections),
            lifecycle: Lifecycle::new(),
            refusals: Refusals::new(Arc::clone(&metrics)),
            table: ArcSwap::from_pointee(table),
            metrics,
        }))
    }

    /// What holds for whoever comes now.
    pub(super) fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }
}

impl Table {
    /// `previous`: what held until now, if anything did.
    fn new(config: Config, metrics: &Arc<Metrics>, previous: Option<&Self>) -> Result<Self, TableError> {
        let tls = config.listen.tls.as_ref().map(|tls| {
            Acceptor::new(
                tls,
                if config.listen.http2.is_some() { Offer::Http2 } else { Offer::Http1 },
                previous.and_then(|previous| previous.tls.as_ref()),
            )
        });
        let tls = tls.transpose()?;
        let trusted = Arc::new(config.trusted_proxies);
        let counts = Counts::of(&config.routes, previous.map(|previous| &previous.counts), metrics);
        let mut authenticators = Authenticators::default();
        let none = Authenticators::default();
        let earlier = previous.map_or(&none, |previous| &previous.authenticators);
        let mut upstreams = HashMap::new();
        let mut routes: Vec<Arc<Route>> = Vec::with_capacity(config.routes.len());
        for route in config.routes {
            // Routes with equal settings share a pool and a bound on dials.
            let upstream = match upstreams.entry(Arc::as_ptr(&route.upstream)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    place.insert(Upstream::new(Arc::clone(&route.upstream), Arc::clone(metrics))?)
                }
            };
            let tunnel = tunnel::Settings {
                policy: Arc::clone(&route.policy),
                upstream_stall: route.upstream.stall_timeout,
                upstream_heartbeat: route.upstream.heartbeat,
            };
            let auth = route.policy.auth.as_ref();
            let doors = Doors {
                trusted: Arc::clone(&trusted),
                policy: Arc::clone(&route.policy),
                rates: counts.rates(&route.policy.handshake_rate),
                places: counts.places(&route.name),
                auth: auth.map(|auth| authenticators.get(auth, earlier, metrics)).transpose()?,
            };
            routes.push(Arc::new(Route {
                metrics: metrics.route(&route.name),
                upstream: Arc::clone(upstream),
                tunnel: Arc::new(tunnel),
                config: route,
                stack: admission::stack(&doors, Mode),
            }));
        }
        let Some(fallback) = routes.pop() else { unreachable!("the last route is the fallback") };
        Ok(Self {
            listen: config.listen,
            tls,
            certificate_expiry: upstreams.values().filter_map(|upstream| upstream.certificate_expiry()).min(),
            trusted,
            stall_timeout: fallback.config.policy.delivery.stall_timeout,
            fallback: Arc::clone(&fallback.upstream),
            router: Router::new(routes, fallback),
            counts,
            authenticators,
        })
    }

    /// Has the metrics tell when its certificates end. For the table that is in force.
    fn tell_expiry(&self, metrics: &Metrics) {
        let listen = self.tls.as_ref().map(Acceptor::not_after);
        metrics.set_certificate_expiry(CertificateKind::Listen, listen);
        metrics.set_certificate_expiry(CertificateKind::UpstreamClient, self.certificate_expiry);
    }
}

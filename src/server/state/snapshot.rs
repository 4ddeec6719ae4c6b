//! The configuration, made ready for requests. A reload replaces it as a whole.
//!
//! # Invariants
//! 1. A snapshot never changes once it is made: whoever holds one sees one configuration, not two halves.

use std::sync::Arc;
use std::time::Duration;

use super::error::SnapshotError;
use super::route::{Route, RouteBuilder, SharedParts};
use crate::admission::Counts;
use crate::broadcast::Hubs;
use crate::config::{self, Config, TrustedProxies};
use crate::memory::Budget;
use crate::net::tls::{Acceptor, Offer};
use crate::server::router::Router;
use crate::session::Sessions;
use crate::telemetry::{CertificateKind, Metrics};
use crate::upstream::Upstream;

/// One configuration.
#[derive(Debug)]
pub(in crate::server) struct Snapshot {
    pub(in crate::server) listen: config::Listen,
    /// Whose PROXY headers are believed.
    pub(in crate::server) trusted: Arc<TrustedProxies>,
    pub(in crate::server) router: Router<Route>,
    /// The rates and quotas of all routes.
    pub(in crate::server) counts: Counts,
    /// Ends TLS for clients, where they have it.
    pub(in crate::server) tls: Option<Acceptor>,
    /// A client that takes not one byte of an HTTP answer for so long is given up.
    pub(in crate::server) stall_timeout: Option<Duration>,
    /// The upstream of requests that match no route.
    pub(in crate::server) fallback: Arc<Upstream>,
    /// The settings of a drain that begins now.
    pub(in crate::server) drain: config::Drain,
    parts: SharedParts,
}

impl Snapshot {
    /// Makes everything that `config` needs before a request comes. What `previous` has of equal settings
    /// is taken over.
    ///
    /// # Errors
    /// Something that settings name cannot be used.
    pub(in crate::server) fn new(
        config: Config,
        previous: Option<&Self>,
        metrics: &Arc<Metrics>,
        budget: &Arc<Budget>,
        (hubs, sessions): (&Hubs, &Sessions),
    ) -> Result<Self, SnapshotError> {
        let offer = if config.listen.http2.is_some() { Offer::Http2 } else { Offer::Http1 };
        let earlier = previous.and_then(|previous| previous.tls.as_ref());
        let tls = config.listen.tls.as_ref().map(|tls| Acceptor::new(tls, offer, earlier)).transpose()?;
        let counts = Counts::of(&config.routes, previous.map(|previous| &previous.counts), metrics);
        let trusted = Arc::new(config.trusted_proxies);
        let parts = previous.map(|previous| &previous.parts);
        let mut builder = RouteBuilder::new(parts, (metrics, budget), (hubs, sessions), &trusted, &counts);
        let mut routes = Vec::with_capacity(config.routes.len());
        for route in config.routes {
            routes.push(Arc::new(builder.route(route)?));
        }
        let parts = builder.finish();
        let Some(fallback) = routes.pop() else { unreachable!("the last route is the fallback") };
        Ok(Self {
            stall_timeout: fallback.config.policy.delivery.stall_timeout,
            fallback: Arc::clone(&fallback.upstream),
            router: Router::new(routes, fallback, config.listen.ambiguous_paths),
            listen: config.listen,
            drain: config.drain,
            tls,
            trusted,
            counts,
            parts,
        })
    }

    /// Sets the metrics of the snapshot that holds from now on: limits, and when certificates expire.
    pub(super) fn report(&self, previous: Option<&Self>, metrics: &Metrics) {
        let routes = self.router.routes().map(|route| &route.config);
        self.counts.report_limits(routes, previous.map(|previous| &previous.counts), metrics);
        metrics
            .process
            .set_certificate_expiry(CertificateKind::Listen, self.tls.as_ref().map(Acceptor::not_after));
        let expiry = self.parts.upstreams().filter_map(|upstream| upstream.certificate_expiry()).min();
        metrics.process.set_certificate_expiry(CertificateKind::UpstreamClient, expiry);
    }
}

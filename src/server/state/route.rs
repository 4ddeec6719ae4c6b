//! One route with all that belongs to it, resolved before the first request.

use std::sync::Arc;

use super::error::SnapshotError;
use super::reload_reuse::{Reused, Reusing};
use crate::admission::{self, Authenticator, BreakerGuard, Counts, Stack, StackDeps};
use crate::broadcast::{Hub, Hubs, Plan};
use crate::config::{self, PathPattern, Policy, TrustedProxies};
use crate::connections::LogGate;
use crate::memory::Budget;
use crate::server::router::{self, Candidate};
use crate::session::{self, Sessions};
use crate::telemetry::{Metrics, RouteMetrics};
use crate::tunnel;
use crate::upstream::headers::ForwardingConfig;
use crate::upstream::{Upstream, UpstreamBreaker};

/// A route, as requests take it.
#[derive(Debug)]
pub(in crate::server) struct Route {
    pub(in crate::server) config: config::Route,
    pub(in crate::server) metrics: Arc<RouteMetrics>,
    pub(in crate::server) upstream: Arc<Upstream>,
    /// What a request passes before its mode.
    pub(in crate::server) admission: Stack,
    pub(in crate::server) mode: Mode,
}

/// How WebSockets of a route reach its server, with all that the mode needs for it.
#[derive(Debug)]
pub(in crate::server) enum Mode {
    Tunnel {
        settings: Arc<tunnel::Settings>,
        /// Asked before each handshake.
        breaker: Option<BreakerGuard>,
    },
    Session {
        plan: Arc<session::Plan>,
        /// Asked before the first handshake of each session.
        breaker: Option<BreakerGuard>,
        /// What a handshake passes whose ticket was good for nothing after all.
        afresh: Stack,
    },
    Broadcast {
        hub: Arc<Hub>,
        /// What a request passes that was let in to go on reading a log, if its channel has another one.
        left_out: Stack,
    },
}

/// What a breaker depends on: the route, what it asks, and how.
type BreakerKey = (String, Arc<config::Upstream>, config::Breaker);

/// What a hub depends on: the route, what holds for its clients, and what its servers are asked.
type HubKey = (String, Arc<Policy>, Arc<config::Upstream>, Option<String>);

/// What a plan of sessions depends on: the route, what holds for its clients, and its server.
type PlanKey = (String, Arc<Policy>, Arc<config::Upstream>);

/// What routes share, and what the next snapshot takes over where its settings are equal.
#[derive(Debug)]
pub(super) struct SharedParts {
    /// Routes with equal settings share a pool and a bound on dials.
    upstreams: Reused<Arc<config::Upstream>, Arc<Upstream>>,
    /// Routes with equal settings share one, with its key set.
    authenticators: Reused<config::Auth, Arc<Authenticator>>,
    /// A reload keeps those with equal settings: a server that fails is not asked again.
    breakers: Reused<BreakerKey, Arc<UpstreamBreaker>>,
    /// A reload keeps those with equal settings, and their channels.
    hubs: Reused<HubKey, Arc<Hub>>,
    /// A reload keeps those with equal settings: new sessions wait for a lost server with those that are there.
    plans: Reused<PlanKey, Arc<session::Plan>>,
}

impl SharedParts {
    pub(super) fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.values()
    }
}

/// What the routes of one snapshot are made of.
pub(super) struct RouteBuilder<'a> {
    metrics: &'a Arc<Metrics>,
    budget: &'a Arc<Budget>,
    all_hubs: &'a Hubs,
    sessions: &'a Sessions,
    trusted: &'a Arc<TrustedProxies>,
    counts: &'a Counts,
    upstreams: Reusing<'a, Arc<config::Upstream>, Arc<Upstream>>,
    authenticators: Reusing<'a, config::Auth, Arc<Authenticator>>,
    breakers: Reusing<'a, BreakerKey, Arc<UpstreamBreaker>>,
    hubs: Reusing<'a, HubKey, Arc<Hub>>,
    plans: Reusing<'a, PlanKey, Arc<session::Plan>>,
}

impl<'a> RouteBuilder<'a> {
    /// `previous`: of the snapshot before.
    pub(super) fn new(
        previous: Option<&'a SharedParts>,
        (metrics, budget): (&'a Arc<Metrics>, &'a Arc<Budget>),
        (all_hubs, sessions): (&'a Hubs, &'a Sessions),
        trusted: &'a Arc<TrustedProxies>,
        counts: &'a Counts,
    ) -> Self {
        Self {
            metrics,
            budget,
            all_hubs,
            sessions,
            trusted,
            counts,
            upstreams: Reusing::after(previous.map(|previous| &previous.upstreams)),
            authenticators: Reusing::after(previous.map(|previous| &previous.authenticators)),
            breakers: Reusing::after(previous.map(|previous| &previous.breakers)),
            hubs: Reusing::after(previous.map(|previous| &previous.hubs)),
            plans: Reusing::after(previous.map(|previous| &previous.plans)),
        }
    }

    /// All routes are made.
    pub(super) fn finish(self) -> SharedParts {
        SharedParts {
            upstreams: self.upstreams.finish(),
            authenticators: self.authenticators.finish(),
            breakers: self.breakers.finish(),
            hubs: self.hubs.finish(),
            plans: self.plans.finish(),
        }
    }

    /// # Errors
    /// Something that the route's settings name cannot be used.
    pub(super) fn route(&mut self, route: config::Route) -> Result<Route, SnapshotError> {
        let make = || Upstream::new(Arc::clone(&route.upstream), Arc::clone(self.metrics));
        let upstream = self.upstreams.get_or_try_insert(&route.upstream, make)?;
        let breaker = self.breaker(&route);
        let plan = (route.mode == config::Mode::Session).then(|| self.plan(&route, &upstream));
        let hub =
            (route.mode == config::Mode::Broadcast).then(|| self.hub(&route, &upstream, breaker.clone()));
        let deps = StackDeps {
            trusted: Arc::clone(self.trusted),
            policy: Arc::clone(&route.policy),
            rates: self.counts.rates(&route.policy),
            quota: self.counts.quota(&route.name),
            auth: self.authenticator(&route)?,
            resume: plan.as_ref().and_then(|plan| plan.resume_gate()),
            logs: hub.as_ref().map(|hub| Arc::clone(hub) as Arc<dyn LogGate>),
        };
        let admission = admission::stack(&deps);
        let mode = match (plan, hub) {
            (Some(plan), _) => Mode::Session {
                plan,
                breaker: breaker.map(|breaker| BreakerGuard::new(breaker, self.counts.quota(&route.name))),
                afresh: admission::afresh(&deps),
            },
            (None, Some(hub)) => Mode::Broadcast { hub, left_out: admission::left_out(&deps) },
            (None, None) => Mode::Tunnel {
                settings: Arc::new(tunnel::Settings {
                    policy: Arc::clone(&route.policy),
                    upstream_stall: route.upstream.stall_timeout,
                    upstream_heartbeat: route.upstream.heartbeat.in_tunnels(),
                    budget: Arc::clone(self.budget),
                }),
                breaker: breaker.map(|breaker| BreakerGuard::new(breaker, self.counts.quota(&route.name))),
            },
        };
        Ok(Route { metrics: self.metrics.route(&route.name), upstream, admission, mode, config: route })
    }

    /// What authenticates the route's clients; `None`: the route does not.
    fn authenticator(&mut self, route: &config::Route) -> Result<Option<Arc<Authenticator>>, SnapshotError> {
        let Some(auth) = &route.policy.auth else { return Ok(None) };
        let earlier = self.authenticators.previous().iter().map(|(_, authenticator)| authenticator);
        let make = || Authenticator::new(auth, earlier, self.metrics).map(Arc::new);
        Ok(Some(self.authenticators.get_or_try_insert(auth, make)?))
    }

    /// The breaker of the route, if it has one.
    fn breaker(&mut self, route: &config::Route) -> Option<Arc<UpstreamBreaker>> {
        let settings = route.policy.breaker.as_ref()?;
        let key = (route.name.clone(), Arc::clone(&route.upstream), settings.clone());
        let make = || UpstreamBreaker::new(settings, &route.upstream, &route.name, self.metrics);
        Some(self.breakers.get_or_insert(&key, make))
    }

    fn plan(&mut self, route: &config::Route, upstream: &Arc<Upstream>) -> Arc<session::Plan> {
        let key = (route.name.clone(), Arc::clone(&route.policy), Arc::clone(&route.upstream));
        let make = || self.sessions.plan(&route.name, Arc::clone(&route.policy), Arc::clone(upstream));
        self.plans.get_or_insert(&key, make)
    }

    fn hub(
        &mut self,
        route: &config::Route,
        upstream: &Arc<Upstream>,
        breaker: Option<Arc<UpstreamBreaker>>,
    ) -> Arc<Hub> {
        let (policy, settings) = (Arc::clone(&route.policy), Arc::clone(&route.upstream));
        let key = (route.name.clone(), policy, settings, route.strip_prefix.clone());
        let make = || {
            self.all_hubs.hub(Plan {
                route: route.name.clone(),
                strip_prefix: route.strip_prefix.clone(),
                policy: Arc::clone(&route.policy),
                upstream: Arc::clone(upstream),
                breaker,
            })
        };
        self.hubs.get_or_insert(&key, make)
    }
}

impl Route {
    /// How the route's upstream gets the forwarding headers.
    pub(in crate::server) fn forwarding(&self) -> ForwardingConfig<'_> {
        let upstream = &self.config.upstream;
        ForwardingConfig {
            forwarded: upstream.forwarded,
            host: upstream.host_header,
            target: &upstream.target,
            strip_prefix: self.config.strip_prefix.as_deref(),
        }
    }
}

impl Candidate for Route {
    fn path(&self) -> &PathPattern {
        &self.config.path
    }

    fn hosts(&self) -> &[String] {
        &self.config.hosts
    }

    fn endpoint_prefix(&self) -> &str {
        &self.config.policy.fallback.prefix
    }

    fn has_endpoint(&self, endpoint: config::Endpoint) -> bool {
        self.config.has_endpoint(endpoint)
    }

    fn is_as_strict_as(&self, other: &Self) -> bool {
        router::is_as_strict(&self.config, &other.config)
    }
}

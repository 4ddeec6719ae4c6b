//! The layers, once, in order.

use std::sync::Arc;

use std::future::ready;

use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, service_fn};

use super::auth::{Authentication, Authenticator};
use super::check::CheckLayer;
use super::context::{RequestContext, ResumeDecision};
use super::identity::Identity;
use super::origin::OriginCheck;
use super::quota::ConnectionQuota;
use super::quota_check::QuotaCheck;
use super::rate::{RateCheck, RatesByKind};
use super::refused::Refused;
use super::resume::{LogCheck, OwnerCheck, TicketCheck};
use crate::config::{Policy, TrustedProxies};
use crate::connections::{LogGate, ResumeGate};

/// What every request of a route passes before its mode. It answers with the request, and what is known of it by then: in a box,
/// as it goes through several futures.
pub(crate) type Stack = BoxCloneSyncService<Box<RequestContext>, Box<RequestContext>, Refused>;

/// What the layers of one route ask.
#[derive(Debug)]
pub(crate) struct StackDeps {
    /// The peers whose forwarding headers are believed.
    pub trusted: Arc<TrustedProxies>,
    /// What the route's policy says.
    pub policy: Arc<Policy>,
    /// Each of all routes with the same settings.
    pub rates: RatesByKind,
    /// Of this route.
    pub quota: Arc<ConnectionQuota>,
    /// Authenticates clients; `None`: the route does not ask who they are.
    pub auth: Option<Arc<Authenticator>>,
    /// Asked about tickets; `None`: the route has none.
    pub resume: Option<Arc<dyn ResumeGate>>,
    /// Asked about channels; `None`: the route has none.
    pub logs: Option<Arc<dyn LogGate>>,
}

/// The stack of a route.
pub(crate) fn stack(deps: &StackDeps) -> Stack {
    let global = || RateCheck::Global(deps.rates.clone());
    BoxCloneSyncService::new(
        ServiceBuilder::new()
            .layer(CheckLayer::new((
                Identity::new(Arc::clone(&deps.trusted)),
                RateCheck::PerAddress(deps.rates.clone()),
                TicketCheck::new(deps.resume.clone()),
                LogCheck::new(deps.logs.clone()),
                global(),
                OriginCheck::new(Arc::clone(&deps.policy)),
                Authentication::new(deps.auth.clone(), deps.policy.http.mode),
                OwnerCheck::new(deps.resume.clone(), global()),
                RateCheck::PerUser(Arc::clone(&deps.rates.handshakes)),
                QuotaCheck::new(Arc::clone(&deps.quota), deps.policy.limits),
            )))
            .service(service_fn(|context: Box<RequestContext>| ready(Ok(context)))),
    )
}

/// What a handshake passes that was let in for its ticket ([`ResumeDecision::Granted`]) when nothing comes of that after
/// all: what was left out for it.
pub(crate) fn afresh(deps: &StackDeps) -> Stack {
    let revoke = |mut context: Box<RequestContext>| {
        if context.is_resumed() {
            context.resume = ResumeDecision::Refused(None);
        }
        context
    };
    BoxCloneSyncService::new(
        ServiceBuilder::new()
            .map_request(revoke)
            .layer(CheckLayer::new((
                RateCheck::Global(deps.rates.clone()),
                RateCheck::PerUser(Arc::clone(&deps.rates.handshakes)),
                QuotaCheck::new(Arc::clone(&deps.quota), deps.policy.limits),
            )))
            .service(service_fn(|context: Box<RequestContext>| ready(Ok(context)))),
    )
}

/// What a request passes that was let in to go on reading a log, when its channel has another one: what was left out for it.
pub(crate) fn left_out(deps: &StackDeps) -> Stack {
    let revoke = |mut context: Box<RequestContext>| {
        context.is_continued = false;
        context
    };
    BoxCloneSyncService::new(
        ServiceBuilder::new()
            .map_request(revoke)
            .layer(CheckLayer::new((
                RateCheck::Global(deps.rates.clone()),
                RateCheck::PerUser(Arc::clone(&deps.rates.handshakes)),
            )))
            .service(service_fn(|context: Box<RequestContext>| ready(Ok(context)))),
    )
}

#[cfg(test)]
mod tests;

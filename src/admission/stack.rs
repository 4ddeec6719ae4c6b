//! The layers, once, in order.

use std::sync::Arc;

use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder};

use super::gate::{Gate, Visit};
use super::global::Global;
use super::identity::Identity;
use super::origin::FromPage;
use super::per_address::PerAddress;
use super::per_user::PerUser;
use super::quota::{Places, Quota};
use super::rate::Rates;
use super::refused::Refused;
use crate::config::{Policy, TrustedProxies};

/// What every request of a route passes, ending in its mode.
pub type Stack<T, R> = BoxCloneSyncService<Visit<T>, R, Refused>;

/// What the layers of one route ask.
#[derive(Debug)]
pub struct Doors {
    /// Whose forwarding headers are believed.
    pub trusted: Arc<TrustedProxies>,
    /// What the route's policy says.
    pub policy: Arc<Policy>,
    /// Of all routes with the same settings.
    pub rates: Arc<Rates>,
    /// Of this route.
    pub places: Arc<Places>,
}

/// The stack of a route; `mode` is asked last.
pub fn stack<S, T>(doors: &Doors, mode: S) -> Stack<T, S::Response>
where
    T: Send + 'static,
    S: Service<Visit<T>, Error = Refused> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Response: 'static,
{
    BoxCloneSyncService::new(
        ServiceBuilder::new()
            .layer(Gate::new(Identity::new(Arc::clone(&doors.trusted))))
            .layer(Gate::new(PerAddress(Arc::clone(&doors.rates))))
            .layer(Gate::new(Global(Arc::clone(&doors.rates))))
            .layer(Gate::new(FromPage::new(Arc::clone(&doors.policy))))
            // authentication
            .layer(Gate::new(PerUser(Arc::clone(&doors.rates))))
            .layer(Gate::new(Quota::new(Arc::clone(&doors.places), doors.policy.limits)))
            // (upstream breaker)
            .service(mode),
    )
}

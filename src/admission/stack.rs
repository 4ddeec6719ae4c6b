//! The layers, once, in order.

use std::sync::Arc;

use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceBuilder};

use super::auth::{Authentication, Authenticator};
use super::gate::{Gate, Visit};
use super::identity::Identity;
use super::refused::Refused;
use crate::config::{HttpMode, TrustedProxies};

/// What every request of a route passes, ending in its mode.
pub type Stack<T, R> = BoxCloneSyncService<Visit<T>, R, Refused>;

/// What the layers of one route ask.
#[derive(Debug)]
pub struct Doors {
    /// Whose forwarding headers are believed.
    pub trusted: Arc<TrustedProxies>,
    /// Who knows who clients are; `None`: nobody asks.
    pub auth: Option<Arc<Authenticator>>,
    /// What plain HTTP is asked.
    pub http: HttpMode,
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
            // per address
            // global
            // origin
            .layer(Gate::new(Authentication::new(doors.auth.clone(), doors.http)))
            // per user
            // quota
            // (upstream breaker)
            .service(mode),
    )
}

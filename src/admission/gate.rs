//! A tower layer that asks one [`Check`] and then the rest of the stack.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::guest::Guest;
use super::refused::Refused;

/// One question to a guest.
pub(crate) trait Check: Send + Sync + 'static {
    /// Lets it pass, or says why not. May note in `guest` what it found out.
    ///
    /// # Errors
    /// Why the guest has to stay outside.
    fn check(&self, guest: &mut Guest) -> impl Future<Output = Result<(), Refused>> + Send;
}

/// A guest, and what the mode behind the stack needs besides: no layer looks at that.
#[derive(Debug)]
pub(crate) struct Visit<T> {
    /// Who asks, and for what.
    pub guest: Guest,
    /// The rest of the request.
    pub load: T,
}

/// The layer of a check.
#[derive(Debug)]
pub(crate) struct Gate<C>(Arc<C>);

impl<C> Gate<C> {
    /// Shared by all requests of a route.
    pub(crate) fn new(check: C) -> Self {
        Self(Arc::new(check))
    }
}

impl<C> Clone for Gate<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C, S> Layer<S> for Gate<C> {
    type Service = Gated<C, S>;

    fn layer(&self, inner: S) -> Gated<C, S> {
        Gated { check: Arc::clone(&self.0), inner }
    }
}

/// A service behind a check.
#[derive(Debug)]
pub(crate) struct Gated<C, S> {
    check: Arc<C>,
    inner: S,
}

impl<C, S: Clone> Clone for Gated<C, S> {
    fn clone(&self) -> Self {
        Self { check: Arc::clone(&self.check), inner: self.inner.clone() }
    }
}

impl<C, S, T> Service<Visit<T>> for Gated<C, S>
where
    C: Check,
    T: Send + 'static,
    S: Service<Visit<T>, Error = Refused> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Refused>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut visit: Visit<T>) -> Self::Future {
        let check = Arc::clone(&self.check);
        // The one that was asked whether it is ready goes; a fresh one stays.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(async move {
            check.check(&mut visit.guest).await?;
            inner.call(visit).await
        })
    }
}

//! A tower layer that runs one [`Check`] and then the rest of the stack. The last service returns the context with all that
//! the checks have found out about the request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::context::RequestContext;
use super::refused::Refused;

/// One check of a request, before its mode.
pub(crate) trait Check: Send + Sync + 'static {
    /// Admits or refuses the request. May write into `context` what it found out.
    ///
    /// # Errors
    /// Why the request is refused.
    fn check(&self, context: &mut RequestContext) -> impl Future<Output = Result<(), Refused>> + Send;
}

/// The layer of a check.
#[derive(Debug)]
pub(crate) struct CheckLayer<C>(Arc<C>);

impl<C> CheckLayer<C> {
    /// Shared by all requests of a route.
    pub(crate) fn new(check: C) -> Self {
        Self(Arc::new(check))
    }
}

impl<C> Clone for CheckLayer<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C, S> Layer<S> for CheckLayer<C> {
    type Service = CheckService<C, S>;

    fn layer(&self, inner: S) -> CheckService<C, S> {
        CheckService { check: Arc::clone(&self.0), inner }
    }
}

/// A service behind a check.
#[derive(Debug)]
pub(crate) struct CheckService<C, S> {
    check: Arc<C>,
    inner: S,
}

impl<C, S: Clone> Clone for CheckService<C, S> {
    fn clone(&self) -> Self {
        Self { check: Arc::clone(&self.check), inner: self.inner.clone() }
    }
}

impl<C, S> Service<RequestContext> for CheckService<C, S>
where
    C: Check,
    S: Service<RequestContext, Error = Refused> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Refused>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut context: RequestContext) -> Self::Future {
        let check = Arc::clone(&self.check);
        // The service that was polled ready is used; a clone takes its place.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(async move {
            check.check(&mut context).await?;
            inner.call(context).await
        })
    }
}

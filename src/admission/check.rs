//! A tower layer that asks one [`Check`] and then the rest of the stack. A request that passes the last of them comes
//! out as it is by then: with what the checks have found out about it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::context::RequestContext;
use super::refused::Refused;

/// One question to a request, asked before its mode.
pub(crate) trait Check: Send + Sync + 'static {
    /// Lets it pass, or says why not. May note in `context` what it found out.
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
        // The one that was asked whether it is ready goes; a fresh one stays.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(async move {
            check.check(&mut context).await?;
            inner.call(context).await
        })
    }
}

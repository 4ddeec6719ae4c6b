//! A tower layer that runs one [`Check`] and then the rest of the stack. The last service returns the context with all
//! that the checks have found out about the request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{Layer, Service, ServiceExt};

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

/// Several checks are one, which asks them in their order until one refuses: so a layer of them takes one future, however
/// many they are.
macro_rules! in_order {
    ($($check:ident),+) => {
        impl<$($check: Check),+> Check for ($($check,)+) {
            #[allow(non_snake_case, reason = "each check is named as its type is")]
            async fn check(&self, context: &mut RequestContext) -> Result<(), Refused> {
                let ($($check,)+) = self;
                $($check.check(context).await?;)+
                Ok(())
            }
        }
    };
}

in_order!(A, B);
in_order!(A, B, C);
in_order!(A, B, C, D, E, F, G, H, I, J);

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
        CheckService(Arc::new(Checked { check: Arc::clone(&self.0), inner }))
    }
}

/// A service behind a check.
#[derive(Debug)]
pub(crate) struct CheckService<C, S>(Arc<Checked<C, S>>);

/// Shared by the clones of a service: each request has one of its own, which costs a count whatever stands behind it.
#[derive(Debug)]
struct Checked<C, S> {
    check: Arc<C>,
    inner: S,
}

impl<C, S> Clone for CheckService<C, S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C, S> Service<Box<RequestContext>> for CheckService<C, S>
where
    C: Check,
    S: Service<Box<RequestContext>, Error = Refused> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Refused>> + Send>>;

    /// A check is always ready; what stands behind it is asked when it has passed.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut context: Box<RequestContext>) -> Self::Future {
        let checked = Arc::clone(&self.0);
        Box::pin(async move {
            checked.check.check(&mut context).await?;
            checked.inner.clone().oneshot(context).await
        })
    }
}

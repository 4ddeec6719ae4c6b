//! The body of a client's request: what hyper reads of it, or none where no hyper has read its head ([`super::head::plain`]).

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// The body of a client's request.
#[derive(Debug)]
pub(crate) struct ClientBody(Option<Incoming>);

impl ClientBody {
    /// Of a request that has none.
    pub(crate) fn none() -> Self {
        Self(None)
    }
}

impl From<Incoming> for ClientBody {
    fn from(body: Incoming) -> Self {
        Self(Some(body))
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().0 {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

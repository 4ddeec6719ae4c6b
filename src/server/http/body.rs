//! The body of an answer, ours or the upstream's.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use super::connection::HttpConnection;
use crate::net::head::until_close;
use crate::server::access::Access;
use crate::server::limits::gauge::GaugeGuard;

/// The body of an answer; its drop tells the connection's timeouts that it was handed over.
#[derive(Debug)]
pub(in crate::server) struct AnswerBody {
    inner: Inner,
    connection: Arc<HttpConnection>,
    in_flight: Option<GaugeGuard>,
    access: Option<Box<Access>>,
}

#[derive(Debug)]
enum Inner {
    Own(Full<Bytes>),
    Upstream(Incoming),
    /// Written by who takes the socket. Whoever drives the connection finds it, and never gives it to hyper.
    Stream,
}

impl AnswerBody {
    pub(in crate::server) fn own(body: Full<Bytes>, connection: &Arc<HttpConnection>) -> Self {
        Self::of(Inner::Own(body), connection)
    }

    pub(in crate::server) fn upstream(body: Incoming, connection: &Arc<HttpConnection>) -> Self {
        Self::of(Inner::Upstream(body), connection)
    }

    fn of(inner: Inner, connection: &Arc<HttpConnection>) -> Self {
        Self { inner, connection: Arc::clone(connection), in_flight: None, access: None }
    }
}

/// A 200 whose body is written by whoever takes the socket of the request, which has to be a GET: the
/// [`PendingUpgrade`](super::upgrade::PendingUpgrade) that is set beside it. Also answers what that is to write first:
/// over HTTP/1.1 the head, over HTTP/2 nothing. A body that the request has is not read as one.
pub(in crate::server) fn stream_answer(
    connection: &Arc<HttpConnection>,
    head: Response<()>,
) -> (Response<AnswerBody>, Bytes) {
    let written = if connection.is_http2_stream() { Bytes::new() } else { until_close::head(&head) };
    (head.map(|()| AnswerBody::of(Inner::Stream, connection)), written)
}

impl AnswerBody {
    /// Whether the socket is to be handed over in place of a body.
    pub(in crate::server) fn is_stream(&self) -> bool {
        matches!(self.inner, Inner::Stream)
    }

    /// Has an answer of our own to a HEAD over HTTP/2 end with its head; answers the length that the body would have. Over
    /// HTTP/1.1 hyper does it.
    pub(in crate::server) fn leave_out(&mut self) -> Option<u64> {
        let Inner::Own(body) = &mut self.inner else { return None };
        let length = body.size_hint().exact();
        *body = Full::default();
        length
    }

    /// Counts the request as in flight until the last byte of its answer was handed over.
    pub(in crate::server) fn hold_in_flight(&mut self, in_flight: GaugeGuard) {
        self.in_flight = Some(in_flight);
    }

    /// Has the access log write its line when the last byte of the answer was handed over.
    pub(in crate::server) fn set_access(&mut self, access: Option<Box<Access>>) {
        self.access = access;
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let polled = match &mut this.inner {
            Inner::Own(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|e| match e {})))
            }
            Inner::Upstream(body) => Pin::new(body).poll_frame(cx),
            Inner::Stream => Poll::Ready(None),
        };
        if let (Some(access), Poll::Ready(Some(frame))) = (&mut this.access, &polled) {
            match frame {
                Ok(frame) => access.sent(frame.data_ref().map_or(0, Bytes::len)),
                Err(_) => access.broken(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Own(body) => body.is_end_stream(),
            Inner::Upstream(body) => body.is_end_stream(),
            Inner::Stream => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Own(body) => body.size_hint(),
            Inner::Upstream(body) => body.size_hint(),
            Inner::Stream => SizeHint::default(),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.connection.timeouts().on_answered();
    }
}

//! The body of an answer, ours or the upstream's.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use super::connection::HttpConnection;
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
}

impl AnswerBody {
    pub(in crate::server) fn own(body: Full<Bytes>, connection: &Arc<HttpConnection>) -> Self {
        Self { inner: Inner::Own(body), connection: Arc::clone(connection), in_flight: None, access: None }
    }

    pub(in crate::server) fn upstream(body: Incoming, connection: &Arc<HttpConnection>) -> Self {
        Self {
            inner: Inner::Upstream(body),
            connection: Arc::clone(connection),
            in_flight: None,
            access: None,
        }
    }
}

impl AnswerBody {
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
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Own(body) => body.size_hint(),
            Inner::Upstream(body) => body.size_hint(),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.connection.timeouts().on_answered();
    }
}

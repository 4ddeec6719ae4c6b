//! The queues of a channel's task: what operators publish, and what clients send to the server.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::super::channel::PublishRequest;
use super::super::feed::Feed;
use crate::frame::Kind;
use crate::telemetry::FeedMetrics;
use crate::upstream::Uplink;

/// Messages of clients that are taken in one poll: as many as the queue holds. Otherwise, if it is filled while it is
/// emptied, the link would not be read, because of the runtime's budget for tasks if for no other reason.
const INBOUND_TURN: usize = 64;
/// The same for messages of operators.
const PUBLISH_TURN: usize = 16;

/// The queues of one channel.
#[derive(Debug)]
pub(in crate::broadcast) struct Inbox {
    publish_requests: mpsc::Receiver<PublishRequest>,
    /// Messages of clients, if they go to the server.
    inbound: Option<mpsc::Receiver<(Kind, Bytes)>>,
    metrics: Arc<FeedMetrics>,
}

impl Inbox {
    pub(in crate::broadcast) fn new(
        publish_requests: mpsc::Receiver<PublishRequest>,
        inbound: Option<mpsc::Receiver<(Kind, Bytes)>>,
        metrics: Arc<FeedMetrics>,
    ) -> Self {
        Self { publish_requests, inbound, metrics }
    }

    /// Publishes what operators have asked for.
    pub(super) fn poll_publish(&mut self, cx: &mut Context<'_>, feed: &mut Feed) {
        for taken in 1..=PUBLISH_TURN {
            let Poll::Ready(Some(request)) = self.publish_requests.poll_recv(cx) else { break };
            feed.publish(request);
            if taken == PUBLISH_TURN {
                cx.waker().wake_by_ref();
            }
        }
    }

    /// Sends messages of clients to the server. Without a link they are lost, as they would be without the proxy.
    pub(super) fn poll_inbound(&mut self, cx: &mut Context<'_>, mut uplink: Option<&mut Uplink>) {
        let Some(inbound) = &mut self.inbound else { return };
        let mut has_sent = false;
        for taken in 1..=INBOUND_TURN {
            let Poll::Ready(Some((kind, payload))) = inbound.poll_recv(cx) else { break };
            if taken == INBOUND_TURN {
                cx.waker().wake_by_ref();
            }
            if uplink.as_mut().is_some_and(|uplink| uplink.send(kind, &payload)) {
                has_sent = true;
                self.metrics.uplink_forwarded.inc();
            } else {
                self.metrics.uplink_dropped.inc();
            }
        }
        if let Some(uplink) = uplink.filter(|_| has_sent) {
            uplink.flush(cx);
        }
    }

    /// Nothing is taken from here on: what waits is dropped, and publish requests fail.
    pub(super) fn close(&mut self) {
        self.publish_requests.close();
        while self.publish_requests.try_recv().is_ok() {}
        if let Some(mut inbound) = self.inbound.take() {
            inbound.close();
            while inbound.try_recv().is_ok() {
                self.metrics.uplink_dropped.inc();
            }
        }
    }
}

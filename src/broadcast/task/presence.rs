//! Whether a channel still has members: it stays without them for `broadcast.linger`, unless the process drains.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::time::{Sleep, sleep_until};

use super::super::channel::Channel;
use super::super::state::HubState;
use crate::connections::lifecycle::{self, Lifecycle};

pub(super) struct Presence {
    draining: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_draining: bool,
    linger: Option<Pin<Box<Sleep>>>,
}

impl Presence {
    pub(super) fn new(lifecycle: Lifecycle) -> Self {
        Self {
            draining: Box::pin(async move { lifecycle.until(lifecycle::State::Draining).await }),
            is_draining: false,
            linger: None,
        }
    }

    /// Whether the process drains, as of the last poll.
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Ready when the channel has no members and cannot get any: it has left its hub then.
    pub(super) fn poll_idle(
        &mut self,
        cx: &mut Context<'_>,
        hub: &HubState,
        channel: &Arc<Channel>,
    ) -> Poll<()> {
        if !self.is_draining {
            self.is_draining = self.draining.as_mut().poll(cx).is_ready();
        }
        loop {
            let Some(since) = channel.empty_since(cx.waker()) else {
                self.linger = None;
                return Poll::Pending;
            };
            if !self.is_draining {
                let until = since + hub.plan.policy.broadcast.linger;
                let timer = self.linger.get_or_insert_with(|| Box::pin(sleep_until(until)));
                if timer.deadline() != until {
                    timer.as_mut().reset(until);
                }
                ready!(timer.as_mut().poll(cx));
            }
            if hub.forget_if_empty(channel, since) {
                return Poll::Ready(());
            }
        }
    }
}

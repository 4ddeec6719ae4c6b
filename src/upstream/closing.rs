//! A link whose end is known, while its close handshake runs beside what follows.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::Uplink;
use crate::memory::{Budget, Share};

/// A link that holds no more than this ends in order, however much the process holds.
const SMALL: usize = 64 * 1024;

/// The link before the present one, whose socket is not done with yet.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    /// Boxed: nearly always there is none.
    link: Option<Box<Link>>,
}

#[derive(Debug)]
struct Link {
    uplink: Uplink,
    /// What it holds of the memory of the process.
    share: Share,
    budget: Arc<Budget>,
}

impl Link {
    /// Whether it is dropped as it is, since it holds much and the process too much: most of that is a message which nobody
    /// gets.
    fn is_too_much(&self) -> bool {
        self.share.held() > SMALL && self.budget.is_over()
    }
}

impl Closing {
    /// No message will come over this link any more. An earlier link whose close handshake still runs is dropped, so that
    /// links do not pile up at a server that ends none of them.
    pub(crate) fn replace(&mut self, uplink: Uplink, budget: &Arc<Budget>) {
        let mut share = budget.share();
        share.set(uplink.buffered());
        let link = Link { uplink, share, budget: Arc::clone(budget) };
        self.link = (!link.is_too_much()).then(|| Box::new(link));
    }

    /// Ready when no such link is left.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(link) = &mut self.link {
            let rest = link.uplink.poll_rest(cx);
            link.share.set(link.uplink.buffered());
            if !link.is_too_much() {
                ready!(rest);
            }
        }
        self.link = None;
        Poll::Ready(())
    }
}

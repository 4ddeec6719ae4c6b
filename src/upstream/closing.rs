//! A link whose end is known, while its close handshake runs beside what follows.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::Uplink;
use crate::memory::{Budget, Share};

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
}

impl Closing {
    /// No message will come over this link any more. An earlier link whose close handshake still runs is dropped, so that
    /// links do not pile up at a server that ends none of them.
    pub(crate) fn replace(&mut self, uplink: Uplink, budget: &Arc<Budget>) {
        let mut share = budget.share();
        share.set(uplink.buffered());
        self.link = Some(Box::new(Link { uplink, share }));
    }

    /// Ready when no such link is left.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(link) = &mut self.link {
            ready!(link.uplink.poll_rest(cx));
            link.share.set(0);
        }
        self.link = None;
        Poll::Ready(())
    }
}

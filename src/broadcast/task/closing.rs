//! A link whose end is known, while its close handshake runs beside what follows.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::memory::{Budget, Share};
use crate::upstream::Uplink;

/// The link before the present one, whose socket is not done with yet.
#[derive(Default)]
pub(super) struct Closing {
    link: Option<Link>,
}

struct Link {
    uplink: Uplink,
    /// What it holds of the memory of the process.
    share: Share,
}

impl Closing {
    /// Nothing more comes over this link. One before it whose close handshake still runs is cut, so that a server which
    /// ends none of them does not collect them.
    pub(super) fn replace(&mut self, uplink: Uplink, budget: &Arc<Budget>) {
        let mut share = budget.share();
        share.set(uplink.buffered());
        self.link = Some(Link { uplink, share });
    }

    /// Ready when no such link is left.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(link) = &mut self.link {
            ready!(link.uplink.poll_rest(cx));
            link.share.set(0);
        }
        self.link = None;
        Poll::Ready(())
    }
}

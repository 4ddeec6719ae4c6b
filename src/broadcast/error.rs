//! Why a client cannot join a channel.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;

use super::key::MAX_NAME;
use crate::upstream::UpstreamError;

/// Why a client cannot join a channel. All clients that waited for the same dial get the same error.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum JoinError {
    /// The name is longer than any that is of use.
    #[error("the name of its channel would be longer than {MAX_NAME} bytes")]
    NameTooLong,
    /// `broadcast.max_channels`
    #[error("there are as many channels as there may be (policy.broadcast.max_channels)")]
    Full,
    /// The server keeps failing: it is not asked before this has passed.
    #[error("the server keeps failing; it is asked again in {0:?}")]
    BreakerOpen(Duration),
    /// The server could not be reached, or did not answer as it has to.
    #[error(transparent)]
    Upstream(Arc<UpstreamError>),
    /// The server answered with something else than a 101: every client gets this.
    #[error("the server refused: {}", .0.status())]
    Declined(Box<Response<Bytes>>),
}

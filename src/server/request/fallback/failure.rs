//! Why a request to an endpoint is not answered with messages.

use bytes::Bytes;
use http::Response;

use crate::admission::Refused;
use crate::server::fallback::EndpointError;
use crate::server::request::feeds::NotJoined;

/// Why a request has no answer of its endpoint.
pub(super) enum Failure {
    Refused(Refused),
    Endpoint(EndpointError),
    /// The server's own answer to the handshake.
    Declined(Box<Response<Bytes>>),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<NotJoined> for Failure {
    fn from(why: NotJoined) -> Self {
        match why {
            NotJoined::Refused(refused) => Self::Refused(refused),
            NotJoined::Declined(answer) => Self::Declined(answer),
        }
    }
}

impl From<EndpointError> for Failure {
    fn from(error: EndpointError) -> Self {
        Self::Endpoint(error)
    }
}

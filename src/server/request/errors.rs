//! Requests that are refused before a route is looked for: their heads are malformed or ambiguous, did not come in time, or
//! are too large. Each is counted, and logged with its cause and its peer.
//!
//! # Invariants
//! 1. The log shows no byte of the request but the one character that a target must not have: targets and headers carry
//!    credentials.
//!
//! # Not here
//! What a valid head is ([`crate::net::head`]); how often lines are written (`server::lines`). Connections that are
//! refused before a request (`server::accept`, `connection::proxy_header`), and requests that a route's layers refuse
//! ([`super::serve`]). Streams of HTTP/2 that break its own rules: h2 resets them without telling.

use http::Request;

use crate::admission::Refused;
use crate::net::Peer;
use crate::net::head::{self, Character, FramingFault, HeadFault};
use crate::server::state::State;
use crate::telemetry::RequestError;

/// The request, with one `Host` and one framing. A refusal is counted and logged here.
///
/// # Errors
/// [`Refused::Head`]: its head could be read in two ways.
pub(in crate::server) fn check<B>(
    state: &State,
    peer: &Peer,
    request: Request<B>,
) -> Result<Request<B>, Refused> {
    let (mut head, body) = request.into_parts();
    match head::check_request(&mut head) {
        Ok(()) => Ok(Request::from_parts(head, body)),
        Err(fault) => {
            let refused = Refused::from(fault);
            record(state, peer, &refused);
            Err(refused)
        }
    }
}

/// Counts and logs a refusal.
pub(in crate::server) fn record(state: &State, peer: &Peer, refused: &Refused) {
    let Some(reason) = reason(refused) else { return };
    state.metrics.server.request_errors.inc(reason);
    state.lines.refused_unrouted(reason, refused, peer);
}

/// The label that it is counted by; `None`: it is a refusal of another kind.
fn reason(refused: &Refused) -> Option<RequestError> {
    let reason = match refused {
        Refused::Head(fault) => match fault {
            HeadFault::NoHost
            | HeadFault::SeveralHosts
            | HeadFault::EmptyHost
            | HeadFault::BadHost
            | HeadFault::BadAuthority => RequestError::Host,
            HeadFault::TargetForm | HeadFault::Character(_) | HeadFault::Target => RequestError::Target,
            HeadFault::Framing(_) => RequestError::Framing,
            HeadFault::Syntax => RequestError::Syntax,
            HeadFault::Http2 => RequestError::Version,
        },
        Refused::HeadTooLarge | Refused::TargetTooLong => RequestError::TooLarge,
        Refused::TooSlow => RequestError::Timeout,
        Refused::Plaintext => RequestError::Plaintext,
        _ => return None,
    };
    Some(reason)
}

/// Why hyper itself refused a request: `status` is what it would have answered, `error` its error, and `character` the one
/// that the target must not have had.
///
/// hyper drops a head whose target or framing it refuses, and names the kind only in the text of its error. A text that is
/// not among these becomes [`HeadFault::Syntax`], so that another text of a later hyper costs an explanation and nothing
/// else.
pub(in crate::server) fn explain(
    status: u16,
    error: Option<&hyper::Error>,
    character: Option<Character>,
) -> Refused {
    match status {
        414 => return Refused::TargetTooLong,
        431 => return Refused::HeadTooLarge,
        _ => {}
    }
    let message = error.map(hyper::Error::to_string).unwrap_or_default();
    let fault = if message.contains("URI") {
        character.map_or(HeadFault::Target, HeadFault::Character)
    } else if message.contains("content-length") {
        FramingFault::Length.into()
    } else if message.contains("unexpected transfer-encoding") {
        FramingFault::CodingVersion.into()
    } else if message.contains("transfer-encoding") {
        FramingFault::Coding.into()
    } else {
        HeadFault::Syntax
    };
    fault.into()
}

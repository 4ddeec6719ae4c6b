//! Requests that are refused before a route is looked for: their heads mean nothing, or more than one thing, did not
//! come in time, or are too large. Each is counted, and told in the log with its cause and its peer.
//!
//! # Invariants
//! 1. What is told shows no byte of the request but the one character that a target must not have: targets and headers
//!    carry credentials.
//!
//! # Not here
//! What a head may say ([`crate::net::head`]); how often the log tells of it (`server::lines`). Connections that are
//! turned away before a request (`server::accept`, `connection::proxy_header`), and requests that a route's layers refuse
//! ([`super::serve`]). Streams of HTTP/2 that break its own rules: its library resets them and tells nobody.

use http::Request;

use crate::admission::Refused;
use crate::net::Peer;
use crate::net::head::{self, Character, FramingFault, HeadFault};
use crate::server::state::State;
use crate::telemetry::RequestError;

/// The request, with one `Host` and one framing, or why it is refused; that is counted and told then.
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
            note(state, peer, &refused);
            Err(refused)
        }
    }
}

/// Counts a refusal, and tells it in the log.
pub(in crate::server) fn note(state: &State, peer: &Peer, refused: &Refused) {
    let Some(reason) = reason(refused) else { return };
    state.metrics.server.request_errors.inc(reason);
    state.lines.refused_unrouted(reason, refused, peer);
}

/// How it is counted; `None`: it is no refusal of this kind.
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

/// What hyper refused by itself: `status` is what it would have answered, `error` what it says, and `character` what
/// stood in the target that must not be there.
///
/// hyper lets go of a head whose target or framing it refuses, and names the kind in its words only. A kind that is not
/// among these is told as [`HeadFault::Syntax`], so that other words of a later hyper cost an explanation and nothing
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
    let said = error.map(hyper::Error::to_string).unwrap_or_default();
    let fault = if said.contains("URI") {
        character.map_or(HeadFault::Target, HeadFault::Character)
    } else if said.contains("content-length") {
        FramingFault::Length.into()
    } else if said.contains("unexpected transfer-encoding") {
        FramingFault::CodingVersion.into()
    } else if said.contains("transfer-encoding") {
        FramingFault::Coding.into()
    } else {
        HeadFault::Syntax
    };
    fault.into()
}

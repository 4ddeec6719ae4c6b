//! What a request to an endpoint asks: the handshake of the WebSocket that its client would have, and what else it says. Pure.
//!
//! # Invariants
//! 1. Nothing of ours is left in the head: neither parameters nor the ticket.

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use super::parameters::{self, BadParameter, Parameters};
use crate::admission::{FallbackUse, Ticket};
use crate::config::Endpoint;
use crate::net::http::X_OUTRIGGER_SESSION;
use crate::net::own_protocols::{TICKET_LENGTH, TicketText};
use crate::net::position::Position;

/// Where a client goes on, as an `EventSource` says it.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Headers of a request for an answer, which no handshake has: what is told of the one must not be told of the other.
const NOT_OF_HANDSHAKES: [HeaderName; 10] = [
    header::ACCEPT,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_KEY,
];

/// What a request to an endpoint says.
#[derive(Debug)]
pub(in crate::server) struct Asked {
    pub(in crate::server) endpoint: Endpoint,
    pub(in crate::server) method: Method,
    /// What it takes, as admission counts it.
    pub(in crate::server) takes: FallbackUse,
    /// `Err`: it is answered so, once it was admitted.
    pub(in crate::server) parameters: Result<Parameters, BadParameter>,
    /// The ticket of its session: of `Last-Event-ID`, which is the newest that an `EventSource` was given, though its URL
    /// and its headers stay as they were; else of the header or the query.
    pub(in crate::server) ticket: Ticket,
    /// `afterSequence`
    after: Option<Position>,
    /// `Last-Event-ID`, which comes before that.
    last_event_id: Option<LastEventId>,
    /// Whether the body is one binary message, and other things that its type says.
    pub(in crate::server) content_type: Option<HeaderValue>,
}

impl Asked {
    /// Takes what is ours out of `head`, which is that of the WebSocket's handshake from here on. `path`: the WebSocket's.
    pub(in crate::server) fn take(head: &mut Parts, endpoint: Endpoint, path: &str) -> Self {
        let (rest, parameters) = parameters::read(head.uri.query().unwrap_or_default(), endpoint);
        head.uri = uri_of(&head.uri, path, &rest);
        let is_preflight = head.method == Method::OPTIONS
            && head.headers.contains_key(header::ORIGIN)
            && head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let takes = match endpoint {
            _ if is_preflight => FallbackUse::Preflight,
            Endpoint::Poll | Endpoint::Events if head.method == Method::GET => FallbackUse::Place,
            _ => FallbackUse::Answer,
        };
        let last_event_id = last_event_id(&mut head.headers).filter(|_| endpoint == Endpoint::Events);
        let read = parameters.as_ref().ok();
        let header = ticket_header(&mut head.headers);
        let ticket = match (last_event_id.and_then(|id| id.ticket), header, read.and_then(|read| read.ticket))
        {
            (_, Ticket::Malformed, _) => Ticket::Malformed,
            (_, Ticket::Read(ticket), Some(other)) if ticket != other => Ticket::Malformed,
            (Some(ticket), ..) | (None, Ticket::Missing, Some(ticket)) => Ticket::Read(ticket),
            (None, header, _) => header,
        };
        let after = read.and_then(|read| read.after);
        let content_type = head.headers.get(header::CONTENT_TYPE).cloned();
        let protocols = read.and_then(|read| read.protocols.clone());
        let method = head.method.clone();
        as_handshake(&mut head.headers, protocols);
        let parameters = if matches!(ticket, Ticket::Malformed) {
            Err(parameters.err().unwrap_or(BadParameter::Ticket))
        } else {
            parameters
        };
        Self { endpoint, method, takes, parameters, ticket, after, last_event_id, content_type }
    }
}

impl Asked {
    /// Where the client goes on in a feed's log. An id of a session's is a number of another log.
    pub(in crate::server) fn position_in_feed(&self) -> Option<Position> {
        match self.last_event_id {
            Some(LastEventId { ticket: Some(_), .. }) => Some(Position::Unknown),
            Some(LastEventId { ticket: None, position }) => Some(position),
            None => self.after,
        }
    }

    /// The same in a session's.
    pub(in crate::server) fn position_in_session(&self) -> Option<Position> {
        match self.last_event_id {
            Some(LastEventId { ticket: Some(_), position }) => Some(position),
            Some(LastEventId { ticket: None, .. }) => Some(Position::Unknown),
            None => self.after,
        }
    }

    /// The log that the client says it has read, of a feed.
    pub(in crate::server) fn epoch(&self) -> Option<u64> {
        let from = self.parameters.as_ref().ok().and_then(|read| read.from);
        [self.position_in_feed(), from].into_iter().flatten().find_map(|position| match position {
            Position::Of { epoch, .. } => Some(epoch),
            Position::Number(_) | Position::Unknown => None,
        })
    }
}

/// The same place, with this path and query.
fn uri_of(uri: &Uri, path: &str, query: &str) -> Uri {
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let mut parts = uri.clone().into_parts();
    // Both are parts of what was a target already.
    parts.path_and_query = target.parse::<PathAndQuery>().ok();
    Uri::from_parts(parts).unwrap_or_default()
}

/// Has the head say what the client's handshake would.
fn as_handshake(headers: &mut HeaderMap, protocols: Option<HeaderValue>) {
    for name in NOT_OF_HANDSHAKES {
        headers.remove(name);
    }
    match protocols {
        Some(protocols) => headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols),
        None => headers.remove(header::SEC_WEBSOCKET_PROTOCOL),
    };
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    // Beside what it names of the client's hop: that is not to go on either.
    headers.append(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
}

fn ticket_header(headers: &mut HeaderMap) -> Ticket {
    let mut lines = headers.get_all(X_OUTRIGGER_SESSION).iter();
    let ticket = match (lines.next(), lines.next()) {
        (None, _) => Ticket::Missing,
        (Some(line), None) => TicketText::read(line.as_bytes()).map_or(Ticket::Malformed, Ticket::Read),
        (Some(_), Some(_)) => Ticket::Malformed,
    };
    headers.remove(X_OUTRIGGER_SESSION);
    ticket
}

/// What `Last-Event-ID` says.
#[derive(Debug, Clone, Copy)]
struct LastEventId {
    ticket: Option<TicketText>,
    position: Position,
}

/// An id of ours is `TICKET.NUMBER` or `EPOCH.NUMBER`; whatever else it is, the client had something that nobody knows.
fn last_event_id(headers: &mut HeaderMap) -> Option<LastEventId> {
    let mut lines = headers.get_all(&LAST_EVENT_ID).iter();
    let (line, further) = (lines.next()?.as_bytes().to_owned(), lines.next().is_some());
    headers.remove(&LAST_EVENT_ID);
    if line.is_empty() {
        return None;
    }
    let text = std::str::from_utf8(&line).ok().filter(|_| !further);
    let of_session = text.and_then(|text| {
        let (ticket, number) = text.split_at_checked(TICKET_LENGTH)?;
        let Position::Number(number) = Position::read(number.strip_prefix('.')?)? else { return None };
        let ticket = Some(TicketText::read(ticket.as_bytes())?);
        Some(LastEventId { ticket, position: Position::Number(number) })
    });
    let of_feed = || match text.and_then(Position::read) {
        Some(position @ Position::Of { .. }) => position,
        // A number alone may be of any log.
        _ => Position::Unknown,
    };
    Some(of_session.unwrap_or_else(|| LastEventId { ticket: None, position: of_feed() }))
}

#[cfg(test)]
mod tests;

//! The query of a request to an endpoint: what of it is ours, read; the rest is the application's, as it came. Pure.
//!
//! Only the names that an endpoint reads are ours there. A name counts as what it decodes to; what is the application's goes on
//! byte for byte.

use std::time::Duration;

use http::HeaderValue;

use crate::config::{self, Endpoint};
use crate::delivery::events::DataForm;
use crate::net::http::{is_token, percent_decode};
use crate::net::own_protocols::{TicketText, read_number};
use crate::net::position::Position;

/// How long a poll waits that does not say so, and the longest that it may: proxies commonly end what is silent for a minute.
const TIMEOUT: Duration = Duration::from_secs(25);
const MAX_TIMEOUT: Duration = Duration::from_secs(55);

/// How many events an answer has at most, where the request does not say so, and the most that it may say.
const LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

/// What a request says in its query.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) struct Parameters {
    /// `afterSequence`
    pub(in crate::server) after: Option<Position>,
    /// `fromSequence`
    pub(in crate::server) from: Option<Position>,
    /// `timeout`
    pub(in crate::server) timeout: Duration,
    /// `limit`
    pub(in crate::server) limit: usize,
    /// `data`
    pub(in crate::server) form: DataForm,
    /// `protocol`: the subprotocols that it would offer.
    pub(in crate::server) protocols: Option<HeaderValue>,
    /// `n`: the number of the first message that it brings.
    pub(in crate::server) number: Option<u64>,
    /// `session`, if that has the form of a ticket.
    pub(in crate::server) ticket: Option<TicketText>,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            after: None,
            from: None,
            timeout: TIMEOUT,
            limit: LIMIT,
            form: DataForm::Value,
            protocols: None,
            number: None,
            ticket: None,
        }
    }
}

/// A parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    AfterSequence,
    FromSequence,
    Timeout,
    Limit,
    Data,
    Protocol,
    N,
    Session,
}

const NAMES: [(Name, &str); 8] = [
    (Name::AfterSequence, "afterSequence"),
    (Name::FromSequence, "fromSequence"),
    (Name::Timeout, "timeout"),
    (Name::Limit, "limit"),
    (Name::Data, "data"),
    (Name::Protocol, "protocol"),
    (Name::N, "n"),
    (Name::Session, "session"),
];

/// Why a query cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::server) enum BadParameter {
    /// What is accepted of it.
    #[error("the parameter {0} cannot be read: {1}")]
    Unreadable(&'static str, &'static str),
    #[error("the parameter {0} stands there more than once")]
    Twice(&'static str),
    /// Of whichever session it is.
    #[error("the ticket of the session cannot be read, or stands there more than once")]
    Ticket,
}

/// Whether the endpoint reads it.
fn is_read_by(name: Name, endpoint: Endpoint) -> bool {
    match endpoint {
        Endpoint::Poll => !matches!(name, Name::FromSequence | Name::N),
        Endpoint::Events => {
            matches!(name, Name::AfterSequence | Name::Data | Name::Protocol | Name::Session)
        }
        Endpoint::Send => matches!(name, Name::N | Name::Session),
        Endpoint::Replay => {
            matches!(name, Name::FromSequence | Name::Limit | Name::Data | Name::Protocol | Name::Session)
        }
    }
}

/// What `query` says to the endpoint, and the rest of it, which is the application's. The rest is told whether the other can
/// be read or not.
pub(super) fn read(query: &str, endpoint: Endpoint) -> (String, Result<Parameters, BadParameter>) {
    let mut rest = String::with_capacity(query.len());
    let mut parameters = Parameters::default();
    let mut seen = Vec::new();
    let mut failure = None;
    for pair in query.split('&') {
        match own(pair, endpoint) {
            Some((name, text, value)) => {
                let read = if seen.contains(&name) {
                    Err(BadParameter::Twice(text))
                } else {
                    seen.push(name);
                    set(&mut parameters, name, &value).ok_or(BadParameter::Unreadable(text, accepted(name)))
                };
                if let Err(why) = read {
                    failure.get_or_insert(why);
                }
            }
            None => {
                if !rest.is_empty() {
                    rest.push('&');
                }
                rest.push_str(pair);
            }
        }
    }
    (rest, failure.map_or(Ok(parameters), Err))
}

/// The parameter that a pair of the query is, if it is ours, and its value.
fn own(pair: &str, endpoint: Endpoint) -> Option<(Name, &'static str, Vec<u8>)> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let name = percent_decode(name.as_bytes());
    let (known, text) = *NAMES.iter().find(|(_, text)| text.as_bytes() == &*name)?;
    let value = percent_decode(value.as_bytes()).into_owned();
    // Applications have sessions too.
    let is_own =
        is_read_by(known, endpoint) && (known != Name::Session || TicketText::read(&value).is_some());
    is_own.then_some((known, text, value))
}

/// What is accepted of it.
fn accepted(name: Name) -> &'static str {
    match name {
        Name::AfterSequence | Name::FromSequence => "a number, or EPOCH.NUMBER as an answer has it",
        Name::Timeout => "a duration such as 25s (at most 55s counts)",
        Name::Limit => "a number from 1 to 1000",
        Name::Data => "value or text",
        Name::Protocol => "names of subprotocols, each once, with commas between them",
        Name::N => "a number from 1",
        Name::Session => "a ticket",
    }
}

/// `None`: it cannot be read.
fn set(parameters: &mut Parameters, name: Name, value: &[u8]) -> Option<()> {
    let text = std::str::from_utf8(value).ok()?;
    match name {
        Name::AfterSequence => parameters.after = Some(Position::read(text)?),
        Name::FromSequence => parameters.from = Some(Position::read(text)?),
        Name::Timeout => parameters.timeout = config::read_duration(text)?.min(MAX_TIMEOUT),
        Name::Limit => {
            let limit = usize::try_from(read_number(value)?).ok()?;
            parameters.limit = Some(limit).filter(|limit| (1..=MAX_LIMIT).contains(limit))?;
        }
        Name::Data => {
            parameters.form = match text {
                "value" => DataForm::Value,
                "text" => DataForm::Text,
                _ => return None,
            };
        }
        Name::Protocol => parameters.protocols = protocols(text)?,
        Name::N => parameters.number = Some(read_number(value).filter(|number| *number > 0)?),
        Name::Session => parameters.ticket = Some(TicketText::read(value)?),
    }
    Some(())
}

/// `None`: not a list of tokens, each of them once (RFC 6455 §4.1). An empty one is none.
fn protocols(text: &str) -> Option<Option<HeaderValue>> {
    if text.is_empty() {
        return Some(None);
    }
    let list: Vec<&str> = text.split(',').map(|token| token.trim_matches([' ', '\t'])).collect();
    let is_new = |(index, token): (usize, &&str)| !list[..index].contains(token);
    let is_list = list.iter().all(|token| is_token(token)) && list.iter().enumerate().all(is_new);
    if !is_list {
        return None;
    }
    HeaderValue::from_str(&list.join(", ")).ok().map(Some)
}

#[cfg(test)]
mod tests;

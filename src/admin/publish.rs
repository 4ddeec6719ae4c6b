//! `POST /api/admin/broadcast`: parses the message to publish, and answers with the result.
//!
//! # Invariants
//! 1. Nothing is published unless the whole request is valid: an unknown key may be a mistyped `user`, and a message
//!    for one user would go to all.
//! 2. An answer that repeats parts of a request truncates them.
//!
//! # Not here
//! Which clients get it ([`super::Operations::publish`]).

use std::fmt::Display;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::answer::{error, json};
use super::body::{self, BodyError};
use super::{Admin, Publication, PublishError, Published};
use crate::frame::Kind;

/// The form of a body, for error texts.
const FORM: &str = "send {\"route\": NAME} with exactly one of \"text\" (a string), \"json\" (any value) and \
                    \"base64\" (bytes), and, to narrow it, \"channel\" and \"user\"";

/// Longest name or reason that an answer repeats, in characters.
const MAX_ECHOED: usize = 300;
/// How many names an answer lists.
const MAX_NAMES: usize = 20;

/// Padding may be left out, as many encoders do.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The body of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct PublishRequest {
    route: String,
    channel: Option<String>,
    user: Option<String>,
    text: Option<String>,
    /// Kept as it was written, so that no number loses a digit and keys keep their order. `null` is a value too.
    #[serde(default, deserialize_with = "given")]
    json: Option<Box<RawValue>>,
    base64: Option<String>,
}

fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Deserialize::deserialize(value).map(Some)
}

/// Refuses an empty name: it was probably lost, and a message for one recipient must not go to all.
fn check_name(key: &str, given: Option<&str>) -> Result<(), String> {
    match given {
        Some("") => Err(format!("\"{key}\" is empty: give a name, or leave it out to mean all; {FORM}")),
        _ => Ok(()),
    }
}

/// Parses a request, publishes its message, and answers.
pub(super) async fn publish<B>(request_body: B, admin: &Admin) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes>,
    B::Error: Display,
{
    let read = match body::read(request_body, admin.max_publish).await {
        Ok(read) => read,
        Err(why) => return unreadable(why, admin.max_publish),
    };
    let publication = match parse(&read) {
        Ok(publication) => publication,
        Err(what) => return error(StatusCode::BAD_REQUEST, &format!("nothing was published: {what}")),
    };
    drop(read);
    match Arc::clone(&admin.operations).publish(publication).await {
        Ok(Published { recipients, sequence }) => {
            json(StatusCode::OK, &serde_json::json!({ "recipients": recipients, "sequence": sequence }))
        }
        Err(why) => refused(&why),
    }
}

/// Parses a body.
fn parse(read: &[u8]) -> Result<Publication, String> {
    let request: PublishRequest = serde_json::from_slice(read)
        .map_err(|error| format!("the body is not understood: {}; {FORM}", truncate(&error.to_string())))?;
    let PublishRequest { route, channel, user, text, json, base64 } = request;
    if route.is_empty() {
        return Err(format!("\"route\" is empty: give the name of one; {FORM}"));
    }
    check_name("channel", channel.as_deref())?;
    check_name("user", user.as_deref())?;
    let (kind, payload) = match (text, json, base64) {
        (Some(text), None, None) => (Kind::Text, text.into_bytes()),
        (None, Some(json), None) => (Kind::Text, compact(json.get())),
        (None, None, Some(base64)) => {
            let bytes = BASE64.decode(base64).map_err(|error| {
                format!(
                    "\"base64\" is none: {error}; the alphabet is the one with + and /, without line ends"
                )
            })?;
            (Kind::Binary, bytes)
        }
        (None, None, None) => return Err(format!("there is no message in it; {FORM}")),
        _ => return Err(format!("there is more than one message in it; {FORM}")),
    };
    Ok(Publication { route, channel, user, kind, payload: payload.into() })
}

/// JSON without white space between its parts.
fn compact(json: &str) -> Vec<u8> {
    let (mut is_in_string, mut is_escaped) = (false, false);
    json.bytes()
        .filter(|byte| {
            if is_in_string {
                is_in_string = is_escaped || *byte != b'"';
                is_escaped = !is_escaped && *byte == b'\\';
                return true;
            }
            is_in_string = *byte == b'"';
            !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
        })
        .collect()
}

fn unreadable(why: BodyError, max: usize) -> Response<Full<Bytes>> {
    match why {
        BodyError::TooLong => error(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("nothing was published: the body is longer than admin.max_publish ({max} bytes)"),
        ),
        BodyError::TimedOut => error(
            StatusCode::REQUEST_TIMEOUT,
            &format!(
                "nothing was published: the body did not come within {} s",
                body::BODY_TIMEOUT.as_secs()
            ),
        ),
        BodyError::Broken(reason) => error(
            StatusCode::BAD_REQUEST,
            &format!("nothing was published: the body did not come whole: {}", truncate(&reason)),
        ),
    }
}

fn refused(why: &PublishError) -> Response<Full<Bytes>> {
    let (status, what) = match why {
        PublishError::Failed => {
            return error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the proxy has failed while it was publishing: some clients may have got the message, others not; \
                 outrigger_task_panics_total counts it, and standard error says where",
            );
        }
        PublishError::NoRoute { name, known } => {
            (StatusCode::NOT_FOUND, no_route(name, known.iter().map(String::as_str)))
        }
        PublishError::NoChannel { route, name, known } => {
            let names = known.iter().map(String::as_str);
            let there = if known.is_empty() { "none".to_owned() } else { listed(names) };
            let what = format!(
                "the route \"{}\" has no channel \"{}\"; there is {there} (a channel is there while it has clients)",
                truncate(route),
                truncate(name)
            );
            (StatusCode::NOT_FOUND, what)
        }
        PublishError::NoChannels { route } => {
            let what = format!(
                "the route \"{}\" is a tunnel and has no channels; leave out \"channel\", or give a route of \
                 mode broadcast",
                truncate(route)
            );
            (StatusCode::BAD_REQUEST, what)
        }
        PublishError::TooLong { setting, max } => (
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the message is longer than the route's {setting} ({max} bytes)"),
        ),
        PublishError::NoMemory => (
            StatusCode::SERVICE_UNAVAILABLE,
            "memory.max_buffered is used up: too much waits for clients that do not read; try again, or raise it"
                .to_owned(),
        ),
    };
    error(status, &format!("nothing was published: {what}"))
}

/// The error text for a route that does not exist.
pub(super) fn no_route<'a>(name: &str, known: impl ExactSizeIterator<Item = &'a str>) -> String {
    format!("there is no route \"{}\"; there is {}", truncate(name), listed(known))
}

/// The names that exist, [`MAX_NAMES`] of them at most.
fn listed<'a>(known: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = known.len().saturating_sub(MAX_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let known: Vec<_> = known.take(MAX_NAMES).map(truncate).collect();
    format!("{}{more}", known.join(", "))
}

/// The first [`MAX_ECHOED`] characters of `text`.
pub(super) fn truncate(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_ECHOED).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_text_a_json_value_or_bytes() {
        let cases: [(&str, Kind, &[u8]); 12] = [
            (r#""text":"""#, Kind::Text, b""),
            (r#""text":"gr\u00fc\u00df \"dich\"""#, Kind::Text, "grüß \"dich\"".as_bytes()),
            (r#""json":null"#, Kind::Text, b"null"),
            (
                r#""json": { "b" : [ 1 , 2.50 ] , "a" : "x  \" y" }"#,
                Kind::Text,
                br#"{"b":[1,2.50],"a":"x  \" y"}"#,
            ),
            ("\"json\":\n[\n\t1\r\n]", Kind::Text, b"[1]"),
            (r#""json":123456789012345678901234567890"#, Kind::Text, b"123456789012345678901234567890"),
            (r#""json":"a\\" "#, Kind::Text, br#""a\\""#),
            (r#""json":{"a":"\\\"","b": 1}"#, Kind::Text, br#"{"a":"\\\"","b":1}"#),
            (r#""base64":"/+8=""#, Kind::Binary, b"\xff\xef"),
            (r#""base64":"/+8""#, Kind::Binary, b"\xff\xef"),
            (r#""base64":"""#, Kind::Binary, b""),
            (r#""text":"x","json_is_not_here":1"#, Kind::Text, b"refused"),
        ];
        for (message, kind, payload) in cases {
            let body = format!("{{\"route\":\"r\",{message}}}");
            match parse(body.as_bytes()) {
                Ok(publication) => {
                    assert_eq!((publication.kind, &publication.payload[..]), (kind, payload), "{body}");
                    assert_eq!(
                        (&*publication.route, publication.channel, publication.user),
                        ("r", None, None)
                    );
                }
                Err(_) => assert_eq!(payload, b"refused", "{body}"),
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_place_and_what_is_accepted() {
        let long = format!("{{\"{}\":1}}", "k".repeat(100_000));
        let cases: [(&[u8], &str); 17] = [
            (b"", "line 1 column 0"),
            (b"news", "line 1 column"),
            (b"{\"route\":\"r\",\n\"text\":}", "line 2 column 8"),
            (b"[]", "invalid length 0, expected an object at line 1 column 2"),
            (b"\"r\"", "expected an object at line 1"),
            (br#"{"text":"x"}"#, "missing field `route`"),
            (br#"{"route":"r"}"#, "no message"),
            (br#"{"route":"r","text":null}"#, "no message"),
            (br#"{"route":"r","text":"x","json":null}"#, "more than one message"),
            (br#"{"route":"r","text":"x","usre":"ann"}"#, "unknown field `usre`"),
            (br#"{"route":"r","text":"x","text":"y"}"#, "duplicate field `text`"),
            (br#"{"route":"r","text":1}"#, "expected a string"),
            (br#"{"route":"","text":"x"}"#, "\"route\" is empty"),
            (br#"{"route":"r","text":"x","user":""}"#, "\"user\" is empty"),
            (br#"{"route":"r","text":"x","channel":""}"#, "\"channel\" is empty"),
            (br#"{"route":"r","base64":"a b"}"#, "\"base64\" is none"),
            (long.as_bytes(), "unknown field `kkk"),
        ];
        for (body, told) in cases {
            let Err(error) = parse(body) else { panic!("{} was understood", body.escape_ascii()) };
            assert!(error.contains(told), "{error}");
            assert!(error.contains("send {\"route\"") || error.contains("alphabet"), "{error}");
            assert!(error.len() < 1000, "{} bytes", error.len());
        }
    }

    #[test]
    fn deep_nesting_costs_nothing() {
        let deep = format!("{{\"route\":\"r\",\"json\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let publication = parse(deep.as_bytes()).unwrap();
        assert_eq!(publication.payload.len(), 200_001);
    }
}

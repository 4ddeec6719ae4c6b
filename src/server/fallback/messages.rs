//! What a `POST` brings: one message, or several with the number of the first one. Pure, but for reading the body.
//!
//! # Invariants
//! 1. No more of a body is kept than its bound, and what is longer is refused.
//! 2. What has come of a body counts as held by the process, from its first byte until its messages were taken: bodies that do
//!    not end are refused like everything else where the process holds too much.
//!
//! # Not here
//! What becomes of messages ([`crate::session`]).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use http_body::Body;
use http_body_util::BodyExt;
use serde::Deserialize;

use super::answers::EndpointError;
use crate::frame::Kind;
use crate::memory::{Budget, Share};

/// The type of a body with several messages.
const BATCH: &str = "application/vnd.outrigger.messages+json";
/// That of one binary message.
const BINARY: &str = "application/octet-stream";

/// How many messages a body has at most, and its bytes.
const MAX_MESSAGES: usize = 100;
const MAX_BATCH: u64 = 256 * 1024;

/// A body that is no longer than this is read whatever the process holds.
const SMALL: usize = 64 * 1024;

/// Messages of a client.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) struct Messages {
    /// The number of the first one; `None`: it is the next one, whatever that is.
    pub(in crate::server) first: Option<u64>,
    pub(in crate::server) messages: Vec<(Kind, Bytes)>,
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    One(Kind),
    Batch,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    n: Option<u64>,
    messages: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    data: String,
    encoding: Option<Encoding>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Base64,
}

impl Messages {
    /// Reads a body of this type. `number`: of the query. `max`: the bytes of one message. Also answers what counts its bytes in
    /// `budget`.
    ///
    /// # Errors
    /// It cannot be read, is too long, or the process holds too much.
    pub(in crate::server) async fn read<B>(
        body: B,
        content_type: Option<&HeaderValue>,
        number: Option<u64>,
        max: u64,
        budget: &Arc<Budget>,
    ) -> Result<(Self, Share), EndpointError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let form = form_of(content_type);
        let most = match form {
            Form::One(_) => max,
            Form::Batch => MAX_BATCH,
        };
        let (bytes, share) = collect(body, usize::try_from(most).unwrap_or(usize::MAX), budget).await?;
        let messages = match form {
            Form::One(kind) => Self { first: number, messages: vec![message(kind, bytes, max)?] },
            Form::Batch => batch(&bytes, number, max)?,
        };
        Ok((messages, share))
    }
}

/// The whole of a body that is no longer than `most`.
async fn collect<B: Body<Data = Bytes> + Unpin>(
    mut body: B,
    most: usize,
    budget: &Arc<Budget>,
) -> Result<(Bytes, Share), EndpointError> {
    let (mut read, mut share) = (BytesMut::new(), budget.share());
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(EndpointError::BadBody("the body has not come in full")) };
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > most - read.len() {
            return Err(EndpointError::TooLarge);
        }
        read.extend_from_slice(&data);
        share.set(read.capacity());
        if read.len() > SMALL && budget.is_over() {
            return Err(EndpointError::Memory);
        }
    }
    Ok((read.freeze(), share))
}

/// Its parameters say nothing about it.
fn form_of(content_type: Option<&HeaderValue>) -> Form {
    let text = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(BATCH) {
        Form::Batch
    } else if essence.eq_ignore_ascii_case(BINARY) {
        Form::One(Kind::Binary)
    } else {
        Form::One(Kind::Text)
    }
}

fn message(kind: Kind, bytes: Bytes, max: u64) -> Result<(Kind, Bytes), EndpointError> {
    if bytes.len() as u64 > max {
        return Err(EndpointError::TooLarge);
    }
    if kind == Kind::Text && std::str::from_utf8(&bytes).is_err() {
        return Err(EndpointError::BadBody(
            "the message is no UTF-8: bytes are sent with Content-Type: application/octet-stream",
        ));
    }
    Ok((kind, bytes))
}

fn batch(bytes: &[u8], number: Option<u64>, max: u64) -> Result<Messages, EndpointError> {
    let Ok(Batch { n, messages }) = serde_json::from_slice(bytes) else {
        return Err(EndpointError::BadBody(
            r#"the body has to be {"n":NUMBER,"messages":[{"data":TEXT,"encoding":"base64" or nothing},...]}"#,
        ));
    };
    if n.is_some() && number.is_some() {
        return Err(EndpointError::BadBody("n stands both in the query and in the body"));
    }
    if n == Some(0) {
        return Err(EndpointError::BadBody("messages are numbered from 1"));
    }
    if messages.is_empty() || messages.len() > MAX_MESSAGES {
        return Err(EndpointError::BadBody("a body has from 1 to 100 messages"));
    }
    let read = |Item { data, encoding }| match encoding {
        None => message(Kind::Text, data.into(), max),
        Some(Encoding::Base64) => match STANDARD.decode(data) {
            Ok(bytes) => message(Kind::Binary, bytes.into(), max),
            Err(_) => Err(EndpointError::BadBody("data is no base64 (RFC 4648 section 4, with padding)")),
        },
    };
    let messages = messages.into_iter().map(read).collect::<Result<_, _>>()?;
    Ok(Messages { first: n.or(number), messages })
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    async fn read(
        content_type: &'static str,
        number: Option<u64>,
        body: &[u8],
    ) -> Result<Messages, EndpointError> {
        let content_type = HeaderValue::from_static(content_type);
        read_from(Full::new(Bytes::copy_from_slice(body)), Some(&content_type), number).await
    }

    async fn read_from(
        body: Full<Bytes>,
        content_type: Option<&HeaderValue>,
        number: Option<u64>,
    ) -> Result<Messages, EndpointError> {
        let budget = Arc::new(Budget::new(1000));
        let (messages, share) = Messages::read(body, content_type, number, 10, &budget).await?;
        assert_eq!(share.held(), budget.used());
        Ok(messages)
    }

    fn of(first: Option<u64>, messages: &[(Kind, &'static [u8])]) -> Result<Messages, EndpointError> {
        let messages = messages.iter().map(|(kind, bytes)| (*kind, Bytes::from_static(bytes))).collect();
        Ok(Messages { first, messages })
    }

    #[tokio::test]
    async fn one_body_is_one_message_unless_its_type_says_otherwise() {
        let (text, binary) = (Kind::Text, Kind::Binary);
        assert_eq!(read("text/plain", None, b"hi").await, of(None, &[(text, b"hi")]));
        assert_eq!(read("application/json", Some(3), b"{}").await, of(Some(3), &[(text, b"{}")]));
        assert_eq!(read("", None, b"").await, of(None, &[(text, b"")]), "an empty one is one too");
        let octets = "Application/Octet-Stream; x=y";
        assert_eq!(read(octets, None, b"\xff\0").await, of(None, &[(binary, b"\xff\0")]));
        assert!(matches!(read("text/plain", None, b"\xff").await, Err(EndpointError::BadBody(_))));
        assert_eq!(read("text/plain", None, b"0123456789").await, of(None, &[(text, b"0123456789")]));
        assert_eq!(read("text/plain", None, b"0123456789a").await, Err(EndpointError::TooLarge));
        assert_eq!(read_from(Full::default(), None, None).await, of(None, &[(text, b"")]));
    }

    #[tokio::test]
    async fn several_messages_are_one_body_in_their_order() {
        let body = br#"{"n":7,"messages":[{"data":"a\n\u2028"},{"data":"/wA=","encoding":"base64"}]}"#;
        let expected = of(Some(7), &[(Kind::Text, "a\n\u{2028}".as_bytes()), (Kind::Binary, b"\xff\0")]);
        assert_eq!(read(BATCH, None, body).await, expected);
        let unnumbered = br#"{"messages":[{"data":"a"}]}"#;
        assert_eq!(read(BATCH, Some(2), unnumbered).await, of(Some(2), &[(Kind::Text, b"a")]));
        assert_eq!(read(BATCH, None, unnumbered).await, of(None, &[(Kind::Text, b"a")]));
        assert_eq!(
            read(BATCH, None, br#"{"messages":[{"data":"0123456789a"}]}"#).await,
            Err(EndpointError::TooLarge)
        );
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"messages":[]}"#,
            r#"{"n":0,"messages":[{"data":"a"}]}"#,
            r#"{"n":-1,"messages":[{"data":"a"}]}"#,
            r#"{"messages":[{"data":1}]}"#,
            r#"{"messages":[{"data":"?","encoding":"base64"}]}"#,
            r#"{"messages":[{"data":"a","encoding":"hex"}]}"#,
            r#"{"messages":[{"data":"a"}],"more":1}"#,
            r#"{"n":1,"n":2,"messages":[{"data":"a"}]}"#,
        ] {
            assert!(
                matches!(read(BATCH, None, bad.as_bytes()).await, Err(EndpointError::BadBody(_))),
                "{bad}"
            );
        }
        let twice = br#"{"n":1,"messages":[{"data":"a"}]}"#;
        assert!(matches!(read(BATCH, Some(1), twice).await, Err(EndpointError::BadBody(_))), "one meaning");
        let many = |count: usize| format!(r#"{{"messages":[{}]}}"#, vec![r#"{"data":"a"}"#; count].join(","));
        assert_eq!(read(BATCH, None, many(100).as_bytes()).await.unwrap().messages.len(), 100);
        assert!(matches!(read(BATCH, None, many(101).as_bytes()).await, Err(EndpointError::BadBody(_))));
        let long = format!(r#"{{"messages":[{{"data":"a"}}]}}{}"#, " ".repeat(256 * 1024));
        assert_eq!(read(BATCH, None, long.as_bytes()).await, Err(EndpointError::TooLarge));
    }

    #[tokio::test]
    async fn a_body_counts_while_it_comes_and_is_refused_where_the_process_holds_too_much() {
        let budget = Arc::new(Budget::new(2 * SMALL));
        let body = |length: usize| Full::new(Bytes::from(vec![b'x'; length]));
        let max = 10 * SMALL as u64;
        let (messages, share) = Messages::read(body(SMALL + 1), None, None, max, &budget).await.unwrap();
        assert!(budget.used() > SMALL && share.held() == budget.used(), "until it was taken");
        let more = Messages::read(body(SMALL + 1), None, None, max, &budget).await;
        assert_eq!(more.err(), Some(EndpointError::Memory));
        assert!(Messages::read(body(SMALL), None, None, max, &budget).await.is_ok(), "short ones pass");
        drop((messages, share));
        assert_eq!(budget.used(), 0);
    }
}

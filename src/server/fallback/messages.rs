//! What a `POST` brings: one message, or several with the number of the first one. Pure, but for reading the body.
//!
//! # Invariants
//! 1. No more of a body is kept than its bound, and what is longer is refused.
//! 2. What has come of a body counts as held by the process, from its first byte until its messages were taken. All bodies
//!    together have a part of what it may hold: those that do not end take nothing from what others keep.
//! 3. A body that was cut is no message, whatever its end looked like.
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
    /// Reads a body of this type. With it comes whether it is of HTTP/2. `number`: of the query. `max`: the bytes of one message.
    /// `budget`: what bodies may hold. Also answers what counts its bytes there.
    ///
    /// # Errors
    /// It cannot be read, is too long, or the process holds too much.
    pub(in crate::server) async fn read<B>(
        body: (B, bool),
        content_type: Option<&HeaderValue>,
        number: Option<u64>,
        max: u64,
        budget: &Arc<Budget>,
    ) -> Result<(Self, Share), EndpointError>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (body, is_of_http2) = body;
        let form = form_of(content_type);
        let most = match form {
            Form::One(_) => max,
            Form::Batch => MAX_BATCH,
        };
        let (bytes, share) =
            collect(body, is_of_http2, usize::try_from(most).unwrap_or(usize::MAX), budget).await?;
        let messages = match form {
            Form::One(kind) => Self { first: number, messages: vec![message(kind, bytes, max)?] },
            Form::Batch => batch(&bytes, number, max)?,
        };
        Ok((messages, share))
    }
}

/// The whole of a body that is no longer than `most`. Over HTTP/2 its end has to be seen: hyper ends a body whose stream was
/// reset with `NO_ERROR` or `CANCEL` as one that is whole.
async fn collect<B: Body<Data = Bytes> + Unpin>(
    mut body: B,
    is_of_http2: bool,
    most: usize,
    budget: &Arc<Budget>,
) -> Result<(Bytes, Share), EndpointError> {
    // Before the client is told to go on (`100 Continue`).
    let announced = body.size_hint().exact();
    if body.size_hint().lower() > most as u64 {
        return Err(EndpointError::TooLarge);
    }
    let (mut read, mut share) = (BytesMut::new(), budget.share());
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(CUT) };
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > most - read.len() {
            return Err(EndpointError::TooLarge);
        }
        read.extend_from_slice(&data);
        share.set(read.capacity());
        if budget.is_over() {
            return Err(EndpointError::Memory);
        }
    }
    let is_whole = announced.is_none_or(|length| length == read.len() as u64);
    if !is_whole || is_of_http2 && !body.is_end_stream() {
        return Err(CUT);
    }
    Ok((read.freeze(), share))
}

const CUT: EndpointError = EndpointError::BadBody("the body has not come in full");

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
    use std::pin::Pin;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::task::{Context, Poll};

    use http_body::{Frame, SizeHint};
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
        let budget = Arc::new(Budget::new(1024 * 1024));
        let (messages, share) = Messages::read((body, false), content_type, number, 10, &budget).await?;
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
    async fn a_body_counts_while_it_comes_and_is_refused_where_bodies_hold_too_much() {
        let budget = Arc::new(Budget::new(100));
        let body = |length: usize| (Full::new(Bytes::from(vec![b'x'; length])), false);
        let (messages, share) = Messages::read(body(60), None, None, 1000, &budget).await.unwrap();
        assert!(budget.used() >= 60 && share.held() == budget.used(), "until it was taken");
        let more = Messages::read(body(60), None, None, 1000, &budget).await;
        assert_eq!(more.err(), Some(EndpointError::Memory));
        drop((messages, share));
        assert_eq!(budget.used(), 0);
    }

    /// A body with an end of its own choice.
    struct Cut {
        pieces: Vec<&'static [u8]>,
        announced: SizeHint,
        is_whole: bool,
        polled: Arc<AtomicBool>,
    }

    impl Body for Cut {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.polled.store(true, Relaxed);
            Poll::Ready(self.pieces.pop().map(|piece| Ok(Frame::data(Bytes::from_static(piece)))))
        }

        fn is_end_stream(&self) -> bool {
            self.is_whole && self.pieces.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            self.announced
        }
    }

    #[tokio::test]
    async fn a_body_that_was_cut_is_no_message_and_one_that_says_to_be_too_long_is_not_asked_for() {
        let budget = Arc::new(Budget::new(1000));
        let any = SizeHint::new;
        for (announced, is_whole, is_of_http2, is_taken, is_polled) in [
            (any(), true, false, true, true),
            // What ends a body of HTTP/1.1 too early is an error there.
            (any(), false, false, true, true),
            (any(), true, true, true, true),
            (any(), false, true, false, true),
            (SizeHint::with_exact(4), true, true, true, true),
            (SizeHint::with_exact(5), true, true, false, true),
            (SizeHint::with_exact(5), true, false, false, true),
            (SizeHint::with_exact(11), true, false, false, false),
        ] {
            let polled = Arc::new(AtomicBool::new(false));
            let pieces = vec![&b"cd"[..], b"ab"];
            let body = Cut { pieces, announced, is_whole, polled: Arc::clone(&polled) };
            let read = Messages::read((body, is_of_http2), None, None, 10, &budget).await;
            let case = (is_whole, is_of_http2, is_taken);
            assert_eq!((read.is_ok(), polled.load(Relaxed)), (is_taken, is_polled), "{case:?}");
        }
    }
}

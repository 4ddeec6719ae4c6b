//! Checks that a 101 is the answer to our handshake (RFC 6455 §4.1). Pure.
//!
//! A proxy that takes another response for an upgrade gives its client an unfiltered connection to the upstream.

use http::{HeaderMap, Response, StatusCode, Version, header};

use crate::frame::{Extensions, accept_for};
use crate::net::http::tokens;

/// What is wrong with a 101.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUpgrade {
    /// HTTP/1.0 knows no upgrade (RFC 9110 §7.8).
    #[error("it is not an answer of HTTP/1.1")]
    Version,
    /// Not `Upgrade: websocket`.
    #[error("Upgrade is not websocket")]
    Upgrade,
    /// `Connection` lacks `Upgrade`.
    #[error("Connection does not name Upgrade")]
    Connection,
    /// Missing, doubled, or the answer to another key.
    #[error("Sec-WebSocket-Accept does not answer the key")]
    Accept,
    /// One that was not asked for, or more than one.
    #[error("a subprotocol that was not offered")]
    Protocol,
    /// One that was not asked for.
    #[error("an extension that was not offered")]
    Extension,
}

/// What the client asked for.
#[derive(Debug, Clone)]
pub struct Offer {
    accept: String,
    protocols: Vec<Box<str>>,
    extensions: Vec<Box<str>>,
}

impl Offer {
    /// Of a well-formed handshake's headers.
    pub fn of(headers: &HeaderMap) -> Self {
        let key = headers.get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], |key| key.as_bytes());
        Self {
            accept: accept_for(key),
            protocols: tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).map(Into::into).collect(),
            extensions: tokens(headers, &header::SEC_WEBSOCKET_EXTENSIONS)
                .map(|e| name_of(e).into())
                .collect(),
        }
    }

    /// Checks a 101 against what was offered and tells which extensions were agreed upon.
    ///
    /// # Errors
    /// The first rule of RFC 6455 §4.1 and RFC 9110 §7.8 that the answer breaks.
    pub fn verify<B>(&self, response: &Response<B>) -> Result<Extensions, BadUpgrade> {
        debug_assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        if response.version() != Version::HTTP_11 {
            return Err(BadUpgrade::Version);
        }
        let headers = response.headers();
        let mut upgrade = tokens(headers, &header::UPGRADE);
        if !upgrade.next().is_some_and(|token| token.eq_ignore_ascii_case("websocket"))
            || upgrade.next().is_some()
        {
            return Err(BadUpgrade::Upgrade);
        }
        if !tokens(headers, &header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade")) {
            return Err(BadUpgrade::Connection);
        }
        let mut accept = headers.get_all(header::SEC_WEBSOCKET_ACCEPT).into_iter();
        if accept.next().is_none_or(|value| value.as_bytes() != self.accept.as_bytes())
            || accept.next().is_some()
        {
            return Err(BadUpgrade::Accept);
        }
        let mut protocols = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
        if let Some(protocol) = protocols.next() {
            let is_offered = self.protocols.iter().any(|offered| offered.as_bytes() == protocol.as_bytes());
            if !is_offered || protocols.next().is_some() {
                return Err(BadUpgrade::Protocol);
            }
        }
        let mut agreed = Extensions::None;
        for extension in headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS) {
            let text = extension.to_str().map_err(|_| BadUpgrade::Extension)?;
            for name in text.split(',').map(name_of).filter(|name| !name.is_empty()) {
                if !self.extensions.iter().any(|offered| offered.eq_ignore_ascii_case(name)) {
                    return Err(BadUpgrade::Extension);
                }
                let is_deflate = name.eq_ignore_ascii_case("permessage-deflate");
                agreed = match agreed {
                    Extensions::None if is_deflate => Extensions::Deflate,
                    Extensions::None | Extensions::Deflate | Extensions::Unknown => Extensions::Unknown,
                };
            }
        }
        Ok(agreed)
    }
}

/// An extension without its parameters (RFC 6455 §9.1).
fn name_of(extension: &str) -> &str {
    extension.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const GOOD: [(&str, &str); 3] = [
        ("upgrade", "WebSocket"),
        ("connection", "keep-alive, upgrade"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ];

    fn offer(more: &[(&str, &str)]) -> Offer {
        let mut headers = HeaderMap::new();
        for (name, value) in [&[KEY], more].concat() {
            headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        Offer::of(&headers)
    }

    #[test]
    fn an_answer_of_another_version_is_none() {
        for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_2, Version::HTTP_3] {
            assert_eq!(verify_over(version, &offer(&[]), &GOOD), Err(BadUpgrade::Version), "{version:?}");
        }
    }

    fn verify(offer: &Offer, headers: &[(&str, &str)]) -> Result<Extensions, BadUpgrade> {
        verify_over(Version::HTTP_11, offer, headers)
    }

    fn verify_over(
        version: Version,
        offer: &Offer,
        headers: &[(&str, &str)],
    ) -> Result<Extensions, BadUpgrade> {
        let mut response = Response::builder().status(101).version(version);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        offer.verify(&response.body(()).unwrap())
    }

    #[test]
    fn a_good_answer_is_one_and_each_thing_that_is_missing_is_named() {
        let offer = offer(&[]);
        assert_eq!(verify(&offer, &GOOD), Ok(Extensions::None));
        for (missing, fault) in
            [BadUpgrade::Upgrade, BadUpgrade::Connection, BadUpgrade::Accept].into_iter().enumerate()
        {
            let mut headers = GOOD.to_vec();
            headers.remove(missing);
            assert_eq!(verify(&offer, &headers), Err(fault));
        }
    }

    #[test]
    fn a_wrong_answer_is_told_apart() {
        let offer = offer(&[
            ("sec-websocket-protocol", "chat, mqtt"),
            ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits, x-mine"),
        ]);
        // what replaces or follows the good headers, the verdict
        type Case<'a> = (&'a [(&'a str, &'a str)], Result<Extensions, BadUpgrade>);
        let cases: &[Case<'_>] = &[
            (&[("sec-websocket-protocol", "mqtt")], Ok(Extensions::None)),
            (&[("sec-websocket-protocol", "MQTT")], Err(BadUpgrade::Protocol)),
            (&[("sec-websocket-protocol", "chat, mqtt")], Err(BadUpgrade::Protocol)),
            (
                &[("sec-websocket-protocol", "chat"), ("sec-websocket-protocol", "mqtt")],
                Err(BadUpgrade::Protocol),
            ),
            (
                &[("sec-websocket-extensions", "permessage-deflate; server_no_context_takeover")],
                Ok(Extensions::Deflate),
            ),
            (&[("sec-websocket-extensions", "permessage-deflate, x-mine")], Ok(Extensions::Unknown)),
            (&[("sec-websocket-extensions", "x-mine; a=\"b\"")], Ok(Extensions::Unknown)),
            (&[("sec-websocket-extensions", "x-yours")], Err(BadUpgrade::Extension)),
            (&[("upgrade", "h2c")], Err(BadUpgrade::Upgrade)),
            (&[("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")], Err(BadUpgrade::Accept)),
        ];
        for (more, verdict) in cases {
            assert_eq!(verify(&offer, &[&GOOD[..], more].concat()), *verdict, "{more:?}");
        }
        let mut wrong = GOOD.to_vec();
        wrong[2].1 = "S3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        assert_eq!(verify(&offer, &wrong), Err(BadUpgrade::Accept));
    }
}

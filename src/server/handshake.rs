//! A client asks for a WebSocket: is the request well formed, does the upstream agree?

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header};
use http_body_util::{Empty, Full};
use tokio::time::Instant;

use super::service::{Load, seen, target};
use super::session::{AnswerBody, Handover, Subscription};
use crate::admission::{Bound, Refused, RequestContext, User};
use crate::broadcast::{self, Hub, JoinError};
use crate::frame::{accept_for, deflate};
use crate::net::head::{HeadFault, spelling};
use crate::net::http::{switching_protocols, tokens};
use crate::tunnel;
use crate::upstream::Upgrade;
use crate::upstream::headers;
use crate::upstream::verify::Offer;

/// Whether a request means to become a WebSocket. Anything else with an `Upgrade` is plain HTTP, and
/// goes on without it.
pub(super) fn is_handshake(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && tokens(headers, &header::UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket"))
        && tokens(headers, &header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
}

/// Asks the upstream and answers the client what it said.
pub(super) async fn answer(
    mut guest: RequestContext,
    load: Load,
    has_body: bool,
) -> Result<Response<AnswerBody>, Refused> {
    let Load { state, session, route, request_id, .. } = &load;
    check(&guest.head, has_body)?;
    if state.drain.refuses(Instant::now()) {
        return Err(Refused::Draining);
    }
    if route.tunnel.is_json() {
        // Nobody could look for the client's pong inside compressed texts.
        guest.head.headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    }
    if let Some(hub) = &route.hub {
        return subscribe(guest, &load, hub).await;
    }
    let offer = Offer::of(&guest.head.headers);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = target(route, &guest.head.uri)?;
    *request.headers_mut() = std::mem::take(&mut guest.head.headers);
    // Among them the spelling of the client's headers.
    *request.extensions_mut() = std::mem::take(&mut guest.head.extensions);
    headers::for_upstream(request.headers_mut(), seen(&guest), load.telling(), true);
    match route.upstream.upgrade(request, &offer).await? {
        Upgrade::Accepted(upgraded) => {
            let mut response = upgraded.response.map(|()| AnswerBody::own(Full::default(), session));
            if choose_own_protocol(&guest, response.headers_mut()) {
                let headers = response.headers().clone();
                spelling::add(response.extensions_mut(), &headers, &header::SEC_WEBSOCKET_PROTOCOL);
            }
            let (user, expires) =
                guest.user.map_or((None, None), |User { name, expires }| (Some(name), expires));
            session.hand_over(Handover {
                upstream: upgraded.hop,
                terms: tunnel::Terms { extensions: upgraded.extensions, expires, slot: None },
                slot: guest.slot,
                route: Arc::clone(route),
                client: guest.client.address,
                user,
                request_id: request_id.clone(),
            });
            Ok(response)
        }
        Upgrade::Declined(mut declined) => {
            headers::for_client(declined.status(), declined.headers_mut());
            Ok(declined.map(|body| AnswerBody::upstream(body, session)))
        }
    }
}

/// Answers by ourselves, once the feed that the client asks for runs.
async fn subscribe(
    guest: RequestContext,
    load: &Load,
    hub: &Arc<Hub>,
) -> Result<Response<AnswerBody>, Refused> {
    let Load { session, route, request_id, .. } = load;
    let mut guest = guest;
    // A part of the channel's key may be a header that only a proxy in front of us may write.
    headers::forget_forged(&mut guest.head.headers, guest.forwarding.as_deref());
    // Or one of these: then it is the service's word that counts.
    headers::attest(&mut guest.head.headers, &guest.attested);
    let headers = &guest.head.headers;
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    let accept = HeaderValue::try_from(accept_for(key)).map_err(|_| HeadFault::Syntax)?;
    let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).into_iter();
    let offers = offers.filter_map(|offers| offers.to_str().ok());
    let extension = route.config.policy.compression.then(|| deflate::accept(offers)).flatten();
    let target = target(route, &guest.head.uri)?;
    let seat = hub.seat(broadcast::Request {
        uri: &guest.head.uri,
        target: &target,
        headers,
        user: guest.user.as_ref().map(|user| &user.name),
        caller: guest.caller(),
        seen: seen(&guest),
    });
    let seat = match seat.await {
        Ok(seat) => seat,
        Err(JoinError::NameTooLong) => {
            return Err(Refused::Malformed("its channel's name would be too long"));
        }
        Err(JoinError::Full) => return Err(Refused::Capacity(Bound::Channels)),
        Err(JoinError::BreakerOpen(wait)) => return Err(Refused::Breaker(wait)),
        Err(JoinError::Upstream(error)) => return Err(Refused::Upstream(error)),
        Err(JoinError::Declined(answer)) => {
            return Ok(answer.map(|body| AnswerBody::own(Full::from(body), session)));
        }
    };
    let mut response = switching_protocols(accept).map(|()| AnswerBody::own(Full::default(), session));
    let headers = response.headers_mut();
    if let Some(protocol) = seat.protocol() {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
    }
    if let Some(extension) = extension {
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(extension));
    }
    choose_own_protocol(&guest, headers);
    let (user, expires) = guest.user.map_or((None, None), |User { name, expires }| (Some(name), expires));
    session.subscribe(Subscription {
        seat,
        has_deflate: extension.is_some(),
        expires,
        slot: guest.slot,
        route: Arc::clone(route),
        client: guest.client.address,
        user,
        request_id: request_id.clone(),
    });
    Ok(response)
}

/// Where the server chose none of a client's subprotocols, and one of them was ours; whether that is so.
fn choose_own_protocol(guest: &RequestContext, answer: &mut HeaderMap) -> bool {
    let Some(own) = guest.own_protocol.filter(|_| !answer.contains_key(header::SEC_WEBSOCKET_PROTOCOL))
    else {
        return false;
    };
    answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(own));
    true
}

/// Whether a handshake is one (RFC 6455 §4.2.1).
pub(super) fn check(head: &Parts, has_body: bool) -> Result<(), Refused> {
    let malformed = |what| Err(Refused::Malformed(what));
    if head.method != Method::GET {
        return malformed("the method has to be GET");
    }
    if head.version != Version::HTTP_11 {
        return malformed("it takes HTTP/1.1");
    }
    let announces_body = head.headers.contains_key(header::TRANSFER_ENCODING)
        || head.headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0");
    if has_body || announces_body {
        return malformed("it must not have a body");
    }
    let one = |name| {
        let mut values = head.headers.get_all(name).into_iter();
        values.next().filter(|_| values.next().is_none())
    };
    if one(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refused::Version);
    }
    let key = one(header::SEC_WEBSOCKET_KEY).and_then(|key| STANDARD.decode(key).ok());
    if key.is_none_or(|key| key.len() != 16) {
        return malformed("Sec-WebSocket-Key has to be 16 bytes in base64");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn head(method: &str, version: Version, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn reason(result: Result<(), Refused>) -> Option<String> {
        result.err().map(|refusal| refusal.to_string())
    }

    #[test]
    fn a_handshake_is_checked_line_by_line() {
        assert_eq!(reason(check(&head("GET", Version::HTTP_11, &GOOD), false)), None);
        // what replaces a header of that name or is added, and a word of the refusal
        let cases = [
            ("content-length", "5", "body"),
            ("transfer-encoding", "chunked", "body"),
            ("sec-websocket-version", "8", "version 13"),
            ("sec-websocket-key", "c2hvcnQ=", "Sec-WebSocket-Key"),
            ("sec-websocket-key", "not base64 at all!!!!!!!", "Sec-WebSocket-Key"),
        ];
        for (name, value, word) in cases {
            let mut headers: Vec<_> = GOOD.into_iter().filter(|(known, _)| *known != name).collect();
            headers.push((name, value));
            let reason = reason(check(&head("GET", Version::HTTP_11, &headers), false)).unwrap();
            assert!(reason.contains(word), "{name}: {value}: {reason}");
        }
        for missing in ["sec-websocket-version", "sec-websocket-key"] {
            let headers: Vec<_> = GOOD.into_iter().filter(|(name, _)| *name != missing).collect();
            assert!(check(&head("GET", Version::HTTP_11, &headers), false).is_err(), "{missing}");
            let twice = [&GOOD[..], &[*GOOD.iter().find(|(name, _)| *name == missing).unwrap()]].concat();
            assert!(check(&head("GET", Version::HTTP_11, &twice), false).is_err(), "{missing} twice");
        }
        assert!(check(&head("POST", Version::HTTP_11, &GOOD), false).is_err());
        assert!(check(&head("GET", Version::HTTP_10, &GOOD), false).is_err());
        assert!(check(&head("GET", Version::HTTP_11, &GOOD), true).is_err());
        let empty = [&GOOD[..], &[("content-length", "0")]].concat();
        assert!(
            check(&head("GET", Version::HTTP_11, &empty), false).is_ok(),
            "some clients say that there is none"
        );
    }

    #[test]
    fn other_upgrades_are_no_handshake() {
        let cases = [
            (&[("connection", "Upgrade"), ("upgrade", "h2c")][..], false),
            (&[("connection", "close"), ("upgrade", "websocket")], false),
            (&[("upgrade", "websocket")], false),
            (&[("connection", "UPGRADE"), ("upgrade", "WebSocket")], true),
            (&[("connection", "upgrade, http2-settings"), ("upgrade", "h2c, websocket")], true),
        ];
        for (headers, expected) in cases {
            assert_eq!(
                is_handshake(&head("GET", Version::HTTP_11, headers).headers),
                expected,
                "{headers:?}"
            );
        }
    }
}

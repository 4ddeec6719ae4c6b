//! Refusals that a page can read: browsers hide the status of a handshake that failed, but show the code of a Close. So
//! the handshake succeeds, and a Close is sent at once.
//!
//! # Invariants
//! 1. A handshake that is accepted so does not become a connection: it has no upstream, is not in the registry, and
//!    counts as a refusal.
//! 2. It is no amplifier: one answer and one Close, a few hundred bytes, whatever the client sends. It costs a buffer
//!    and a socket for two seconds, for at most `listen.max_refusals` clients at the same time: others get the status.
//!
//! # Not here
//! Which requests are refused, and why ([`crate::admission::Refused`]); sending the Close (`connection::closing`).

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, header};

use super::handshake;
use crate::admission::Refused;
use crate::config::CloseCodes;
use crate::frame::accept_for;
use crate::net::http::{X_OUTRIGGER_REASON, switching_protocols, tokens};
use crate::net::own_protocols::OwnProtocols;
use crate::server::http::upgrade::PendingClose;
use crate::server::limits::refusals::RefusalLimit;

/// How a well-formed handshake is answered if it is accepted in any case.
#[derive(Debug)]
pub(super) struct AcceptThenClose {
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
}

impl AcceptThenClose {
    /// `None`: it is not well formed, so it does not come from a browser.
    /// `own`: the subprotocols of ours that were taken out of it.
    pub(super) fn of(head: &Parts, has_body: bool, own: Option<&OwnProtocols>) -> Option<Self> {
        handshake::check(head, has_body).ok()?;
        let key = head.headers.get(header::SEC_WEBSOCKET_KEY)?;
        Some(Self {
            accept: HeaderValue::from_str(&accept_for(key.as_bytes())).ok()?,
            protocol: protocol(&head.headers, own),
        })
    }

    /// The 101 in place of `refused`, and the Close after it; `None`: the refusal is sent as its status.
    pub(super) fn accept(
        self,
        refused: &Refused,
        codes: &CloseCodes,
        refusals: &Arc<RefusalLimit>,
        max: usize,
    ) -> Option<(Response<()>, PendingClose)> {
        let answer = refused.answer();
        let (code, reason) = answer.closing?.close_frame(codes);
        let permit = refusals.enter(max)?;
        let mut response = switching_protocols(self.accept);
        let headers = response.headers_mut();
        if let Some(protocol) = self.protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        headers.insert(X_OUTRIGGER_REASON, HeaderValue::from_static(answer.reason));
        Some((response, PendingClose { code, reason, permit }))
    }
}

/// One of the subprotocols that the client offers: browsers fail a handshake when none of theirs is chosen, and the page
/// would not see the Close.
fn protocol(headers: &HeaderMap, own: Option<&OwnProtocols>) -> Option<HeaderValue> {
    let first = tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).next();
    first
        .or(own.and_then(OwnProtocols::answer_of_tunnel))
        .and_then(|protocol| HeaderValue::from_str(protocol).ok())
}

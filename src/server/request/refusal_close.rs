//! Refusals that a browser can read: it hides the status of a handshake that failed, and shows the code of a
//! Close. So the handshake succeeds, and a Close is all that comes.
//!
//! # Invariants
//! 1. What is accepted so is no connection: it has no upstream, no place in the registry, and counts as the
//!    refusal that it is.
//! 2. It is no amplifier: one answer and one Close, a few hundred bytes, whatever the client sends. It costs a
//!    buffer and a socket for two seconds, and at most `listen.max_refusals` at the same time: others get the
//!    status.
//!
//! # Not here
//! What is refused, and in which words ([`crate::admission::Refused`]); who says the Close (`connection::closing`).

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, header};

use super::handshake;
use crate::admission::Refused;
use crate::config::CloseCodes;
use crate::frame::accept_for;
use crate::net::http::{X_OUTRIGGER_REASON, switching_protocols, tokens};
use crate::server::http::upgrade::PendingClose;
use crate::server::limits::refusals::RefusalLimit;

/// What a well-formed handshake is answered if it is to be accepted, whatever becomes of it.
#[derive(Debug)]
pub(super) struct AcceptThenClose {
    accept: HeaderValue,
    protocol: Option<HeaderValue>,
}

impl AcceptThenClose {
    /// `None`: it is not well formed, and its sender no browser.
    pub(super) fn of(head: &Parts, has_body: bool) -> Option<Self> {
        handshake::check(head, has_body).ok()?;
        let key = head.headers.get(header::SEC_WEBSOCKET_KEY)?;
        Some(Self {
            accept: HeaderValue::from_str(&accept_for(key.as_bytes())).ok()?,
            protocol: first_protocol(&head.headers),
        })
    }

    /// The 101 in place of `refused`, and the Close after it; `None`: it is told by its status.
    pub(super) fn instead_of(
        self,
        refused: &Refused,
        codes: &CloseCodes,
        refusals: &Arc<RefusalLimit>,
        max: usize,
    ) -> Option<(Response<()>, PendingClose)> {
        let answer = refused.answer();
        let (code, reason) = answer.closing?.words(codes);
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

/// Of those that the client offers: browsers fail a handshake when none of theirs is chosen, and nobody would
/// read the Close.
fn first_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let first = tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).next()?;
    HeaderValue::from_str(first).ok()
}

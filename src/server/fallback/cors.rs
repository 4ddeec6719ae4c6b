//! Which pages of other origins may read an answer (WHATWG Fetch §3.2). Pure.
//!
//! Whoever may connect a WebSocket may read: `policy.origins` says so for both. With no list of origins any page may read, as
//! any page may connect; but not what the browser's cookies for this site open, since nobody has said that it may.

use http::{HeaderMap, HeaderValue, header};

use super::methods;
use crate::admission::is_origin_allowed;
use crate::config::{Auth, Endpoint, Policy};

/// Headers of an answer that a page may read.
const EXPOSED: HeaderValue = HeaderValue::from_static("X-Outrigger-Reason, Retry-After");

/// Headers that a page may send.
const ALLOWED: &str = "Authorization, Content-Type, Last-Event-ID, X-Outrigger-Session";

/// How long a browser need not ask again, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// What an answer says about who may read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) enum Cors {
    /// The page's own site alone.
    SameOrigin,
    /// Any page, without credentials.
    Any,
    /// This page; `with_credentials`: also what its cookies open.
    Origin { origin: HeaderValue, with_credentials: bool },
}

impl Cors {
    /// For a request with these headers.
    pub(in crate::server) fn of(policy: &Policy, headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(header::ORIGIN).into_iter();
        let (Some(origin), None) = (values.next(), values.next()) else { return Self::SameOrigin };
        match &policy.origins {
            None => Self::Any,
            Some(origins) if is_origin_allowed(origins, origin) => {
                // Any page can have a frame whose origin is null.
                let with_credentials = origin != "null";
                // A copy: it may be kept for longer than the head.
                let origin = HeaderValue::from_bytes(origin.as_bytes()).unwrap_or_else(|_| origin.clone());
                Self::Origin { origin, with_credentials }
            }
            Some(_) => Self::SameOrigin,
        }
    }

    /// Says so in an answer. `policy`: the one that decided.
    pub(in crate::server) fn set(&self, policy: &Policy, headers: &mut HeaderMap) {
        if policy.origins.is_some() {
            // A cache must not give one page's answer to another.
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let origin = match self {
            Self::SameOrigin => return,
            Self::Any => HeaderValue::from_static("*"),
            Self::Origin { origin, with_credentials } => {
                if *with_credentials {
                    headers
                        .insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
                }
                origin.clone()
            }
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

/// What a preflight is answered beside that.
pub(super) fn set_preflight(policy: &Policy, endpoint: Endpoint, headers: &mut HeaderMap) {
    let allowed = match &policy.auth {
        Some(Auth::ApiKeys(keys)) => HeaderValue::try_from(format!("{ALLOWED}, {}", keys.header)),
        _ => Ok(HeaderValue::from_static(ALLOWED)),
    };
    if let Ok(allowed) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    let methods = HeaderValue::from_static(methods::allowed(endpoint));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
}

#[cfg(test)]
mod tests;

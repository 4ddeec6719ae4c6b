//! Signed tokens (RFC 7519, RFC 8725).
//!
//! # Invariants
//! 1. The algorithm is one that the operator listed and that fits the key; the token only chooses among
//!    those.
//! 2. Nothing of a token is believed before its signature was verified: until then its head only serves to choose the key.
//! 3. Keys and rules are parsed when the configuration is; a check parses the token alone.
//!
//! # Why are the times checked here, and not by the library?
//! It reads the system's clock by itself, in whole seconds, and a leeway above the clock would make it
//! panic. Here `now` is an argument.
//!
//! # Not here
//! Where the token stood ([`super::tokens`]), where keys come from ([`super::keys`], [`super::jwks`]).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Validation;
use jsonwebtoken::errors::ErrorKind;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::algorithms;
use super::keys::KeySet;
use super::user_name::user_name;
use crate::admission::User;
use crate::config::{self, JwtAlgorithm};
use crate::resilience::Expiry;
use crate::telemetry::AuthFailure;

/// A token that is valid for longer than this (30 years) does not end its connection: adding it to a clock could overflow.
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// What a token has to be.
#[derive(Debug)]
pub(super) struct Rules {
    validations: Vec<(JwtAlgorithm, Validation)>,
    leeway: Duration,
    user_claim: Box<str>,
    close_on_expiry: bool,
}

/// What is looked at before the signature is checked.
#[derive(Debug, Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow, default)]
    kid: Option<Cow<'a, str>>,
    crit: Option<IgnoredAny>,
}

impl Rules {
    pub(super) fn new(config: &config::Jwt) -> Self {
        let validation = |algorithm: &JwtAlgorithm| {
            let mut validation = Validation::new(algorithms::library(*algorithm));
            // The library asks for `iss` and `aud` only where the token has them.
            let mut required = vec!["exp"];
            if let Some(issuer) = &config.issuer {
                validation.set_issuer(&[issuer]);
                required.push("iss");
            }
            validation.validate_aud = !config.audience.is_empty();
            if validation.validate_aud {
                validation.set_audience(&config.audience);
                required.push("aud");
            }
            validation.set_required_spec_claims(&required);
            validation.validate_exp = false;
            validation.validate_nbf = false;
            (*algorithm, validation)
        };
        Self {
            validations: config.algorithms.iter().map(validation).collect(),
            leeway: config.leeway,
            user_claim: config.user_claim.as_str().into(),
            close_on_expiry: config.close_on_expiry,
        }
    }

    /// Whether this token, which was refused for `failure`, may be good with other keys.
    pub(super) fn may_change(&self, failure: AuthFailure, token: &[u8]) -> bool {
        match failure {
            AuthFailure::UnknownKey | AuthFailure::Signature => true,
            // Of a key that was there under its name, unless it is one that nobody may use.
            AuthFailure::Algorithm => head(token).is_ok_and(|head| {
                let head: Result<Head<'_>, _> = serde_json::from_slice(&head);
                head.is_ok_and(|head| self.allowed(&head.alg).is_some())
            }),
            _ => false,
        }
    }

    /// What a token of this algorithm has to be, if it is one that may be used.
    fn allowed(&self, name: &str) -> Option<&(JwtAlgorithm, Validation)> {
        let named = algorithms::named(name);
        self.validations.iter().find(|(algorithm, _)| named == Some(*algorithm))
    }

    /// Who shows this token, at `now`.
    ///
    /// # Errors
    /// Why it is not believed; [`Rules::may_change`] tells whether other keys could change that.
    pub(super) fn check(&self, token: &[u8], keys: &KeySet, now: SystemTime) -> Result<User, AuthFailure> {
        // The system's clock may stand before 1970; nothing is valid then.
        let wall_clock = now;
        let now = wall_clock.duration_since(UNIX_EPOCH).map_err(|_| AuthFailure::NotYetValid)?;
        let head = head(token)?;
        let head: Head<'_> = serde_json::from_slice(&head).map_err(|_| AuthFailure::Malformed)?;
        // RFC 7515 §4.1.11: an extension that must be understood, and is not.
        if head.crit.is_some() {
            return Err(AuthFailure::Malformed);
        }
        let (algorithm, validation) = self.allowed(&head.alg).ok_or(AuthFailure::Algorithm)?;
        let key = keys.pick(head.kid.as_deref(), *algorithm)?;
        let claims = jsonwebtoken::decode::<Map<String, Value>>(token, key, validation)
            .map_err(|error| reason(error.kind()))?
            .claims;

        let expires = claims.get("exp").and_then(date).ok_or(AuthFailure::Claims)?;
        let ends = expires.saturating_add(self.leeway);
        if now >= ends {
            return Err(AuthFailure::Expired);
        }
        if let Some(begins) = claims.get("nbf") {
            let begins = date(begins).ok_or(AuthFailure::Claims)?;
            if begins > now.saturating_add(self.leeway) {
                return Err(AuthFailure::NotYetValid);
            }
        }
        let name: Arc<str> = match claims.get(&*self.user_claim) {
            Some(Value::String(name)) => user_name(name),
            Some(Value::Number(number)) if !number.is_f64() => user_name(&number.to_string()),
            None => return Err(AuthFailure::Claims),
            Some(_) => None,
        }
        .ok_or(AuthFailure::User)?;
        let left = Some(ends.saturating_sub(now)).filter(|left| self.close_on_expiry && *left < MAX_LIFETIME);
        Ok(User { name, expires: left.and_then(|left| Expiry::after(left, Instant::now(), wall_clock)) })
    }
}

/// The first part of a token, decoded (RFC 7515 §7.1).
fn head(token: &[u8]) -> Result<Vec<u8>, AuthFailure> {
    let encoded = token.split(|byte| *byte == b'.').next().unwrap_or_default();
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_| AuthFailure::Malformed)
}

/// `NumericDate` (RFC 7519 §2): seconds, which may have a fraction.
fn date(value: &Value) -> Option<Duration> {
    match value.as_u64() {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    }
}

fn reason(kind: &ErrorKind) -> AuthFailure {
    match kind {
        ErrorKind::InvalidSignature => AuthFailure::Signature,
        ErrorKind::InvalidIssuer => AuthFailure::Issuer,
        ErrorKind::InvalidAudience => AuthFailure::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => AuthFailure::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => AuthFailure::Audience,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => AuthFailure::Claims,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => AuthFailure::Algorithm,
        _ => AuthFailure::Malformed,
    }
}

#[cfg(test)]
mod tests;

//! Authentication: by signed tokens, API keys, or an authentication service.
//!
//! # Invariants
//! 1. Credentials that cannot be checked are refused: no error lets a request in.
//! 2. The client learns that it is refused, never why. The reason is in the log and a label of a metric.
//! 3. Neither a token nor a key is in a log line, an error, a metric or a `Debug`.
//! 4. Everything that the configuration gives is parsed when the [`Authenticator`] is made.
//!
//! # Which credentials the upstream sees
//! A token in the query or among the subprotocols is for the proxy: it is removed, and the upstream does not see it
//! ([`tokens`], [`crate::net::own_protocols`]). `Authorization`, cookies and the header of an API key are passed on unchanged: the upstream may read
//! them as it did without a proxy.
//!
//! # Not here
//! Which page it comes from (origin), how often (rate); what is refused is told by
//! [`crate::admission::Refused`].

mod algorithms;
mod api_keys;
mod error;
mod forward;
mod jwks;
mod jwt;
mod keys;
mod tokens;
mod user_name;
mod waiting;

use std::sync::Arc;
use std::time::SystemTime;

use http::{Method, header};
use tracing::warn;

pub(crate) use self::error::AuthError;

use self::api_keys::ApiKeys;
use self::forward::{Allowed, Forward};
use self::jwks::{Jwks, Source};
use self::jwt::Rules;
use self::keys::KeySet;
use super::check::Check;
use super::context::{FallbackUse, Kind, RequestContext, User};
use super::refused::Refused;
use crate::config::{self, Auth, HttpMode, JwtKeys, TokenSource};
use crate::telemetry::{AuthFailure, Metrics};

/// RFC 7518 §3.2 wants as many bytes as the hash has.
const MIN_SECRET: usize = 32;
/// Authenticates clients as one `policy.auth` says.
#[derive(Debug)]
pub(crate) struct Authenticator {
    config: Auth,
    method: AuthMethod,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
enum AuthMethod {
    Jwt { sources: Vec<TokenSource>, rules: Rules, keys: Keys },
    ApiKeys(ApiKeys),
    Forward(Box<Forward>),
}

#[derive(Debug)]
enum Keys {
    Fixed(KeySet),
    Url(Jwks),
}

impl Authenticator {
    /// Parses the files, and begins to fetch where there is a URL, for which it needs a runtime. Keys that one of
    /// `earlier` has fetched from the same URL are used until there are newer ones: a setting that changes while their
    /// server is down locks no client out.
    ///
    /// # Errors
    /// A file does not hold what it should.
    pub(crate) fn new<'a>(
        config: &Auth,
        earlier: impl IntoIterator<Item = &'a Arc<Self>>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, AuthError> {
        let metrics = Arc::clone(metrics);
        let method = match config {
            Auth::Jwt(jwt) => {
                let fetched = earlier.into_iter().find_map(|earlier| earlier.fetched(jwt));
                AuthMethod::Jwt {
                    sources: jwt.token_from.clone(),
                    rules: Rules::new(jwt),
                    keys: Keys::new(jwt, fetched, &metrics)?,
                }
            }
            Auth::ApiKeys(keys) => AuthMethod::ApiKeys(ApiKeys::new(keys)?),
            Auth::Forward(forward) => {
                AuthMethod::Forward(Box::new(Forward::new(forward, Arc::clone(&metrics))?))
            }
        };
        Ok(Self { config: config.clone(), method, metrics })
    }

    /// The keys that it has fetched, if `jwt` would fetch the same.
    fn fetched(&self, jwt: &config::Jwt) -> Option<Arc<KeySet>> {
        let (Auth::Jwt(own), AuthMethod::Jwt { keys: Keys::Url(keys), .. }) = (&self.config, &self.method)
        else {
            return None;
        };
        let place = |jwt: &config::Jwt| match &jwt.keys {
            JwtKeys::JwksUrl { url, ca, .. } => Some((url.clone(), ca.clone())),
            JwtKeys::Secret(_) | JwtKeys::PublicKey(_) | JwtKeys::JwksFile(_) => None,
        };
        // Which algorithms there are decides which keys of a set are kept.
        let is_same = own.algorithms == jwt.algorithms && place(own) == place(jwt);
        keys.fetched().filter(|_| is_same)
    }

    /// Removes from the request the credentials that only the proxy may see, and authenticates it.
    async fn check(&self, context: &mut RequestContext) -> Result<Option<User>, (AuthFailure, Refused)> {
        match &self.method {
            AuthMethod::Jwt { sources, rules, keys } => {
                let token = tokens::take(sources, &mut context.head, context.own_protocols.as_deref());
                if is_preflight(context) {
                    return Ok(context.user.take());
                }
                let token = token.map_err(refused)?;
                let check = |keys: &KeySet| rules.check(token.as_bytes(), keys, SystemTime::now());
                let user = match keys {
                    Keys::Fixed(keys) => check(keys),
                    Keys::Url(keys) => {
                        keys.with(check, |failure| rules.may_change(failure, token.as_bytes())).await
                    }
                };
                user.map(Some).map_err(refused)
            }
            _ if is_preflight(context) => Ok(context.user.take()),
            AuthMethod::ApiKeys(keys) => {
                let name = keys.check(&context.head.headers).map_err(refused)?;
                Ok(Some(User { name, expires: None }))
            }
            AuthMethod::Forward(service) => {
                let Allowed { user, attested } = service.check(context).await?;
                context.attested = attested;
                Ok(user.map(|name| User { name, expires: None }))
            }
        }
    }
}

impl Keys {
    /// `fetched`: of the same URL, from before.
    fn new(
        jwt: &config::Jwt,
        fetched: Option<Arc<KeySet>>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, AuthError> {
        Ok(match &jwt.keys {
            JwtKeys::Secret(file) => {
                if file.contents.trim_ascii_end().len() < MIN_SECRET {
                    let path = file.path.display();
                    warn!(%path, "the secret is shorter than 32 bytes: whoever has one token can guess it");
                }
                Self::Fixed(KeySet::secret(file)?)
            }
            JwtKeys::PublicKey(file) => Self::Fixed(KeySet::public(file, &jwt.algorithms)?),
            JwtKeys::JwksFile(file) => {
                let wrong = |what| AuthError::Jwks { path: file.path.clone(), what };
                Self::Fixed(KeySet::from_json(&file.contents, &jwt.algorithms).map_err(wrong)?)
            }
            JwtKeys::JwksUrl { url, ca, refresh, min_interval } => {
                let source = Source::new(url, ca.as_ref(), *refresh, *min_interval, &jwt.algorithms)?;
                Self::Url(Jwks::new(source, fetched, Arc::clone(metrics)))
            }
        })
    }
}

/// The refusal of an authentication failure.
fn refused(failure: AuthFailure) -> (AuthFailure, Refused) {
    let refused = match failure {
        AuthFailure::Unavailable => Refused::AuthUnavailable,
        other => Refused::Unauthorized(other),
    };
    (failure, refused)
}

/// Whether it is a CORS preflight, which browsers send without credentials.
fn is_preflight(context: &RequestContext) -> bool {
    let headers = &context.head.headers;
    let is_plain = context.kind == Kind::Plain
        && context.head.method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    is_plain || context.kind == Kind::Fallback(FallbackUse::Preflight)
}

/// The check that runs the route's [`Authenticator`], if there is one.
#[derive(Debug)]
pub(super) struct Authentication {
    authenticator: Option<Arc<Authenticator>>,
    http: HttpMode,
}

impl Authentication {
    pub(super) fn new(authenticator: Option<Arc<Authenticator>>, http: HttpMode) -> Self {
        Self { authenticator, http }
    }
}

impl Check for Authentication {
    async fn check(&self, context: &mut RequestContext) -> Result<(), Refused> {
        let Some(authenticator) = &self.authenticator else { return Ok(()) };
        if let AuthMethod::Forward(service) = &authenticator.method {
            // Also where the service is not asked: the server behind believes these headers on every request.
            service.strip_reserved(&mut context.head.headers);
        }
        if context.kind == Kind::Plain && self.http != HttpMode::Guard {
            return Ok(());
        }
        match authenticator.check(context).await {
            Ok(user) => {
                context.user = user;
                Ok(())
            }
            Err((failure, refused)) => {
                authenticator.metrics.admission.auth_failures.inc(failure);
                Err(refused)
            }
        }
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

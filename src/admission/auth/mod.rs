//! Who is it? Signed tokens, API keys, or somebody else is asked.
//!
//! # Invariants
//! 1. Whoever cannot be checked does not come in: an error is a refusal.
//! 2. The client is told that it is refused, never why. The reason is a word in the log and a label.
//! 3. Neither a token nor a key is in a log line, an error, a metric or a `Debug`.
//! 4. Everything that the configuration gives is parsed when the [`Authenticator`] is made.
//!
//! # Where credentials go on to
//! A token in the query or among the subprotocols is ours: it is taken out, and the server behind does not
//! see it ([`tokens`]). `Authorization`, cookies and the header of an API key are the client's, and pass on
//! unchanged: the server may read them as it did before there was a proxy.
//!
//! # Not here
//! Which page it comes from (origin), how often (rate); what is refused is told by
//! [`crate::admission::Refused`].

mod api_keys;
mod forward;
mod jwks;
mod jwt;
mod keys;
mod tokens;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use http::{Method, header};
use tracing::warn;

use self::api_keys::ApiKeys;
use self::forward::{Admitted, Forward};
use self::jwks::{Jwks, Source};
use self::jwt::Rules;
use self::keys::KeySet;
use super::check::Check;
use super::context::{Kind, RequestContext, User};
use super::refused::Refused;
use crate::config::{self, Auth, HttpMode, JwtKeys, TokenSource};
use crate::net::FetchError;
use crate::net::tls::TlsError;
use crate::telemetry::{AuthFailure, Metrics};

/// Longest name of a user: it travels in a header, and is a key of limits.
const MAX_USER: usize = 256;
/// RFC 7518 §3.2 wants as many bytes as the hash has.
const ENOUGH_SECRET: usize = 32;

/// Why credentials could not be checked with what the configuration gives.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// `jwt.secret_file`
    #[error("policy.auth.jwt.secret_file: {} is empty; write a random secret of 32 bytes or more into it", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
    },
    /// `jwt.public_key_file`
    #[error("policy.auth.jwt.public_key_file: {}: {what}", path.display())]
    PublicKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// `jwt.jwks_file`
    #[error("policy.auth.jwt.jwks_file: {}: {what}", path.display())]
    Jwks {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// `api_keys.file`
    #[error("policy.auth.api_keys.file: {}, line {line}: {what}; a line is `user:` and the SHA-256 of a key in hexadecimal", path.display())]
    ApiKeys {
        /// The file.
        path: PathBuf,
        /// The first line that is wrong, from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// `jwt.jwks_url` or `forward.url`
    #[error("policy.auth.{key}: {error}")]
    Url {
        /// Below `policy.auth`.
        key: &'static str,
        /// What is wrong with it.
        error: FetchError,
    },
    /// The certificate authorities of either; names the setting and the file.
    #[error(transparent)]
    Authorities(TlsError),
    /// `api_keys.header`, `forward.user_header` or `forward.headers`
    #[error("policy.auth.{0}: it is not the name of a header")]
    Header(&'static str),
}

impl AuthError {
    /// Why nothing can be fetched from the URL of `key`.
    fn of_url(key: &'static str, error: FetchError) -> Self {
        match error {
            FetchError::Tls(error) => Self::Authorities(error),
            error => Self::Url { key, error },
        }
    }
}

/// Knows how to tell who somebody is, as one `policy.auth` has it.
#[derive(Debug)]
pub(crate) struct Authenticator {
    config: Auth,
    means: AuthMethod,
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
    /// Parses what there is to parse, and begins to fetch where there is a URL; that takes a runtime. Keys that one
    /// of `earlier` has fetched from the same place hold until there are newer ones: a setting that changes while
    /// their server is down locks nobody out.
    ///
    /// # Errors
    /// A file does not hold what it should.
    pub(crate) fn new<'a>(
        config: &Auth,
        earlier: impl IntoIterator<Item = &'a Arc<Self>>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, AuthError> {
        let metrics = Arc::clone(metrics);
        let means = match config {
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
        Ok(Self { config: config.clone(), means, metrics })
    }

    /// The keys that it has fetched, if they are what `jwt` would fetch.
    fn fetched(&self, jwt: &config::Jwt) -> Option<Arc<KeySet>> {
        let (Auth::Jwt(own), AuthMethod::Jwt { keys: Keys::Url(keys), .. }) = (&self.config, &self.means)
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

    /// Takes out of `guest` what only we may see, and finds out who it is.
    async fn check(&self, guest: &mut RequestContext) -> Result<Option<User>, (AuthFailure, Refused)> {
        match &self.means {
            AuthMethod::Jwt { sources, rules, keys } => {
                let (token, own_protocol) = tokens::take(sources, &mut guest.head);
                guest.own_protocol = own_protocol;
                if is_preflight(guest) {
                    return Ok(guest.user.take());
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
            _ if is_preflight(guest) => Ok(guest.user.take()),
            AuthMethod::ApiKeys(keys) => {
                let name = keys.check(&guest.head.headers).map_err(refused)?;
                Ok(Some(User { name, expires: None }))
            }
            AuthMethod::Forward(service) => {
                let Admitted { user, attested } = service.check(guest).await?;
                guest.attested = attested;
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
                if file.contents.trim_ascii_end().len() < ENOUGH_SECRET {
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

/// How a failure of ours is answered.
fn refused(failure: AuthFailure) -> (AuthFailure, Refused) {
    let refused = match failure {
        AuthFailure::Unavailable => Refused::AuthUnavailable,
        other => Refused::Unauthorized(other),
    };
    (failure, refused)
}

/// A browser asks whether it may ask. It sends no credentials with that, and cannot.
fn is_preflight(guest: &RequestContext) -> bool {
    let headers = &guest.head.headers;
    guest.kind == Kind::Plain
        && guest.head.method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// A name that can travel in a header and stand in a log line as it is.
fn user_name(name: &str) -> Option<Arc<str>> {
    let is_good = (1..=MAX_USER).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_good.then(|| name.into())
}

/// The layer: asks its route's [`Authenticator`], if there is one.
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
    async fn check(&self, guest: &mut RequestContext) -> Result<(), Refused> {
        let Some(authenticator) = &self.authenticator else { return Ok(()) };
        if let AuthMethod::Forward(service) = &authenticator.means {
            // Also where nobody is asked: the server believes these names, whoever lets the request in.
            service.take_out(&mut guest.head.headers);
        }
        if guest.kind == Kind::Plain && self.http != HttpMode::Guard {
            return Ok(());
        }
        match authenticator.check(guest).await {
            Ok(user) => {
                guest.user = user;
                Ok(())
            }
            Err((failure, refused)) => {
                authenticator.metrics.on_auth_failure(failure);
                Err(refused)
            }
        }
    }
}

/// Counts a request for as long as its credentials wait for somebody else.
struct Waiting<'a>(&'a Metrics);

impl<'a> Waiting<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.auth_waiting.inc();
        Self(metrics)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.auth_waiting.dec();
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

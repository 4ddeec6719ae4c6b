//! What a `policy.auth` is refused for when it is made ready.

use std::path::PathBuf;

use crate::net::FetchError;
use crate::net::tls::TlsError;

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
    pub(super) fn of_url(key: &'static str, error: FetchError) -> Self {
        match error {
            FetchError::Tls(error) => Self::Authorities(error),
            error => Self::Url { key, error },
        }
    }
}

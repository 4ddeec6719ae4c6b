//! Who clients are.

mod api_keys;

pub use api_keys::ApiKey;

use std::time::Duration;

use crate::config::model::file::File;

/// `policy.auth`
#[derive(Debug, Clone, PartialEq)]
pub enum Auth {
    /// Signed tokens.
    Jwt(Jwt),
    /// Keys from a list.
    ApiKeys(ApiKeys),
    /// Somebody else is asked.
    Forward(ForwardAuth),
}

/// `policy.auth.jwt`
#[derive(Debug, Clone, PartialEq)]
pub struct Jwt {
    /// What signatures are checked with.
    pub keys: JwtKeys,
    /// What may stand in `alg`; not empty, and all of the family that `keys` can check.
    pub algorithms: Vec<JwtAlgorithm>,
    /// `iss` has to be this.
    pub issuer: Option<String>,
    /// `aud` has to have one of these; empty: whatever it is.
    pub audience: Vec<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// The claim that names the user.
    pub user_claim: String,
    /// Where to look, in this order; not empty.
    pub token_from: Vec<TokenSource>,
    /// Whether the connection ends with the token.
    pub close_on_expiry: bool,
}

/// Where the keys of tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// `secret_file`: the file's bytes without a last line break, for HS256, HS384, HS512.
    Secret(File),
    /// `public_key_file`: PEM.
    PublicKey(File),
    /// `jwks_file`
    JwksFile(File),
    /// `jwks_url`
    JwksUrl {
        /// `http://` or `https://`; checked to be a URL.
        url: String,
        /// Authorities of its server, PEM, where it is `https://`; `None`: the system's.
        ca: Option<File>,
        /// How old a key set may get.
        refresh: Duration,
        /// Least time between two fetches because of a key id that is not known, or a signature that does not
        /// fit its key.
        min_interval: Duration,
    },
}

/// `policy.auth.jwt.algorithms`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of RFC 7518 §3.1")]
pub enum JwtAlgorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// Where a token stands in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// `Authorization: Bearer …`
    Header,
    /// `cookie:NAME`; only with `origins`, since browsers send cookies for any page.
    Cookie(String),
    /// `query:NAME`; taken out before the upstream and the log see it.
    Query(String),
    /// An entry of `Sec-WebSocket-Protocol` after the entry `outrigger.bearer`; both are taken out.
    Subprotocol,
}

/// `policy.auth.api_keys`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeys {
    /// `user:sha256hex` a line; checked. [`ApiKeys::keys`] reads it.
    pub file: File,
    /// In lower case.
    pub header: String,
}

/// `policy.auth.forward`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardAuth {
    /// `http://` or `https://`; checked to be a URL.
    pub url: String,
    /// Authorities of its server, PEM, where it is `https://`; `None`: the system's.
    pub ca: Option<File>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The header of its answer that names the user, in lower case.
    pub user_header: String,
    /// Headers of its answer that the upstream gets as well, in lower case. Nobody else may say them.
    pub headers: Vec<String>,
}

//! Who may come in, how fast, how many.

use std::time::Duration;

use super::{File, Rate};

/// `policy.limits`, without the rates; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of the route.
    pub connections: Option<u32>,
    /// Connections of one address (IPv6: of one /64) on the route.
    pub per_ip: Option<u32>,
    /// Connections of one user on the route.
    pub per_user: Option<u32>,
    /// What becomes of a user's handshake beyond `per_user`.
    pub on_user_limit: OnUserLimit,
}

/// `policy.limits.on_user_limit`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUserLimit {
    /// It is refused.
    Refuse,
    /// It comes in, and the oldest connection of the user is closed for it.
    ReplaceOldest,
}

/// `policy.limits.control_rate`: control frames of one client (RFC 6455 §5.5).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ControlRate {
    /// [`CONTROL_RATE`] where the proxy answers them; none in tunnels, which pass them.
    Auto,
    /// No limit.
    Off,
    /// This, in every mode.
    At(Rate),
}

/// What `control_rate: auto` comes to in feeds: far more than any client has a use for, heartbeats of applications
/// among them.
pub const CONTROL_RATE: Rate = Rate { per_second: 100.0, burst: 1000 };

impl ControlRate {
    /// Where they end at the proxy.
    pub fn in_feeds(self) -> Option<Rate> {
        match self {
            Self::Auto => Some(CONTROL_RATE),
            Self::Off => None,
            Self::At(rate) => Some(rate),
        }
    }

    /// Where they pass.
    pub fn in_tunnels(self) -> Option<Rate> {
        match self {
            Self::Auto | Self::Off => None,
            Self::At(rate) => Some(rate),
        }
    }
}

/// `policy.handshake_rate`. Routes whose settings are equal share the buckets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HandshakeRate {
    /// All together.
    pub global: Option<Rate>,
    /// One address (IPv6: one /64).
    pub per_ip: Option<Rate>,
    /// One user.
    pub per_user: Option<Rate>,
    /// How long a handshake may wait for a token of `global`; zero: it is refused at once.
    pub queue: Duration,
    /// How many may wait.
    pub max_queued: usize,
    /// Addresses and users that are told apart, each; more are let pass by the rate of one, and counted.
    pub max_keys: usize,
}

/// `policy.http.rate`. Routes whose settings are equal share the buckets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HttpRate {
    /// All together.
    pub global: Option<Rate>,
    /// One address (IPv6: one /64).
    pub per_ip: Option<Rate>,
    /// Addresses that are told apart; more are let pass by the rate of one, and counted.
    pub max_keys: usize,
}

/// `policy.on_refuse`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRefuse {
    /// By a status.
    Http,
    /// Accepted, and closed with a code that browsers can read.
    Close,
}

/// `policy.origins`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins {
    /// Any of these.
    pub allow: Vec<OriginPattern>,
    /// Whether a request without `Origin` may come in: a browser always sends one.
    pub missing: bool,
}

/// Which pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPattern {
    /// Those that have no origin of their own and send `null`: sandboxed frames, `data:` URLs, files.
    Null,
    /// Those of an origin, or of several that differ in one part.
    Of {
        /// In lower case.
        scheme: String,
        /// In lower case, without brackets, without the `*.` and without the root's dot. Empty for `file` alone.
        host: String,
        /// Any name below `host`, at whatever depth, and not `host` itself.
        subdomains: bool,
        /// Never the default left out: 80 and 443 stand here too. 0: none, of a scheme that has no default. `None`: any.
        port: Option<u16>,
    },
}

impl OriginPattern {
    /// The port of an origin of `scheme` (in lower case) that names none.
    pub fn default_port(scheme: &str) -> u16 {
        match scheme {
            "http" => 80,
            "https" => 443,
            _ => 0,
        }
    }
}

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

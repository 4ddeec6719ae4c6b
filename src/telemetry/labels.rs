//! The values labels can take: enums, so that no client can invent one.

/// A set of label values that is known in full.
pub trait Label: Copy + 'static {
    /// Every value, in the order of their discriminants.
    const ALL: &'static [Self];
    /// As it stands in the metric.
    fn as_str(self) -> &'static str;
    /// Its place in [`Label::ALL`].
    fn index(self) -> usize;
}

macro_rules! labels {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

labels! {
    /// Why a connection ended (`outrigger_disconnections_total{reason}`).
    Reason {
        /// The client said Close first.
        ClientClose = "client_close",
        /// The upstream said Close first.
        UpstreamClose = "upstream_close",
        /// The client's connection ended without a Close.
        ClientLost = "client_lost",
        /// The upstream's connection ended without a Close.
        UpstreamLost = "upstream_lost",
        /// The client answered no ping.
        HeartbeatTimeout = "heartbeat_timeout",
        /// The upstream answered no ping.
        UpstreamHeartbeatTimeout = "upstream_heartbeat_timeout",
        /// No sign of life.
        IdleTimeout = "idle_timeout",
        /// A side broke RFC 6455.
        ProtocolError = "protocol_error",
        /// A frame or message above its limit.
        TooLarge = "too_large",
        /// The client did not read.
        SlowConsumer = "slow_consumer",
        /// The client of a feed said something that it may not.
        UplinkRefused = "uplink_refused",
        /// The client said more control frames than it may.
        ControlRate = "control_rate",
        /// The upstream did not read.
        SlowUpstream = "slow_upstream",
        /// `max_lifetime`.
        Lifetime = "lifetime",
        /// Its credentials ended.
        Expired = "expired",
        /// A newer connection of its user took its place.
        Replaced = "replaced",
        /// The proxy is being stopped.
        Drained = "drained",
        /// The task that served it has panicked.
        InternalError = "internal_error",
        /// The process ended before the connection did.
        Aborted = "aborted",
    }
}

labels! {
    /// What kind of task has panicked (`outrigger_task_panics_total{task}`).
    TaskKind {
        /// Takes connections in.
        Accept = "accept",
        /// Serves the admin port.
        Admin = "admin",
        /// One HTTP connection, or one request of HTTP/2.
        Connection = "connection",
        /// One connection of mode `tunnel`.
        Tunnel = "tunnel",
        /// The link of a channel to its server.
        Channel = "channel",
        /// Some of the clients of a channel.
        Shard = "shard",
        /// Carries out a publish request.
        Publish = "publish",
        /// Keeps a key set fresh.
        Jwks = "jwks",
        /// Forgets what is too old, twice a second.
        Sweep = "sweep",
        /// Reads the configuration again.
        Reload = "reload",
    }
}

labels! {
    /// Who said the first Close (`outrigger_closes_total{by}`).
    By {
        /// The client.
        Client = "client",
        /// The server.
        Upstream = "upstream",
        /// We.
        Proxy = "proxy",
    }
}

labels! {
    /// How a WebSocket handshake went (`outrigger_handshakes_total{outcome}`).
    HandshakeOutcome {
        /// 101 on both sides.
        Accepted = "accepted",
        /// The upstream answered with something else, which was passed on.
        Refused = "refused",
        /// Not a well-formed handshake.
        Malformed = "malformed",
        /// The upstream could not be reached.
        Unreachable = "unreachable",
        /// The upstream did not answer in time.
        Timeout = "timeout",
        /// The upstream's 101 was not a valid answer.
        BadUpgrade = "bad_upgrade",
        /// The client went away before the end.
        Abandoned = "abandoned",
        /// The proxy is being stopped.
        Draining = "draining",
        /// `listen.max_handshakes`
        TooManyHandshakes = "crowded",
        /// `policy.handshake_rate`
        RateLimited = "rate_limited",
        /// `policy.limits`
        AtCapacity = "at_capacity",
        /// `policy.origins`
        ForeignOrigin = "foreign_origin",
        /// No credentials, or wrong ones.
        Unauthorized = "unauthorized",
        /// Credentials could not be checked.
        AuthUnavailable = "auth_unavailable",
        /// The upstream keeps failing: it was not asked.
        BreakerOpen = "breaker_open",
    }
}

labels! {
    /// Which guard of a route turned a handshake or a request away (`outrigger_refusals_total{reason}`): the words
    /// of `X-Outrigger-Reason`.
    RefusalReason {
        /// `handshake_rate.global`
        RateGlobal = "rate_global",
        /// `handshake_rate.per_ip`
        RatePerIp = "rate_per_ip",
        /// `handshake_rate.per_user`
        RatePerUser = "rate_per_user",
        /// `http.rate.global`
        HttpRateGlobal = "http_rate_global",
        /// `http.rate.per_ip`
        HttpRatePerIp = "http_rate_per_ip",
        /// `limits.connections`
        Capacity = "capacity",
        /// `limits.per_ip`
        CapacityPerIp = "capacity_per_ip",
        /// `limits.per_user`
        CapacityPerUser = "capacity_per_user",
        /// `broadcast.max_channels`
        CapacityChannels = "capacity_channels",
        /// `policy.origins`
        Origin = "origin",
        /// `policy.auth`: no credentials, or wrong ones.
        Unauthorized = "unauthorized",
        /// `auth.forward`: the service's own answer.
        UnauthorizedByService = "unauthorized_by_service",
        /// Credentials could not be checked.
        AuthUnavailable = "auth_unavailable",
        /// `policy.breaker`
        BreakerOpen = "breaker_open",
    }
}

labels! {
    /// What a breaker stands around (`outrigger_breaker_state{scope}`).
    BreakerScope {
        /// Dials and handshakes of one route with its upstream.
        Upstream = "upstream",
        /// One client of a feed.
        Recipient = "recipient",
        /// All clients of one channel.
        Channel = "channel",
    }
}

labels! {
    /// Where a breaker stands (`outrigger_breaker_transitions_total{to}`).
    BreakerStage {
        /// All goes through.
        Closed = "closed",
        /// A little does, to see.
        HalfOpen = "half_open",
        /// Nothing does.
        Open = "open",
    }
}

labels! {
    /// Why messages of a feed did not go to a client one by one (`outrigger_messages_conflated_total{reason}`).
    Conflation {
        /// `delivery.throttle`
        Throttle = "throttle",
        /// `delivery.channel_breaker`
        ChannelBreaker = "channel_breaker",
    }
}

labels! {
    /// What made a log shorter (`outrigger_history_trimmed_total{reason}`).
    Trim {
        /// `history.messages`
        Messages = "messages",
        /// `history.bytes`
        Bytes = "bytes",
        /// `history.age`
        Age = "age",
        /// `memory.max_buffered`: nobody was to read them any more.
        Memory = "memory",
        /// `memory.max_buffered`: the furthest behind had not read them yet.
        Laggard = "laggard",
    }
}

labels! {
    /// How a dial for a channel went (`outrigger_uplink_dials_total{outcome}`).
    UplinkOutcome {
        /// The feed runs.
        Ok = "ok",
        /// No connection, no answer, or not a valid one.
        Failed = "failed",
        /// The upstream answered with something else than a 101.
        Refused = "refused",
        /// Its breaker is open: it was not asked.
        BreakerOpen = "breaker_open",
    }
}

labels! {
    /// How a channel lost its server, and dials it again (`outrigger_uplink_losses_total{cause}`).
    UplinkLoss {
        /// It said Close, with a code that is not final.
        Closed = "closed",
        /// Its connection ended without a Close.
        Lost = "lost",
        /// It broke a rule, or said too much.
        ProtocolError = "fault",
        /// It answered no ping.
        Silent = "silent",
        /// It read nothing.
        Stalled = "stalled",
    }
}

labels! {
    /// How a message that was put between those of a tunnel's server fared (`outrigger_injections_total{outcome}`).
    Injection {
        /// It is on its way to the client.
        Ok = "ok",
        /// Too many waited already, or the client lags.
        Full = "full",
        /// The connection ended before there was a place for it.
        Ended = "ended",
        /// An unknown extension was agreed upon: nobody knows what a frame of it looks like.
        Extension = "extension",
    }
}

labels! {
    /// Why a connection was turned away before anything of it was read
    /// (`outrigger_connections_refused_total{reason}`).
    ConnectionRefusal {
        /// `listen.max_handshakes`
        TooManyHandshakes = "too_many_handshakes",
    }
}

labels! {
    /// What was left when the time of a drain was over (`outrigger_drain_cut_total{what}`).
    DrainCut {
        /// WebSocket connections.
        Connections = "connections",
        /// Requests and handshakes that were not answered in full.
        Requests = "requests",
    }
}

labels! {
    /// Which bound an idle HTTP connection was let go for (`outrigger_http_idle_closed_total{reason}`).
    IdleBound {
        /// `listen.max_idle_http`
        All = "max_idle_http",
        /// `listen.max_idle_http_per_ip`
        Address = "max_idle_http_per_ip",
    }
}

labels! {
    /// Why a request was refused before a route was looked for (`outrigger_request_errors_total{reason}`).
    RequestError {
        /// `Host` is missing, doubled, or no host.
        Host = "host",
        /// The target is neither a path nor a URL, or has a character that it must not have.
        Target = "target",
        /// Where the request ends is not clear.
        Framing = "framing",
        /// A line is not as RFC 9112 has it.
        Syntax = "syntax",
        /// HTTP/2 where it is not spoken.
        Version = "version",
        /// `listen.max_header_bytes`
        TooLarge = "too_large",
        /// `listen.handshake_timeout`
        Timeout = "timeout",
        /// HTTP in the clear where TLS is spoken.
        Plaintext = "plaintext",
    }
}

labels! {
    /// Why a connection was ended for its PROXY header (`outrigger_proxy_protocol_errors_total{reason}`).
    ProxyFault {
        /// Something else came.
        Missing = "missing",
        /// It is not as the specification has it.
        Malformed = "malformed",
        /// It did not come in time.
        Timeout = "timeout",
    }
}

labels! {
    /// Why credentials were not taken (`outrigger_auth_failures_total{reason}`).
    AuthFailure {
        /// There are none.
        Missing = "missing",
        /// Two that differ, in one place.
        Ambiguous = "ambiguous",
        /// Too long, or not what a token or key looks like.
        Malformed = "malformed",
        /// An algorithm that is not among `algorithms`, or that its key is not for.
        Algorithm = "algorithm",
        /// A key id that the key set does not have, or that does not single out one key.
        UnknownKey = "unknown_key",
        /// Not signed with the key.
        Signature = "signature",
        /// Its time is over.
        Expired = "expired",
        /// Its time has not come.
        NotYetValid = "not_yet_valid",
        /// `iss`
        Issuer = "issuer",
        /// `aud`
        Audience = "audience",
        /// A claim that has to be there is not, or is not of the kind it has to be.
        Claims = "claims",
        /// The claim that names the user cannot travel in a header.
        User = "user",
        /// An API key that is not in the list.
        ApiKey = "api_key",
        /// The authentication service said no.
        Forward = "forward",
        /// They could not be checked.
        Unavailable = "unavailable",
    }
}

labels! {
    /// How a fetch of a key set went (`outrigger_jwks_fetches_total{outcome}`).
    JwksOutcome {
        /// The set is in use.
        Ok = "ok",
        /// No answer, or not one with a status of 200.
        Unreachable = "unreachable",
        /// An answer that is no key set, or one without a key for the configured algorithms.
        Invalid = "invalid",
    }
}

labels! {
    /// What came of reading the configuration again (`outrigger_config_reloads_total{outcome}`).
    ReloadOutcome {
        /// It holds now.
        Applied = "applied",
        /// It says what it said.
        Unchanged = "unchanged",
        /// It is wrong: the old one holds.
        Failed = "failed",
    }
}

labels! {
    /// What went wrong towards an upstream (`outrigger_upstream_errors_total{kind}`).
    UpstreamErrorKind {
        /// No connection.
        Connect = "connect",
        /// No connection in time.
        ConnectTimeout = "connect_timeout",
        /// A connection, but no TLS over it.
        Tls = "tls",
        /// No answer in time.
        ResponseTimeout = "response_timeout",
        /// The connection ended, or what came was not HTTP.
        Broken = "broken",
        /// A 101 that is none.
        BadUpgrade = "bad_upgrade",
    }
}

labels! {
    /// Why a client did not get through its TLS handshake (`outrigger_tls_handshake_failures_total{reason}`).
    TlsFailure {
        /// `listen.handshake_timeout`
        Timeout = "timeout",
        /// It spoke HTTP in the clear.
        Plaintext = "plaintext",
        /// One side did not believe the other's certificate, or saw none.
        Certificate = "certificate",
        /// No version, cipher or protocol in common, or not TLS at all.
        Protocol = "protocol",
        /// It went away.
        Lost = "lost",
    }
}

labels! {
    /// Which certificate of ours (`outrigger_tls_certificate_expiry_timestamp_seconds{kind}`).
    CertificateKind {
        /// `listen.tls.cert_file`
        Listen = "listen",
        /// `upstream.tls.cert_file`, of all upstreams the one that ends first.
        UpstreamClient = "upstream_client",
    }
}

labels! {
    /// The class of an HTTP answer (`outrigger_http_requests_total{class}`).
    StatusClass {
        /// 1xx.
        Informational = "1xx",
        /// 2xx.
        Success = "2xx",
        /// 3xx.
        Redirection = "3xx",
        /// 4xx.
        ClientError = "4xx",
        /// 5xx, and anything else.
        ServerError = "5xx",
    }
}

impl StatusClass {
    /// The class of `status`.
    pub fn of(status: http::StatusCode) -> Self {
        match status.as_u16() / 100 {
            1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirection,
            4 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<L: Label + std::fmt::Debug + PartialEq>() {
        for (at, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), at);
            let text = label.as_str();
            assert!(
                !text.is_empty()
                    && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
            assert!(L::ALL[..at].iter().all(|other| other.as_str() != text), "{text} twice");
        }
    }

    #[test]
    fn every_label_has_its_place_and_a_name_of_its_own() {
        check::<Reason>();
        check::<By>();
        check::<HandshakeOutcome>();
        check::<RefusalReason>();
        check::<BreakerScope>();
        check::<BreakerStage>();
        check::<Conflation>();
        check::<Trim>();
        check::<UplinkOutcome>();
        check::<UplinkLoss>();
        check::<Injection>();
        check::<ConnectionRefusal>();
        check::<DrainCut>();
        check::<IdleBound>();
        check::<RequestError>();
        check::<ProxyFault>();
        check::<AuthFailure>();
        check::<JwksOutcome>();
        check::<UpstreamErrorKind>();
        check::<TlsFailure>();
        check::<CertificateKind>();
        check::<StatusClass>();
    }
}

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
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        /// The upstream did not read.
        SlowUpstream = "slow_upstream",
        /// `max_lifetime`.
        Lifetime = "lifetime",
        /// Its credentials ended.
        Expired = "expired",
        /// The proxy is being stopped.
        Drained = "drained",
        /// The process ended before the connection did.
        Aborted = "aborted",
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
        Crowded = "crowded",
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
        /// No answer in time.
        ResponseTimeout = "response_timeout",
        /// The connection ended, or what came was not HTTP.
        Broken = "broken",
        /// A 101 that is none.
        BadUpgrade = "bad_upgrade",
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
        check::<UpstreamErrorKind>();
        check::<StatusClass>();
    }
}

//! Sections of which nothing is built: their keys and defaults, so that both are refused in time.

use serde::{Deserialize, Serialize};

use super::later::{Disk, Greeting, Identity, Later, Match, OnJoin, Redis};

/// Sections whose fields are all [`Later`]: keys, and what each is by default.
macro_rules! sections {
    ($($(#[$doc:meta])* $name:ident { $($key:ident: $type:ty = $default:expr),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields, expecting = "a map of settings")]
        pub(crate) struct $name {
            $($key: $type),+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default),+ }
            }
        }
    )+};
}

sections! {
    /// `memory`
    RawMemory { max_buffered: Later = Later::word("auto") }

    /// `telemetry`
    RawTelemetry {
        enabled: Later = Later::word("false"),
        path: Later = Later::word("/.outrigger/telemetry"),
    }

    /// `store`
    RawStore {
        disk: Later<Disk> = Later::default(),
        redis: Later<Redis> = Later::default(),
    }

    /// `policy.breaker`
    RawBreaker {
        window: Later = Later::word("10s"),
        min_calls: Later = Later::word("10"),
        failure_ratio: Later = Later::word("0.5"),
        statuses: Later = Later::list(&["502", "503", "504"]),
        open_for: Later = Later::word("5s"),
        probes: Later = Later::word("1"),
    }

    /// `policy.broadcast`
    RawBroadcast {
        channel_key: Later = Later::list(&["path", "query"]),
        credentials: Later = Later::word("strip"),
        uplink: Later = Later::word("drop"),
        linger: Later = Later::word("30s"),
        max_channels: Later = Later::word("1000"),
    }

    /// `policy.session`
    RawSession {
        resume_window: Later = Later::word("30s"),
        identity: Later<Identity> = Later::default(),
        redial: RawRedial = RawRedial::default(),
        greeting: Later<Greeting> = Later::default(),
        queue: RawQueue = RawQueue::default(),
        notices: Later = Later::word("false"),
        token_key_file: Later = Later::default(),
    }

    /// `policy.session.redial`
    RawRedial {
        base: Later = Later::word("100ms"),
        factor: Later = Later::word("2.0"),
        cap: Later = Later::word("5s"),
        give_up: Later = Later::word("60s"),
        reset_after: Later = Later::word("10s"),
    }

    /// `policy.session.queue`
    RawQueue {
        messages: Later = Later::word("100"),
        bytes: Later = Later::word("1MiB"),
        age: Later = Later::word("60s"),
        replay: Later = Later::word("unsent"),
        skip: Later<Match> = Later::default(),
    }

    /// `policy.history`
    RawHistory {
        messages: Later = Later::word("1000"),
        bytes: Later = Later::word("1MiB"),
        age: Later = Later::word("1h"),
        critical: Later<Match> = Later::default(),
        on_join: Later<OnJoin> = Later::word("none"),
        store: Later = Later::word("memory"),
    }

    /// `policy.fallback`
    RawFallback {
        sse: Later = Later::word("false"),
        poll: Later = Later::word("false"),
        replay: Later = Later::word("false"),
        prefix: Later = Later::word(""),
    }
}

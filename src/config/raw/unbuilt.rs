//! Sections of which nothing is built: their keys and defaults, so that both are refused in time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::later::{Disk, Later, Match, Redis};

/// Sections whose fields are all [`Later`]: keys, and what each is by default.
macro_rules! sections {
    ($($(#[$doc:meta])* $name:ident { $($key:ident: $type:ty = $default:expr),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
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

    /// `policy.session.queue`
    RawQueue {
        messages: Later = Later::word("100"),
        bytes: Later = Later::word("1MiB"),
        age: Later = Later::word("60s"),
        replay: Later = Later::word("unsent"),
        skip: Later<Match> = Later::default(),
    }

    /// `policy.fallback`
    RawFallback {
        sse: Later = Later::word("false"),
        poll: Later = Later::word("false"),
        replay: Later = Later::word("false"),
        prefix: Later = Later::word(""),
    }
}

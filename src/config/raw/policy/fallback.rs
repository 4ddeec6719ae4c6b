//! `policy.fallback`: other ways to reach a client than a WebSocket. Nothing of it is built.

use crate::config::raw::values::unsupported::{Later, unsupported_sections};

unsupported_sections! {
    /// `policy.fallback`
    RawFallback {
        sse: Later = Later::word("false"),
        poll: Later = Later::word("false"),
        replay: Later = Later::word("false"),
        prefix: Later = Later::word(""),
    }
}

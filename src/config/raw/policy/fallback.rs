//! `policy.fallback`: other ways to reach a client than a WebSocket. Nothing of it is built.

use crate::config::raw::values::unsupported::{Unsupported, unsupported_sections};

unsupported_sections! {
    /// `policy.fallback`
    RawFallback {
        sse: Unsupported = Unsupported::word("false"),
        poll: Unsupported = Unsupported::word("false"),
        replay: Unsupported = Unsupported::word("false"),
        prefix: Unsupported = Unsupported::word(""),
    }
}

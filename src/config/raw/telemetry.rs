//! `telemetry`: what clients report of themselves. Nothing of it is built.

use crate::config::raw::values::unsupported::{Later, unsupported_sections};

unsupported_sections! {
    /// `telemetry`
    RawTelemetry {
        enabled: Later = Later::word("false"),
        path: Later = Later::word("/.outrigger/telemetry"),
    }
}

//! `telemetry`: what clients report of themselves. Nothing of it is built.

use crate::config::raw::values::unsupported::{Unsupported, unsupported_sections};

unsupported_sections! {
    /// `telemetry`
    RawTelemetry {
        enabled: Unsupported = Unsupported::word("false"),
        path: Unsupported = Unsupported::word("/.outrigger/telemetry"),
    }
}

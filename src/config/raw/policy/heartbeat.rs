//! `policy.heartbeat`, and the clocks that `upstream.heartbeat` shares with it.

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::{ClientHeartbeat, Heartbeat, HeartbeatMode};
use crate::config::problems::Problems;
use crate::config::raw::values::check;
use crate::config::raw::values::scalar::{Scalar, words};
use crate::config::raw::values::units::Span;

/// The clocks of a heartbeat; `upstream.heartbeat` has nothing more.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for off")]
pub(crate) struct HeartbeatTiming {
    /// From one ping to the next
    interval: Scalar<Span>,
    /// How long it has to answer
    timeout: Scalar<Span>,
    /// Unanswered in a row, then the connection ends
    max_missed: Scalar<u32>,
}

impl Default for HeartbeatTiming {
    fn default() -> Self {
        Self { interval: Scalar(Span::secs(30)), timeout: Scalar(Span::secs(10)), max_missed: Scalar(3) }
    }
}

impl HeartbeatTiming {
    pub(crate) fn validate(self, problems: &mut Problems) -> Heartbeat {
        let Self { interval, timeout, max_missed } = self;
        check::positive("interval", interval, problems);
        check::positive("timeout", timeout, problems);
        check::at_least_one("max_missed", max_missed, problems);
        Heartbeat { interval: interval.0.0, timeout: timeout.0.0, max_missed: max_missed.0 }
    }
}

/// `policy.heartbeat`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for off")]
pub(crate) struct RawHeartbeat {
    mode: Scalar<Mode>,
    interval: Scalar<Span>,
    timeout: Scalar<Span>,
    max_missed: Scalar<u32>,
}

impl Default for RawHeartbeat {
    fn default() -> Self {
        let HeartbeatTiming { interval, timeout, max_missed } = HeartbeatTiming::default();
        Self { mode: Scalar(Mode::Ping), interval, timeout, max_missed }
    }
}

impl RawHeartbeat {
    pub(crate) fn validate(self, problems: &mut Problems) -> Option<ClientHeartbeat> {
        let Self { mode, interval, timeout, max_missed } = self;
        let timing = HeartbeatTiming { interval, timeout, max_missed }.validate(problems);
        let mode = match mode.0 {
            Mode::Ping => HeartbeatMode::Ping,
            Mode::Json => HeartbeatMode::Json,
            Mode::Off => return None,
        };
        Some(ClientHeartbeat { mode, timing })
    }
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    Ping,
    Json,
    Off,
}

words!(Mode { Ping = "ping", Json = "json", Off = "off" });

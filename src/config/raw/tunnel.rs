//! The sections of a policy that tunnels and plain HTTP read: heartbeat, HTTP.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rates::RawHttpRate;
use super::scalar::{Scalar, words};
use super::units::{OffBytes, OffSpan, Span};
use crate::config::model::{ClientHeartbeat, Heartbeat, HeartbeatMode, Http, HttpMode};
use crate::config::problems::Problems;

/// The clocks of a heartbeat; `upstream.heartbeat` has nothing more.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for off")]
pub(super) struct Timing {
    /// From one ping to the next
    interval: Scalar<Span>,
    /// How long it has to answer
    timeout: Scalar<Span>,
    /// Unanswered in a row, then the connection ends
    max_missed: Scalar<u32>,
}

impl Default for Timing {
    fn default() -> Self {
        Self { interval: Scalar(Span::secs(30)), timeout: Scalar(Span::secs(10)), max_missed: Scalar(3) }
    }
}

impl Timing {
    pub(super) fn validate(self, problems: &mut Problems) -> Heartbeat {
        let Self { interval, timeout, max_missed } = self;
        super::positive("interval", interval, problems);
        super::positive("timeout", timeout, problems);
        super::at_least_one("max_missed", max_missed, problems);
        Heartbeat { interval: interval.0.0, timeout: timeout.0.0, max_missed: max_missed.0 }
    }
}

/// `policy.heartbeat`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for off")]
pub(super) struct RawHeartbeat {
    mode: Scalar<Mode>,
    interval: Scalar<Span>,
    timeout: Scalar<Span>,
    max_missed: Scalar<u32>,
}

impl Default for RawHeartbeat {
    fn default() -> Self {
        let Timing { interval, timeout, max_missed } = Timing::default();
        Self { mode: Scalar(Mode::Ping), interval, timeout, max_missed }
    }
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    Ping,
    Json,
    Off,
}

words!(Mode { Ping = "ping", Json = "json", Off = "off" });

impl RawHeartbeat {
    pub(super) fn validate(self, problems: &mut Problems) -> Option<ClientHeartbeat> {
        let Self { mode, interval, timeout, max_missed } = self;
        let timing = Timing { interval, timeout, max_missed }.validate(problems);
        let mode = match mode.0 {
            Mode::Ping => HeartbeatMode::Ping,
            Mode::Json => HeartbeatMode::Json,
            Mode::Off => return None,
        };
        Some(ClientHeartbeat { mode, timing })
    }
}

/// `policy.http`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(super) struct RawHttp {
    mode: Scalar<RawHttpMode>,
    response_timeout: Scalar<OffSpan>,
    max_body: Scalar<OffBytes>,
    rate: Option<RawHttpRate>,
}

impl Default for RawHttp {
    fn default() -> Self {
        Self {
            mode: Scalar(RawHttpMode::Auto),
            response_timeout: Scalar(OffSpan(None)),
            max_body: Scalar(OffBytes(None)),
            rate: Some(RawHttpRate::default()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RawHttpMode {
    Auto,
    Pass,
    Guard,
    Refuse,
}

words!(RawHttpMode { Auto = "auto", Pass = "pass", Guard = "guard", Refuse = "refuse" });

impl RawHttp {
    /// `has_guards`: whether the policy has origins or authentication, which plain requests then meet as well.
    pub(super) fn validate(self, has_guards: bool, problems: &mut Problems) -> Http {
        let Self { mode, response_timeout, max_body, rate } = self;
        let mode = match mode.0 {
            RawHttpMode::Auto if has_guards => HttpMode::Guard,
            RawHttpMode::Auto | RawHttpMode::Pass => HttpMode::Pass,
            RawHttpMode::Guard => HttpMode::Guard,
            RawHttpMode::Refuse => HttpMode::Refuse,
        };
        Http {
            mode,
            response_timeout: response_timeout.0.0,
            max_body: max_body.0.0,
            rate: problems
                .within("rate", |problems| rate.unwrap_or_else(RawHttpRate::off).validate(problems)),
        }
    }
}

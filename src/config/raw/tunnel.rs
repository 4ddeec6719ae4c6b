//! The sections of a policy that tunnels and plain HTTP read: heartbeat, HTTP, delivery.

use serde::{Deserialize, Serialize};

use super::later::{Later, Throttle};
use super::scalar::{Scalar, words};
use super::units::{Bytes, OffBytes, OffSpan, Span};
use crate::config::model::{
    ChannelBreaker, ClientHeartbeat, Delivery, Heartbeat, HeartbeatMode, Http, HttpMode, Lag, OnStall,
    ResumeFrom,
};
use crate::config::problems::Problems;

/// The clocks of a heartbeat; `upstream.heartbeat` has nothing more.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for off")]
pub(super) struct Timing {
    interval: Scalar<Span>,
    timeout: Scalar<Span>,
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
#[derive(Debug, Clone, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(super) struct RawHttp {
    mode: Scalar<HttpMode>,
    response_timeout: Scalar<OffSpan>,
    max_body: Scalar<OffBytes>,
}

impl Default for RawHttp {
    fn default() -> Self {
        Self {
            mode: Scalar(HttpMode::Pass),
            response_timeout: Scalar(OffSpan(None)),
            max_body: Scalar(OffBytes(None)),
        }
    }
}

words!(HttpMode { Pass = "pass", Guard = "guard", Refuse = "refuse" });

impl RawHttp {
    pub(super) fn validate(self) -> Http {
        let Self { mode, response_timeout, max_body } = self;
        Http { mode: mode.0, response_timeout: response_timeout.0.0, max_body: max_body.0.0 }
    }
}

/// `policy.delivery`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(super) struct RawDelivery {
    on_stall: Scalar<StallChoice>,
    max_lag: RawLag,
    stall_timeout: Scalar<OffSpan>,
    cool_down: Later,
    max_trips: Later,
    resume_from: Later,
    throttle: Later<Throttle>,
    channel_breaker: RawChannelBreaker,
}

impl Default for RawDelivery {
    fn default() -> Self {
        Self {
            on_stall: Scalar(StallChoice::Auto),
            max_lag: RawLag::default(),
            stall_timeout: Scalar(OffSpan(Some(Span::secs(60).0))),
            cool_down: Later::word("2s"),
            max_trips: Later::word("3"),
            resume_from: Later::word("oldest"),
            throttle: Later::default(),
            channel_breaker: RawChannelBreaker::default(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum StallChoice {
    Auto,
    Isolate,
    Backpressure,
}

words!(StallChoice { Auto = "auto", Isolate = "isolate", Backpressure = "backpressure" });

/// `policy.delivery.max_lag`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
struct RawLag {
    messages: Later,
    bytes: Scalar<Bytes>,
}

impl Default for RawLag {
    fn default() -> Self {
        Self { messages: Later::word("1000"), bytes: Scalar(Bytes(1 << 20)) }
    }
}

/// `policy.delivery.channel_breaker`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
struct RawChannelBreaker {
    tripped_ratio: Later,
    min_clients: Later,
    open_for: Later,
}

impl Default for RawChannelBreaker {
    fn default() -> Self {
        Self {
            tripped_ratio: Later::word("0.5"),
            min_clients: Later::word("10"),
            open_for: Later::word("5s"),
        }
    }
}

impl RawDelivery {
    pub(super) fn validate(self, problems: &mut Problems) -> Delivery {
        let defaults = Self::default();
        let Self {
            on_stall,
            max_lag: RawLag { messages, bytes },
            stall_timeout,
            cool_down,
            max_trips,
            resume_from,
            throttle,
            channel_breaker,
        } = self;
        problems.only_default("max_lag.messages", &messages, &defaults.max_lag.messages);
        problems.only_default("cool_down", &cool_down, &defaults.cool_down);
        problems.only_default("max_trips", &max_trips, &defaults.max_trips);
        problems.only_default("resume_from", &resume_from, &defaults.resume_from);
        problems.only_default("throttle", &throttle, &defaults.throttle);
        problems.only_default("channel_breaker", &channel_breaker, &defaults.channel_breaker);
        super::not_empty("max_lag.bytes", bytes, problems);
        Delivery {
            on_stall: match on_stall.0 {
                StallChoice::Auto => OnStall::Auto,
                StallChoice::Backpressure => OnStall::Backpressure,
                StallChoice::Isolate => OnStall::Isolate,
            },
            max_lag: Lag { messages: 1000, bytes: bytes.0.0 as usize },
            stall_timeout: stall_timeout.0.0,
            cool_down: Span::secs(2).0,
            max_trips: 3,
            resume_from: ResumeFrom::Oldest,
            throttle: None,
            channel_breaker: ChannelBreaker {
                tripped_ratio: 0.5,
                min_clients: 10,
                open_for: Span::secs(5).0,
            },
        }
    }
}

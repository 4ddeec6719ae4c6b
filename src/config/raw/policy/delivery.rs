//! `policy.delivery`: what holds for each client's feed.

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::{ChannelBreaker, Delivery, Lag, OnStall, Pointer, ResumeFrom, Throttle};
use crate::config::problems::Problems;
use crate::config::raw::values::check;
use crate::config::raw::values::scalar::{Scalar, words};
use crate::config::raw::values::units::{Bytes, Ratio, Span, SpanOrOff};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawDelivery {
    on_stall: Scalar<OnStall>,
    max_lag: RawLag,
    stall_timeout: Scalar<SpanOrOff>,
    cool_down: Scalar<Span>,
    max_trips: Scalar<u32>,
    resume_from: Scalar<ResumeFrom>,
    throttle: Option<RawThrottle>,
    channel_breaker: Option<RawChannelBreaker>,
}

impl Default for RawDelivery {
    fn default() -> Self {
        Self {
            on_stall: Scalar(OnStall::Auto),
            max_lag: RawLag::default(),
            stall_timeout: Scalar(SpanOrOff(Some(Span::secs(60).0))),
            cool_down: Scalar(Span::secs(2)),
            max_trips: Scalar(3),
            resume_from: Scalar(ResumeFrom::Oldest),
            throttle: None,
            channel_breaker: Some(RawChannelBreaker::default()),
        }
    }
}

words!(OnStall { Auto = "auto", Isolate = "isolate", Backpressure = "backpressure" });

words!(ResumeFrom { Oldest = "oldest", Latest = "latest" });

/// `policy.delivery.max_lag`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
struct RawLag {
    messages: Scalar<u32>,
    bytes: Scalar<Bytes>,
}

impl Default for RawLag {
    fn default() -> Self {
        Self { messages: Scalar(1000), bytes: Scalar(Bytes(1 << 20)) }
    }
}

impl RawLag {
    fn validate(self, problems: &mut Problems) -> Lag {
        let Self { messages, bytes } = self;
        check::at_least_one("messages", messages, problems);
        check::not_empty("bytes", bytes, problems);
        Lag { messages: u64::from(messages.0), bytes: bytes.0.0 as usize }
    }
}

/// `policy.delivery.throttle`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map with every and key, or null for off")]
struct RawThrottle {
    /// Of all messages with the same value at key each client gets one in this time, the newest
    every: Scalar<Span>,
    /// JSON pointer to what messages are told apart by, such as /type
    key: Option<Scalar<Pointer>>,
}

impl Default for RawThrottle {
    fn default() -> Self {
        Self { every: Scalar(Span(std::time::Duration::from_millis(100))), key: None }
    }
}

impl RawThrottle {
    fn validate(self, problems: &mut Problems) -> Option<Throttle> {
        let Self { every, key } = self;
        check::positive("every", every, problems);
        let Some(Scalar(key)) = key else {
            if !problems.has("key") {
                let accepted = "a JSON pointer to what messages are told apart by, such as /type";
                problems.refuse("key", "nothing", accepted);
            }
            return None;
        };
        Some(Throttle { every: every.0.0, key })
    }
}

/// `policy.delivery.channel_breaker`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for off")]
struct RawChannelBreaker {
    tripped_ratio: Scalar<Ratio>,
    min_clients: Scalar<u32>,
    open_for: Scalar<Span>,
}

impl Default for RawChannelBreaker {
    fn default() -> Self {
        Self { tripped_ratio: Scalar(Ratio(0.5)), min_clients: Scalar(10), open_for: Scalar(Span::secs(5)) }
    }
}

impl RawChannelBreaker {
    fn validate(self, problems: &mut Problems) -> ChannelBreaker {
        let Self { tripped_ratio, min_clients, open_for } = self;
        check::at_least_one("min_clients", min_clients, problems);
        check::positive("open_for", open_for, problems);
        ChannelBreaker {
            tripped_ratio: tripped_ratio.0.0,
            min_clients: min_clients.0,
            open_for: open_for.0.0,
        }
    }
}

impl RawDelivery {
    pub(crate) fn validate(self, problems: &mut Problems) -> Delivery {
        let Self {
            on_stall,
            max_lag,
            stall_timeout,
            cool_down,
            max_trips,
            resume_from,
            throttle,
            channel_breaker,
        } = self;
        check::positive("cool_down", cool_down, problems);
        check::at_least_one("max_trips", max_trips, problems);
        Delivery {
            on_stall: on_stall.0,
            max_lag: problems.within("max_lag", |problems| max_lag.validate(problems)),
            stall_timeout: stall_timeout.0.0,
            cool_down: cool_down.0.0,
            max_trips: max_trips.0,
            resume_from: resume_from.0,
            throttle: throttle
                .and_then(|throttle| problems.within("throttle", |problems| throttle.validate(problems))),
            channel_breaker: channel_breaker
                .map(|breaker| problems.within("channel_breaker", |problems| breaker.validate(problems))),
        }
    }
}

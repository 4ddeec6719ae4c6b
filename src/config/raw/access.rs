//! Who may come in and how many: `limits`, `on_refuse` and `close_codes` of a policy.
//!
//! # Not here
//! How fast ([`super::rates`]), and from which pages ([`super::origins`]).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rates::{MessageRate, RawControlRate};
use super::scalar::{CloseCode, Scalar, words};
use super::units::OffCount;
use crate::config::model::{CloseCodes, ControlRate, Limits, OnRefuse, OnUserLimit, Rate};
use crate::config::problems::Problems;

/// `policy.limits`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for no limits")]
pub(super) struct RawLimits {
    connections: Scalar<OffCount>,
    per_ip: Scalar<OffCount>,
    per_user: Scalar<OffCount>,
    on_user_limit: Scalar<OnUserLimit>,
    message_rate: Option<MessageRate>,
    control_rate: RawControlRate,
}

words!(OnUserLimit { Refuse = "refuse", ReplaceOldest = "replace_oldest" });

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            connections: Scalar(OffCount(Some(10_000))),
            per_ip: Scalar(OffCount(None)),
            per_user: Scalar(OffCount(None)),
            on_user_limit: Scalar(OnUserLimit::Refuse),
            message_rate: None,
            control_rate: RawControlRate::Auto,
        }
    }
}

impl RawLimits {
    /// What null comes to: none of them holds.
    pub(super) fn off() -> Self {
        Self {
            connections: Scalar(OffCount(None)),
            per_ip: Scalar(OffCount(None)),
            per_user: Scalar(OffCount(None)),
            on_user_limit: Scalar(OnUserLimit::Refuse),
            message_rate: None,
            control_rate: RawControlRate::Off,
        }
    }

    /// What holds for connections, for the messages of each, and for its control frames.
    pub(super) fn validate(self, problems: &mut Problems) -> (Limits, Option<Rate>, ControlRate) {
        let Self { connections, per_ip, per_user, on_user_limit, message_rate, control_rate } = self;
        let is_replacing = on_user_limit.0 == OnUserLimit::ReplaceOldest;
        if is_replacing
            && per_user.0.0.is_none()
            && problems.is_own("on_user_limit")
            && !problems.has("per_user")
        {
            problems.refuse(
                "on_user_limit",
                "\"replace_oldest\", and no per_user",
                "refuse, or a per_user from 1: without it no user has a limit",
            );
        }
        let limits = Limits {
            connections: connections.0.0,
            per_ip: per_ip.0.0,
            per_user: per_user.0.0,
            on_user_limit: on_user_limit.0,
        };
        let rate =
            message_rate.map(|rate| problems.within("message_rate", |problems| rate.validate(problems)));
        let control_rate = problems.within("control_rate", |problems| control_rate.validate(problems));
        (limits, rate, control_rate)
    }
}

words!(OnRefuse { Http = "http", Close = "close" });

/// `policy.close_codes`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(super) struct RawCloseCodes {
    capacity: Scalar<CloseCode>,
    rate: Scalar<CloseCode>,
    unauthorized: Scalar<CloseCode>,
    expired: Scalar<CloseCode>,
    upstream_lost: Scalar<CloseCode>,
    slow_consumer: Scalar<CloseCode>,
    idle: Scalar<CloseCode>,
}

impl Default for RawCloseCodes {
    fn default() -> Self {
        Self {
            capacity: Scalar(CloseCode(1008)),
            rate: Scalar(CloseCode(1013)),
            unauthorized: Scalar(CloseCode(1008)),
            expired: Scalar(CloseCode(1008)),
            upstream_lost: Scalar(CloseCode(1012)),
            slow_consumer: Scalar(CloseCode(1013)),
            idle: Scalar(CloseCode(1001)),
        }
    }
}

impl RawCloseCodes {
    pub(super) fn validate(self) -> CloseCodes {
        let Self { capacity, rate, unauthorized, expired, upstream_lost, slow_consumer, idle } = self;
        CloseCodes {
            capacity: capacity.0.0,
            rate: rate.0.0,
            unauthorized: unauthorized.0.0,
            expired: expired.0.0,
            upstream_lost: upstream_lost.0.0,
            slow_consumer: slow_consumer.0.0,
            idle: idle.0.0,
        }
    }
}

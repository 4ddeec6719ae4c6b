//! `policy.http`: plain HTTP.

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::{Http, HttpMode, HttpRate};
use crate::config::problems::Problems;
use crate::config::raw::values::check;
use crate::config::raw::values::rate::{KeyedRequestRate, RequestRate};
use crate::config::raw::values::scalar::{Scalar, words};
use crate::config::raw::values::units::{BytesOrOff, SpanOrOff};

/// `policy.http`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawHttp {
    mode: Scalar<RawHttpMode>,
    response_timeout: Scalar<SpanOrOff>,
    max_body: Scalar<BytesOrOff>,
    rate: Option<RawHttpRate>,
}

impl Default for RawHttp {
    fn default() -> Self {
        Self {
            mode: Scalar(RawHttpMode::Auto),
            response_timeout: Scalar(SpanOrOff(None)),
            max_body: Scalar(BytesOrOff(None)),
            rate: Some(RawHttpRate::default()),
        }
    }
}

impl RawHttp {
    /// `has_guards`: whether the policy has origins or authentication, which plain requests then meet as well.
    pub(crate) fn validate(self, has_guards: bool, problems: &mut Problems) -> Http {
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RawHttpMode {
    Auto,
    Pass,
    Guard,
    Refuse,
}

words!(RawHttpMode { Auto = "auto", Pass = "pass", Guard = "guard", Refuse = "refuse" });

/// `policy.http.rate`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for no rates")]
pub(crate) struct RawHttpRate {
    global: Option<RequestRate>,
    per_ip: Option<KeyedRequestRate>,
    max_keys: Scalar<u32>,
}

impl Default for RawHttpRate {
    fn default() -> Self {
        Self { global: None, per_ip: None, max_keys: Scalar(100_000) }
    }
}

impl RawHttpRate {
    /// The value of null: no limit holds.
    pub(crate) fn off() -> Self {
        Self { global: None, per_ip: None, ..Self::default() }
    }

    pub(crate) fn validate(self, problems: &mut Problems) -> HttpRate {
        let Self { global, per_ip, max_keys } = self;
        check::at_least_one("max_keys", max_keys, problems);
        HttpRate {
            global: global.map(|rate| problems.within("global", |problems| rate.validate(problems))),
            per_ip: per_ip.map(|rate| problems.within("per_ip", |problems| rate.validate(problems))),
            max_keys: max_keys.0 as usize,
        }
    }
}

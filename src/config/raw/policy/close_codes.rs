//! `policy.close_codes`.

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::CloseCodes;
use crate::config::raw::values::close_code::CloseCode;
use crate::config::raw::values::scalar::Scalar;

/// `policy.close_codes`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawCloseCodes {
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
    pub(crate) fn validate(self) -> CloseCodes {
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

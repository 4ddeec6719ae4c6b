//! Token buckets, one type for each default.

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::Rate;
use crate::config::problems::Problems;
use crate::config::raw::values::check;
use crate::config::raw::values::scalar::Scalar;
use crate::config::raw::values::units::{PerTime, Unit};

/// A token bucket. Its defaults hold where the section is written without these keys.
macro_rules! bucket {
    ($($(#[$doc:meta])* $name:ident: $per_second:literal a second, burst $burst:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[cfg_attr(test, derive(JsonSchema))]
        #[serde(default, deny_unknown_fields, expecting = "a map with rate and burst, or null for off")]
        pub(crate) struct $name {
            /// How many, in the long run
            rate: Scalar<PerTime>,
            /// As many at once after a quiet time
            burst: Scalar<u32>,
        }

        impl Default for $name {
            fn default() -> Self {
                let rate = PerTime { count: $per_second, unit: Unit::Second };
                Self { rate: Scalar(rate), burst: Scalar($burst) }
            }
        }

        impl $name {
            pub(crate) fn validate(self, problems: &mut Problems) -> Rate {
                let Self { rate, burst } = self;
                check::at_least_one("burst", burst, problems);
                Rate { per_second: rate.0.per_second(), burst: burst.0 }
            }
        }
    )+};
}

bucket! {
    /// `policy.limits.message_rate`
    MessageRate: 100 a second, burst 200;
    /// `policy.limits.control_rate`
    ControlBucket: 100 a second, burst 1000;
    /// `policy.handshake_rate.global`
    GlobalRate: 500 a second, burst 1000;
    /// `policy.handshake_rate.per_ip` and `per_user`
    KeyedRate: 20 a second, burst 40;
    /// `policy.http.rate.global`
    RequestRate: 500 a second, burst 1000;
    /// `policy.http.rate.per_ip`
    KeyedRequestRate: 50 a second, burst 100;
}

//! `metrics`: how metrics are named.

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::error::quoted;
use crate::config::problems::Problems;
use crate::config::raw::values::scalar::Scalar;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawMetrics {
    prefix: Scalar<String>,
}

impl Default for RawMetrics {
    fn default() -> Self {
        Self { prefix: Scalar("outrigger".into()) }
    }
}

impl RawMetrics {
    pub(crate) fn validate(self, problems: &mut Problems) -> String {
        let Self { prefix: Scalar(prefix) } = self;
        let first = prefix.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        let rest = prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !first || !rest || prefix.len() > 64 {
            let accepted = "up to 64 letters, digits and underscores, no digit first";
            problems.refuse("prefix", quoted(&prefix), accepted);
        }
        prefix
    }
}

//! `memory`: how much may be buffered.

#[cfg(test)]
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::config::cgroup;
use crate::config::problems::Problems;
use crate::config::raw::values::check;
use crate::config::raw::values::scalar::{Scalar, ScalarValue};
#[cfg(test)]
use crate::config::raw::values::schema;
use crate::config::raw::values::units::Bytes;
#[cfg(test)]
use crate::config::raw::values::units::MAX_SIZE;

/// `memory.max_buffered`: a size, or a share of what the container may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MaxBuffered {
    Auto,
    Size(Bytes),
}

impl ScalarValue for MaxBuffered {
    fn accepted() -> String {
        format!("auto, or {}", Bytes::accepted())
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            _ => Bytes::read(text).map(Self::Size),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Auto => "auto".into(),
            Self::Size(size) => size.write(),
        }
    }

    #[cfg(test)]
    fn schema() -> Schema {
        schema::whole(0..=MAX_SIZE, "^(auto|[0-9]+(B|KiB|MiB|GiB)?)$")
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawMemory {
    max_buffered: Scalar<MaxBuffered>,
}

impl Default for RawMemory {
    fn default() -> Self {
        Self { max_buffered: Scalar(MaxBuffered::Auto) }
    }
}

impl RawMemory {
    pub(crate) fn validate(self, problems: &mut Problems) -> usize {
        let Self { max_buffered } = self;
        let bytes = match max_buffered.0 {
            MaxBuffered::Auto => auto_buffered(cgroup::memory_limit()),
            MaxBuffered::Size(size) => {
                check::not_empty("max_buffered", Scalar(size), problems);
                size.0
            }
        };
        bytes as usize
    }
}

/// The most that `auto` comes to.
const AUTO_BUFFERED: u64 = 256 << 20;

/// 40 % of the container's limit: the rest is for connections, handshakes and the allocator's slack.
fn auto_buffered(limit: Option<u64>) -> u64 {
    // At least a byte: a bound of zero would stop everything.
    limit.map_or(AUTO_BUFFERED, |limit| (limit / 5).saturating_mul(2).clamp(1, AUTO_BUFFERED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_others_is_two_fifths_of_the_container_and_at_most_256_mib() {
        for (limit, bytes) in [
            (None, 256 << 20),
            (Some(64 << 20), 26_843_544),
            (Some(640 << 20), 256 << 20),
            (Some(9_223_372_036_854_771_712), 256 << 20),
            (Some(0), 1),
        ] {
            assert_eq!(auto_buffered(limit), bytes, "{limit:?}");
        }
    }
}

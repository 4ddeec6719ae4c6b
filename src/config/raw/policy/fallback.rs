//! `policy.fallback`: other ways to reach a client than a WebSocket.

#[cfg(test)]
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::config::model::Fallback;
use crate::config::raw::values::scalar::{Scalar, ScalarValue};
#[cfg(test)]
use crate::config::raw::values::schema;

/// `policy.fallback`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawFallback {
    sse: Scalar<bool>,
    poll: Scalar<bool>,
    replay: Scalar<bool>,
    prefix: Scalar<Prefix>,
}

impl Default for RawFallback {
    fn default() -> Self {
        Self {
            sse: Scalar(false),
            poll: Scalar(false),
            replay: Scalar(false),
            prefix: Scalar(Prefix(String::new())),
        }
    }
}

/// Where endpoints are. Every server reads it in one way, as no segment or several: it is compared as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Prefix(String);

impl RawFallback {
    pub(crate) fn validate(self) -> Fallback {
        let Self { sse, poll, replay, prefix } = self;
        Fallback { sse: sse.0, poll: poll.0, replay: replay.0, prefix: prefix.0.0 }
    }
}

/// More than any name needs: it is compared with the end of every path that might be an endpoint's.
const MAX_PREFIX_LEN: usize = 64;

impl ScalarValue for Prefix {
    fn accepted() -> String {
        format!(
            "nothing, or a slash and whole segments of letters, digits and -._~ such as /.outrigger (at most \
             {MAX_PREFIX_LEN} bytes)"
        )
    }

    fn read(text: &str) -> Option<Self> {
        let is_segment = |segment: &str| {
            let fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            !segment.is_empty() && !matches!(segment, "." | "..") && segment.bytes().all(fit)
        };
        let is_path = || text.strip_prefix('/').is_some_and(|path| path.split('/').all(is_segment));
        (text.is_empty() || (text.len() <= MAX_PREFIX_LEN && is_path())).then(|| Self(text.to_owned()))
    }

    fn write(&self) -> String {
        self.0.clone()
    }

    fn null() -> Option<Self> {
        Some(Self(String::new()))
    }

    #[cfg(test)]
    fn schema() -> Schema {
        schema::pattern("^(/[-._~A-Za-z0-9]+)*$")
    }
}

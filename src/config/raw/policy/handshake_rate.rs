//! `policy.handshake_rate`: how fast clients may connect.

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::HandshakeRate;
use crate::config::problems::Problems;
use crate::config::raw::values::check;
use crate::config::raw::values::rate::{GlobalRate, KeyedRate};
use crate::config::raw::values::scalar::Scalar;
use crate::config::raw::values::units::Span;

/// `policy.handshake_rate`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for no rates")]
pub(crate) struct RawHandshakeRate {
    global: Option<GlobalRate>,
    per_ip: Option<KeyedRate>,
    per_user: Option<KeyedRate>,
    queue: Scalar<Span>,
    max_queued: Scalar<u32>,
    max_keys: Scalar<u32>,
}

impl Default for RawHandshakeRate {
    fn default() -> Self {
        Self {
            global: Some(GlobalRate::default()),
            per_ip: None,
            per_user: None,
            queue: Scalar(Span::secs(0)),
            max_queued: Scalar(1000),
            max_keys: Scalar(100_000),
        }
    }
}

impl RawHandshakeRate {
    /// The value of null: no limit holds.
    pub(crate) fn off() -> Self {
        Self { global: None, per_ip: None, per_user: None, ..Self::default() }
    }

    pub(crate) fn validate(self, problems: &mut Problems) -> HandshakeRate {
        let Self { global, per_ip, per_user, queue, max_queued, max_keys } = self;
        check::at_least_one("max_queued", max_queued, problems);
        check::at_least_one("max_keys", max_keys, problems);
        if !queue.0.0.is_zero() && global.is_none() && problems.is_own("queue") && !problems.has("global") {
            problems.refuse(
                "queue",
                check::shown(queue),
                "0s, or a global rate: it is what there is to wait for",
            );
        }
        HandshakeRate {
            global: global.map(|rate| problems.within("global", |problems| rate.validate(problems))),
            per_ip: per_ip.map(|rate| problems.within("per_ip", |problems| rate.validate(problems))),
            per_user: per_user.map(|rate| problems.within("per_user", |problems| rate.validate(problems))),
            queue: queue.0.0,
            max_queued: max_queued.0 as usize,
            max_keys: max_keys.0 as usize,
        }
    }
}

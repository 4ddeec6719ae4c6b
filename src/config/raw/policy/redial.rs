//! `policy.redial`: how a server that was lost is dialled again.

use std::time::Duration;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::Redial;
use crate::config::problems::Problems;
use crate::config::raw::values::check;
use crate::config::raw::values::scalar::Scalar;
use crate::config::raw::values::units::{Factor, Span, SpanOrOff};

/// `policy.redial`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawRedial {
    base: Scalar<Span>,
    factor: Scalar<Factor>,
    cap: Scalar<Span>,
    give_up: Scalar<SpanOrOff>,
    reset_after: Scalar<Span>,
}

impl Default for RawRedial {
    fn default() -> Self {
        Self {
            base: Scalar(Span(Duration::from_millis(100))),
            factor: Scalar(Factor(2.0)),
            cap: Scalar(Span::secs(5)),
            give_up: Scalar(SpanOrOff(Some(Span::secs(60).0))),
            reset_after: Scalar(Span::secs(10)),
        }
    }
}

impl RawRedial {
    pub(crate) fn validate(self, problems: &mut Problems) -> Redial {
        let Self { base, factor, cap, give_up, reset_after } = self;
        check::positive("base", base, problems);
        if !problems.has("base") && !problems.has("cap") && cap.0.0 < base.0.0 {
            // On a route the problem is that of the key which the route sets.
            if problems.is_own("base") && !problems.is_own("cap") {
                problems.refuse("base", check::shown(base), format!("at most cap, {}", check::shown(cap)));
            } else {
                problems.refuse("cap", check::shown(cap), format!("at least base, {}", check::shown(base)));
            }
        }
        Redial {
            base: base.0.0,
            factor: factor.0.0,
            cap: cap.0.0,
            give_up: give_up.0.0,
            reset_after: reset_after.0.0,
        }
    }
}

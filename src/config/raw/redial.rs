//! `redial` and `notices` of a policy: a server that was lost is dialled again while its clients stay, and they may be
//! told.

use std::time::Duration;

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::scalar::{Readable, Scalar};
use super::schema;
use super::units::{Factor, OffSpan, Span};
use crate::config::model::{Broadcast, OnRedial, Redial, UplinkMode};
use crate::config::problems::Problems;

/// `policy.redial`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(super) struct RawRedial {
    base: Scalar<Span>,
    factor: Scalar<Factor>,
    cap: Scalar<Span>,
    give_up: Scalar<OffSpan>,
    reset_after: Scalar<Span>,
}

impl Default for RawRedial {
    fn default() -> Self {
        Self {
            base: Scalar(Span(Duration::from_millis(100))),
            factor: Scalar(Factor(2.0)),
            cap: Scalar(Span::secs(5)),
            give_up: Scalar(OffSpan(Some(Span::secs(60).0))),
            reset_after: Scalar(Span::secs(10)),
        }
    }
}

impl RawRedial {
    pub(super) fn validate(self, problems: &mut Problems) -> Redial {
        let Self { base, factor, cap, give_up, reset_after } = self;
        super::positive("base", base, problems);
        if !problems.has("base") && !problems.has("cap") && cap.0.0 < base.0.0 {
            // A route is told about the one that it sets.
            if problems.is_own("base") && !problems.is_own("cap") {
                problems.refuse("base", super::shown(base), format!("at most cap, {}", super::shown(cap)));
            } else {
                problems.refuse("cap", super::shown(cap), format!("at least base, {}", super::shown(base)));
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

/// `policy.notices`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notices {
    Auto,
    On,
    Off,
}

impl Readable for Notices {
    fn accepted() -> String {
        "auto | true | false".into()
    }

    fn schema() -> Schema {
        schema::words(&["auto", "true", "false", "off"])
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "true" => Some(Self::On),
            "false" | "off" => Some(Self::Off),
            _ => None,
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Auto => "auto",
            Self::On => "true",
            Self::Off => "false",
        }
        .into()
    }
}

impl Notices {
    /// `auto` tells clients where the server knows something of them that is gone with its link, and where no Close
    /// tells them.
    pub(super) fn are_sent(self, broadcast: &Broadcast) -> bool {
        match self {
            Self::Auto => broadcast.uplink == UplinkMode::Forward && broadcast.on_redial == OnRedial::Keep,
            Self::On => true,
            Self::Off => false,
        }
    }
}

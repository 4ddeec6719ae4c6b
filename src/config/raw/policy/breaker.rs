//! `policy.breaker`: how a server that fails is treated.

#[cfg(test)]
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::config::model::Breaker;
use crate::config::problems::Problems;
use crate::config::raw::values::check;
use crate::config::raw::values::list::List;
use crate::config::raw::values::scalar::{Scalar, ScalarValue, digits};
#[cfg(test)]
use crate::config::raw::values::schema;
use crate::config::raw::values::units::{Ratio, Span};

/// `policy.breaker`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for off")]
pub(crate) struct RawBreaker {
    window: Scalar<Span>,
    min_calls: Scalar<u32>,
    failure_ratio: Scalar<Ratio>,
    statuses: List<ServerError>,
    open_for: Scalar<Span>,
    probes: Scalar<u32>,
    max_waiting: Scalar<u32>,
    slow_after: Scalar<Span>,
}

impl Default for RawBreaker {
    fn default() -> Self {
        Self {
            window: Scalar(Span::secs(10)),
            min_calls: Scalar(10),
            failure_ratio: Scalar(Ratio(0.5)),
            statuses: List::of([502, 503, 504].map(ServerError)),
            open_for: Scalar(Span::secs(5)),
            probes: Scalar(1),
            max_waiting: Scalar(1000),
            slow_after: Scalar(Span::secs(2)),
        }
    }
}

impl RawBreaker {
    pub(crate) fn validate(self, problems: &mut Problems) -> Breaker {
        let Self { window, min_calls, failure_ratio, statuses, open_for, probes, max_waiting, slow_after } =
            self;
        check::positive("window", window, problems);
        check::at_least_one("min_calls", min_calls, problems);
        check::positive("open_for", open_for, problems);
        check::at_least_one("probes", probes, problems);
        check::positive("slow_after", slow_after, problems);
        let mut statuses: Vec<u16> = statuses.0.into_iter().map(|status| status.0.0).collect();
        // Sorted and without duplicates, so that equal settings compare equal.
        statuses.sort_unstable();
        statuses.dedup();
        Breaker {
            window: window.0.0,
            min_calls: min_calls.0,
            failure_ratio: failure_ratio.0.0,
            statuses,
            open_for: open_for.0.0,
            probes: probes.0,
            max_waiting: max_waiting.0 as usize,
            slow_after: slow_after.0.0,
        }
    }
}

/// A status that says that the server failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ServerError(u16);

impl ScalarValue for ServerError {
    fn accepted() -> String {
        "a status from 500 to 599: what is below is an answer, and no failure".into()
    }

    fn read(text: &str) -> Option<Self> {
        let status = digits(text)?.parse().ok()?;
        matches!(status, 500..=599).then_some(Self(status))
    }

    fn write(&self) -> String {
        self.0.to_string()
    }

    #[cfg(test)]
    fn schema() -> Schema {
        schema::whole(500..=599, "^0*5[0-9]{2}$")
    }
}

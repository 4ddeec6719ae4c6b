//! `drain`: how clients are let go at the end.

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::error::quoted;
use crate::config::model::Drain;
use crate::config::problems::Problems;
use crate::config::raw::values::close_code::CloseCode;
use crate::config::raw::values::scalar::{Scalar, ScalarValue};
use crate::config::raw::values::units::Span;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawDrain {
    delay: Scalar<Span>,
    spread: Scalar<Span>,
    timeout: Scalar<Span>,
    close_code: Scalar<CloseCode>,
}

impl Default for RawDrain {
    fn default() -> Self {
        Self {
            delay: Scalar(Span::secs(0)),
            spread: Scalar(Span::secs(5)),
            timeout: Scalar(Span::secs(30)),
            close_code: Scalar(CloseCode(1012)),
        }
    }
}

impl RawDrain {
    pub(crate) fn validate(self, problems: &mut Problems) -> Drain {
        let Self { delay, spread, timeout, close_code } = self;
        let suspect = ["delay", "spread", "timeout"].iter().any(|key| problems.has(key));
        if !suspect && delay.0.0 + spread.0.0 > timeout.0.0 {
            let needed = Span(delay.0.0 + spread.0.0).write();
            problems.refuse(
                "timeout",
                quoted(&timeout.0.write()),
                format!("at least delay + spread, here {needed}"),
            );
        }
        Drain { delay: delay.0.0, spread: spread.0.0, timeout: timeout.0.0, close_code: close_code.0.0 }
    }
}

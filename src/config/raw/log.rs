//! `log`: what is written to standard output.

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::config::error::quoted;
use crate::config::model::{Log, LogConnections, LogFormat, LogRequests};
use crate::config::problems::Problems;
use crate::config::raw::values::scalar::{Scalar, words};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawLog {
    level: Scalar<String>,
    format: Scalar<LogFormat>,
    connections: Scalar<LogConnections>,
    requests: Scalar<LogRequests>,
}

impl Default for RawLog {
    fn default() -> Self {
        Self {
            level: Scalar("info".into()),
            format: Scalar(LogFormat::Json),
            connections: Scalar(LogConnections::All),
            requests: Scalar(LogRequests::Off),
        }
    }
}

impl RawLog {
    pub(crate) fn validate(self, problems: &mut Problems) -> Log {
        let Self { level, format, connections, requests } = self;
        let mut level = level.0;
        if level == "false" {
            level = "off".into();
        }
        // A bare word that is no level would be read as a target, which is never meant.
        let bare = level.split(',').filter(|part| !part.contains(['=', ':', '[', ']']));
        let misspelt = level.is_empty() || bare.into_iter().any(|word| !LEVELS.contains(&word.trim()));
        if misspelt || EnvFilter::builder().parse(&level).is_err() {
            let accepted =
                format!("{}, or directives such as info,outrigger::tunnel=debug", LEVELS.join(" | "));
            problems.refuse("level", quoted(&level), accepted);
        }
        Log { level, format: format.0, connections: connections.0, requests: requests.0 }
    }
}

words!(LogFormat { Json = "json", Text = "text" });

words!(LogRequests { All = "all", Errors = "errors", Off = "off" });

words!(LogConnections { All = "all", Errors = "errors", Off = "off" });

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

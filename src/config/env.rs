//! Environment variables that look like settings and set nothing. Pure.
//!
//! # Not here
//! Variables that set something ([`super::layers`]).

use std::fmt;

use super::error::closest;

use super::raw::RawConfig;
use super::shape::{Shape, shape_at};
use super::sources::Sources;

/// Names the configuration file where the command line does not.
pub(crate) const FILE_VARIABLE: &str = "OUTRIGGER_CONFIG";

/// A variable that has no effect. Its value is never shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EnvWarning {
    /// It is empty, as `${X}` in a compose file is where `X` is not set.
    Empty {
        /// The variable.
        name: String,
    },
    /// Its name begins like that of a setting, and is none.
    Unknown {
        /// The variable.
        name: String,
        /// The setting that may have been meant.
        nearest: Option<String>,
    },
}

impl fmt::Display for EnvWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { name } => write!(
                f,
                "environment variable {name} is empty, which counts as not set; to switch something off write null"
            ),
            Self::Unknown { name, nearest: Some(nearest) } => {
                write!(
                    f,
                    "environment variable {name} is no setting and does nothing; did you mean {nearest}?"
                )
            }
            Self::Unknown { name, nearest: None } => write!(
                f,
                "environment variable {name} is no setting and does nothing; names of settings begin with \
                 OUTRIGGER__, and have two underscores before each further key"
            ),
        }
    }
}

/// The variables of `sources` that have no effect, in the order of their names.
pub(crate) fn env_warnings(sources: &Sources) -> Vec<EnvWarning> {
    let mut variables: Vec<_> = sources.env.iter().map(|(name, value)| (name.as_str(), value)).collect();
    variables.sort_unstable();
    let mut known = None;
    let warning = |(name, value): (&str, &String)| {
        let lower = name.to_ascii_lowercase();
        let rest = lower.strip_prefix("outrigger_")?;
        if let Some(keys) = rest.strip_prefix('_') {
            let keys: Vec<String> = keys.split("__").map(str::to_owned).collect();
            return is_empty(&keys, value).then(|| EnvWarning::Empty { name: name.to_owned() });
        }
        // The name has to be spelled exactly so: no other spelling is looked for.
        if name == FILE_VARIABLE {
            return value.is_empty().then(|| EnvWarning::Empty { name: name.to_owned() });
        }
        if is_service_variable(rest, value) {
            return None;
        }
        let known = known.get_or_insert_with(setting_names);
        let nearest = closest(rest, known.iter().map(|(plain, _)| plain.as_str()));
        let nearest = nearest.and_then(|nearest| known.iter().find(|(plain, _)| plain == nearest));
        Some(EnvWarning::Unknown { name: name.to_owned(), nearest: nearest.map(|(_, name)| name.clone()) })
    };
    variables.into_iter().filter_map(warning).collect()
}

/// Whether a value counts as not set, unlike `null`: it is blank, or nothing but comments where YAML is read.
pub(super) fn is_empty(path: &[String], value: &str) -> bool {
    let is_comment = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    value.trim().is_empty()
        || (value.lines().all(is_comment)
            && matches!(shape_at::<RawConfig>(path), Some(Shape::Keys(_) | Shape::Nested)))
}

/// The names of all settings, as `policy_auth` and as they are written.
fn setting_names() -> Vec<(String, String)> {
    fn walk(path: &mut Vec<String>, setting_names: &mut Vec<(String, String)>) {
        let Some(Shape::Keys(keys)) = shape_at::<RawConfig>(path) else { return };
        for key in keys {
            path.push((*key).to_owned());
            setting_names
                .push((path.join("_"), format!("OUTRIGGER__{}", path.join("__").to_ascii_uppercase())));
            walk(path, setting_names);
            path.pop();
        }
    }
    let mut setting_names = Vec::new();
    walk(&mut Vec::new(), &mut setting_names);
    setting_names
}

/// Whether Kubernetes (or Docker's links) set the variable for a service named `outrigger` or `outrigger-…`:
/// `…_SERVICE_HOST`, `…_SERVICE_PORT_HTTP`, `…_PORT`, `…_PORT_8080_TCP_ADDR`. `rest` is in lower case and without the
/// prefix.
fn is_service_variable(rest: &str, value: &str) -> bool {
    // An operator who means the port writes a number; Kubernetes writes a URL.
    let is_url = || ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let words: Vec<&str> = rest.split('_').collect();
    let pairs = || words.windows(2);
    pairs().any(|pair| matches!(pair, ["service", "host" | "port"]))
        || (matches!(words.last(), Some(&"port")) && is_url())
        || words.windows(3).any(|three| {
            let [port, number, protocol] = three else { return false };
            *port == "port"
                && number.bytes().all(|byte| byte.is_ascii_digit())
                && matches!(*protocol, "tcp" | "udp" | "sctp")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, value: &str) -> Option<EnvWarning> {
        let env = vec![(name.to_owned(), value.to_owned())];
        env_warnings(&Sources { env, ..Sources::default() }).pop()
    }

    #[test]
    fn what_is_empty_is_named() {
        for (name, value, warns) in [
            ("OUTRIGGER__POLICY__AUTH", "", true),
            ("outrigger__policy__auth", " \n", true),
            ("OUTRIGGER__POLICY__AUTH", "# nothing", true),
            ("OUTRIGGER__ADMIN__TOKEN", "", true),
            ("OUTRIGGER__ADMIN__TOKEN", "#token", false),
            ("OUTRIGGER__POLICY__AUTH", "null", false),
            ("OUTRIGGER__POLICY__AUTH", "off", false),
            ("OUTRIGGER__POLICY__AUTH", "~", false),
        ] {
            let expected = warns.then(|| EnvWarning::Empty { name: name.into() });
            assert_eq!(told(name, value), expected, "{name}={value:?}");
        }
    }

    #[test]
    fn what_is_none_of_ours_is_named_with_the_nearest_setting() {
        for (name, nearest) in [
            ("OUTRIGGER_LISTEN_ADDRESS", Some("OUTRIGGER__LISTEN__ADDRESS")),
            ("OUTRIGGER_LISTEN__ADDRESS", Some("OUTRIGGER__LISTEN__ADDRESS")),
            ("outrigger_upstream_ulr", Some("OUTRIGGER__UPSTREAM__URL")),
            ("OUTRIGGER_POLICY_MAX_FRAME", Some("OUTRIGGER__POLICY__MAX_FRAME")),
            ("OUTRIGGER_ADMIN_TOKENFILE", Some("OUTRIGGER__ADMIN__TOKEN_FILE")),
            ("OUTRIGGER_POLICY_AUTH", Some("OUTRIGGER__POLICY__AUTH")),
            ("OUTRIGGER_ROUTES", Some("OUTRIGGER__ROUTES")),
            ("OUTRIGGER_IS_NOT_A_SETTING", None),
            ("OUTRIGGER_PORT", None),
            ("OUTRIGGER_LISTEN_PORT", None),
            ("OUTRIGGER_", None),
        ] {
            let nearest = nearest.map(str::to_owned);
            let expected = EnvWarning::Unknown { name: name.into(), nearest };
            assert_eq!(told(name, "secret"), Some(expected));
        }
        for name in ["OUTRIGGER_PORT", "OUTRIGGER_METRICS_PORT"] {
            assert_eq!(told(name, "tcp://10.0.0.1:8080"), None, "{name}");
        }
        for name in [
            "PATH",
            "OUTRIGGER",
            "OUTRIGGER__UPSTREAM__URL",
            "OUTRIGGER_SERVICE_HOST",
            "OUTRIGGER_SERVICE_PORT",
            "OUTRIGGER_SERVICE_PORT_HTTP",
            "OUTRIGGER_PORT_8080_TCP",
            "OUTRIGGER_PORT_8080_TCP_ADDR",
            "OUTRIGGER_METRICS_SERVICE_HOST",
            "OUTRIGGER_METRICS_PORT_9091_TCP_PROTO",
        ] {
            assert_eq!(told(name, "x"), None, "{name}");
        }
    }

    #[test]
    fn each_says_what_to_do_and_no_value() {
        for (name, value, word) in [
            ("OUTRIGGER__POLICY__AUTH", "", "null"),
            ("OUTRIGGER_LISTEN_ADDRESS", "hunter2", "did you mean OUTRIGGER__LISTEN__ADDRESS?"),
            ("OUTRIGGER_HUNTER", "hunter2", "OUTRIGGER__"),
        ] {
            let told = told(name, value).unwrap().to_string();
            assert!(told.contains(name) && told.contains(word) && !told.contains("hunter2"), "{told}");
        }
    }
}

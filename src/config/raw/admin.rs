//! `admin`, `log`, `metrics`, `memory` and `drain`: the operators' side.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::list::List;
use super::scalar::{CloseCode, MaxBuffered, Readable, Scalar, words};
use super::units::{Bytes, Span};
use super::url;
use crate::config::Secret;
use crate::config::cgroup;
use crate::config::error::{Problem, quoted};
use crate::config::model::{Admin, Drain, ListenAddress, Log, LogConnections, LogFormat, LogRequests};
use crate::config::problems::Problems;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawAdmin {
    address: Scalar<SocketAddr>,
    probe_address: Option<Scalar<SocketAddr>>,
    token: Option<Scalar<Secret>>,
    token_file: Option<Scalar<PathBuf>>,
    hosts: List<String>,
    max_publish: Scalar<Bytes>,
    ready_needs_upstream: Scalar<bool>,
}

impl Default for RawAdmin {
    fn default() -> Self {
        Self {
            address: Scalar(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090)),
            probe_address: None,
            token: None,
            token_file: None,
            hosts: List::default(),
            max_publish: Scalar(Bytes(1 << 20)),
            ready_needs_upstream: Scalar(false),
        }
    }
}

impl RawAdmin {
    pub(super) fn validate(self, listen: &ListenAddress, problems: &mut Problems) -> Admin {
        let Self { address, probe_address, token, token_file, hosts, max_publish, ready_needs_upstream } =
            self;
        super::not_empty("max_publish", max_publish, problems);
        let (address, probe_address) = (address.0, probe_address.map(|address| address.0));

        let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
        if let ListenAddress::Tcp(listen) = listen {
            taken.push(("listen.address", *listen));
        }
        for (key, address) in [("address", Some(address)), ("probe_address", probe_address)] {
            let Some(address) = address else { continue };
            if let Some((other, _)) = taken.iter().find(|(_, other)| clash(address, *other)) {
                problems.refuse(
                    key,
                    quoted(&address.to_string()),
                    format!("a port of its own; {other} has this one"),
                );
            }
            taken.push((if key == "address" { "admin.address" } else { key }, address));
        }

        let has_token =
            token.is_some() || token_file.is_some() || problems.has("token") || problems.has("token_file");
        if !address.ip().to_canonical().is_loopback() && !has_token && !problems.has("address") {
            let accepted = "a loopback address, or another one with token or token_file set: \
                            whoever reaches this port can end every connection";
            problems.refuse("address", format!("{} and no token", quoted(&address.to_string())), accepted);
        }
        let token = match (token, token_file) {
            (Some(_), Some(_)) => {
                problems.refuse("token_file", "token_file, and token too", "one of the two");
                None
            }
            (Some(token), None) => Some(token.0),
            (None, Some(path)) => match token_in(&path.0, problems) {
                Ok(token) => Some(token),
                Err(problem) => {
                    problems.add("token_file", problem);
                    None
                }
            },
            (None, None) => None,
        };
        Admin {
            address,
            probe_address,
            token,
            hosts: url::hosts("hosts", hosts, problems),
            ready_needs_upstream: ready_needs_upstream.0,
            max_publish: max_publish.0.0 as usize,
        }
    }
}

/// Whether two listeners could not both be opened.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_ip
}

fn token_in(path: &std::path::Path, problems: &mut Problems) -> Result<Secret, Problem> {
    let file = problems.read_file(path).map_err(Problem::File)?;
    let text = std::str::from_utf8(&file.contents).ok();
    text.and_then(|text| Secret::read(text.trim_end_matches(['\n', '\r']))).ok_or_else(|| Problem::Value {
        found: format!("something else in {}", path.display()),
        accepted: format!("a file that holds the token and nothing more: {}", Secret::accepted()),
    })
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
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

words!(LogFormat { Json = "json", Text = "text" });
words!(LogRequests { All = "all", Errors = "errors", Off = "off" });
words!(LogConnections { All = "all", Errors = "errors", Off = "off" });

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl RawLog {
    pub(super) fn validate(self, problems: &mut Problems) -> Log {
        let Self { level, format, connections, requests } = self;
        let mut level = level.0;
        if level == "false" {
            level = "off".into();
        }
        // A bare word that is no level would be taken for a target, which is never what was meant.
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

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
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
    pub(super) fn validate(self, problems: &mut Problems) -> String {
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

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawMemory {
    max_buffered: Scalar<MaxBuffered>,
}

impl Default for RawMemory {
    fn default() -> Self {
        Self { max_buffered: Scalar(MaxBuffered::Auto) }
    }
}

/// What `auto` is at most.
const AUTO_BUFFERED: u64 = 256 << 20;

impl RawMemory {
    pub(super) fn validate(self, problems: &mut Problems) -> usize {
        let Self { max_buffered } = self;
        let bytes = match max_buffered.0 {
            MaxBuffered::Auto => auto_buffered(cgroup::memory_limit()),
            MaxBuffered::Size(size) => {
                super::not_empty("max_buffered", Scalar(size), problems);
                size.0
            }
        };
        bytes as usize
    }
}

/// 40 % of the container's limit: the rest is for connections, handshakes and the allocator's slack.
fn auto_buffered(limit: Option<u64>) -> u64 {
    // At least a byte: a bound of nothing is no bound but a stop.
    limit.map_or(AUTO_BUFFERED, |limit| (limit / 5).saturating_mul(2).clamp(1, AUTO_BUFFERED))
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
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
    pub(super) fn validate(self, problems: &mut Problems) -> Drain {
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

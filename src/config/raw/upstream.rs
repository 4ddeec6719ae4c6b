//! `upstream`: the unmodified server.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::later::{Later, UpstreamTls};
use super::scalar::{Scalar, words};
use super::tunnel::Timing;
use super::units::{OffSpan, Span};
use crate::config::error::{Problem, quoted};
use crate::config::model::{Forwarded, HostHeader, Target, Upstream};
use crate::config::problems::Problems;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawUpstream {
    url: Scalar<String>,
    connect_timeout: Scalar<Span>,
    handshake_timeout: Scalar<Span>,
    keep_alive: Scalar<Span>,
    stall_timeout: Scalar<OffSpan>,
    max_dials: Scalar<u32>,
    tls: Later<UpstreamTls>,
    host_header: Scalar<HostHeader>,
    forwarded: Scalar<Forwarded>,
    heartbeat: Option<Timing>,
}

impl Default for RawUpstream {
    fn default() -> Self {
        Self {
            url: Scalar("http://127.0.0.1:3000".into()),
            connect_timeout: Scalar(Span::secs(2)),
            handshake_timeout: Scalar(Span::secs(10)),
            keep_alive: Scalar(Span::secs(4)),
            stall_timeout: Scalar(OffSpan(Some(Span::secs(60).0))),
            max_dials: Scalar(64),
            tls: Later::default(),
            host_header: Scalar(HostHeader::Preserve),
            forwarded: Scalar(Forwarded::XForwarded),
            heartbeat: None,
        }
    }
}

words!(HostHeader { Preserve = "preserve", Rewrite = "rewrite" });
words!(Forwarded { XForwarded = "x-forwarded", Rfc7239 = "rfc7239", Both = "both", Off = "off" });

impl RawUpstream {
    pub(super) fn validate(self, problems: &mut Problems) -> Upstream {
        let Self {
            url,
            connect_timeout,
            handshake_timeout,
            keep_alive,
            stall_timeout,
            max_dials,
            tls,
            host_header,
            forwarded,
            heartbeat,
        } = self;
        problems.only_default("tls", &tls, &Later::default());
        super::positive("connect_timeout", connect_timeout, problems);
        super::positive("handshake_timeout", handshake_timeout, problems);
        super::positive("keep_alive", keep_alive, problems);
        super::at_least_one("max_dials", max_dials, problems);
        let target = target(&url.0).unwrap_or_else(|problem| {
            problems.add("url", problem);
            Target::Unix(PathBuf::new())
        });
        Upstream {
            target,
            tls: None,
            connect_timeout: connect_timeout.0.0,
            handshake_timeout: handshake_timeout.0.0,
            keep_alive: keep_alive.0.0,
            stall_timeout: stall_timeout.0.0,
            max_dials: max_dials.0 as usize,
            host_header: host_header.0,
            forwarded: forwarded.0,
            heartbeat: heartbeat
                .map(|timing| problems.within("heartbeat", |problems| timing.validate(problems))),
        }
    }
}

/// Reads `http://host[:port]` or `unix:///path`.
fn target(url: &str) -> Result<Target, Problem> {
    if let Some(path) = url.strip_prefix("unix://") {
        let fit = path.starts_with('/') && path.len() > 1 && !path.contains(['\0', '?', '#']);
        return if fit { Ok(Target::Unix(path.into())) } else { Err(refused(url, "")) };
    }
    if url.starts_with("https://") {
        return Err(Problem::NotYet { accepted: "http:// or unix:// only".into() });
    }
    if !url.starts_with("http://") {
        return Err(refused(url, ""));
    }
    let uri: http::Uri = url.parse().map_err(|_| refused(url, ""))?;
    let authority = uri.authority().ok_or_else(|| refused(url, ""))?;
    if authority.as_str().contains('@') {
        return Err(refused(url, " (no user or password in it)"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() || url.contains('#') {
        return Err(refused(url, " (no path or query; a route's strip_prefix changes paths)"));
    }
    let host = authority.host();
    let port = match authority.as_str().strip_prefix(host) {
        Some("") => 80,
        // `port_u16` is `None` for a port that is no port.
        Some(_) => authority.port_u16().filter(|port| *port != 0).ok_or_else(|| refused(url, ""))?,
        None => return Err(refused(url, "")),
    };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => address,
        None if !host.is_empty() && host.bytes().all(is_host_byte) => host,
        Some(_) | None => return Err(refused(url, "")),
    };
    Ok(Target::Tcp { host: host.to_ascii_lowercase(), port })
}

/// What names are made of; underscores are no host names, but containers have them.
pub(super) fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

fn refused(url: &str, hint: &str) -> Problem {
    // A password may stand before an `@`.
    let found = if url.contains('@') { "a URL with a user, not shown".into() } else { quoted(url) };
    Problem::Value { found, accepted: format!("http://host[:port] or unix:///path{hint}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Target {
        Target::Tcp { host: host.into(), port }
    }

    #[test]
    fn an_upstream_url_names_a_host_and_port_or_a_socket() {
        for (url, expected) in [
            ("http://127.0.0.1:3000", tcp("127.0.0.1", 3000)),
            ("http://127.0.0.1:3000/", tcp("127.0.0.1", 3000)),
            ("http://App_1.local", tcp("app_1.local", 80)),
            ("http://[::1]:8080", tcp("::1", 8080)),
            ("http://[::1]", tcp("::1", 80)),
            ("unix:///run/app.sock", Target::Unix("/run/app.sock".into())),
        ] {
            assert_eq!(target(url).ok(), Some(expected), "{url}");
        }
    }

    #[test]
    fn what_no_upstream_can_be_reached_by_is_refused() {
        for url in [
            "",
            "127.0.0.1:3000",
            "app",
            "ws://app",
            "ftp://app",
            "http://",
            "http://:80",
            "http://app:",
            "http://app:0",
            "http://app:65536",
            "http://app:x",
            "http://app/path",
            "http://app/?q",
            "http://app?q",
            "http://app#f",
            "http://[::1",
            "http://[zz]",
            "http://a b",
            "unix://",
            "unix:///",
            "unix://run/app.sock",
            "https://app",
        ] {
            assert!(target(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_password_in_an_upstream_url_is_never_shown() {
        for url in ["http://user:hunter2@app", "ftp://user:hunter2@app", "http://user:hunter2@app/path"] {
            let told = target(url).expect_err(url).to_string();
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}

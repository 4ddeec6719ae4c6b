//! `upstream`: the unmodified server.

mod tls;

#[cfg(test)]
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::config::error::{Problem, quoted};
use crate::config::model::{Forwarded, HostHeader, Target, Upstream, UpstreamHeartbeat, UpstreamTls};
use crate::config::problems::Problems;
use crate::config::raw::policy::heartbeat::HeartbeatTiming;
use crate::config::raw::upstream::tls::{RawUpstreamTls, is_server_name};
use crate::config::raw::values::check;
use crate::config::raw::values::scalar::{Scalar, words};
#[cfg(test)]
use crate::config::raw::values::schema;
use crate::config::raw::values::units::{Bytes, HEADER_BYTES, Span, SpanOrOff};
use crate::config::raw::values::url::{self, HttpUrl};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawUpstream {
    url: Scalar<String>,
    connect_timeout: Scalar<Span>,
    handshake_timeout: Scalar<Span>,
    keep_alive: Scalar<Span>,
    stall_timeout: Scalar<SpanOrOff>,
    max_dials: Scalar<u32>,
    max_header_bytes: Scalar<Bytes>,
    tls: Option<RawUpstreamTls>,
    host_header: Scalar<HostHeader>,
    forwarded: Scalar<Forwarded>,
    heartbeat: RawUpstreamHeartbeat,
}

impl Default for RawUpstream {
    fn default() -> Self {
        Self {
            url: Scalar("http://127.0.0.1:3000".into()),
            connect_timeout: Scalar(Span::secs(2)),
            handshake_timeout: Scalar(Span::secs(10)),
            keep_alive: Scalar(Span::secs(4)),
            stall_timeout: Scalar(SpanOrOff(Some(Span::secs(60).0))),
            max_dials: Scalar(64),
            max_header_bytes: Scalar(Bytes(256 * 1024)),
            tls: None,
            host_header: Scalar(HostHeader::Preserve),
            forwarded: Scalar(Forwarded::XForwarded),
            heartbeat: RawUpstreamHeartbeat::Auto,
        }
    }
}

words!(HostHeader { Preserve = "preserve", Rewrite = "rewrite" });

words!(Forwarded { XForwarded = "x-forwarded", Rfc7239 = "rfc7239", Both = "both", Off = "off" });

impl RawUpstream {
    pub(crate) fn validate(self, problems: &mut Problems) -> Upstream {
        let Self {
            url,
            connect_timeout,
            handshake_timeout,
            keep_alive,
            stall_timeout,
            max_dials,
            max_header_bytes,
            tls,
            host_header,
            forwarded,
            heartbeat,
        } = self;
        check::positive("connect_timeout", connect_timeout, problems);
        check::positive("handshake_timeout", handshake_timeout, problems);
        check::positive("keep_alive", keep_alive, problems);
        check::at_least_one("max_dials", max_dials, problems);
        if !HEADER_BYTES.contains(&max_header_bytes.0.0) {
            problems.refuse("max_header_bytes", check::shown(max_header_bytes), "a size from 8KiB to 1MiB");
        }
        let given = tls.map(|tls| problems.within("tls", |problems| tls.validate(problems)));
        let (target, tls) = match target(&url.0) {
            Ok((target, true)) => {
                let tls = given.unwrap_or_default();
                check_name(&target, &tls, problems);
                (target, Some(tls))
            }
            Ok((target, false)) => {
                // Inherited TLS settings belong to the URL that they were written with.
                if given.is_some() && problems.is_own("tls") && !problems.has("url") {
                    let accepted = "null, or an upstream.url that starts with https://";
                    problems.refuse("tls", format!("settings of TLS, and {}", quoted(&url.0)), accepted);
                }
                (target, None)
            }
            Err(problem) => {
                problems.add("url", problem);
                (Target::Unix(PathBuf::new()), None)
            }
        };
        Upstream {
            target,
            tls,
            connect_timeout: connect_timeout.0.0,
            handshake_timeout: handshake_timeout.0.0,
            keep_alive: keep_alive.0.0,
            stall_timeout: stall_timeout.0.0,
            max_dials: max_dials.0 as usize,
            max_header_bytes: max_header_bytes.0.0 as usize,
            host_header: host_header.0,
            forwarded: forwarded.0,
            heartbeat: problems.within("heartbeat", |problems| heartbeat.validate(problems)),
        }
    }
}

/// `upstream.heartbeat`: one that depends on the mode, none, or its timing.
#[derive(Debug, Clone)]
enum RawUpstreamHeartbeat {
    Auto,
    Off,
    Every(HeartbeatTiming),
}

impl RawUpstreamHeartbeat {
    fn validate(self, problems: &mut Problems) -> UpstreamHeartbeat {
        match self {
            Self::Auto => UpstreamHeartbeat::Auto,
            Self::Off => UpstreamHeartbeat::Off,
            Self::Every(timing) => UpstreamHeartbeat::Every(timing.validate(problems)),
        }
    }
}

impl Serialize for RawUpstreamHeartbeat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Off => serializer.serialize_none(),
            Self::Every(timing) => timing.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RawUpstreamHeartbeat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeartbeatVisitor;

        impl<'de> Visitor<'de> for HeartbeatVisitor {
            type Value = RawUpstreamHeartbeat;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("auto, a map with interval, timeout and max_missed, or null for off")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawUpstreamHeartbeat, E> {
                match text {
                    "auto" => Ok(RawUpstreamHeartbeat::Auto),
                    // Helm and YAML 1.1 write `off` as `false`.
                    "off" | "false" => Ok(RawUpstreamHeartbeat::Off),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_unit<E>(self) -> Result<RawUpstreamHeartbeat, E> {
                Ok(RawUpstreamHeartbeat::Off)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawUpstreamHeartbeat, A::Error> {
                HeartbeatTiming::deserialize(MapAccessDeserializer::new(map)).map(RawUpstreamHeartbeat::Every)
            }
        }

        deserializer.deserialize_any(HeartbeatVisitor)
    }
}

#[cfg(test)]
impl JsonSchema for RawUpstreamHeartbeat {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "UpstreamHeartbeat".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let clocks = generator.subschema_for::<HeartbeatTiming>();
        schema::any_of(&[schema::words(&["auto", "off"]), clocks, json_schema!({ "type": "null" })])
    }
}

/// Checks that there is a name for the certificate.
fn check_name(target: &Target, tls: &UpstreamTls, problems: &mut Problems) {
    if let Target::Tcp { host, .. } = target
        && tls.server_name.is_none()
        && !is_server_name(host)
    {
        let accepted = "a host that a certificate can have, or the name in it as tls.server_name";
        problems.refuse("url", quoted(host), accepted);
    }
}

/// Where a URL leads, and whether over TLS: `http://host[:port]`, `https://…` or `unix:///path`.
fn target(url: &str) -> Result<(Target, bool), Problem> {
    let refused = |hint: &str| {
        url::refused(url, &format!("http://host[:port], https://host[:port] or unix:///path{hint}"))
    };
    if let Some(path) = url.strip_prefix("unix://") {
        let fit = path.starts_with('/') && path.len() > 1 && !path.contains(['\0', '?', '#']);
        return if fit { Ok((Target::Unix(path.into()), false)) } else { Err(refused("")) };
    }
    if url.starts_with("http") && url.contains('@') {
        return Err(refused(" (no user or password in it)"));
    }
    let HttpUrl { is_tls, host, port, is_bare } = url::parse(url).ok_or_else(|| refused(""))?;
    if !is_bare {
        return Err(refused(" (no path or query; a route's strip_prefix changes paths)"));
    }
    Ok((Target::Tcp { host, port }, is_tls))
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
            assert_eq!(target(url).ok(), Some((expected, false)), "{url}");
        }
        for (url, expected) in [
            ("https://App.local", tcp("app.local", 443)),
            ("https://app.local:8443/", tcp("app.local", 8443)),
            ("https://[::1]", tcp("::1", 443)),
        ] {
            assert_eq!(target(url).ok(), Some((expected, true)), "{url}");
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
            "https://",
            "https://app/path",
            "https:/app",
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

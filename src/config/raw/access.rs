//! Who may come in, how many and how fast: `limits`, `handshake_rate`, `http.rate`, `on_refuse`, `close_codes` and
//! `origins` of a policy.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::scalar::{CloseCode, Scalar, words};
use super::units::{OffCount, PerTime, Span, Unit};
use super::url::is_host_byte;
use crate::config::error::quoted;
use crate::config::model::{
    CloseCodes, ControlRate, HandshakeRate, HttpRate, Limits, OnRefuse, OnUserLimit, OriginPattern, Origins,
    Rate,
};
use crate::config::problems::Problems;

/// `policy.limits`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(super) struct RawLimits {
    connections: Scalar<OffCount>,
    per_ip: Scalar<OffCount>,
    per_user: Scalar<OffCount>,
    on_user_limit: Scalar<OnUserLimit>,
    message_rate: Option<MessageRate>,
    control_rate: RawControlRate,
}

words!(OnUserLimit { Refuse = "refuse", ReplaceOldest = "replace_oldest" });

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            connections: Scalar(OffCount(Some(10_000))),
            per_ip: Scalar(OffCount(None)),
            per_user: Scalar(OffCount(None)),
            on_user_limit: Scalar(OnUserLimit::Refuse),
            message_rate: None,
            control_rate: RawControlRate::Auto,
        }
    }
}

impl RawLimits {
    /// What holds for connections, for the messages of each, and for its control frames.
    pub(super) fn validate(self, problems: &mut Problems) -> (Limits, Option<Rate>, ControlRate) {
        let Self { connections, per_ip, per_user, on_user_limit, message_rate, control_rate } = self;
        let is_replacing = on_user_limit.0 == OnUserLimit::ReplaceOldest;
        if is_replacing
            && per_user.0.0.is_none()
            && problems.is_own("on_user_limit")
            && !problems.has("per_user")
        {
            problems.refuse(
                "on_user_limit",
                "\"replace_oldest\", and no per_user",
                "refuse, or a per_user from 1: without it no user has a limit",
            );
        }
        let limits = Limits {
            connections: connections.0.0,
            per_ip: per_ip.0.0,
            per_user: per_user.0.0,
            on_user_limit: on_user_limit.0,
        };
        let rate =
            message_rate.map(|rate| problems.within("message_rate", |problems| rate.validate(problems)));
        let control_rate = problems.within("control_rate", |problems| control_rate.validate(problems));
        (limits, rate, control_rate)
    }
}

/// `policy.limits.control_rate`
#[derive(Debug, Clone)]
enum RawControlRate {
    Auto,
    Off,
    At(ControlBucket),
}

impl RawControlRate {
    fn validate(self, problems: &mut Problems) -> ControlRate {
        match self {
            Self::Auto => ControlRate::Auto,
            Self::Off => ControlRate::Off,
            Self::At(rate) => ControlRate::At(rate.validate(problems)),
        }
    }
}

impl Serialize for RawControlRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Off => serializer.serialize_none(),
            Self::At(rate) => rate.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RawControlRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = RawControlRate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("auto, a map with rate and burst, or null for off")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawControlRate, E> {
                match text {
                    "auto" => Ok(RawControlRate::Auto),
                    // Helm and YAML 1.1 write `off` as `false`.
                    "off" | "false" => Ok(RawControlRate::Off),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_unit<E>(self) -> Result<RawControlRate, E> {
                Ok(RawControlRate::Off)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawControlRate, A::Error> {
                ControlBucket::deserialize(MapAccessDeserializer::new(map)).map(RawControlRate::At)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A token bucket. What it holds by default counts once it is there.
macro_rules! bucket {
    ($($(#[$doc:meta])* $name:ident: $per_second:literal a second, burst $burst:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields, expecting = "a map with rate and burst, or null for off")]
        struct $name {
            rate: Scalar<PerTime>,
            burst: Scalar<u32>,
        }

        impl Default for $name {
            fn default() -> Self {
                let rate = PerTime { count: $per_second, unit: Unit::Second };
                Self { rate: Scalar(rate), burst: Scalar($burst) }
            }
        }

        impl $name {
            fn validate(self, problems: &mut Problems) -> Rate {
                let Self { rate, burst } = self;
                super::at_least_one("burst", burst, problems);
                Rate { per_second: rate.0.per_second(), burst: burst.0 }
            }
        }
    )+};
}

bucket! {
    /// `policy.limits.message_rate`
    MessageRate: 100 a second, burst 200;
    /// `policy.limits.control_rate`
    ControlBucket: 100 a second, burst 1000;
    /// `policy.handshake_rate.global`
    GlobalRate: 500 a second, burst 1000;
    /// `policy.handshake_rate.per_ip` and `per_user`
    KeyedRate: 20 a second, burst 40;
    /// `policy.http.rate.global`
    RequestRate: 500 a second, burst 1000;
    /// `policy.http.rate.per_ip`
    KeyedRequestRate: 50 a second, burst 100;
}

/// `policy.handshake_rate`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(super) struct RawHandshakeRate {
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
    pub(super) fn validate(self, problems: &mut Problems) -> HandshakeRate {
        let Self { global, per_ip, per_user, queue, max_queued, max_keys } = self;
        super::at_least_one("max_queued", max_queued, problems);
        super::at_least_one("max_keys", max_keys, problems);
        if !queue.0.0.is_zero() && global.is_none() && problems.is_own("queue") && !problems.has("global") {
            problems.refuse(
                "queue",
                super::shown(queue),
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

/// `policy.http.rate`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(super) struct RawHttpRate {
    global: Option<RequestRate>,
    per_ip: Option<KeyedRequestRate>,
    max_keys: Scalar<u32>,
}

impl Default for RawHttpRate {
    fn default() -> Self {
        Self { global: None, per_ip: None, max_keys: Scalar(100_000) }
    }
}

impl RawHttpRate {
    pub(super) fn validate(self, problems: &mut Problems) -> HttpRate {
        let Self { global, per_ip, max_keys } = self;
        super::at_least_one("max_keys", max_keys, problems);
        HttpRate {
            global: global.map(|rate| problems.within("global", |problems| rate.validate(problems))),
            per_ip: per_ip.map(|rate| problems.within("per_ip", |problems| rate.validate(problems))),
            max_keys: max_keys.0 as usize,
        }
    }
}

words!(OnRefuse { Http = "http", Close = "close" });

/// `policy.close_codes`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(super) struct RawCloseCodes {
    capacity: Scalar<CloseCode>,
    rate: Scalar<CloseCode>,
    unauthorized: Scalar<CloseCode>,
    expired: Scalar<CloseCode>,
    upstream_lost: Scalar<CloseCode>,
    slow_consumer: Scalar<CloseCode>,
    idle: Scalar<CloseCode>,
}

impl Default for RawCloseCodes {
    fn default() -> Self {
        Self {
            capacity: Scalar(CloseCode(1008)),
            rate: Scalar(CloseCode(1013)),
            unauthorized: Scalar(CloseCode(1008)),
            expired: Scalar(CloseCode(1008)),
            upstream_lost: Scalar(CloseCode(1012)),
            slow_consumer: Scalar(CloseCode(1013)),
            idle: Scalar(CloseCode(1001)),
        }
    }
}

impl RawCloseCodes {
    pub(super) fn validate(self) -> CloseCodes {
        let Self { capacity, rate, unauthorized, expired, upstream_lost, slow_consumer, idle } = self;
        CloseCodes {
            capacity: capacity.0.0,
            rate: rate.0.0,
            unauthorized: unauthorized.0.0,
            expired: expired.0.0,
            upstream_lost: upstream_lost.0.0,
            slow_consumer: slow_consumer.0.0,
            idle: idle.0.0,
        }
    }
}

/// `policy.origins`: a map, or a list, which is `allow` alone.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(super) struct RawOrigins(Fields);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Fields {
    allow: Vec<Scalar<String>>,
    missing: Scalar<Missing>,
    /// Whether it was written as a list: then there is no key `allow` to point at.
    #[serde(skip)]
    is_list: bool,
}

impl Default for Fields {
    fn default() -> Self {
        Self { allow: Vec::new(), missing: Scalar(Missing::Allow), is_list: false }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Allow,
    Refuse,
}

words!(Missing { Allow = "allow", Refuse = "refuse" });

impl<'de> Deserialize<'de> for RawOrigins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of origins, a map with allow and missing, or null for any")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Fields, A::Error> {
                let mut fields = Fields { is_list: true, ..Fields::default() };
                while let Some(origin) = list.next_element()? {
                    fields.allow.push(origin);
                }
                Ok(fields)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fields, A::Error> {
                Fields::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(Either).map(Self)
    }
}

/// Every handshake is held against each of them.
const MOST_ORIGINS: usize = 256;

impl RawOrigins {
    pub(super) fn validate(self, problems: &mut Problems) -> Origins {
        let Self(Fields { allow, missing, is_list }) = self;
        if allow.len() > MOST_ORIGINS {
            problems.refuse("allow", format!("{} origins", allow.len()), format!("at most {MOST_ORIGINS}"));
        }
        let missing = missing.0 == Missing::Allow;
        if allow.is_empty() && !missing && !problems.has("allow") {
            problems.refuse("allow", "no origin, and missing: refuse", "an origin: nobody could come in");
        }
        let key = if is_list { "" } else { "allow" };
        let patterns = allow.into_iter().enumerate().filter_map(|(index, Scalar(text))| {
            let told = |accepted: &'static str| {
                problems.within_item(key, index, |problems| problems.refuse("", quoted(&text), accepted));
            };
            origin(&text).map_err(told).ok()
        });
        Origins { allow: patterns.collect(), missing }
    }
}

/// Reads `https://app.example.com`, `https://*.example.com:8443`, `http://localhost:*`, `chrome-extension://id`,
/// `file://` and `null`; or says what is accepted.
fn origin(text: &str) -> Result<OriginPattern, &'static str> {
    const SHAPE: &str = "scheme://host or scheme://host:port, such as https://app.example.com, https://*.example.com \
                         or http://localhost:*; or file://, or the word \"null\"";
    match text {
        "*" => return Err("one page's origin each; for any page set origins to null"),
        "null" => return Ok(OriginPattern::Null),
        _ => {}
    }
    let (scheme, rest) = text.split_once("://").ok_or(SHAPE)?;
    let scheme = scheme.to_ascii_lowercase();
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(letters) {
        return Err(SHAPE);
    }
    if scheme == "file" && rest.is_empty() {
        return Ok(OriginPattern::Of { scheme, host: String::new(), subdomains: false, port: Some(0) });
    }
    if rest.contains(['/', '?', '#', '@']) {
        return Err("an origin, without path, trailing slash or user");
    }
    if matches!(scheme.as_str(), "ws" | "wss") {
        return Err("the page's origin: it starts with http:// or https://, whatever it opens");
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, "*")) => (host, None),
        Some((host, port)) if !port.ends_with(']') => {
            let digits = super::scalar::digits(port).ok_or(SHAPE)?;
            let port = digits.parse().ok().filter(|port| *port != 0);
            (host, Some(port.ok_or("a port from 1 to 65535, or * for any")?))
        }
        _ => (rest, Some(OriginPattern::default_port(&scheme))),
    };
    let (host, subdomains) = match host.strip_prefix("*.") {
        Some(host) => (host, true),
        None => (host, false),
    };
    if host.contains('*') {
        return Err("* only as the whole first label, as in https://*.example.com");
    }
    if !host.is_ascii() {
        return Err("a host in ASCII, as browsers send it: xn--…");
    }
    // The root's dot makes no other host of it.
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    // In the one form that browsers send.
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let (host, is_address) = match bracketed {
        Some(address) => (address.parse::<Ipv6Addr>().map_err(|_| SHAPE)?.to_string(), true),
        None => {
            let is_address = host.parse::<Ipv4Addr>().is_ok();
            (host, is_address)
        }
    };
    if host.is_empty()
        || (!is_address && !host.bytes().all(is_host_byte))
        || host.starts_with('.')
        || host.ends_with('.')
    {
        return Err(SHAPE);
    }
    if is_address && subdomains {
        return Err("an address without *.: only names have names below them");
    }
    Ok(OriginPattern::Of { scheme, host, subdomains, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(scheme: &str, host: &str, subdomains: bool, port: impl Into<Option<u16>>) -> OriginPattern {
        OriginPattern::Of { scheme: scheme.into(), host: host.into(), subdomains, port: port.into() }
    }

    #[test]
    fn origins_are_read_with_their_scheme_and_port() {
        for (text, expected) in [
            ("https://app.example.com", pattern("https", "app.example.com", false, 443)),
            ("HTTPS://App.Example.com:443", pattern("https", "app.example.com", false, 443)),
            ("http://localhost:5173", pattern("http", "localhost", false, 5173)),
            ("http://10.0.0.1", pattern("http", "10.0.0.1", false, 80)),
            ("http://[::1]:3000", pattern("http", "::1", false, 3000)),
            ("http://[0:0:0:0:0:0:0:1]", pattern("http", "::1", false, 80)),
            ("https://*.example.com", pattern("https", "example.com", true, 443)),
            ("https://*.example.com:8443", pattern("https", "example.com", true, 8443)),
            ("chrome-extension://abcdefgh", pattern("chrome-extension", "abcdefgh", false, 0)),
            ("capacitor://localhost", pattern("capacitor", "localhost", false, 0)),
            ("http://localhost:*", pattern("http", "localhost", false, None)),
            ("http://[::1]:*", pattern("http", "::1", false, None)),
            ("https://*.example.com:*", pattern("https", "example.com", true, None)),
            ("https://app.example.com.", pattern("https", "app.example.com", false, 443)),
            ("https://*.example.com.:8443", pattern("https", "example.com", true, 8443)),
            ("file://", pattern("file", "", false, 0)),
            ("FILE://", pattern("file", "", false, 0)),
            ("null", OriginPattern::Null),
        ] {
            assert_eq!(origin(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_no_page_sends_is_refused() {
        for text in [
            "",
            "*",
            "Null",
            "app.example.com",
            "//app",
            "file:///",
            "file://:*",
            "file://*",
            "http://",
            "http://.",
            "http://*:*",
            "https://app:*8",
            "https://app:8*",
            "https://app.example.com..",
            "https://",
            "https://*",
            "https://*.",
            "https://a*",
            "https://*.*.example.com",
            "https://a.*.example.com",
            "https://app/",
            "https://app/x",
            "https://app?q",
            "https://me@app",
            "https://app:0",
            "https://app:65536",
            "https://app:",
            "https://app:x",
            "https://a b",
            "https://*.10.0.0.1",
            "https://*.[::1]",
            "https://[::1",
            "https://[x]",
            "https://\u{e4}.example",
            "wss://app",
            "1x://app",
            "https://.example.com",
            "https:app",
        ] {
            assert!(origin(text).is_err(), "{text:?}");
        }
    }
}

//! `policy.origins`: which pages may connect.

#[cfg(test)]
use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

#[cfg(test)]
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::config::error::quoted;
use crate::config::model::{OriginPattern, Origins};
use crate::config::problems::Problems;
use crate::config::raw::values::list::List;
use crate::config::raw::values::scalar::{Scalar, digits, words};
#[cfg(test)]
use crate::config::raw::values::schema;
use crate::config::raw::values::url::is_host_byte;

/// `policy.origins`: a map, or a list, which is `allow` alone.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct RawOrigins(Fields);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields)]
struct Fields {
    /// Origins of pages that may connect; an empty list lets no page in
    allow: List<String>,
    /// What is done without Origin, which browsers always send
    missing: Scalar<Missing>,
    /// Whether it was written as a list: then there is no key `allow` to point at.
    #[serde(skip)]
    is_list: bool,
}

impl Default for Fields {
    fn default() -> Self {
        Self { allow: List::default(), missing: Scalar(Missing::Allow), is_list: false }
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
        struct OriginsVisitor;

        impl<'de> Visitor<'de> for OriginsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of origins, a map with allow and missing, or null for any")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Fields, A::Error> {
                let mut fields = Fields { is_list: true, ..Fields::default() };
                while let Some(origin) = list.next_element()? {
                    fields.allow.0.push(origin);
                }
                Ok(fields)
            }

            fn visit_str<E: serde::de::Error>(self, origin: &str) -> Result<Fields, E> {
                let allow = List::deserialize(StrDeserializer::new(origin))?;
                Ok(Fields { allow, is_list: true, ..Fields::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fields, A::Error> {
                Fields::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(OriginsVisitor).map(Self)
    }
}

#[cfg(test)]
impl JsonSchema for RawOrigins {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Origins".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schema::any_of(&[List::<String>::json_schema(generator), generator.subschema_for::<Fields>()])
    }
}

/// Every handshake is compared with each of them.
const MAX_ORIGINS: usize = 256;

impl RawOrigins {
    pub(crate) fn validate(self, problems: &mut Problems) -> Origins {
        let Self(Fields { allow: List(allow), missing, is_list }) = self;
        if allow.len() > MAX_ORIGINS {
            problems.refuse("allow", format!("{} origins", allow.len()), format!("at most {MAX_ORIGINS}"));
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
            let digits = digits(port).ok_or(SHAPE)?;
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
    // A trailing dot does not make another host of it.
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    // In the form that browsers send.
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

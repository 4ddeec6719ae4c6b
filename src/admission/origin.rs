//! Checks the origin of the page that a request comes from. A browser sends cookies to any server that any page names,
//! and names the page's origin in `Origin` (RFC 6455 §10.2); other clients need not. Without this check there is
//! cross-site WebSocket hijacking.
//!
//! # Invariants
//! 1. An `Origin` that is not valid in full is refused: one with a path behind the port, or several of them. So is
//!    `null`, unless it is listed: pages without an origin of any site send it.
//! 2. Plain requests of a guarded route without `Origin` are checked by `Sec-Fetch-Site`: those of another site are
//!    refused. The same holds for endpoints of the fallback, which are asked for as a WebSocket is: there the page's own are
//!    let in, and those of any other are refused, whatever `origins.missing` says.
//! 3. Scheme, host and port have to match, all three, with the default ports filled in.
//!
//! # Not here
//! The operators' port ([`crate::admin`] looks at `Origin` by itself).

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::check::Check;
use super::context::{Kind, RequestContext};
use super::refused::{OriginError, Refused};
use crate::config::{HttpMode, OriginPattern, Origins, Policy};
use crate::telemetry::redact::redact_origin;

/// `policy.origins`
#[derive(Debug)]
pub(super) struct OriginCheck {
    policy: Arc<Policy>,
}

impl OriginCheck {
    pub(super) fn new(policy: Arc<Policy>) -> Self {
        Self { policy }
    }
}

impl Check for OriginCheck {
    async fn check(&self, context: &mut RequestContext) -> Result<(), Refused> {
        let is_asked = context.kind != Kind::Plain || self.policy.http.mode == HttpMode::Guard;
        let Some(origins) = self.policy.origins.as_ref().filter(|_| is_asked) else { return Ok(()) };
        let headers = &context.head.headers;
        let mut values = headers.get_all(header::ORIGIN).into_iter();
        let judged = match (values.next(), values.next()) {
            (None, _) if context.kind == Kind::Plain => {
                without_origin(origins, &context.head.method, headers)
            }
            (None, _) if context.kind != Kind::Handshake => without_origin_to_endpoint(origins, headers),
            (None, _) => origins.missing.then_some(()).ok_or(OriginError::Missing),
            (Some(_), Some(_)) => Err(OriginError::Several),
            (Some(origin), None) => named(origins, origin),
        };
        judged.map_err(Refused::Origin)
    }
}

/// Whether `policy.origins` names the page's origin.
pub(crate) fn is_origin_allowed(origins: &Origins, origin: &HeaderValue) -> bool {
    let text = origin.to_str().unwrap_or_default();
    let parsed = Origin::parse(text);
    let is_allowed = |pattern: &OriginPattern| match parsed {
        None => *pattern == OriginPattern::Null && text == "null",
        Some(origin) => origin.fits(pattern),
    };
    origins.allow.iter().any(is_allowed)
}

fn named(origins: &Origins, origin: &HeaderValue) -> Result<(), OriginError> {
    if is_origin_allowed(origins, origin) {
        return Ok(());
    }
    let shown = redact_origin(&String::from_utf8_lossy(origin.as_bytes())).to_string();
    Err(OriginError::Named(shown.into()))
}

/// A plain request without `Origin`. Browsers send none with a GET of the page's own site, nor with one of another
/// site's page for an image, a script or a frame: of which it is they say in `Sec-Fetch-Site` (W3C Fetch Metadata).
fn without_origin(origins: &Origins, method: &Method, headers: &HeaderMap) -> Result<(), OriginError> {
    let says = |name: &HeaderName, value: &str| headers.get_all(name).iter().any(|said| said == value);
    if says(&SEC_FETCH_SITE, "cross-site") {
        // A user follows a link of another site: the page that the link is on cannot see the answer.
        let is_followed_link = matches!(*method, Method::GET | Method::HEAD)
            && says(&SEC_FETCH_MODE, "navigate")
            && says(&SEC_FETCH_DEST, "document");
        return (is_followed_link && origins.missing).then_some(()).ok_or(OriginError::CrossSite);
    }
    let is_own_page = says(&SEC_FETCH_SITE, "same-origin") || says(&SEC_FETCH_SITE, "none");
    (origins.missing || is_own_page).then_some(()).ok_or(OriginError::Missing)
}

/// A request to an endpoint without `Origin`. An image or a script of another page could ask as well: what it opens takes a
/// place, and costs the user's own page one.
fn without_origin_to_endpoint(origins: &Origins, headers: &HeaderMap) -> Result<(), OriginError> {
    let says = |value: &str| headers.get_all(SEC_FETCH_SITE).iter().any(|said| said == value);
    if says("cross-site") || says("same-site") {
        return Err(OriginError::CrossSite);
    }
    (origins.missing || says("same-origin")).then_some(()).ok_or(OriginError::Missing)
}

/// The site of the page: `same-origin`, `same-site`, `cross-site`; `none`: the user typed the address.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// `navigate`: the response is shown in a window or a frame.
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// `document`: in a window.
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// A serialized origin (RFC 6454 §6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Origin<'a> {
    scheme: &'a str,
    /// Without brackets and without the root's dot. Empty for `file` alone.
    host: &'a str,
    port: u16,
}

impl<'a> Origin<'a> {
    /// `None`: it is `null`, or not an origin alone.
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        if scheme.is_empty() || !scheme.bytes().all(is_scheme_byte) {
            return None;
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None => {
                let (host, port) =
                    authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
                let is_host_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
                (host.bytes().all(is_host_byte).then_some(host)?, port)
            }
        };
        // The root's dot makes no other host of it (RFC 1034 §3.1).
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.is_empty() {
            let is_file = authority.is_empty() && scheme.eq_ignore_ascii_case("file");
            return is_file.then_some(Self { scheme, host, port: 0 });
        }
        let port = match port {
            // Digits only: `parse` would take a sign.
            Some(port) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
                port.parse().ok()?
            }
            Some(_) => return None,
            None => default_port(scheme),
        };
        Some(Self { scheme, host, port })
    }

    fn fits(self, pattern: &OriginPattern) -> bool {
        let OriginPattern::Of { scheme, host: named, subdomains, port } = pattern else { return false };
        let is_host = if *subdomains {
            let below = self.host.len().checked_sub(named.len());
            // One byte for the dot, and one at the least before it.
            below.filter(|below| *below > 1).is_some_and(|below| {
                let (name, host) = self.host.split_at(below);
                name.ends_with('.') && !name.starts_with('.') && host.eq_ignore_ascii_case(named)
            })
        } else {
            self.host.eq_ignore_ascii_case(named)
        };
        is_host && self.scheme.eq_ignore_ascii_case(scheme) && port.is_none_or(|port| self.port == port)
    }
}

/// The port that browsers leave out; 0 for schemes without ports (`chrome-extension`).
fn default_port(scheme: &str) -> u16 {
    if scheme.eq_ignore_ascii_case("https") {
        443
    } else if scheme.eq_ignore_ascii_case("http") {
        80
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn pattern(scheme: &str, host: &str, port: u16, subdomains: bool) -> OriginPattern {
        OriginPattern::Of { scheme: scheme.into(), host: host.into(), subdomains, port: Some(port) }
    }

    fn of_any_port(scheme: &str, host: &str, subdomains: bool) -> OriginPattern {
        OriginPattern::Of { scheme: scheme.into(), host: host.into(), subdomains, port: None }
    }

    /// A handshake with these headers.
    fn is_welcome(origins: &Origins, headers: HeaderMap) -> bool {
        let mut config = crate::config::Config::default();
        let Some(mut route) = config.routes.pop() else { unreachable!() };
        Arc::make_mut(&mut route.policy).origins = Some(origins.clone());
        let mut head = http::Request::new(()).into_parts().0;
        head.headers = headers;
        let mut context = RequestContext::new(head, Kind::Handshake, Arc::default());
        let layer = OriginCheck::new(route.policy);
        layer.check(&mut context).now_or_never().unwrap().is_ok()
    }

    fn is_welcome_from(origins: &Origins, values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::ORIGIN, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        is_welcome(origins, headers)
    }

    #[test]
    fn scheme_host_and_port_have_to_be_those_of_a_page_that_is_named() {
        let allow = vec![
            pattern("https", "app.example.com", 443, false),
            pattern("http", "localhost", 3000, false),
            pattern("https", "example.org", 8443, true),
            pattern("http", "::1", 80, false),
            pattern("chrome-extension", "abcdef", 0, false),
            of_any_port("http", "127.0.0.1", false),
            of_any_port("https", "example.net", true),
        ];
        let origins = Origins { allow, missing: true };
        let cases = [
            ("https://app.example.com", true),
            ("https://app.example.com:443", true),
            ("HTTPS://APP.Example.COM", true),
            ("http://app.example.com", false),
            ("https://app.example.com:444", false),
            ("https://app.example.com:80", false),
            ("https://example.com", false),
            ("https://x.app.example.com", false),
            ("https://app.example.com.", true),
            ("https://app.example.com.:443", true),
            ("https://app.example.com..", false),
            ("https://app.example.com.evil.test", false),
            ("https://evilapp.example.com", false),
            ("http://localhost:3000", true),
            ("http://localhost", false),
            ("https://a.example.org:8443", true),
            ("https://a.b.EXAMPLE.org:8443", true),
            ("https://example.org:8443", false),
            ("https://.example.org:8443", false),
            ("https://badexample.org:8443", false),
            ("https://a.example.org", false),
            ("http://[::1]", true),
            ("http://[::1]:80", true),
            ("http://[::1]:81", false),
            ("chrome-extension://abcdef", true),
            ("http://127.0.0.1", true),
            ("http://127.0.0.1:5173", true),
            ("https://127.0.0.1:5173", false),
            ("http://127.0.0.2:5173", false),
            ("https://a.example.net", true),
            ("https://a.example.net.:1", true),
            ("https://example.net:1", false),
            ("null", false),
            ("file://", false),
        ];
        for (origin, expected) in cases {
            assert_eq!(is_welcome_from(&origins, &[origin]), expected, "{origin}");
        }
    }

    #[test]
    fn what_is_no_origin_is_foreign() {
        let allow = vec![pattern("https", "app.example.com", 443, false), pattern("https", "com", 443, true)];
        let origins = Origins { allow, missing: true };
        let cases = [
            "null",
            "",
            "*",
            "app.example.com",
            "//app.example.com",
            "://app.example.com",
            "https:/app.example.com",
            "https://",
            "https://:443",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://app.example.com:",
            "https://app.example.com:+443",
            "https://app.example.com:443:443",
            "https://app.example.com:65979",
            "https://user@app.example.com",
            "https://evil.test#.example.com",
            "https://evil.test\\.example.com",
            "https://app.example.com https://evil.test",
            "https://evil.test, https://app.example.com",
            " https://app.example.com",
            "https://ex\u{e4}mple.com",
            "https://[app.example.com]",
            "https://[::1",
            "https://[::1]443",
        ];
        for origin in cases {
            assert!(!is_welcome_from(&origins, &[origin]), "{origin:?}");
        }
        assert!(is_welcome_from(&origins, &["https://a.com"]), "the wildcard itself works");
    }

    #[test]
    fn pages_without_an_origin_and_files_come_in_where_they_are_named() {
        let nameless = Origins { allow: vec![OriginPattern::Null], missing: true };
        let files = Origins { allow: vec![pattern("file", "", 0, false)], missing: true };
        for (origin, is_nameless, is_file) in [
            ("null", true, false),
            ("file://", false, true),
            ("FILE://", false, true),
            ("Null", false, false),
            ("null, null", false, false),
            ("", false, false),
            ("file:///", false, false),
            ("file://host", false, false),
            ("file://.", false, false),
            ("file://:80", false, false),
            ("null://", false, false),
            ("http://", false, false),
        ] {
            assert_eq!(is_welcome_from(&nameless, &[origin]), is_nameless, "{origin}");
            assert_eq!(is_welcome_from(&files, &[origin]), is_file, "{origin}");
        }
        assert!(!is_welcome_from(&nameless, &["null", "null"]));
    }

    #[test]
    fn one_origin_at_most_and_none_only_where_that_is_allowed() {
        let good = "https://app.example.com";
        let allow = vec![pattern("https", "app.example.com", 443, false)];
        for missing in [true, false] {
            let origins = Origins { allow: allow.clone(), missing };
            assert_eq!(is_welcome_from(&origins, &[]), missing);
            assert!(is_welcome_from(&origins, &[good]));
            assert!(!is_welcome_from(&origins, &[good, good]));
            assert!(!is_welcome_from(&origins, &[good, "https://evil.test"]));
            let nobody = Origins { allow: Vec::new(), missing };
            assert!(!is_welcome_from(&nobody, &[good]));
        }
    }
}

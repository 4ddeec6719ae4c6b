//! Who may use operator routes.
//!
//! With a token: whoever shows it. Without one the port is on loopback, and the danger is a web page
//! in an operator's browser: one that has its own host name resolve to 127.0.0.1 (DNS rebinding) shows
//! itself by the `Host` it asks for, one that changes something from another origin by its `Origin`, and
//! one that asks for anything from another site by the browser's `Sec-Fetch-Site` (Fetch Metadata), which is
//! there where `Origin` is not: in forms, images, links. That holds for reading too. A browser that does not
//! send it may let pages ask, but not see the answer, since nothing here allows that (CORS).
//!
//! # Invariants
//! 1. A request is refused unless everything it says about the host and itself is in order: two `Host`
//!    headers, or a target with another host than `Host` says, cannot hide one behind the other.
//! 2. The token is compared in time that does not depend on where it differs ([`Secret::matches`]).

use std::net::SocketAddr;

use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Bytes;

use super::answer::error;
use crate::config::{Host, Secret};
use crate::net::head::spelling;
use crate::net::http::bearer;

/// Where a request comes from, as browsers tell (W3C Fetch Metadata Request Headers §2.3). Pages cannot set it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The checks before a route of [`super::routes::Class::Operator`].
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    token: Option<Secret>,
    /// What this process is asked for by, besides loopback.
    own: Vec<Host>,
}

impl Guard {
    /// `address` is where the port listens: a name for this process besides the loopback ones, as `hosts`
    /// are (`admin.hosts`).
    pub(crate) fn new(address: SocketAddr, hosts: &[String], token: Option<Secret>) -> Self {
        let mut own = vec![Host::Address(address.ip().to_canonical()), Host::Name("localhost".into())];
        own.extend(hosts.iter().map(|host| Host::read(host)));
        Self { token, own }
    }

    /// Lets a request in, or says why not.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<(), Refused> {
        match &self.token {
            Some(token) => {
                let offered = credentials(request).and_then(bearer).ok_or(Refused::TokenMissing)?;
                if !token.matches(offered) {
                    return Err(Refused::TokenWrong);
                }
            }
            // Whoever knows the token is no rebound page, so that only ports without one ask for names.
            None => {
                let mut hosts = hosts(request).peekable();
                if hosts.peek().is_none() || !hosts.all(|host| host.is_some_and(|host| self.is_own(&host))) {
                    return Err(Refused::Host);
                }
            }
        }
        if !sites_are_own(request) {
            return Err(Refused::Site);
        }
        let only_reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
        if !only_reads && !origins_are_own(request) {
            return Err(Refused::Origin);
        }
        Ok(())
    }

    fn is_own(&self, host: &Authority) -> bool {
        // User info has no place in a Host (RFC 9110 §7.2); readers differ on which side of it is the name.
        if host.as_str().contains('@') {
            return false;
        }
        let host = Host::read(host.host());
        matches!(&host, Host::Address(address) if address.is_loopback()) || self.own.contains(&host)
    }
}

/// Why a request for an operator route was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    TokenMissing,
    TokenWrong,
    Host,
    Origin,
    Site,
}

impl Refused {
    pub(super) fn answer(self) -> Response<Full<Bytes>> {
        match self {
            Self::TokenMissing => unauthorized(
                "this route wants the token of admin.token: send Authorization: Bearer TOKEN \
                 (outrigger drain --token-file FILE does)",
            ),
            Self::TokenWrong => unauthorized("this is not the token of admin.token"),
            Self::Host => error(
                StatusCode::FORBIDDEN,
                "refused, since no admin.token is set and the request's Host is neither localhost, nor a \
                 loopback address, nor the address of admin.address, nor one of admin.hosts: ask for \
                 127.0.0.1, add the name to admin.hosts, or set admin.token (this keeps web pages out that \
                 point a name of theirs at this machine)",
            ),
            Self::Site => error(
                StatusCode::FORBIDDEN,
                "refused: a web page of another site asked for this (header Sec-Fetch-Site), and this port answers \
                 none. Who operates it types the address, or asks for it without a browser",
            ),
            Self::Origin => error(
                StatusCode::FORBIDDEN,
                "refused: a web page of another origin asked for this (header Origin), and this port lets none \
                 change anything. Who operates it asks without a browser, or from a page of this very address",
            ),
        }
    }
}

fn unauthorized(what: &str) -> Response<Full<Bytes>> {
    let mut response = error(StatusCode::UNAUTHORIZED, what);
    let scheme = HeaderValue::from_static("Bearer realm=\"outrigger admin\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    *response.extensions_mut() = spelling::own();
    response
}

/// The value of `Authorization`; `None` where there are several such headers.
fn credentials<B>(request: &Request<B>) -> Option<&[u8]> {
    let mut values = request.headers().get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    Some(value.as_bytes())
}

/// Every host the request names, `None` for what cannot be read.
fn hosts<B>(request: &Request<B>) -> impl Iterator<Item = Option<Authority>> {
    let target = request.uri().authority().cloned().map(Some);
    let headers = request.headers().get_all(header::HOST).iter();
    target.into_iter().chain(headers.map(|host| Authority::try_from(host.as_bytes()).ok()))
}

/// Whether no browser says that a page of another site asks: `none` is somebody who typed the address. None at
/// all is fine: no browser, or one on an address that it does not trust to be private.
fn sites_are_own<B>(request: &Request<B>) -> bool {
    let mut sites = request.headers().get_all(SEC_FETCH_SITE).iter();
    sites.all(|site| site == "same-origin" || site == "none")
}

/// Whether no `Origin` names another origin than the host asked for. None at all is fine: browsers send
/// one with each POST, and others are free to.
fn origins_are_own<B>(request: &Request<B>) -> bool {
    request.headers().get_all(header::ORIGIN).iter().all(|origin| {
        // `null` (a sandboxed page) has no scheme and fails here.
        let Ok(origin) = Uri::try_from(origin.as_bytes()) else { return false };
        let default_port = match origin.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return false,
        };
        let Some(from) = origin.authority() else { return false };
        let mut hosts = hosts(request).peekable();
        hosts.peek().is_some() && hosts.all(|to| to.is_some_and(|to| is_same(from, &to, default_port)))
    })
}

fn is_same(one: &Authority, other: &Authority, default_port: u16) -> bool {
    Host::read(one.host()) == Host::read(other.host())
        && one.port_u16().unwrap_or(default_port) == other.port_u16().unwrap_or(default_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(
        token: Option<&str>,
        method: &Method,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Option<Refused> {
        let hosts = ["ops.example.com", "10.9.9.9", "fd00::9"].map(str::to_owned);
        let guard = Guard::new(
            "10.1.2.3:9090".parse().unwrap(),
            &hosts,
            token.map(|token| Secret::new(token.into())),
        );
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard.admit(&request.body(()).unwrap()).err()
    }

    #[test]
    fn without_a_token_only_requests_for_this_very_machine_pass() {
        const CASES: &[(&str, bool)] = &[
            ("localhost", true),
            ("LocalHost:9090", true),
            ("localhost.:9090", true),
            ("127.0.0.1:1234", true),
            ("127.8.8.8", true),
            ("[::1]:9090", true),
            ("[::ffff:127.0.0.1]", true),
            ("10.1.2.3:9090", true),
            ("ops.example.com", true),
            ("OPS.example.com.:443", true),
            ("10.9.9.9", true),
            ("[fd00::9]:9090", true),
            ("[::ffff:10.9.9.9]", true),
            ("[fd00::10]", false),
            ("x.ops.example.com", false),
            ("ops.example.com.evil.example", false),
            ("xops.example.com", false),
            ("10.1.2.4:9090", false),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("evil.example:9090@localhost", false),
            ("0.0.0.0:9090", false),
            ("", false),
            ("not a host", false),
        ];
        for (host, passes) in CASES {
            let refused = admit(None, &Method::GET, "/x", &[("host", host)]);
            assert_eq!(refused, (!passes).then_some(Refused::Host), "{host:?}");
        }
        let get = |target, headers| admit(None, &Method::GET, target, headers);
        assert_eq!(get("/x", &[]), Some(Refused::Host), "no host at all");
        assert_eq!(get("/x", &[("host", "localhost"), ("host", "evil.example")]), Some(Refused::Host));
        assert_eq!(get("http://evil.example/x", &[("host", "localhost")]), Some(Refused::Host));
        assert_eq!(get("http://localhost/x", &[("host", "localhost")]), None);
    }

    #[test]
    fn a_page_of_another_site_changes_and_reads_nothing() {
        let methods = [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::DELETE];
        for (site, passes) in [
            ("same-origin", true),
            ("none", true),
            ("cross-site", false),
            ("same-site", false),
            ("Same-Origin", false),
            ("", false),
            ("anything", false),
        ] {
            for (token, method) in
                [None, Some("t")].into_iter().flat_map(|t| methods.iter().map(move |m| (t, m)))
            {
                let headers =
                    [("host", "localhost"), ("authorization", "Bearer t"), ("sec-fetch-site", site)];
                let refused = admit(token, method, "/x", &headers);
                assert_eq!(refused, (!passes).then_some(Refused::Site), "{method} {site:?}");
            }
        }
        let twice = [("host", "localhost"), ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")];
        assert_eq!(admit(None, &Method::POST, "/x", &twice), Some(Refused::Site));
    }

    #[test]
    fn with_a_token_whoever_shows_it_passes_by_any_name() {
        const CASES: &[(&str, Option<Refused>)] = &[
            ("Bearer s3cret", None),
            ("bearer s3cret", None),
            ("Bearer  s3cret ", None),
            ("Bearer s3cre", Some(Refused::TokenWrong)),
            ("Bearer s3cret2", Some(Refused::TokenWrong)),
            ("Bearer ", Some(Refused::TokenWrong)),
            ("Bearer", Some(Refused::TokenMissing)),
            ("Basic s3cret", Some(Refused::TokenMissing)),
            ("s3cret", Some(Refused::TokenMissing)),
            ("", Some(Refused::TokenMissing)),
        ];
        for (value, expected) in CASES {
            let headers = [("host", "admin.example"), ("authorization", value)];
            assert_eq!(admit(Some("s3cret"), &Method::GET, "/x", &headers), *expected, "{value:?}");
        }
        let local = [("host", "localhost")];
        assert_eq!(admit(Some("s3cret"), &Method::GET, "/x", &local), Some(Refused::TokenMissing));
        let twice = [("authorization", "Bearer no"), ("authorization", "Bearer s3cret")];
        assert_eq!(admit(Some("s3cret"), &Method::GET, "/x", &twice), Some(Refused::TokenMissing));
    }

    #[tokio::test]
    async fn a_foreign_page_is_told_no_commands() {
        use http_body_util::BodyExt;
        for refused in [Refused::Site, Refused::Origin] {
            let answer = refused.answer();
            assert_eq!(answer.status(), StatusCode::FORBIDDEN);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8_lossy(&body);
            for command in ["outrigger ", "curl", "drain"] {
                assert!(!text.contains(command), "{command}: {text}");
            }
        }
    }

    #[test]
    fn a_page_of_another_origin_changes_nothing() {
        const CASES: &[(&str, &str, bool)] = &[
            ("localhost:9090", "http://localhost:9090", true),
            ("LOCALHOST:9090", "http://localhost:9090", true),
            ("localhost", "http://localhost", true),
            ("localhost:80", "http://localhost", true),
            ("localhost", "https://localhost:443", true),
            ("localhost.", "http://localhost", true),
            ("[::1]:9090", "http://[0:0::1]:9090", true),
            ("ops.example.com", "https://ops.example.com", true),
            ("ops.example.com", "https://app.example.com", false),
            ("localhost:9090", "http://localhost:3000", false),
            ("localhost:9090", "http://localhost", false),
            ("localhost:9090", "https://evil.example", false),
            ("localhost:9090", "null", false),
            ("localhost:9090", "file://", false),
            ("localhost:9090", "", false),
        ];
        for (host, origin, passes) in CASES {
            let headers = [("host", *host), ("origin", *origin), ("authorization", "Bearer t")];
            for token in [None, Some("t")] {
                for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                    let refused = admit(token, &method, "/x", &headers);
                    assert_eq!(refused, (!passes).then_some(Refused::Origin), "{method} {host} {origin:?}");
                }
                for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
                    let refused = admit(token, &method, "/x", &headers);
                    assert_eq!(refused, None, "reading is no harm: {method} {origin:?}");
                }
            }
        }
        let headers =
            [("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://evil.example")];
        assert_eq!(admit(None, &Method::POST, "/x", &headers), Some(Refused::Origin));
    }
}

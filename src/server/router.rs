//! Which route a request takes: the first in file order whose path and host match. Pure.
//!
//! # Invariants
//! 1. There is always one: the last route matches everything.
//! 2. A path cannot dodge its route by being written in another way: it is matched as a server would
//!    read it (percent-decoded, without `.`, `..` and empty segments). What goes upstream is unchanged.

use std::borrow::Cow;
use std::sync::Arc;

use crate::config::{PathPattern, Segment};

/// What the routes of a table lead to.
pub(super) trait Matched {
    /// Which paths.
    fn path(&self) -> &PathPattern;
    /// Which hosts, in lower case; empty is any.
    fn hosts(&self) -> &[String];
}

/// The routes, in file order.
#[derive(Debug)]
pub(super) struct Router<R> {
    routes: Vec<Arc<R>>,
    fallback: Arc<R>,
}

impl<R: Matched> Router<R> {
    /// `fallback` is taken when none of `routes` matches.
    pub(super) fn new(routes: Vec<Arc<R>>, fallback: Arc<R>) -> Self {
        Self { routes, fallback }
    }

    /// All of them, the fallback last.
    pub(super) fn routes(&self) -> impl Iterator<Item = &Arc<R>> {
        self.routes.iter().chain([&self.fallback])
    }

    /// The route of a request for `path` at `host` (with or without a port).
    pub(super) fn pick(&self, host: &str, path: &str) -> &Arc<R> {
        let host = without_port(host).to_ascii_lowercase();
        let segments = segments(path);
        self.routes
            .iter()
            .find(|route| {
                (route.hosts().is_empty() || route.hosts().contains(&host))
                    && matches(route.path(), &segments)
            })
            .unwrap_or(&self.fallback)
    }
}

fn without_port(host: &str) -> &str {
    // The colons of an IPv6 address stand inside brackets.
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// The segments a server would see. An escape that is no UTF-8 stays as it is written.
fn segments(path: &str) -> Vec<Cow<'_, str>> {
    let mut segments = Vec::new();
    for raw in path.split('/') {
        let segment = decode(raw);
        match &*segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    segments
}

fn decode(raw: &str) -> Cow<'_, str> {
    if !raw.contains('%') {
        return Cow::Borrowed(raw);
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high << 4 | low);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(raw), Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn matches(pattern: &PathPattern, segments: &[Cow<'_, str>]) -> bool {
    let mut segments = segments.iter();
    for part in &pattern.segments {
        match part {
            Segment::Rest(_) => return true,
            // The end of a pattern with a closing slash, which paths have lost too.
            Segment::Literal(text) if text.is_empty() => {}
            Segment::One(_) => {
                if segments.next().is_none() {
                    return false;
                }
            }
            Segment::Literal(text) => {
                if segments.next().is_none_or(|segment| segment != text) {
                    return false;
                }
            }
        }
    }
    segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[derive(Debug)]
    struct Entry(crate::config::Route);

    impl Matched for Entry {
        fn path(&self) -> &PathPattern {
            &self.0.path
        }
        fn hosts(&self) -> &[String] {
            &self.0.hosts
        }
    }

    fn router(routes: &str) -> Router<Entry> {
        let mut routes: Vec<_> = Config::from_yaml(&format!("routes: {routes}"))
            .unwrap()
            .routes
            .into_iter()
            .map(|route| Arc::new(Entry(route)))
            .collect();
        let fallback = routes.pop().unwrap();
        Router::new(routes, fallback)
    }

    #[test]
    fn the_first_route_in_file_order_wins() {
        let router = router(
            "[{name: exact, path: /ws/admin}, {name: one, path: '/ws/{room}'}, {name: rest, path: '/ws/{*rest}'},
              {name: host, path: '/{*any}', hosts: [Api.example.com]}, {name: root, path: /}]",
        );
        // host, path, route
        let cases = [
            ("a", "/ws/admin", "exact"),
            ("a", "/ws/admin/", "exact"),
            ("a", "/ws/lobby", "one"),
            ("a", "/ws", "rest"),
            ("a", "/ws/", "rest"),
            ("a", "/ws/a/b/c", "rest"),
            ("a", "/wsx", "default"),
            ("API.EXAMPLE.COM:8080", "/x", "host"),
            ("api.example.com", "/", "host"),
            ("[::1]:80", "/", "root"),
            ("a", "/", "root"),
            ("a", "", "root"),
            ("a", "*", "default"),
            // other spellings of the same path
            ("a", "/ws/%61dmin", "exact"),
            ("a", "//ws//admin", "exact"),
            ("a", "/x/../ws/./admin", "exact"),
            ("a", "/%2e%2E/ws/admin", "exact"),
            ("a", "/ws/%zz", "one"),
            ("a", "/ws/%ff", "one"),
        ];
        for (host, path, name) in cases {
            assert_eq!(router.pick(host, path).0.name, name, "{host} {path}");
        }
    }

    #[test]
    fn a_port_is_not_part_of_a_host() {
        for (host, name) in
            [("a:80", "a"), ("a", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("a:b", "a:b")]
        {
            assert_eq!(without_port(host), name);
        }
    }
}

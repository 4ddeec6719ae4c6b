//! Describes in words what the proxy serves, for the log line at its start.
//!
//! # Invariants
//! 1. It is bounded, however many routes and names there are.
//! 2. No secret: of an upstream its scheme, host and port are shown.

use super::Server;
use crate::config::{Route, Target};
use crate::telemetry::redact::escaped;

/// How many upstreams are named; the rest are counted.
const MAX_NAMED: usize = 8;

/// What an operator wants to see at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// The URL of each upstream, and how many routes have it.
    pub upstreams: String,
    /// The subject of the certificate that clients see, and when it expires; `off` without TLS.
    pub tls: String,
}

impl Server {
    /// Which upstreams it has, and whether clients use TLS.
    pub fn overview(&self) -> Overview {
        let snapshot = self.state.snapshot();
        Overview {
            upstreams: upstreams(snapshot.router.routes().map(|route| &route.config)),
            tls: snapshot
                .tls
                .as_ref()
                .map_or_else(|| "off".to_owned(), |tls| escaped(tls.about()).to_string()),
        }
    }
}

fn upstreams<'a>(routes: impl Iterator<Item = &'a Route>) -> String {
    let mut counted: Vec<(String, usize)> = Vec::new();
    for route in routes {
        let url = url(route);
        match counted.iter_mut().find(|(known, _)| *known == url) {
            Some((_, count)) => *count += 1,
            None => counted.push((url, 1)),
        }
    }
    let more = counted.len().saturating_sub(MAX_NAMED);
    let mut words: Vec<String> = counted
        .iter()
        .take(MAX_NAMED)
        .map(|(url, count)| match count {
            1 => format!("{url} (1 route)"),
            count => format!("{url} ({count} routes)"),
        })
        .collect();
    if more > 0 {
        words.push(format!("and {more} more"));
    }
    words.join(", ")
}

fn url(route: &Route) -> String {
    let scheme = if route.upstream.tls.is_some() { "https" } else { "http" };
    match &route.upstream.target {
        target @ Target::Tcp { .. } => format!("{scheme}://{target}"),
        target @ Target::Unix(_) => format!("unix://{target}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn upstreams_are_told_once_each_with_the_routes_that_have_them() {
        let text = |yaml: &str| upstreams(Config::from_yaml(yaml).unwrap().routes.iter());
        assert_eq!(text(""), "http://127.0.0.1:3000 (1 route)");
        let yaml = "upstream: {url: 'https://app.example.com'}\nroutes:\n\
                    - {name: a, path: /a, upstream: {url: 'http://[::1]:7'}}\n\
                    - {name: b, path: /b}\n\
                    - {name: c, path: /c, upstream: {url: 'unix:///run/app.sock'}}\n";
        assert_eq!(
            text(yaml),
            "http://[::1]:7 (1 route), https://app.example.com:443 (2 routes), unix:///run/app.sock (1 route)"
        );
        let many: String = (0..200)
            .map(|at| format!("- {{name: r{at}, path: /{at}, upstream: {{url: 'http://h{at}'}}}}\n"))
            .collect();
        let text = text(&format!("routes:\n{many}"));
        assert!(text.ends_with("http://h7:80 (1 route), and 193 more"), "{text}");
    }
}

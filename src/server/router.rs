//! Which route a request takes: the first in file order whose path and host match. Pure.
//!
//! A server behind may read a path or a host in another way than this proxy does. The route that it is let in
//! by has to be as strict as each that such a reading leads to; otherwise the request is [`RouteMatch::stricter`].
//!
//! # Invariants
//! 1. There is always one: the last route matches everything.
//! 2. A path cannot dodge its route by being written in another way: it is matched as most servers would
//!    read it ([`path`]), and compared with how else they may ([`readings`]). What goes upstream is unchanged.
//! 3. Where all routes are equally strict, other readings are not looked at.
//! 4. A request to an endpoint of a route ([`endpoints`]) is for a WebSocket of that route: whatever keeps a handshake for its
//!    path from the route keeps it out too.

mod endpoints;
mod path;
mod pattern;
mod readings;
mod strictness;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

pub(super) use endpoints::EndpointMatch;
pub(super) use path::without_prefix;
pub(super) use strictness::is_as_strict;

use self::pattern::{Fit, Pattern};
use self::readings::Readings;
use crate::config::{AmbiguousPaths, Endpoint, Host, PathPattern, without_port};
use crate::net::http::percent_decode;

/// A route, as far as the router looks at it.
pub(super) trait Candidate {
    /// Which paths it takes.
    fn path(&self) -> &PathPattern;
    /// Which hosts it takes; empty is any.
    fn hosts(&self) -> &[String];
    /// What stands between its path and the name of an endpoint.
    fn endpoint_prefix(&self) -> &str;
    /// Whether it has this endpoint.
    fn has_endpoint(&self, endpoint: Endpoint) -> bool;
    /// Whether whoever may take this route might take `other` as well.
    fn is_as_strict_as(&self, other: &Self) -> bool;
}

/// The routes, in file order.
#[derive(Debug)]
pub(super) struct Router<R> {
    entries: Vec<Entry<R>>,
    fallback: Arc<R>,
    /// What may stand before the name of an endpoint on some route that has one.
    endpoint_prefixes: Vec<String>,
    /// How many parts the longest pattern has.
    max_parts: usize,
    /// Whether some route is stricter than another, so that other readings of a request matter.
    compares_readings: bool,
}

#[derive(Debug)]
struct Entry<R> {
    route: Arc<R>,
    pattern: Pattern,
    hosts: Vec<Host>,
}

/// The route of a request.
#[derive(Debug)]
pub(super) struct RouteMatch<'a, 'p, R> {
    pub(super) route: &'a Arc<R>,
    /// The endpoint of the route that it is for.
    pub(super) endpoint: Option<EndpointMatch<'p>>,
    /// A route that another reading leads to and that is stricter than `route`, and why the request can be read so.
    pub(super) stricter: Option<(&'a Arc<R>, &'static str)>,
}

const ENDPOINTS: [Endpoint; 4] = [Endpoint::Poll, Endpoint::Send, Endpoint::Events, Endpoint::Replay];

/// The host of a request, as this proxy and other servers may read it.
struct RequestHost {
    host: Host,
    /// As a server reads it that decodes escapes.
    other: Option<Host>,
    /// Whether it ends in a dot or has escapes, which servers need not ignore.
    is_ambiguous: bool,
}

impl<R: Candidate> Router<R> {
    /// `fallback` is taken when none of `routes` matches.
    pub(super) fn new(routes: Vec<Arc<R>>, fallback: Arc<R>, ambiguous: AmbiguousPaths) -> Self {
        let entry = |route: Arc<R>| Entry {
            pattern: Pattern::new(route.path()),
            hosts: route.hosts().iter().map(|host| Host::read(host)).collect(),
            route,
        };
        let entries: Vec<_> = routes.into_iter().map(entry).collect();
        // To be as strict as another is transitive.
        let is_alike = |route: &Arc<R>| route.is_as_strict_as(&fallback) && fallback.is_as_strict_as(route);
        let is_uniform = entries.iter().all(|entry| is_alike(&entry.route));
        let has_endpoint =
            |route: &Arc<R>| ENDPOINTS.into_iter().any(|endpoint| route.has_endpoint(endpoint));
        let with_endpoints = entries.iter().map(|entry| &entry.route).filter(|route| has_endpoint(route));
        let mut endpoint_prefixes: Vec<_> =
            with_endpoints.map(|route| route.endpoint_prefix().to_owned()).collect();
        endpoint_prefixes.sort();
        endpoint_prefixes.dedup();
        let max_parts = entries.iter().map(|entry| entry.pattern.len()).max().unwrap_or(0);
        Self {
            compares_readings: ambiguous == AmbiguousPaths::Refuse && !is_uniform,
            endpoint_prefixes,
            max_parts,
            entries,
            fallback,
        }
    }

    /// All of them, the fallback last.
    pub(super) fn routes(&self) -> impl Iterator<Item = &Arc<R>> {
        self.entries.iter().map(|entry| &entry.route).chain([&self.fallback])
    }

    /// The route of a handshake for `path` at `host` (with or without a port).
    pub(super) fn pick<'p>(&self, host: &str, path: &'p str) -> RouteMatch<'_, 'p, R> {
        let request_host = RequestHost::new(host);
        let segments = path::segments(path);
        let index = self.first(&request_host.host, &segments);
        self.picked(index, None, &request_host, path, &segments)
    }

    /// The route of a request that is no handshake, which may be for an endpoint of the route.
    pub(super) fn pick_request<'p>(&self, host: &str, path: &'p str) -> RouteMatch<'_, 'p, R> {
        let request_host = RequestHost::new(host);
        let segments = path::segments(path);
        let index = self.first(&request_host.host, &segments);
        match self.first_endpoint(&request_host.host, path) {
            // In file order: a route before that one takes the path as it stands.
            Some((owner, endpoint)) if owner <= index => {
                let segments = path::segments(endpoint.path);
                self.picked(owner, Some(endpoint), &request_host, endpoint.path, &segments)
            }
            _ => self.picked(index, None, &request_host, path, &segments),
        }
    }

    /// The endpoint that `path` is of, with its route's place: the route that a handshake for that WebSocket would take.
    fn first_endpoint<'p>(&self, host: &Host, path: &'p str) -> Option<(usize, EndpointMatch<'p>)> {
        let (endpoint, before) = endpoints::named(path).filter(|_| !self.endpoint_prefixes.is_empty())?;
        let of_prefix = |prefix: &String| {
            let path = endpoints::base(before, prefix)?;
            let index = self.first(host, &path::segments(path));
            let owner = &self.entries.get(index)?.route;
            let has_it = owner.endpoint_prefix() == *prefix && owner.has_endpoint(endpoint);
            has_it.then_some((index, EndpointMatch { endpoint, path }))
        };
        self.endpoint_prefixes.iter().filter_map(of_prefix).min_by_key(|(index, _)| *index)
    }

    /// The place of the first route that matches, behind all others if it is the fallback.
    fn first(&self, host: &Host, segments: &[Cow<'_, [u8]>]) -> usize {
        let is_its = |entry: &Entry<R>| entry.takes_host(host) && entry.pattern.fit(segments) == Fit::Yes;
        self.entries.iter().position(is_its).unwrap_or(self.entries.len())
    }

    fn picked<'p>(
        &self,
        index: usize,
        endpoint: Option<EndpointMatch<'p>>,
        request_host: &RequestHost,
        path: &str,
        segments: &[Cow<'_, [u8]>],
    ) -> RouteMatch<'_, 'p, R> {
        let route = self.entries.get(index).map_or(&self.fallback, |entry| &entry.route);
        let stricter =
            self.compares_readings.then(|| self.stricter(route, request_host, path, segments)).flatten();
        RouteMatch { route, endpoint, stricter }
    }

    /// A route that the request may be read to be for, and that is stricter than `than`.
    fn stricter(
        &self,
        than: &Arc<R>,
        request_host: &RequestHost,
        path: &str,
        segments: &[Cow<'_, [u8]>],
    ) -> Option<(&Arc<R>, &'static str)> {
        let with_reason = |route| {
            let host = request_host.is_ambiguous.then_some("the spelling of the host");
            (route, readings::ambiguity(path).or(host).unwrap_or("the case of letters"))
        };
        if !readings::is_ambiguous(path) {
            let fit = |pattern: &Pattern| pattern.fit(segments);
            return self.first_stricter(than, request_host, fit).map(with_reason);
        }
        let found = match readings::readings(path, self.max_parts) {
            Readings::Any => self.first_stricter(than, request_host, |_| Fit::Maybe),
            Readings::These(list) => list
                .iter()
                .find_map(|reading| self.first_stricter(than, request_host, |pattern| reading.fit(pattern))),
        };
        found.map(with_reason)
    }

    /// The first route that may be meant and is stricter than `than`, as far as the first that is meant for sure.
    fn first_stricter(
        &self,
        than: &Arc<R>,
        request_host: &RequestHost,
        fit: impl Fn(&Pattern) -> Fit,
    ) -> Option<&Arc<R>> {
        let is_stricter = |route: &Arc<R>| !Arc::ptr_eq(route, than) && !than.is_as_strict_as(route);
        for entry in &self.entries {
            let fit = match entry.host_fit(request_host) {
                Fit::No => continue,
                host => host.min(fit(&entry.pattern)),
            };
            if fit > Fit::No && is_stricter(&entry.route) {
                return Some(&entry.route);
            }
            if fit == Fit::Yes {
                return None;
            }
        }
        Some(&self.fallback).filter(|route| is_stricter(route))
    }
}

impl<R> Entry<R> {
    fn takes_host(&self, host: &Host) -> bool {
        self.hosts.is_empty() || self.hosts.contains(host)
    }

    fn host_fit(&self, request_host: &RequestHost) -> Fit {
        let is = |host: &Host| self.hosts.contains(host);
        match (self.hosts.is_empty(), is(&request_host.host), request_host.other.as_ref().is_some_and(is)) {
            (true, ..) => Fit::Yes,
            (false, true, _) if !request_host.is_ambiguous => Fit::Yes,
            (false, true, _) | (false, _, true) => Fit::Maybe,
            (false, false, false) => Fit::No,
        }
    }
}

impl RequestHost {
    fn new(host: &str) -> Self {
        let host = without_port(host);
        let other = host.contains('%').then(|| {
            let decoded = percent_decode(host.as_bytes());
            Host::read(without_port(&String::from_utf8_lossy(&decoded)))
        });
        Self { is_ambiguous: host.ends_with('.') || other.is_some(), host: Host::read(host), other }
    }
}

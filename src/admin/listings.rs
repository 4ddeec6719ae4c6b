//! The lists of mode broadcast: `GET /api/admin/channels` and `GET /api/admin/subscribers`.
//!
//! # Invariants
//! 1. An answer is bounded: [`MAX_LIMIT`] entries.
//! 2. An empty list means that there are no entries: a query for a route or a channel that does not exist, or for
//!    channels of a tunnel, is an error.

use std::cmp::Ordering;

use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use serde::Serialize;

use super::answer::{error, json};
use super::publish::{no_route, truncate};
use super::{Admin, Channel, Subscriber};
use crate::config::Mode;

/// How many entries are listed by default.
const DEFAULT_LIMIT: usize = 100;
/// How many entries are listed at most: some megabytes.
const MAX_LIMIT: usize = 10_000;

/// Channels, by route and name.
pub(super) fn channels(query: Option<&str>, admin: &Admin) -> Response<Full<Bytes>> {
    list(query, Kind::Channels, admin, |filter| {
        let mut all = admin.operations.channels();
        all.retain(|channel: &Channel| filter.matches(&channel.route, &channel.channel));
        first_entries(all, filter, |a, b| (&a.route, &a.channel).cmp(&(&b.route, &b.channel)))
    })
}

/// Clients of feeds, those furthest behind first.
pub(super) fn subscribers(query: Option<&str>, admin: &Admin) -> Response<Full<Bytes>> {
    list(query, Kind::Subscribers, admin, |filter| {
        let mut all = admin.operations.subscribers();
        all.retain(|client: &Subscriber| filter.matches(&client.route, &client.channel));
        first_entries(all, filter, |a, b| {
            (b.lag, b.buffered_bytes, a.connection).cmp(&(a.lag, a.buffered_bytes, b.connection))
        })
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Channels,
    Subscribers,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Channels => "channels",
            Self::Subscribers => "subscribers",
        }
    }

    /// The form of a query, for error texts.
    fn form(self) -> String {
        let channel = if self == Self::Subscribers { ", channel=NAME" } else { "" };
        format!("the query may say route=NAME{channel} and limit=N, with N from 1 to {MAX_LIMIT}, each once")
    }
}

/// A parsed query.
#[derive(Debug, PartialEq, Eq)]
struct ListFilter {
    limit: usize,
    route: Option<String>,
    channel: Option<String>,
}

impl ListFilter {
    fn matches(&self, route: &str, channel: &str) -> bool {
        self.route.as_deref().is_none_or(|wanted| wanted == route)
            && self.channel.as_deref().is_none_or(|wanted| wanted == channel)
    }

    /// `None`: some part of it is not valid. A mistyped `route` would otherwise show all of them.
    fn read(query: &str, kind: Kind) -> Option<Self> {
        let (mut limit, mut route, mut channel) = (None, None, None);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let field = match &*key {
                "limit" => &mut limit,
                "route" => &mut route,
                "channel" if kind == Kind::Subscribers => &mut channel,
                _ => return None,
            };
            if value.is_empty() || field.replace(value.into_owned()).is_some() {
                return None;
            }
        }
        let limit = limit.map_or(Some(DEFAULT_LIMIT), |limit| limit.parse().ok())?;
        (1..=MAX_LIMIT).contains(&limit).then_some(Self { limit, route, channel })
    }

    /// The error if the route or the channel does not exist.
    fn missing(&self, kind: Kind, admin: &Admin) -> Option<(StatusCode, String)> {
        if let Some(wanted) = &self.route {
            let routes = admin.operations.routes();
            match routes.iter().find(|(name, _)| name == wanted) {
                None => {
                    let known = routes.iter().map(|(name, _)| name.as_str());
                    return Some((StatusCode::NOT_FOUND, no_route(wanted, known)));
                }
                Some((_, mode @ (Mode::Tunnel | Mode::Session))) => {
                    let what = format!(
                        "the route \"{}\" is a {} and has no {}; give a route of mode broadcast",
                        truncate(wanted),
                        if *mode == Mode::Session { "session" } else { "tunnel" },
                        kind.as_str()
                    );
                    return Some((StatusCode::BAD_REQUEST, what));
                }
                Some((_, Mode::Broadcast)) => {}
            }
        }
        let wanted = self.channel.as_deref()?;
        let there = admin.operations.channels();
        let is_there = there.iter().any(|channel| self.matches(&channel.route, &channel.channel));
        (!is_there).then(|| {
            let what = format!(
                "there is no channel \"{}\" now; GET /api/admin/channels lists those there are",
                truncate(wanted)
            );
            (StatusCode::NOT_FOUND, what)
        })
    }
}

fn list(
    query: Option<&str>,
    kind: Kind,
    admin: &Admin,
    entries_of: impl FnOnce(&ListFilter) -> (usize, serde_json::Value),
) -> Response<Full<Bytes>> {
    let Some(filter) = ListFilter::read(query.unwrap_or_default(), kind) else {
        return error(StatusCode::BAD_REQUEST, &format!("this is not understood: {}", kind.form()));
    };
    if let Some((status, what)) = filter.missing(kind, admin) {
        return error(status, &what);
    }
    let (total, entries) = entries_of(&filter);
    json(StatusCode::OK, &serde_json::json!({ "total": total, kind.as_str(): entries }))
}

/// How many entries there are, and the first of them.
fn first_entries<T: Serialize>(
    mut all: Vec<T>,
    filter: &ListFilter,
    order: impl FnMut(&T, &T) -> Ordering,
) -> (usize, serde_json::Value) {
    let total = all.len();
    all.sort_unstable_by(order);
    all.truncate(filter.limit);
    (total, serde_json::json!(all))
}

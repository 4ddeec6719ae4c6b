//! What there is in mode broadcast: `GET /api/admin/channels` and `GET /api/admin/subscribers`.
//!
//! # Invariants
//! 1. An answer is bounded, whatever there is: [`MOST`] entries.
//! 2. An empty list means that there is nothing: who asks for a route or a channel that does not exist, or for
//!    channels of a tunnel, is told so.

use std::cmp::Ordering;

use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use serde::Serialize;

use super::answer::{error, json};
use super::publish::{cut, no_route};
use super::{Admin, Channel, Subscriber};
use crate::config::Mode;

/// As many are listed unless asked otherwise.
const SHOWN: usize = 100;
/// As many at most: some megabytes.
const MOST: usize = 10_000;

/// Channels, by route and name.
pub(super) fn channels(query: Option<&str>, admin: &Admin) -> Response<Full<Bytes>> {
    list(query, Kind::Channels, admin, |wanted| {
        let mut all = admin.operations.channels();
        all.retain(|channel: &Channel| wanted.takes(&channel.route, &channel.channel));
        shown(all, wanted, |a, b| (&a.route, &a.channel).cmp(&(&b.route, &b.channel)))
    })
}

/// Clients of feeds, those furthest behind first.
pub(super) fn subscribers(query: Option<&str>, admin: &Admin) -> Response<Full<Bytes>> {
    list(query, Kind::Subscribers, admin, |wanted| {
        let mut all = admin.operations.subscribers();
        all.retain(|client: &Subscriber| wanted.takes(&client.route, &client.channel));
        shown(all, wanted, |a, b| {
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

    /// What a query may say, for people.
    fn form(self) -> String {
        let channel = if self == Self::Subscribers { ", channel=NAME" } else { "" };
        format!("the query may say route=NAME{channel} and limit=N, with N from 1 to {MOST}, each once")
    }
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    limit: usize,
    route: Option<String>,
    channel: Option<String>,
}

impl Wanted {
    fn takes(&self, route: &str, channel: &str) -> bool {
        self.route.as_deref().is_none_or(|wanted| wanted == route)
            && self.channel.as_deref().is_none_or(|wanted| wanted == channel)
    }

    /// `None`: it is not understood whole. A mistyped `route` would otherwise show all of them.
    fn read(query: &str, kind: Kind) -> Option<Self> {
        let (mut limit, mut route, mut channel) = (None, None, None);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match &*key {
                "limit" => &mut limit,
                "route" => &mut route,
                "channel" if kind == Kind::Subscribers => &mut channel,
                _ => return None,
            };
            if value.is_empty() || place.replace(value.into_owned()).is_some() {
                return None;
            }
        }
        let limit = limit.map_or(Some(SHOWN), |limit| limit.parse().ok())?;
        (1..=MOST).contains(&limit).then_some(Self { limit, route, channel })
    }

    /// What was asked for and is not there.
    fn missing(&self, kind: Kind, admin: &Admin) -> Option<(StatusCode, String)> {
        if let Some(wanted) = &self.route {
            let routes = admin.operations.routes();
            match routes.iter().find(|(name, _)| name == wanted) {
                None => {
                    let known = routes.iter().map(|(name, _)| name.as_str());
                    return Some((StatusCode::NOT_FOUND, no_route(wanted, known)));
                }
                Some((_, Mode::Tunnel)) => {
                    let what = format!(
                        "the route \"{}\" is a tunnel and has no {}; give a route of mode broadcast",
                        cut(wanted),
                        kind.as_str()
                    );
                    return Some((StatusCode::BAD_REQUEST, what));
                }
                Some((_, Mode::Broadcast)) => {}
            }
        }
        let wanted = self.channel.as_deref()?;
        let there = admin.operations.channels();
        let is_there = there.iter().any(|channel| self.takes(&channel.route, &channel.channel));
        (!is_there).then(|| {
            let what = format!(
                "there is no channel \"{}\" now; GET /api/admin/channels lists those there are",
                cut(wanted)
            );
            (StatusCode::NOT_FOUND, what)
        })
    }
}

fn list(
    query: Option<&str>,
    kind: Kind,
    admin: &Admin,
    of: impl FnOnce(&Wanted) -> (usize, serde_json::Value),
) -> Response<Full<Bytes>> {
    let Some(wanted) = Wanted::read(query.unwrap_or_default(), kind) else {
        return error(StatusCode::BAD_REQUEST, &format!("this is not understood: {}", kind.form()));
    };
    if let Some((status, what)) = wanted.missing(kind, admin) {
        return error(status, &what);
    }
    let (total, entries) = of(&wanted);
    json(StatusCode::OK, &serde_json::json!({ "total": total, kind.as_str(): entries }))
}

/// How many there are, and the first of them.
fn shown<T: Serialize>(
    mut all: Vec<T>,
    wanted: &Wanted,
    order: impl FnMut(&T, &T) -> Ordering,
) -> (usize, serde_json::Value) {
    let total = all.len();
    all.sort_unstable_by(order);
    all.truncate(wanted.limit);
    (total, serde_json::json!(all))
}

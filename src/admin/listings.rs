//! What there is in mode broadcast: `GET /api/admin/channels` and `GET /api/admin/subscribers`.
//!
//! # Invariants
//! 1. An answer is bounded, whatever there is: [`MOST`] entries.

use std::cmp::Ordering;

use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use serde::Serialize;

use super::Admin;
use super::answer::{error, json};

/// As many are listed unless asked otherwise.
const SHOWN: usize = 100;
/// As many at most: some megabytes.
const MOST: usize = 10_000;

/// Channels, by route and name.
pub(super) fn channels(query: Option<&str>, admin: &Admin) -> Response<Full<Bytes>> {
    list(query, "channels", || (admin.channels)(), |a, b| (&a.route, &a.channel).cmp(&(&b.route, &b.channel)))
}

/// Clients of feeds, those furthest behind first.
pub(super) fn subscribers(query: Option<&str>, admin: &Admin) -> Response<Full<Bytes>> {
    list(
        query,
        "subscribers",
        || (admin.subscribers)(),
        |a, b| (b.lag, b.buffered_bytes, a.connection).cmp(&(a.lag, a.buffered_bytes, b.connection)),
    )
}

/// The first of them, and how many there are in all.
fn list<T: Serialize>(
    query: Option<&str>,
    name: &str,
    all: impl FnOnce() -> Vec<T>,
    order: impl FnMut(&T, &T) -> Ordering,
) -> Response<Full<Bytes>> {
    let Some(limit) = limit(query) else {
        return error(
            StatusCode::BAD_REQUEST,
            &format!("the only query understood here is limit=N, with N from 1 to {MOST}"),
        );
    };
    let mut all = all();
    let total = all.len();
    all.sort_unstable_by(order);
    all.truncate(limit);
    json(StatusCode::OK, &serde_json::json!({ "total": total, name: all }))
}

fn limit(query: Option<&str>) -> Option<usize> {
    match query {
        None | Some("") => Some(SHOWN),
        Some(query) => {
            let limit = query.strip_prefix("limit=")?.parse().ok()?;
            (1..=MOST).contains(&limit).then_some(limit)
        }
    }
}

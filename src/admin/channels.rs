//! `GET /api/admin/channels`: the channels there are.

use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;

use super::Admin;
use super::answer::{error, json};

/// As many are listed unless asked otherwise.
const SHOWN: usize = 100;
/// As many at most: some megabytes.
const MOST: usize = 10_000;

/// Lists them by route and name, and tells how many there are in all.
pub(super) fn list(query: Option<&str>, admin: &Admin) -> Response<Full<Bytes>> {
    let Some(limit) = limit(query) else {
        return error(
            StatusCode::BAD_REQUEST,
            &format!("the only query understood here is limit=N, with N from 1 to {MOST}"),
        );
    };
    let mut channels = (admin.channels)();
    let total = channels.len();
    channels.sort_unstable_by(|a, b| (&a.route, &a.channel).cmp(&(&b.route, &b.channel)));
    channels.truncate(limit);
    json(StatusCode::OK, &serde_json::json!({ "total": total, "channels": channels }))
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

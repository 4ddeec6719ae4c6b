//! The kinds of answers. None of them may be cached: a stale "ready" would be wrong.

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::Value;

/// 200 with plain text.
pub(super) fn text(body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    with_type(StatusCode::OK, "text/plain; charset=utf-8", body.into())
}

/// JSON, one line.
pub(super) fn json(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    with_type(status, "application/json", format!("{value}\n").into())
}

/// `{"error": what}`, where `what` says what was wrong and what to do.
pub(super) fn error(status: StatusCode, what: &str) -> Response<Full<Bytes>> {
    json(status, &serde_json::json!({ "error": what }))
}

fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

//! Which methods endpoints take. Pure.

use http::Method;

use crate::config::Endpoint;

/// The methods of an endpoint, as `Allow` has them.
pub(super) fn allowed(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Poll | Endpoint::Events | Endpoint::Replay => "GET, OPTIONS",
        Endpoint::Send => "POST, OPTIONS",
    }
}

/// Whether the endpoint does something with this method; `OPTIONS` only asks.
pub(super) fn is_allowed(endpoint: Endpoint, method: &Method) -> bool {
    *method == if endpoint == Endpoint::Send { Method::POST } else { Method::GET }
}

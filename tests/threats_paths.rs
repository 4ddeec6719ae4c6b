//! Routes that are guarded, and paths and hosts that are spelled so that a proxy reads one thing and a server
//! another: one test a threat, named after it.

mod support;

use support::client::{Dial, RawClient};
use support::http::assert_ours;
use support::http2::Client;
use support::logged::Logged;
use support::proxy::Proxy;
use support::upstream::{Plain, Upstream};

/// `alice`'s key is `s3cret`.
const KEYS: &str = "alice:1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0\n";
const ALLOWED: &str = "https://app.example.com";

/// What a guard on origins keeps out: a page of another origin.
fn routes(guarded: &str, open: &str) -> String {
    format!(
        "routes: [{{name: guarded, {guarded}, policy: {{origins: ['{ALLOWED}'], http: {{mode: guard}}}}}}, \
         {{name: open, {open}}}]"
    )
}

/// Spellings of a path below `/ws/admin`, each of which some server takes for that.
const SPELLINGS: &[&str] = &[
    "/ws/admin/x",
    "/ws/admin%2Fx",
    "/ws/admin%2fx",
    "/ws%2Fadmin%2fx",
    "/ws%2Fadmin/x",
    "/%2Fws/admin/x",
    "/ws/%61dmin/x",
    "/ws/%61dmin%2Fx",
    "/ws/%2561dmin/x",
    "/ws/admin%252Fx",
    "/ws/admin\\x",
    "/ws\\admin/x",
    "/ws/admin%5Cx",
    "/ws%5cadmin%5cx",
    "/ws/admin;a=b/x",
    "/ws;a=b/admin/x",
    "/ws/admin%3Ba/x",
    "//ws/admin/x",
    "/ws//admin/x",
    "/./ws/./admin/x",
    "/ws/%2e/admin/x",
    "/ws/y/../admin/x",
    "/ws/y/%2E%2e/admin/x",
    "/ws/y/%2E%2e%2Fadmin/x",
    "/ws/y/..;/admin/x",
    "/ws/y/..%5cadmin/x",
    "/y/..%2fws/admin/x",
    "/y/%252e%252e/ws/admin/x",
    "/ws/admin/%2e%2e/x",
    "/ws/admin%00/x",
    "/ws/admin%00",
    "/ws/admin%3Fx",
    "/ws/admin%23x",
    "/ws/admin%0A",
    "/ws/ad%09min/x",
    "/WS/Admin/x",
    "/ws/ADMIN%2fx",
    "//h/ws/admin/x",
    "/\\h/ws/admin/x",
];

fn is_kept_out(response: &support::http::Response) -> bool {
    let reason = response.header("X-Outrigger-Reason");
    matches!((response.status(), reason), (400, Some("ambiguous_path")) | (403, Some("origin")))
}

#[tokio::test]
async fn route_policy_bypassed_by_spelling() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let proxy =
        Proxy::to(&upstream).yaml(&routes("path: '/ws/admin/{*rest}'", "path: '/ws/{*rest}'")).spawn().await;
    let foreign = |dial: Dial| dial.header("Origin", "https://evil.example");
    let mut passed = Vec::new();
    for path in SPELLINGS {
        for (kind, dial) in [("handshake", proxy.dial()), ("plain", proxy.plain())] {
            let client = foreign(dial).path(path).header("Connection", "Upgrade, close").answer().await;
            if !is_kept_out(&client.response) {
                passed.push(format!("{kind} {path}: {}", client.response.status()));
            }
        }
    }
    assert_eq!(passed, Vec::<String>::new(), "got past the guard");
    assert_eq!(upstream.accepted(), 0);
}

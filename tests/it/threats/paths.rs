//! Routes that are guarded, and paths and hosts that are spelled so that a proxy reads one thing and a server
//! another: one test a threat, named after it.

use std::net::SocketAddr;

use crate::support::client::{Dial, RawClient};
use crate::support::http::assert_ours;
use crate::support::http2::{Answer, Client};
use crate::support::logged::Logged;
use crate::support::peer::{Peer, skipped};
use crate::support::proxy::Proxy;
use crate::support::upstream::{Plain, Upstream};

/// A page that the guarded route takes.
const ALLOWED: &str = "https://app.example.com";
/// And one that it keeps out.
const FOREIGN: &str = "https://evil.example";

/// Two routes: one with a guard on origins, and one without.
fn routes(guarded: &str, open: &str) -> String {
    format!(
        "routes: [{{name: guarded, {guarded}, policy: {{origins: ['{ALLOWED}'], http: {{mode: guard}}}}}}, \
         {{name: open, {open}}}]"
    )
}

async fn guarded(upstream: &Upstream) -> Proxy {
    let routes = routes("path: '/ws/admin/{*rest}'", "path: '/ws/{*rest}'");
    Proxy::to(upstream).yaml(&routes).spawn().await
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

fn is_kept_out(status: u16, reason: Option<&str>) -> bool {
    matches!((status, reason), (400, Some("ambiguous_path")) | (403, Some("origin")))
}

fn closing(dial: Dial) -> Dial {
    dial.header("Connection", "Upgrade, close")
}

#[tokio::test]
async fn route_policy_bypassed_by_spelling() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let proxy = guarded(&upstream).await;
    let mut passed = Vec::new();
    for path in SPELLINGS {
        for (kind, dial) in [("handshake", proxy.dial()), ("plain", proxy.plain())] {
            let response = closing(dial).header("Origin", FOREIGN).path(path).answer().await.response;
            if !is_kept_out(response.status(), response.header("X-Outrigger-Reason")) {
                passed.push(format!("{kind} {path}: {}", response.status()));
            }
        }
    }
    assert_eq!(passed, Vec::<String>::new(), "got past the guard");
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn route_policy_bypassed_by_spelling_over_http2() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let proxy = guarded(&upstream).await;
    let client = Client::connect(proxy.address()).await;
    let mut passed = Vec::new();
    for path in SPELLINGS {
        let mut handshake = Client::handshake(path);
        handshake.headers_mut().insert("origin", FOREIGN.parse().expect("a value"));
        let mut plain = http2_get(path);
        plain.headers_mut().insert("origin", FOREIGN.parse().expect("a value"));
        let handshake = client.try_open(handshake).await.err();
        let plain = client.plain(plain, b"").await.expect("an answer");
        for (kind, answer) in [("handshake", handshake), ("plain", Some(plain))] {
            let reason = |answer: &Answer| {
                answer
                    .headers
                    .get("x-outrigger-reason")
                    .map(|reason| reason.to_str().expect("text").to_owned())
            };
            let kept_out = answer.as_ref().is_some_and(|it| is_kept_out(it.status, reason(it).as_deref()));
            if !kept_out {
                passed.push(format!("{kind} {path}: {answer:?}"));
            }
        }
    }
    assert_eq!(passed, Vec::<String>::new(), "got past the guard");
    assert_eq!(upstream.accepted(), 0);
}

fn http2_get(path: &str) -> ::http::Request<()> {
    ::http::Request::builder().uri(format!("http://h2.example{path}")).body(()).expect("a request")
}

#[tokio::test]
async fn route_policy_bypassed_by_the_spelling_of_a_host() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let hosts = "path: '/{*rest}', hosts: [admin.example.com, '[fd00::1]']";
    let proxy = Proxy::to(&upstream).yaml(&routes(hosts, "path: '/{*any}'")).spawn().await;
    for host in [
        "admin.example.com",
        "ADMIN.example.com:80",
        "admin.example.com.",
        "Admin.Example.Com.:8080",
        "[fd00::1]:80",
        "[FD00:0::0:1]",
    ] {
        for dial in [proxy.dial(), proxy.plain()] {
            let response =
                closing(dial).header("Host", host).header("Origin", FOREIGN).answer().await.response;
            assert!(is_kept_out(response.status(), response.header("X-Outrigger-Reason")), "{host}");
            let target = format!("http://{host}/x");
            let dial = closing(proxy.dial()).path(&target).header("Host", host);
            let response = dial.header("Origin", FOREIGN).answer().await.response;
            assert!(is_kept_out(response.status(), response.header("X-Outrigger-Reason")), "{target}");
        }
    }
    assert_eq!(upstream.accepted(), 0);
    for host in ["example.com", "admin.example.com.evil.example"] {
        let response = closing(proxy.plain()).header("Host", host).answer().await.response;
        assert_eq!(response.status(), 200, "{host}");
    }
}

#[tokio::test]
async fn what_is_let_in_reaches_the_server_byte_for_byte() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let proxy = guarded(&upstream).await;
    let paths = [
        "/ws/room%2F1?a=%2f..",
        "/ws//room/./%E2%82%AC;v=1",
        "/ws/a\\b%5cc",
        "/ws/100%25/%252F",
        "/ws/%61b%3f",
        "//ws/%zz",
    ];
    for path in paths {
        let response = closing(proxy.plain()).header("Origin", FOREIGN).path(path).answer().await.response;
        assert_eq!(response.status(), 200, "{path}: {}", response.text());
        assert_eq!(upstream.requests().last().expect("a request").head.target(), path);
        let client = proxy.dial().header("Origin", FOREIGN).path(path).open().await;
        drop(client);
        assert_eq!(upstream.handshakes().last().expect("a handshake").head.target(), path);
    }
    let path = "//ws//x/../admin/%61%2Fb";
    let response = closing(proxy.plain()).header("Origin", ALLOWED).path(path).answer().await.response;
    assert_eq!(response.status(), 200, "whom its guard lets in may spell it as they like");
    assert_eq!(upstream.requests().last().expect("a request").head.target(), path);
}

#[tokio::test]
async fn an_ambiguous_path_is_told_counted_and_logged() {
    let (logged, _guard) = Logged::of_this_thread();
    let upstream = Upstream::echo().await;
    let proxy = guarded(&upstream).await;
    let dial = closing(proxy.dial()).path("/ws/admin%2Fx?token=s3cret");
    let response = dial.answer().await.response;
    assert_ours(&response, 400, "ambiguous_path");
    let text = response.text();
    assert!(text.contains("an escaped slash (%2F)") && text.contains("listen.ambiguous_paths"), "{text}");
    assert!(!text.contains("guarded"), "names of routes are for operators: {text}");
    assert_eq!(proxy.metric("outrigger_ambiguous_paths_total").await, 1.0);
    let counted = proxy.metric("outrigger_handshakes_total{route=\"open\",outcome=\"malformed\"}").await;
    assert_eq!(counted, 1.0);
    let line = logged.line("refused");
    assert_eq!((&line["reason"], &line["route"]), (&"ambiguous_path".into(), &"open".into()), "{line}");
    let error = line["error"].as_str().expect("it says what is wrong");
    assert!(error.contains("the route guarded") && error.contains("%2F"), "{line}");
    assert!(!logged.text().contains("s3cret"));
}

#[tokio::test]
async fn who_passes_ambiguous_paths_has_one_reading() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let routes = routes("path: '/ws/admin/{*rest}'", "path: '/ws/{*rest}'");
    let proxy = Proxy::to(&upstream).yaml(&routes).yaml("listen: {ambiguous_paths: pass}").spawn().await;
    let ask = |path: &'static str| closing(proxy.plain()).header("Origin", FOREIGN).path(path).answer();
    assert_eq!(ask("/ws/admin%2Fx").await.response.status(), 200);
    assert_ours(&ask("//ws/%61dmin/x").await.response, 403, "origin");
}

#[tokio::test]
async fn a_prefix_is_stripped_wherever_the_route_was_found_by_it() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let routes = "routes: [{path: '/ws/{*rest}', strip_prefix: /ws}]";
    let proxy = Proxy::to(&upstream).yaml(routes).spawn().await;
    for (path, seen) in [
        ("/ws/a?b", "/a?b"),
        ("//ws/a", "/a"),
        ("/%77s/a%2Fb", "/a%2Fb"),
        ("/./ws//a", "//a"),
        ("/x/../ws?a", "/?a"),
        ("/ws", "/"),
    ] {
        let response = closing(proxy.plain()).path(path).answer().await.response;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(upstream.requests().last().expect("a request").head.target(), seen, "{path}");
        drop(proxy.dial().path(path).open().await);
        assert_eq!(upstream.handshakes().last().expect("a handshake").head.target(), seen, "{path}");
    }
}

/// A real server that decodes the path as a whole: what it serves says how it has read it.
#[tokio::test]
async fn route_policy_bypassed_by_spelling_before_uvicorn() {
    if skipped() {
        return;
    }
    let server = Peer::start("uvicorn_app.py").await;
    let routes = routes("path: '/ws/admin/{*rest}'", "path: '/ws/{*rest}'");
    let proxy = Proxy::to_url(server.url()).yaml(&routes).spawn().await;
    let is_guarded = |text: &str| text.starts_with("plain GET /ws/admin/") || text == "plain GET /ws/admin\n";
    let mut read_as_guarded = 0;
    for path in SPELLINGS {
        let to = SocketAddr::from(([127, 0, 0, 1], server.port()));
        let direct = RawClient::plain(to).path(path).header("Connection", "close");
        let read = direct.answer().await.response;
        read_as_guarded += usize::from(is_guarded(&read.text()));
        let response = closing(proxy.plain()).header("Origin", FOREIGN).path(path).answer().await.response;
        let kept_out = is_kept_out(response.status(), response.header("X-Outrigger-Reason"));
        assert!(kept_out || !is_guarded(&response.text()), "{path} is served: {}", response.text());
        assert!(kept_out, "{path}: {}", response.status());
    }
    assert!(read_as_guarded >= 6, "it reads {read_as_guarded} of them as guarded");
    let response = closing(proxy.plain()).path("/ws/room%2Fone").answer().await.response;
    assert_eq!(response.text(), "plain GET /ws/room/one\n", "and what is not guarded passes");
    proxy.stop().await;
    server.stop().await;
}

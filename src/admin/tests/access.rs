//! Who may ask for what: tokens, web pages, and the port for probes alone.

use super::*;

#[tokio::test]
async fn operator_routes_want_the_token_and_probes_do_not() {
    let port = Port::open(false, Some("s3cret"), None).await;
    for route in ROUTES {
        let line = format!("{} {}", route.method, route.path);
        let answer = port.ask(&line).await;
        let wrong = port.ask_with(&line, "Authorization: Bearer secret\r\n").await;
        match route.class {
            Class::Probe => assert_ne!(answer.status, 401, "{line}"),
            Class::Operator => {
                for refused in [answer, wrong] {
                    assert_eq!(refused.status, 401, "{line}");
                    assert!(refused.header("www-authenticate").unwrap().starts_with("Bearer"), "{line}");
                    assert!(!refused.body.contains("s3cret"), "{line}");
                }
            }
        }
    }
    assert_eq!(port.life.state(), State::Starting, "nothing was started without the token");
    let answer = port.ask_with("POST /api/admin/drain", "Authorization: Bearer s3cret\r\n").await;
    assert_eq!(answer.status, 202);
    assert!(port.life.is_draining());
}

#[tokio::test]
async fn a_web_page_cannot_drain() {
    let port = Port::open(false, None, None).await;
    let rebound = "POST /api/admin/drain HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let rebound = read_answer(port.send(rebound).await).await;
    let foreign = port.ask_with("POST /api/admin/drain", "Origin: http://evil.example\r\n").await;
    let none = read_answer(port.send("POST /api/admin/drain HTTP/1.0\r\n\r\n").await).await;
    let form = port.ask_with("POST /api/admin/drain", "Sec-Fetch-Site: cross-site\r\n").await;
    let neighbour = port.ask_with("POST /api/admin/drain", "Sec-Fetch-Site: same-site\r\n").await;
    let image = port.ask_with("GET /api/admin/drain", "Sec-Fetch-Site: cross-site\r\n").await;
    for (answer, word) in [
        (rebound, "Host"),
        (foreign, "Origin"),
        (none, "Host"),
        (form, "Sec-Fetch-Site"),
        (neighbour, "Sec-Fetch-Site"),
        (image, "Sec-Fetch-Site"),
    ] {
        assert_eq!(answer.status, 403);
        assert!(answer.error().contains(word), "{}", answer.body);
    }
    assert_eq!(port.life.state(), State::Starting);
    for path in ["/healthz", "/metrics"] {
        let probe = port.ask_with(&format!("GET {path}"), "Sec-Fetch-Site: cross-site\r\n").await;
        assert_eq!(probe.status, 200, "{path} is for everybody");
    }
    let own = port.ask_with("POST /api/admin/drain", "Sec-Fetch-Site: same-origin\r\n").await;
    assert_eq!(own.status, 202);
}

#[tokio::test]
async fn a_probe_port_has_no_operator_routes() {
    let port = Port::open(true, None, None).await;
    for route in ROUTES {
        let answer = port.ask(&format!("{} {}", route.method, route.path)).await;
        assert_eq!(answer.status == 404, route.class == Class::Operator, "{}", route.path);
    }
    let listed = port.ask("GET /").await.error();
    assert!(listed.contains("/metrics") && !listed.contains("/api"), "{listed}");
    assert_eq!(port.life.state(), State::Starting);
}

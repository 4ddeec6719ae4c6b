use super::*;
use crate::admission::auth::testing::context;

fn service() -> Forward {
    let config = config::ForwardAuth {
        url: "https://auth.example:9443/check?tenant=7".into(),
        timeout: Duration::from_secs(1),
        ca: None,
        user_header: "x-user-id".into(),
        headers: Vec::new(),
    };
    Forward::new(&config, Metrics::new("test").unwrap()).unwrap()
}

#[tokio::test]
async fn the_service_gets_the_clients_headers_and_what_we_saw() {
    let context = context(
        Kind::Handshake,
        "GET",
        "/chat/7?room=%2Fa&x",
        &[
            ("host", "chat.example"),
            ("connection", "keep-alive, Upgrade, X-Mine, Cookie"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "chat"),
            ("sec-websocket-extensions", "permessage-deflate"),
            ("authorization", "Basic YTpi"),
            ("cookie", "sid=1"),
            ("origin", "https://app.example"),
            ("x-mine", "1"),
            ("x-kept", "1"),
            ("content-length", "5"),
            ("content-type", "text/plain"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("if-none-match", "\"a\""),
            ("range", "bytes=0-1"),
            // What a client would like the service to believe.
            ("x-outrigger-user", "root"),
            ("x_outrigger_user", "root"),
            ("x-original-uri", "/public"),
            ("x_original_uri", "/public"),
            ("x-original-method", "OPTIONS"),
            ("x-forwarded-uri", "/public"),
            ("x-forwarded-method", "OPTIONS"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-host", "evil"),
            ("forwarded", "for=10.0.0.1"),
        ],
    );
    let request = service().request(&context);
    assert_eq!((request.method(), request.uri().to_string()), (&Method::GET, service().uri.to_string()));
    let mut sent: Vec<_> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .filter(|(name, _)| *name != "x-forwarded-port")
        .collect();
    sent.sort_unstable();
    let expected = [
        ("authorization", "Basic YTpi"),
        ("cookie", "sid=1"),
        ("origin", "https://app.example"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-host", "chat.example"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-uri", "/chat/7?room=%2Fa&x"),
        ("x-kept", "1"),
        ("x-original-method", "GET"),
        ("x-original-uri", "/chat/7?room=%2Fa&x"),
    ];
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn an_answer_lets_in_or_is_passed_on_or_is_a_failure() {
    #[derive(Debug, PartialEq)]
    enum Meaning {
        In(Option<&'static str>),
        PassedOn,
        Failure,
    }
    use Meaning::{Failure, In, PassedOn};
    type Case = (u16, &'static [(&'static str, &'static str)], Meaning);
    const CASES: &[Case] = &[
        (200, &[("x-user-id", "ann")], In(Some("ann"))),
        (204, &[("x-user-id", "ann")], In(Some("ann"))),
        (299, &[], In(None)),
        (200, &[("x-user-id", "")], In(None)),
        (200, &[("x-user-id", "a b")], Failure),
        (200, &[("x-user-id", "ann"), ("x-user-id", "bob")], Failure),
        (401, &[("www-authenticate", "Basic")], PassedOn),
        (403, &[], PassedOn),
        (302, &[("location", "https://login.example")], PassedOn),
        (307, &[("location", "/login")], PassedOn),
        (302, &[], Failure),
        (304, &[], Failure),
        (300, &[("location", "/")], Failure),
        (400, &[], Failure),
        (404, &[], Failure),
        (429, &[], Failure),
        (500, &[], Failure),
        (101, &[], Failure),
    ];
    for (status, headers, expected) in CASES {
        let mut answer = Response::new(Bytes::from_static(b"why"));
        *answer.status_mut() = StatusCode::from_u16(*status).unwrap();
        for (name, value) in *headers {
            answer.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        let meaning = match service().read(answer) {
            Ok(admitted) => In(admitted.user.map(|name| &*String::leak(name.to_string()))),
            Err(Refusal::Refused(passed_on)) => {
                assert_eq!((passed_on.status().as_u16(), passed_on.body().as_ref()), (*status, &b"why"[..]));
                PassedOn
            }
            Err(Refusal::Unavailable(_)) => Failure,
        };
        assert_eq!(meaning, *expected, "{status} {headers:?}");
    }
}

use std::collections::BTreeSet;

use futures_util::FutureExt;
use http_body_util::BodyExt;

use super::*;
use crate::admission::Bound;
use crate::net::head::HeadFault;

fn text(response: Response<Full<Bytes>>) -> String {
    let body = response.into_body().collect().now_or_never().unwrap().unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

const ALL: [Endpoint; 4] = [Endpoint::Poll, Endpoint::Send, Endpoint::Events, Endpoint::Replay];

#[test]
fn each_error_has_the_status_and_the_members_that_are_promised() {
    let wait = Duration::from_millis(1200);
    let mut told = BTreeSet::from([(200, "upstream_refused".to_owned())]);
    for (error, status, reason, retry_after, members) in [
        (EndpointError::from(BadParameter::Twice("limit")), 400, "bad_request", None, ""),
        (EndpointError::BadBody("no text"), 400, "bad_request", None, ""),
        (EndpointError::NoChannel, 404, "no_channel", None, ""),
        (EndpointError::Method(Endpoint::Poll), 405, "method", None, ""),
        (EndpointError::Ahead { head: 41 }, 409, "ahead", None, r#""head":41"#),
        (EndpointError::Gap { received: 7 }, 409, "gap", None, r#""received":7"#),
        (EndpointError::Attached(Duration::from_secs(5)), 409, "attached", Some("5"), ""),
        (EndpointError::Replaced, 409, "replaced", None, ""),
        (
            EndpointError::Gone { why: Some("window"), received: Some(3), lost: None },
            410,
            "gone",
            None,
            r#""received":3,"why":"window""#,
        ),
        (EndpointError::Gone { why: None, received: None, lost: Some(4) }, 410, "gone", None, r#""lost":4"#),
        (EndpointError::TooLarge, 413, "too_large", None, ""),
        (EndpointError::Memory, 503, "capacity_memory", Some("1"), ""),
        (EndpointError::Posts, 429, "posts", Some("1"), ""),
        (EndpointError::MessageRate(wait), 429, "message_rate", Some("2"), ""),
        (EndpointError::Polls, 429, "polls", Some("1"), ""),
        (EndpointError::QueueFull { wait, received: 5 }, 503, "queue_full", Some("2"), r#""received":5"#),
    ] {
        let response = error.response(Endpoint::Poll);
        assert_eq!(response.status().as_u16(), status, "{error}");
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("x-outrigger-reason"), Some(reason));
        assert_eq!(header("cache-control"), Some("no-store"));
        assert_eq!(header("content-type"), Some("application/json"));
        assert_eq!(header("retry-after"), retry_after, "{error}");
        assert_eq!(header("allow"), (status == 405).then_some("GET, OPTIONS"));
        let body = text(response);
        let read: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&read["error"], &read["message"]), (&reason.into(), &error.to_string().into()));
        assert!(body.contains(members), "{body}");
        told.insert((status, reason.to_owned()));
    }
    let document = include_str!("../../../../docs/fallback.md");
    let (_, section) = document.split_once("## Answers").unwrap();
    let rows = section.lines().filter_map(|row| {
        let mut cells = row.split('|').map(str::trim).skip(1);
        Some((cells.next()?.parse::<u16>().ok()?, cells.next()?))
    });
    // Every second piece stands between two backticks; the reason of what goes to the server is not an endpoint's.
    let reasons = rows.flat_map(|(status, reasons)| {
        reasons.split('`').skip(1).step_by(2).map(move |reason| (status, reason.to_owned()))
    });
    let documented: BTreeSet<_> = reasons.filter(|(_, reason)| reason != "http_refused").collect();
    assert_eq!(documented, told, "left: the document, right: the code");
}

#[test]
fn an_event_source_that_may_come_back_is_told_so_by_a_stream_that_ends() {
    let refusals = [
        (Refused::Draining, true),
        (Refused::TooManyHandshakes, true),
        (Refused::Capacity(Bound::Route), true),
        (Refused::Breaker(Duration::from_secs(9)), true),
        (Refused::AuthUnavailable, true),
        (Refused::Unauthorized(crate::telemetry::AuthFailure::Missing), false),
        (Refused::from(HeadFault::Syntax), false),
        (Refused::NoHttp, false),
    ];
    for (refused, may_come_back) in refusals {
        let answer = refused.answer();
        for endpoint in ALL {
            let response = refusal(&refused, endpoint);
            let reason = response.headers().get("x-outrigger-reason").cloned();
            assert_eq!(reason.unwrap(), answer.reason, "{refused}");
            let type_ = response.headers()["content-type"].to_str().unwrap().to_owned();
            let (status, body) = (response.status(), text(response));
            if endpoint == Endpoint::Events && may_come_back {
                assert_eq!((status, &*type_), (StatusCode::OK, "text/event-stream"), "{refused}");
                let event = format!("event: outrigger\ndata: {{\"error\":\"{}\"}}\n\n", answer.reason);
                assert!(body.contains(&event) && body.starts_with("retry: "), "{body}");
            } else {
                assert_eq!((status, &*type_), (answer.status, "application/json"), "{refused}");
                let read: Value = serde_json::from_str(&body).unwrap();
                assert_eq!(read["error"], answer.reason);
                assert_eq!(read["message"], refused.text().trim_end());
            }
        }
    }
    // The last `retry:` counts (WHATWG HTML §9.2.6): it is not sooner than the proxy wants.
    let body = text(refusal(&Refused::Breaker(Duration::from_secs(9)), Endpoint::Events));
    let retry = body.lines().rev().find_map(|line| line.strip_prefix("retry: ")).unwrap();
    assert_eq!(retry, "9000");
}

#[test]
fn the_words_of_an_authentication_service_are_passed_on() {
    let mut theirs = Response::new(Bytes::from_static(b"go away"));
    *theirs.status_mut() = StatusCode::PAYMENT_REQUIRED;
    theirs.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    theirs.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
    theirs.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"x\""));
    let response = refusal(&Refused::Forwarded(Box::new(theirs)), Endpoint::Events);
    assert_eq!(response.status(), StatusCode::PAYMENT_REQUIRED);
    let mut kept: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
    kept.sort_unstable();
    assert_eq!(kept, ["cache-control", "www-authenticate", "x-outrigger-reason"]);
    assert_eq!(response.headers()["cache-control"], NO_STORE, "who may keep it is not theirs to say");
    assert_eq!(text(response), "go away");
}

#[test]
fn nothing_on_the_way_keeps_a_stream_back() {
    let head = stream_head();
    assert_eq!(head.headers()["cache-control"], "no-store, no-transform");
    assert_eq!(head.headers()["x-accel-buffering"], "no");
    assert_eq!(head.headers()["content-type"], "text/event-stream");
}

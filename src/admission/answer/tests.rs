use std::collections::BTreeSet;
use std::io;

use super::super::refused::OriginError;
use super::*;
use crate::net::head::{FramingFault, HeadFault};
use crate::net::tls::HandshakeError;
use crate::telemetry::{AuthFailure, Label, RefusalReason};
use crate::upstream::verify::BadUpgrade;

/// One of each. The match has no `_` arm: whoever adds a variant is sent here.
fn all() -> Vec<Refused> {
    let dial =
        DialError::Io { target: "10.1.2.3:3000".into(), source: io::ErrorKind::ConnectionRefused.into() };
    let late = DialError::Timeout { target: "10.1.2.3:3000".into(), after: Duration::from_secs(1) };
    let full =
        DialError::TooManyDials { target: "10.1.2.3:3000".into(), after: Duration::from_secs(1), limit: 64 };
    let tls = DialError::Tls { target: "10.1.2.3:3000".into(), source: HandshakeError::Ended };
    let all = vec![
        Refused::Malformed("the key is not 16 bytes in base64"),
        Refused::Version,
        Refused::AmbiguousPath { because: "a backslash", stricter: "10.1.2.3".into() },
        Refused::Head(HeadFault::NoHost),
        Refused::Head(FramingFault::Both.into()),
        Refused::Plaintext,
        Refused::Plaintext,
        Refused::HeadTooLarge,
        Refused::TargetTooLong,
        Refused::TooSlow,
        Refused::Unsupported("CONNECT"),
        Refused::NoHttp,
        Refused::Draining,
        Refused::TooManyHandshakes,
        Refused::Rate(Bucket::Global, Duration::from_millis(1)),
        Refused::Rate(Bucket::PerIp, Duration::from_millis(1200)),
        Refused::Rate(Bucket::PerUser, Duration::from_secs(3)),
        Refused::Rate(Bucket::HttpGlobal, Duration::from_secs(3)),
        Refused::Rate(Bucket::HttpPerIp, Duration::from_secs(3)),
        Refused::Capacity(Bound::Route),
        Refused::Capacity(Bound::PerIp),
        Refused::Capacity(Bound::PerUser),
        Refused::Capacity(Bound::Channels),
        Refused::Capacity(Bound::Memory),
        Refused::Origin(OriginError::Named("https://evil.test".into())),
        Refused::Origin(OriginError::Missing),
        Refused::Unauthorized(AuthFailure::Signature),
        Refused::Forwarded(Box::new(Response::builder().status(401).body(Bytes::new()).unwrap())),
        Refused::AuthUnavailable,
        Refused::Breaker(Duration::from_millis(2500)),
        Refused::from(UpstreamError::from(dial)),
        Refused::from(UpstreamError::from(late)),
        Refused::from(UpstreamError::from(full)),
        Refused::from(UpstreamError::from(tls)),
        Refused::from(UpstreamError::Timeout(Duration::from_secs(1))),
        Refused::from(UpstreamError::Broken("10.1.2.3".into())),
        Refused::from(UpstreamError::Framing(FramingFault::Both)),
        Refused::from(UpstreamError::BadUpgrade(BadUpgrade::Accept)),
        Refused::from(UpstreamError::BodyTooLarge(5)),
        Refused::from(UpstreamError::BodyStalled(Duration::from_secs(1))),
        Refused::from(UpstreamError::BodyStalled(Duration::from_secs(60))),
        Refused::from(UpstreamError::BodyBroken),
        Refused::from(UpstreamError::BodyUntaken(Duration::from_secs(60))),
    ];
    for refused in &all {
        match refused {
            Refused::Malformed(_)
            | Refused::Plaintext
            | Refused::Version
            | Refused::AmbiguousPath { .. }
            | Refused::Head(_)
            | Refused::HeadTooLarge
            | Refused::TargetTooLong
            | Refused::TooSlow
            | Refused::Unsupported(_)
            | Refused::NoHttp
            | Refused::Draining
            | Refused::TooManyHandshakes
            | Refused::Rate(Bucket::Global | Bucket::PerIp | Bucket::PerUser, _)
            | Refused::Rate(Bucket::HttpGlobal | Bucket::HttpPerIp, _)
            | Refused::Capacity(
                Bound::Route | Bound::PerIp | Bound::PerUser | Bound::Channels | Bound::Memory,
            )
            | Refused::Origin(_)
            | Refused::Unauthorized(_)
            | Refused::Forwarded(_)
            | Refused::AuthUnavailable
            | Refused::Breaker(_) => {}
            Refused::Upstream(error) => match &**error {
                UpstreamError::Dial(
                    DialError::Timeout { .. }
                    | DialError::TooManyDials { .. }
                    | DialError::Io { .. }
                    | DialError::Tls { .. },
                )
                | UpstreamError::Timeout(_)
                | UpstreamError::Broken(_)
                | UpstreamError::Framing(_)
                | UpstreamError::BadUpgrade(_)
                | UpstreamError::BodyTooLarge(_)
                | UpstreamError::BodyStalled(_)
                | UpstreamError::BodyBroken
                | UpstreamError::BodyUntaken(_) => {}
            },
        }
    }
    all
}

#[test]
fn every_answer_says_that_it_is_ours_and_tells_no_address() {
    for refused in all() {
        let Answer { status, reason, retry_after, .. } = refused.answer();
        let response = refused.response();
        assert_eq!(
            (response.status(), &response.headers()["x-outrigger-reason"]),
            (status, &reason.parse().unwrap())
        );
        assert_eq!(response.headers().contains_key("retry-after"), retry_after.is_some(), "{refused}");
        let raw = String::from_utf8(refused.to_bytes()).unwrap();
        assert!(raw.starts_with(&format!("HTTP/1.1 {} ", status.as_u16())), "{raw}");
        assert!(raw.contains(&format!("\r\nX-Outrigger-Reason: {reason}\r\n")));
        assert!(!raw.contains("10.1.2.3"), "{raw}");
    }
}

#[test]
fn when_to_come_back_is_told_in_whole_seconds_and_never_zero() {
    let told = |wait| {
        let response = Refused::Rate(Bucket::PerIp, wait).response();
        response.headers()["retry-after"].to_str().unwrap().to_owned()
    };
    for (millis, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (25_500, "26")] {
        assert_eq!(told(Duration::from_millis(millis)), seconds);
    }
}

#[test]
fn the_guards_are_counted_by_the_words_of_their_answers() {
    let counted = all().into_iter().filter_map(|refused| {
        let guard = refused.guard()?;
        assert_eq!(guard.as_str(), refused.answer().reason);
        Some(guard)
    });
    let counted: BTreeSet<usize> = counted.map(Label::index).collect();
    assert_eq!(counted.len(), RefusalReason::ALL.len(), "each has a refusal that it counts");
}

#[test]
fn the_document_lists_every_answer_and_no_other() {
    let document = include_str!("../../../docs/close-codes.md");
    let (_, section) = document.split_once("## Answers to requests").unwrap();
    let documented: BTreeSet<(u16, &str)> = section
        .lines()
        .filter_map(|row| {
            let mut cells = row.split('|').map(str::trim).skip(1);
            let reason = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
            Some((cells.next()?.parse().ok()?, reason))
        })
        .collect();
    let answered = all().into_iter().map(|refused| {
        let answer = refused.answer();
        (answer.status.as_u16(), answer.reason)
    });
    assert_eq!(documented, answered.collect(), "left: the document, right: the code");
}

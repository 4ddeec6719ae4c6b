use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use tower::ServiceExt;

use super::super::context::Kind;
use super::super::quota::QuotaPermit;
use super::super::rate::{RateSettings, Rates};
use super::super::refused::{Bound, Bucket};
use super::*;
use crate::config::{HandshakeRate, Limits, OriginPattern, Origins, Rate};
use crate::connections::{EndedSession, ResumeGrant, SessionId};
use crate::net::Peer;
use crate::net::own_protocols::TicketText;
use crate::telemetry::Metrics;

const NEVER_AGAIN: Rate = Rate { per_second: 0.001, burst: 2 };

fn open(change: impl FnOnce(&mut Policy)) -> Stack {
    stack(&deps(change, None))
}

fn deps(change: impl FnOnce(&mut Policy), resume: Option<Arc<dyn ResumeGate>>) -> StackDeps {
    let mut config = crate::config::Config::default();
    let Some(mut route) = config.routes.pop() else { unreachable!() };
    let policy = Arc::make_mut(&mut route.policy);
    policy.handshake_rate = HandshakeRate { global: None, ..policy.handshake_rate };
    policy.limits = Limits { connections: None, ..policy.limits };
    change(policy);
    let metrics = Metrics::new("outrigger").unwrap();
    let rates = |settings| Arc::new(Rates::new(settings, &metrics));
    StackDeps {
        logs: None,
        trusted: Arc::default(),
        rates: RatesByKind {
            handshakes: rates(RateSettings::Handshakes(route.policy.handshake_rate)),
            requests: rates(RateSettings::Requests(route.policy.http.rate)),
        },
        quota: ConnectionQuota::new("r"),
        policy: route.policy,
        auth: None,
        resume,
    }
}

fn context(from: u8, user: Option<&str>, kind: Kind) -> Box<RequestContext> {
    let address = Some(SocketAddr::from(([10, 0, 0, from], 1)));
    // Until authentication says otherwise, a client is whom its certificate names.
    let peer = Peer { address, subject: user.map(Arc::from), ..Peer::default() };
    let mut head = http::Request::new(()).into_parts().0;
    if let Some(user) = user.filter(|user| user.starts_with("https:")) {
        head.headers.insert("origin", user.parse().unwrap());
    }
    Box::new(RequestContext::new(head, kind, Arc::new(peer)))
}

async fn ask(stack: &Stack, from: u8, user: Option<&str>) -> Result<Option<QuotaPermit>, Refused> {
    stack.clone().oneshot(context(from, user, Kind::Handshake)).await.map(|context| context.quota_permit)
}

fn bucket<T>(result: Result<T, Refused>) -> Bucket {
    match result {
        Err(Refused::Rate(bucket, wait)) => {
            assert!(wait > Duration::ZERO);
            bucket
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was let in"),
    }
}

#[tokio::test(start_paused = true)]
async fn one_attacker_cannot_drain_the_bucket_of_all() {
    let stack = open(|policy| {
        policy.handshake_rate.per_ip = Some(NEVER_AGAIN);
        policy.handshake_rate.global = Some(Rate { burst: 5, ..NEVER_AGAIN });
    });
    for _ in 0..2 {
        assert!(ask(&stack, 66, None).await.is_ok());
    }
    for _ in 0..100 {
        assert_eq!(bucket(ask(&stack, 66, None).await), Bucket::PerIp);
    }
    for other in 1..4 {
        assert!(ask(&stack, other, None).await.is_ok(), "there are tokens left for the others");
    }
    assert_eq!(bucket(ask(&stack, 4, None).await), Bucket::Global);
}

#[tokio::test(start_paused = true)]
async fn a_user_is_one_from_however_many_addresses() {
    let stack = open(|policy| policy.handshake_rate.per_user = Some(NEVER_AGAIN));
    assert!(ask(&stack, 1, Some("a")).await.is_ok());
    assert!(ask(&stack, 2, Some("a")).await.is_ok());
    assert_eq!(bucket(ask(&stack, 3, Some("a")).await), Bucket::PerUser);
    for from in 0..10 {
        assert!(ask(&stack, from, Some("b")).await.is_ok() == (from < 2));
        assert!(ask(&stack, from, None).await.is_ok(), "who has no name is not limited by it");
    }
    let stack = open(|policy| policy.limits.per_user = Some(1));
    let place = ask(&stack, 1, Some("a")).await.unwrap();
    let refused = ask(&stack, 2, Some("a")).await;
    assert!(matches!(refused, Err(Refused::Capacity(Bound::PerUser))));
    drop(place);
    assert!(ask(&stack, 2, Some("a")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_foreign_page_takes_no_place_and_a_request_neither() {
    let stack = open(|policy| {
        policy.limits.connections = Some(1);
        let host = "app.example.com".into();
        let page = OriginPattern::Of { scheme: "https".into(), host, subdomains: false, port: Some(443) };
        policy.origins = Some(Origins { allow: vec![page], missing: true });
    });
    for _ in 0..5 {
        let refused = ask(&stack, 1, Some("https://evil.test")).await;
        assert!(matches!(refused, Err(Refused::Origin(_))));
        let plain = context(1, None, Kind::Plain);
        assert!(stack.clone().oneshot(plain).await.unwrap().quota_permit.is_none());
    }
    let _place = ask(&stack, 1, Some("https://app.example.com")).await.unwrap().unwrap();
    assert!(matches!(ask(&stack, 2, None).await, Err(Refused::Capacity(Bound::Route))));
}

/// Its one session is that of `ann` at `/ws`, and its one valid ticket is all `A`.
#[derive(Debug, Default)]
struct OneSession {
    checked: AtomicU32,
    malformed: AtomicU32,
}

const GRANT: ResumeGrant = ResumeGrant { session: SessionId([7; 16]), generation: 1 };

impl ResumeGate for OneSession {
    fn check(&self, ticket: &TicketText) -> Result<ResumeGrant, Option<EndedSession>> {
        self.checked.fetch_add(1, SeqCst);
        match ticket.as_str().as_bytes() {
            [b'A', ..] => Ok(GRANT),
            [b'G', ..] => Err(Some(EndedSession { received: 5, why: "window" })),
            _ => Err(None),
        }
    }

    fn is_owner(&self, grant: &ResumeGrant, user: Option<&str>, path: &str) -> bool {
        *grant == GRANT && user == Some("ann") && path == "/ws"
    }

    fn on_malformed(&self) {
        self.malformed.fetch_add(1, SeqCst);
    }
}

/// A handshake with a ticket that begins so.
fn with_ticket(from: u8, user: &str, path: &str, first: char) -> Box<RequestContext> {
    with_resume(from, user, path, &format!("{first}{}.7", "x".repeat(59)))
}

fn with_resume(from: u8, user: &str, path: &str, resume: &str) -> Box<RequestContext> {
    let RequestContext { mut head, peer, .. } = *context(from, Some(user), Kind::Handshake);
    head.uri = path.parse().unwrap();
    let offer = format!("chat, outrigger.v1, outrigger.resume.{resume}");
    head.headers.insert("sec-websocket-protocol", offer.parse().unwrap());
    Box::new(RequestContext::new(head, Kind::Handshake, peer))
}

/// Every limit lets one in, but for that of addresses.
fn one_place(policy: &mut Policy) {
    let one = Some(Rate { burst: 1, ..NEVER_AGAIN });
    policy.handshake_rate.global = one;
    policy.handshake_rate.per_user = one;
    policy.limits.per_user = Some(1);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_to_its_session_meets_no_rate_of_all_and_no_limit_of_its_user() {
    let gate = Arc::new(OneSession::default());
    let stack = stack(&deps(one_place, Some(gate.clone())));
    let place = ask(&stack, 1, Some("ann")).await.unwrap().unwrap();
    for _ in 0..10 {
        let context = stack.clone().oneshot(with_ticket(1, "ann", "/ws?token=new", 'A')).await.unwrap();
        assert_eq!(context.resume, ResumeDecision::Granted(GRANT));
        assert!(context.quota_permit.is_none(), "the session has its place already");
        assert_eq!(context.head.headers["sec-websocket-protocol"], "chat");
    }
    assert_eq!(bucket(ask(&stack, 1, Some("bob")).await), Bucket::Global, "anybody else does");
    drop(place);
}

#[tokio::test(start_paused = true)]
async fn a_ticket_that_is_not_taken_spares_nothing() {
    let gate = Arc::new(OneSession::default());
    let attempt = |context| stack(&deps(one_place, Some(gate.clone()))).oneshot(context);
    // What becomes of it where there is room: a new client, with a place of its own.
    let ended = Some(EndedSession { received: 5, why: "window" });
    let cases = [
        (with_ticket(1, "ann", "/ws", 'B'), None),
        (with_ticket(1, "ann", "/ws", 'G'), ended),
        (with_ticket(1, "bob", "/ws", 'A'), None),
        (with_ticket(1, "ann", "/other", 'A'), None),
        (with_resume(1, "ann", "/ws", "garbage"), None),
        (with_resume(1, "ann", "/ws", "-00000000000000ff.1"), None),
    ];
    for (number, (context, ended)) in cases.into_iter().enumerate() {
        let context = attempt(context).await.unwrap();
        assert_eq!(context.resume, ResumeDecision::Refused(ended), "{number}");
        assert!(context.quota_permit.is_some(), "{number}");
    }
    assert_eq!(gate.malformed.load(SeqCst), 2);
    // And where there is none: each limit holds for it as for anybody.
    for (user, path, first) in [("ann", "/ws", 'B'), ("bob", "/ws", 'A'), ("ann", "/other", 'A')] {
        let full = stack(&deps(one_place, Some(gate.clone())));
        let _place = ask(&full, 2, Some(user)).await.unwrap();
        let refused = full.clone().oneshot(with_ticket(1, user, path, first)).await;
        assert_eq!(bucket(refused), Bucket::Global);
        let limits = |policy: &mut Policy| policy.limits.per_user = Some(1);
        let stack = stack(&deps(limits, Some(gate.clone())));
        let _place = ask(&stack, 2, Some(user)).await.unwrap();
        let refused = stack.clone().oneshot(with_ticket(1, user, path, first)).await;
        assert!(matches!(refused, Err(Refused::Capacity(Bound::PerUser))));
    }
}

#[tokio::test(start_paused = true)]
async fn tickets_are_verified_only_as_fast_as_an_address_may_ask() {
    let gate = Arc::new(OneSession::default());
    let stack = stack(&deps(|policy| policy.handshake_rate.per_ip = Some(NEVER_AGAIN), Some(gate.clone())));
    for first in "ABABABAB".chars() {
        let _ = stack.clone().oneshot(with_ticket(66, "ann", "/ws", first)).await;
    }
    assert_eq!(gate.checked.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_resume_that_comes_to_nothing_is_let_in_afresh_or_not_at_all() {
    let gate = Arc::new(OneSession::default());
    let deps = deps(one_place, Some(gate));
    let (stack, afresh) = (stack(&deps), afresh(&deps));
    let context = |stack: &Stack| stack.clone().oneshot(with_ticket(1, "ann", "/ws", 'A'));
    let context_one = context(&stack).await.unwrap();
    let fresh = afresh.clone().oneshot(context_one).await.unwrap();
    assert_eq!(fresh.resume, ResumeDecision::Refused(None));
    assert!(fresh.quota_permit.is_some());
    let context_two = context(&stack).await.unwrap();
    assert_eq!(bucket(afresh.clone().oneshot(context_two).await), Bucket::Global);
}

#[tokio::test(start_paused = true)]
async fn a_route_without_tickets_ignores_them_and_so_does_a_request_that_is_no_handshake() {
    let context = open(|_| {}).oneshot(with_ticket(1, "ann", "/ws", 'A')).await.unwrap();
    assert_eq!(context.resume, ResumeDecision::None);
    assert!(context.quota_permit.is_some());
    let gate = Arc::new(OneSession::default());
    let mut plain = with_ticket(1, "ann", "/ws", 'A');
    plain.kind = Kind::Plain;
    let context = stack(&deps(|_| {}, Some(gate.clone()))).oneshot(plain).await.unwrap();
    assert_eq!((context.resume, gate.checked.load(SeqCst)), (ResumeDecision::None, 0));
    assert_eq!(context.head.headers["sec-websocket-protocol"], "chat", "but they are taken out");
}

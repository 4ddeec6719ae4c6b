//! The layers, once, in order.

use std::sync::Arc;

use std::future::ready;

use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, service_fn};

use super::auth::{Authentication, Authenticator};
use super::check::CheckLayer;
use super::context::RequestContext;
use super::identity::Identity;
use super::origin::OriginCheck;
use super::quota::ConnectionQuota;
use super::quota_check::QuotaCheck;
use super::rate::{RateCheck, RatesByKind};
use super::refused::Refused;
use crate::config::{Policy, TrustedProxies};

/// What every request of a route passes before its mode. It answers with the request, and what is known of it by then.
pub(crate) type Stack = BoxCloneSyncService<RequestContext, RequestContext, Refused>;

/// What the layers of one route ask.
#[derive(Debug)]
pub(crate) struct StackDeps {
    /// The peers whose forwarding headers are believed.
    pub trusted: Arc<TrustedProxies>,
    /// What the route's policy says.
    pub policy: Arc<Policy>,
    /// Each of all routes with the same settings.
    pub rates: RatesByKind,
    /// Of this route.
    pub quota: Arc<ConnectionQuota>,
    /// Authenticates clients; `None`: the route does not ask who they are.
    pub auth: Option<Arc<Authenticator>>,
}

/// The stack of a route.
pub(crate) fn stack(deps: &StackDeps) -> Stack {
    BoxCloneSyncService::new(
        ServiceBuilder::new()
            .layer(CheckLayer::new(Identity::new(Arc::clone(&deps.trusted))))
            .layer(CheckLayer::new(RateCheck::PerAddress(deps.rates.clone())))
            .layer(CheckLayer::new(RateCheck::Global(deps.rates.clone())))
            .layer(CheckLayer::new(OriginCheck::new(Arc::clone(&deps.policy))))
            .layer(CheckLayer::new(Authentication::new(deps.auth.clone(), deps.policy.http.mode)))
            .layer(CheckLayer::new(RateCheck::PerUser(Arc::clone(&deps.rates.handshakes))))
            .layer(CheckLayer::new(QuotaCheck::new(Arc::clone(&deps.quota), deps.policy.limits)))
            .service(service_fn(|context: RequestContext| ready(Ok(context)))),
    )
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use tower::ServiceExt;

    use super::super::context::Kind;
    use super::super::quota::QuotaPermit;
    use super::super::rate::{RateSettings, Rates};
    use super::super::refused::{Bound, Bucket};
    use super::*;
    use crate::config::{HandshakeRate, Limits, OriginPattern, Origins, Rate};
    use crate::net::Peer;
    use crate::telemetry::Metrics;

    const NEVER_AGAIN: Rate = Rate { per_second: 0.001, burst: 2 };

    fn open(change: impl FnOnce(&mut Policy)) -> Stack {
        let mut config = crate::config::Config::default();
        let Some(mut route) = config.routes.pop() else { unreachable!() };
        let policy = Arc::make_mut(&mut route.policy);
        policy.handshake_rate = HandshakeRate { global: None, ..policy.handshake_rate };
        policy.limits = Limits { connections: None, ..policy.limits };
        change(policy);
        let metrics = Metrics::new("outrigger").unwrap();
        let rates = |settings| Arc::new(Rates::new(settings, &metrics));
        let deps = StackDeps {
            trusted: Arc::default(),
            rates: RatesByKind {
                handshakes: rates(RateSettings::Handshakes(route.policy.handshake_rate)),
                requests: rates(RateSettings::Requests(route.policy.http.rate)),
            },
            quota: ConnectionQuota::new("r"),
            policy: route.policy,
            auth: None,
        };
        stack(&deps)
    }

    fn context(from: u8, user: Option<&str>, kind: Kind) -> RequestContext {
        let address = Some(SocketAddr::from(([10, 0, 0, from], 1)));
        // Until authentication says otherwise, a client is whom its certificate names.
        let peer = Peer { address, subject: user.map(Arc::from), ..Peer::default() };
        let mut head = http::Request::new(()).into_parts().0;
        if let Some(user) = user.filter(|user| user.starts_with("https:")) {
            head.headers.insert("origin", user.parse().unwrap());
        }
        RequestContext::new(head, kind, Arc::new(peer))
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
}

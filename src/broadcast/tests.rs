//! Channels whose tasks end in the middle of something, driven from the inside.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Uri};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::channel::PublishRequest;
use super::*;
use crate::config::Config;
use crate::connections::lifecycle::Lifecycle;
use crate::frame::{Kind, encode};
use crate::log::Logs;
use crate::memory::Budget;
use crate::net::{Peer, Workers};
use crate::resilience::Caller;
use crate::telemetry::Metrics;
use crate::upstream::Upstream;
use crate::upstream::headers::Requester;

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_secs(30);

struct World {
    hubs: Arc<Hubs>,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
}

impl World {
    /// A server that answers handshakes and says nothing more, not even to a Close.
    async fn new(policy: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.push(tokio_tungstenite::accept_async(stream).await);
            }
        });
        let yaml = format!(
            "upstream: {{url: 'http://{address}'}}\nroutes: [{{name: feed, path: '/feed', mode: broadcast}}]\n\
             policy: {{{policy}}}"
        );
        let config = Config::from_yaml(&yaml).unwrap();
        let metrics = Metrics::new("outrigger").unwrap();
        let budget = Arc::new(Budget::new(config.max_buffered));
        let logs = Logs::new(Arc::clone(&budget), Arc::clone(&metrics));
        let hubs = Hubs::new(logs, budget, Arc::clone(&metrics), (1, Workers::default()), Lifecycle::new());
        let route = config.routes.iter().find(|route| route.name == "feed").unwrap();
        let hub = hubs.hub(Plan {
            route: route.name.clone(),
            strip_prefix: None,
            policy: Arc::clone(&route.policy),
            upstream: Upstream::new(Arc::clone(&route.upstream), Arc::clone(&metrics)).unwrap(),
            breaker: None,
        });
        Self { hubs, hub, metrics }
    }

    async fn reserve(&self) -> Reservation {
        let (uri, headers, peer) = (Uri::from_static("/feed"), HeaderMap::new(), Peer::default());
        let requester = Requester { peer: &peer, forwarding: None, client: None, user: None, attested: None };
        let request = JoinRequest {
            uri: &uri,
            target: &uri,
            headers: &headers,
            user: None,
            caller: Caller::UNKNOWN,
            requester,
            by: Joiner::WebSocket(None),
        };
        timeout(DEADLINE, self.hub.reserve(request)).await.expect("an answer").expect("a seat")
    }

    /// All samples of a counter, added up.
    fn metric(&self, name: &str) -> f64 {
        let families = self.metrics.gather();
        let family = families.iter().find(|family| family.name() == format!("outrigger_{name}"));
        family.map_or(0.0, |family| family.get_metric().iter().map(|m| m.get_counter().get_value()).sum())
    }

    async fn until(&self, mut is_so: impl FnMut(&Self) -> bool) {
        let waiting = async {
            while !is_so(self) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(DEADLINE, waiting).await.expect("it comes");
    }
}

fn ask(payload: Bytes) -> (PublishRequest, oneshot::Receiver<u64>) {
    let (reply, receiver) = oneshot::channel();
    let frame = encode::message(Kind::Text, &payload);
    (PublishRequest { kind: Kind::Text, payload, frame, deflated: None, to: None, reply }, receiver)
}

#[tokio::test]
async fn who_publishes_to_a_channel_that_is_just_leaving_is_not_kept_waiting() {
    let world = World::new("close_timeout: 20s, broadcast: {linger: 0s}").await;
    let reserve = world.reserve().await;
    // As whoever publishes sees it, just before it leaves.
    let channel = world.hub.state.all().remove(0);
    drop(reserve);
    world.until(|world| world.hub.state.all().is_empty()).await;
    let (ask, receiver) = ask(Bytes::from_static(b"late"));
    let answered = timeout(Duration::from_secs(5), async {
        if channel.publish.send(ask).await.is_ok() {
            let _ = receiver.await;
        }
    });
    assert!(answered.await.is_ok(), "it is told that nobody is there");
    assert_eq!(world.hub.state.running(), 1, "and the server has not answered our Close yet");
    assert_eq!(world.metric("published_total"), 0.0);
}

#[tokio::test]
async fn a_channel_whose_task_panics_ends_those_who_wait_for_it_and_the_next_one_begins_anew() {
    struct Panics;
    impl AsRef<[u8]> for Panics {
        fn as_ref(&self) -> &[u8] {
            b"boom"
        }
    }
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("as it is to be");
        }
    }
    let world = World::new("").await;
    let _seat = world.reserve().await;
    let channel = world.hub.state.all().remove(0);
    let mut receiver = Vec::new();
    for payload in [Bytes::from_owner(Panics), Bytes::from_static(b"x"), Bytes::from_static(b"y")] {
        let (ask, answer) = ask(payload);
        // It may have ended by then.
        if channel.publish.send(ask).await.is_ok() {
            receiver.push(answer);
        }
    }
    for answer in receiver {
        timeout(DEADLINE, answer).await.expect("nobody waits for the dead").ok();
    }
    world.until(|world| world.hub.state.running() == 0).await;
    assert_eq!(world.metric("task_panics_total"), 1.0);
    let _next = world.reserve().await;
    let payload = Bytes::from_static(b"z");
    let published = timeout(DEADLINE, world.hubs.publish("feed", None, None, Kind::Text, &payload));
    assert_eq!(published.await.expect("an answer").recipients, 1);
}

#[tokio::test]
async fn a_shared_link_shows_life_by_itself_where_nothing_else_is_said() {
    use crate::config::{SHARED_HEARTBEAT, UpstreamHeartbeat};
    let world = World::new("").await;
    let beat = world.hub.state.uplink_rules().heartbeat.expect("it is pinged by default");
    assert_eq!(beat, SHARED_HEARTBEAT);
    assert!(beat.interval <= Duration::from_secs(30), "Cowboy closes whoever is silent for 60 s");
    assert_eq!(world.hub.state.plan.upstream.config().heartbeat, UpstreamHeartbeat::Auto);
    for (written, shared, tunnels) in [("auto", true, false), ("null", false, false), ("{}", true, true)] {
        let config = Config::from_yaml(&format!("upstream: {{heartbeat: {written}}}")).unwrap();
        let heartbeat = config.routes[0].upstream.heartbeat;
        let on = (heartbeat.on_shared_links().is_some(), heartbeat.in_tunnels().is_some());
        assert_eq!(on, (shared, tunnels), "{written}");
    }
}

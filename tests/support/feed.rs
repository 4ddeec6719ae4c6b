//! A route of mode broadcast: `feed`, under `/feed/`.

use serde_json::Value;

use super::client::RawClient;
use super::proxy::{Builder, Proxy};
use super::upstream::{ServerConn, Upstream};

pub const FEED: &str = "routes: [{name: feed, path: '/feed/{*rest}', mode: broadcast}]";

/// A proxy with that route, and this in its policy.
pub fn feed(upstream: &Upstream, policy: &str) -> Builder {
    Proxy::to(upstream).yaml(FEED).yaml(&format!("policy: {{{policy}}}"))
}

/// So many clients, and the server's one connection.
pub async fn joined(
    proxy: &Proxy,
    upstream: &Upstream,
    path: &str,
    count: usize,
) -> (Vec<RawClient>, ServerConn) {
    let mut clients = vec![proxy.connect(path).await];
    let server = upstream.accept().await;
    while clients.len() < count {
        clients.push(proxy.connect(path).await);
    }
    proxy.has("clients", count as f64).await;
    (clients, server)
}

impl Proxy {
    /// A number that the route counts.
    pub async fn feed(&self, name: &str) -> f64 {
        self.metric(&format!("outrigger_{name}{{route=\"feed\"}}")).await
    }

    /// Waits until a number that the route counts is this.
    pub async fn has(&self, name: &str, expected: f64) {
        self.becomes(&format!("outrigger_{name}{{route=\"feed\"}}"), expected).await;
    }

    /// Dials of the route's channels that ended so.
    pub async fn dials(&self, outcome: &str) -> f64 {
        self.metric(&format!("outrigger_uplink_dials_total{{outcome=\"{outcome}\",route=\"feed\"}}")).await
    }

    /// Links to servers that the route's channels lost so.
    pub async fn losses(&self, cause: &str) -> f64 {
        self.metric(&format!("outrigger_uplink_losses_total{{cause=\"{cause}\",route=\"feed\"}}")).await
    }

    /// What the operators' port says of each channel.
    pub async fn channels(&self) -> Vec<Value> {
        let response = self.admin_get("/api/admin/channels").await;
        assert_eq!(response.status(), 200, "{}", response.text());
        let answer: Value = serde_json::from_str(&response.text()).expect("it answers in JSON");
        answer["channels"].as_array().expect("a list of them").clone()
    }
}

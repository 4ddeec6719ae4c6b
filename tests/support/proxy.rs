//! The proxy under test, in this process, on ports of the system's choice.
//!
//! It runs through the library's own front door: configuration as YAML, [`Server::bind`],
//! [`Server::run`]. Logging stays off; heartbeats, limits and metrics are on as by default.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outrigger::config::{Config, ListenTls, Policy, UpstreamTls};
use outrigger::internals::Lifecycle;
use outrigger::server::{Server, StartError, Workers};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::DEADLINE;
use super::client::{Dial, RawClient};
use super::http::Response;
use super::metrics::Metrics;
use super::socket::Address;
use super::upstream::Upstream;
use super::wait::eventually;
use super::workers::Threads;
use super::yaml;

/// A running proxy. Cut short when it is dropped; [`Proxy::stop`] lets it drain.
pub struct Proxy {
    address: SocketAddr,
    admin: SocketAddr,
    lifecycle: Lifecycle,
    running: JoinHandle<()>,
    /// Where connections live, if `OUTRIGGER_WORKERS` says that all proxies of these tests have such threads.
    _threads: Option<Threads>,
}

/// A proxy that is not started yet.
pub struct Builder {
    url: String,
    yaml: String,
    changes: Vec<Change>,
    workers: Option<Workers>,
}

type Change = Box<dyn FnOnce(&mut Config) + Send>;

impl Proxy {
    /// In front of this server.
    pub fn to(upstream: &Upstream) -> Builder {
        Self::to_url(upstream.url())
    }

    /// In front of whatever is at this address, as `upstream.url` has it.
    pub fn to_url(url: impl Into<String>) -> Builder {
        Builder { url: url.into(), yaml: String::new(), changes: Vec::new(), workers: None }
    }

    /// The port of clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of operators and probes.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// An open WebSocket through the proxy; panics unless the handshake succeeds.
    #[track_caller]
    pub fn connect(&self, path: &str) -> impl Future<Output = RawClient> {
        RawClient::connect(self.address, path)
    }

    /// A handshake with the proxy, to be shaped.
    pub fn dial(&self) -> Dial {
        RawClient::dial(self.address)
    }

    /// A plain request to the proxy, to be shaped.
    pub fn plain(&self) -> Dial {
        RawClient::plain(self.address)
    }

    /// A `GET` on the operators' port.
    pub async fn admin_get(&self, path: &str) -> Response {
        RawClient::plain(self.admin).path(path).header("Connection", "close").answer().await.response
    }

    /// One sample of `/metrics`, by its name and labels (in any order), for instance
    /// `outrigger_clients{route="default"}`. Panics where there is none, and shows its relatives.
    pub async fn metric(&self, sample: &str) -> f64 {
        let metrics = self.metrics().await;
        metrics.get(sample).unwrap_or_else(|| {
            let name = sample.split('{').next().unwrap_or_default();
            let relatives = metrics.0.lines().filter(|line| line.starts_with(name));
            panic!("no {sample} in /metrics; there is:\n{}", Vec::from_iter(relatives).join("\n"))
        })
    }

    /// As [`Proxy::metric`], `None` where there is no such sample (a label set not met yet).
    pub async fn find_metric(&self, sample: &str) -> Option<f64> {
        self.metrics().await.get(sample)
    }

    /// Waits until a sample is this.
    pub async fn becomes(&self, sample: &str, expected: f64) {
        eventually(DEADLINE, async || match self.metric(sample).await {
            there if there == expected => Ok(()),
            there => Err(format!("{sample} is {there}")),
        })
        .await;
    }

    /// What the operators' port answers to this as something to publish.
    pub async fn post(&self, body: &str) -> Response {
        let dial = RawClient::plain(self.admin).method("POST").path("/api/admin/broadcast");
        dial.header("Connection", "close").body(body).answer().await.response
    }

    /// Publishes what must be accepted; the answer.
    pub async fn publish(&self, what: &Value) -> Value {
        let response = self.post(&what.to_string()).await;
        assert_eq!(response.status(), 200, "{}", response.text());
        serde_json::from_str(&response.text()).expect("it answers in JSON")
    }

    /// All of `/metrics` at one moment.
    pub async fn metrics(&self) -> Metrics {
        let response = self.admin_get("/metrics").await;
        assert_eq!(response.status(), 200, "/metrics: {}", response.text());
        Metrics(response.text())
    }

    /// Begins the drain, as SIGTERM does, and returns at once.
    pub fn drain(&self) {
        self.lifecycle.request_stop();
    }

    /// Drains and waits for the end; panics when that takes longer than [`DEADLINE`].
    pub async fn stop(self) {
        self.stop_within(DEADLINE).await;
    }

    /// As [`Proxy::stop`], with a deadline of the test's own.
    pub async fn stop_within(mut self, deadline: Duration) {
        self.lifecycle.request_stop();
        match timeout(deadline, &mut self.running).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("the proxy did not end well: {error}"),
            Err(_) => panic!("the proxy is still running {deadline:?} after it was told to drain"),
        }
    }

    /// Waits for a drain that [`Proxy::drain`] or the admin port began.
    pub async fn ended_within(mut self, deadline: Duration) {
        match timeout(deadline, &mut self.running).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("the proxy did not end well: {error}"),
            Err(_) => panic!("the proxy is still running after {deadline:?}"),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Builder {
    /// Further configuration: top-level keys, each in flow style on its own line
    /// (`policy: {heartbeat: {interval: 1s}}`). Ports, upstream URL, a silent log and a drain without
    /// waiting are filled in where it does not name them.
    #[must_use]
    pub fn yaml(mut self, text: &str) -> Self {
        self.yaml.push_str(text);
        self.yaml.push('\n');
        self
    }

    /// Changes the checked configuration, after the YAML was read.
    #[must_use]
    pub fn config(mut self, change: impl FnOnce(&mut Config) + Send + 'static) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    /// Changes the policy of every route.
    #[must_use]
    pub fn policy(self, change: impl Fn(&mut Policy) + Send + 'static) -> Self {
        self.config(move |config| {
            for route in &mut config.routes {
                change(Arc::make_mut(&mut route.policy));
            }
        })
    }

    /// Connections live on these, and not on the runtime of the test.
    #[must_use]
    pub fn workers(mut self, workers: Workers) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Clients come over TLS.
    #[must_use]
    pub fn tls(self, tls: ListenTls) -> Self {
        self.config(|config| config.listen.tls = Some(tls))
    }

    /// The upstream is dialled over TLS.
    #[must_use]
    pub fn upstream_tls(self, tls: UpstreamTls) -> Self {
        self.config(move |config| {
            for route in &mut config.routes {
                Arc::make_mut(&mut route.upstream).tls = Some(tls.clone());
            }
        })
    }

    /// Binds and starts; returns once it listens.
    pub async fn spawn(self) -> Proxy {
        // Boxed: every test would hold all that it takes to start a proxy.
        match Box::pin(self.try_spawn()).await {
            Ok(proxy) => proxy,
            Err(error) => panic!("the proxy does not start: {error}"),
        }
    }

    /// As [`Builder::spawn`], or why it does not start.
    pub async fn try_spawn(self) -> Result<Proxy, StartError> {
        let defaults = [
            ("listen", "address", "127.0.0.1:0"),
            ("upstream", "url", &self.url),
            ("admin", "address", "127.0.0.1:0"),
            ("log", "level", "off"),
            ("drain", "spread", "0s"),
            ("drain", "timeout", "5s"),
        ];
        let text = yaml::fill_in(&self.yaml, &defaults);
        let mut config = match Config::from_yaml(&text) {
            Ok(config) => config,
            Err(error) => panic!("the test's configuration is refused:\n{error}\n---\n{text}"),
        };
        for change in self.changes {
            change(&mut config);
        }
        let threads = match self.workers {
            None => std::env::var("OUTRIGGER_WORKERS")
                .ok()
                .map(|count| Threads::start(count.parse().expect("OUTRIGGER_WORKERS is a number"))),
            Some(_) => None,
        };
        let workers = self.workers.or_else(|| threads.as_ref().map(Threads::workers));
        let server = Server::bind_on(config, workers.unwrap_or_default()).await?;
        Ok(Proxy {
            address: server.address().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0))),
            admin: server.admin_address(),
            lifecycle: server.lifecycle(),
            _threads: threads,
            running: tokio::spawn(async move {
                let _ended = server.run().await;
            }),
        })
    }
}

impl From<&Proxy> for Address {
    fn from(proxy: &Proxy) -> Self {
        Self::Tcp(proxy.address)
    }
}

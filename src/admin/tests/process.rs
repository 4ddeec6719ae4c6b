//! Stands in for the process behind the port.

use prometheus::Registry;

use super::*;

/// A process behind the port.
pub(in crate::admin) struct Process {
    pub(in crate::admin) lifecycle: Lifecycle,
    pub(in crate::admin) clients: u64,
    pub(in crate::admin) registry: Registry,
    pub(in crate::admin) upstream: Option<UpstreamCheck>,
    pub(in crate::admin) publish: Publish,
    pub(in crate::admin) routes: Vec<(String, Mode)>,
    pub(in crate::admin) channels: usize,
    pub(in crate::admin) subscribers: u64,
}

pub(super) type UpstreamCheck = Box<dyn Fn() -> BoxFuture<Result<(), String>> + Send + Sync>;
pub(super) type Publish =
    Box<dyn Fn(Publication) -> BoxFuture<Result<Published, PublishError>> + Send + Sync>;

impl Process {
    /// One without clients.
    pub(in crate::admin) fn bare(lifecycle: Lifecycle) -> Self {
        Self {
            lifecycle,
            clients: 0,
            registry: Registry::new(),
            upstream: None,
            publish: Box::new(|_| Box::pin(async { Ok(Published::default()) })),
            routes: Vec::new(),
            channels: 0,
            subscribers: 0,
        }
    }

    pub(in crate::admin) fn admin(self) -> Admin {
        Admin {
            ready_needs_upstream: self.upstream.is_some(),
            operations: Arc::new(self),
            max_publish: MAX_PUBLISH,
        }
    }
}

impl Operations for Process {
    fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    fn metrics(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    fn clients(&self) -> u64 {
        self.clients
    }

    fn routes(&self) -> Vec<(String, Mode)> {
        self.routes.clone()
    }

    fn channels(&self) -> Vec<Channel> {
        (0..self.channels).rev().map(channel).collect()
    }

    fn subscribers(&self) -> Vec<Subscriber> {
        (0..self.subscribers).map(feeds::subscriber).collect()
    }

    fn check_upstream(self: Arc<Self>) -> BoxFuture<Result<(), String>> {
        self.upstream.as_ref().expect("asked only where it is configured")()
    }

    fn publish(self: Arc<Self>, publication: Publication) -> BoxFuture<Result<Published, PublishError>> {
        (self.publish)(publication)
    }
}

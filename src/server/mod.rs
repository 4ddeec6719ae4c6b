//! The ports: clients are taken in, asked what they want, and let go.
//!
//! * [`accept`] takes connections in, [`connection`] drives one while it is HTTP ([`patience`] says for
//!   how long, [`session`] is what its parts share), [`service`] answers one request of it.
//! * [`http2`] drives a connection of HTTP/2, over which many requests and WebSockets come.
//! * [`ports`] opens the ports; [`crowd`] bounds how many are on their way, [`idle`] how many ask nothing; [`preface`] reads what a load
//!   balancer says first.
//! * [`unrouted`] refuses requests whose heads are none or mean two things.
//! * [`router`] picks the route; [`handshake`] makes a WebSocket of a request, [`refusal`] one that only
//!   tells a browser why not.
//! * [`state`] is what all of them share; [`reload`] makes a new table of routes while they run.
//! * [`publish`] gives an operator's message to those it is for.
//! * [`drain`] lets everyone go in good time; [`overview`] tells at the start what there is.
//!
//! # Not here
//! What happens to frames ([`crate::tunnel`]), what is said to upstreams ([`crate::upstream`]), and
//! signals (the command line's business: a library has none).

mod accept;
mod access;
mod carried;
mod connection;
mod crowd;
mod drain;
mod handshake;
mod http2;
mod idle;
mod lines;
mod overview;
mod patience;
mod ports;
mod preface;
mod publish;
mod refusal;
mod reload;
mod router;
mod service;
mod session;
mod state;
mod unrouted;

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};
use tracing::warn;

use self::accept::Listener;
pub use self::overview::Overview;
use self::ports::listen;
pub use self::reload::Reload;
use self::reload::Reloader;
use self::state::{State, Table};
use crate::admin::{self, Access, Admin, Guard, UpstreamCheck};
use crate::broadcast::Hubs;
use crate::config::{self, Config, ConfigErrors, ListenAddress, Sources};
use crate::log::Logs;
use crate::memory::Budget;
use crate::net;
use crate::telemetry::lifecycle::{self, Lifecycle};
use crate::telemetry::logging::Dropped;
use crate::telemetry::panics::{caught, kept_up};
use crate::telemetry::{Metrics, MetricsError, TaskKind};

/// How long operators that wait for the drain get to read that it is over.
const FAREWELL: Duration = Duration::from_secs(1);

/// Of the process, not of a connection: twice a second.
const TICK: Duration = Duration::from_millis(500);

/// So late a tick is told of: far more than a machine at work makes of it, far less than any peer is given.
const STANDSTILL: Duration = Duration::from_secs(1);

/// Why the proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port could not be listened on.
    #[error("cannot listen on {address} ({key}): {source}; {remedy}")]
    Listen {
        /// The key that says so.
        key: &'static str,
        /// Where.
        address: String,
        /// What the kernel says.
        source: io::Error,
        /// What to do.
        remedy: String,
    },
    /// Something else is where the socket would be, and is nothing to be removed unasked.
    #[error(
        "cannot listen on {} (listen.unix): {kind} is there, and only a socket that nobody listens on any more is \
         taken over; remove it, or name another path",
        .path.display()
    )]
    Occupied {
        /// Where.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Something that the configuration names cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The metrics could not be declared.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// A proxy with its ports open.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    address: Option<SocketAddr>,
    admin: TcpListener,
    admin_address: SocketAddr,
    probes: Option<TcpListener>,
    admin_config: config::Admin,
    state: Arc<State>,
    reloader: Option<Reloader>,
}

impl Server {
    /// Opens the ports. Nothing is served until [`Server::run`].
    ///
    /// # Errors
    /// A port is taken or not allowed.
    #[expect(clippy::unused_async, reason = "sockets are registered with the runtime this is awaited in")]
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let metrics = Metrics::new(&config.metrics_prefix)?;
        reload::tell_exposed(&config);
        metrics.set_limit("descriptors", net::raise_descriptor_limit());
        reload::show_limits(&config, &metrics);
        metrics.config_is_good();
        let (listener, address) = match &config.listen.address {
            ListenAddress::Tcp(wanted) => {
                let (tcp, bound) = listen("listen.address", *wanted)?;
                (Listener::Tcp(tcp, bound.port()), Some(bound))
            }
            ListenAddress::Unix(path) => (accept::listen_unix(path)?, None),
        };
        let (admin, admin_address) = listen("admin.address", config.admin.address)?;
        let probes =
            config.admin.probe_address.map(|probes| listen("admin.probe_address", probes)).transpose()?;
        Ok(Self {
            listener,
            address,
            admin,
            admin_address,
            probes: probes.map(|(listener, _)| listener),
            admin_config: config.admin.clone(),
            state: State::new(config, metrics).map_err(ConfigErrors::from)?,
            reloader: None,
        })
    }

    /// As [`Server::bind`], for a configuration that was read from `sources`: they are read again whenever
    /// one of their files changes, or `reload` asks for it.
    ///
    /// # Errors
    /// As of [`Server::bind`].
    pub async fn bind_reloading(
        config: Config,
        sources: Sources,
        reload: Reload,
    ) -> Result<Self, StartError> {
        let reloader = Some(Reloader::new(sources, config.clone(), reload));
        Ok(Self { reloader, ..Self::bind(config).await? })
    }

    /// Makes all that `config` needs, without opening a port.
    ///
    /// # Errors
    /// Something that settings name cannot be used.
    #[expect(clippy::unused_async, reason = "what is made belongs to the runtime this is awaited in")]
    pub async fn check(config: Config) -> Result<(), StartError> {
        let metrics = Metrics::new(&config.metrics_prefix)?;
        let budget = Arc::new(Budget::new(config.max_buffered));
        let logs = Logs::new(Arc::clone(&budget), Arc::clone(&metrics));
        let workers = config.listen.workers;
        let hubs = Hubs::new(logs, Arc::clone(&budget), Arc::clone(&metrics), workers, Lifecycle::new());
        Table::new(config, None, &metrics, &budget, &hubs).map_err(ConfigErrors::from)?;
        Ok(())
    }

    /// Where clients come in; the system's choice if port 0 was asked for, and loopback's port 0 if it
    /// is a Unix socket.
    pub fn address(&self) -> SocketAddr {
        self.address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// The same in words, for people.
    pub fn listening_on(&self) -> String {
        match &self.state.table().listen.address {
            ListenAddress::Tcp(_) => self.address().to_string(),
            ListenAddress::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// Has the metrics tell of log lines that were lost.
    pub fn count_dropped_lines(&self, dropped: Dropped) {
        self.state.registry.count_dropped_lines(dropped);
    }

    /// Where operators come in.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// To watch it, and to have it drained.
    pub fn lifecycle(&self) -> Lifecycle {
        self.state.lifecycle.clone()
    }

    /// Serves until a stop was asked for and the drain is over. A drain alone lets clients go and keeps the rest
    /// away, until the stop.
    pub async fn run(self) {
        self.run_until(pending::<()>()).await;
    }

    /// As [`Server::run`]; a drain is cut short when `hurry` completes.
    pub async fn run_until(self, hurry: impl Future) {
        let Self { listener, admin, probes, admin_config, admin_address, state, reloader, .. } = self;
        // Before the operators' port answers: whoever was told that it runs must not read that it is starting. What
        // clients say meanwhile waits in the kernel.
        state.lifecycle.ready();
        let (stop, stopped) = watch::channel(false);
        let told = Arc::new(to_tell(&state, &admin_config));
        // Dropped, and so ended, with this future.
        let mut ports = JoinSet::new();
        let guard = Guard::new(admin_address, &admin_config.hosts, admin_config.token.clone());
        let port = |listener, access| {
            let port = admin::serve(listener, access, Arc::clone(&told), until(stopped.clone()));
            let metrics = Arc::clone(&state.metrics);
            // It was counted; whoever watches the port sees that nobody answers there any more.
            async move {
                let _ = caught(TaskKind::Admin, &metrics, port).await;
            }
        };
        ports.spawn(port(admin, Access::All(guard)));
        if let Some(probes) = probes {
            ports.spawn(port(probes, Access::Probes));
        }
        let sweeping = Arc::clone(&state);
        let beating =
            ports.spawn(async move { kept_up(TaskKind::Sweep, &sweeping.metrics, || beat(&sweeping)).await });
        let reloading = reloader.map(|reloader| ports.spawn(reloader.run(Arc::clone(&state))));
        let draining = async {
            state.lifecycle.until(lifecycle::State::Draining).await;
            drain::run(&state, hurry).await;
        };
        tokio::select! {
            () = kept_up(TaskKind::Accept, &state.metrics, || accept::run(&listener, &state)) => {}
            () = draining => {}
        }
        stop.send_replace(true);
        beating.abort();
        if let Some(reloading) = reloading {
            reloading.abort();
        }
        let ended = async { while ports.join_next().await.is_some() {} };
        // Whoever has not read it by then learns it from the end of the connection.
        let _ = timeout(FAREWELL, ended).await;
    }
}

/// Keeps a timer in the runtime that is due soon. The runtime's driver is woken by a system call for every
/// new timer that is due before all others, even by the thread that would wait in it: with this one there,
/// the timers of handshakes and heartbeats, all of a second or more, never are. What has to be done now and
/// then for the process is done here too.
async fn beat(state: &State) {
    let mut ticks = tokio::time::interval(TICK);
    // After a standstill there is nothing to make up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let late = ticks.tick().await.elapsed();
        if late >= STANDSTILL {
            warn!(
                ms = late.as_millis() as u64,
                "this process stood still; peers are heard before they are judged"
            );
        }
        state.table().counts.sweep(&state.metrics);
        state.logs.expire();
        state.hubs.relieve();
        state.lines.tell_left_out();
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the server was dropped, which is an end too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// What the operators' port shows of `state`.
fn to_tell(state: &Arc<State>, config: &config::Admin) -> Admin {
    let asked = Arc::clone(state);
    let check: UpstreamCheck = Arc::new(move || {
        let upstream = Arc::clone(&asked.table().fallback);
        Box::pin(async move { upstream.check().await.map_err(|error| error.to_string()) })
    });
    let (gathered, counted) = (Arc::clone(state), Arc::clone(state));
    let (published, listed, followed) = (Arc::clone(state), Arc::clone(state), Arc::clone(state));
    let named = Arc::clone(state);
    Admin {
        lifecycle: state.lifecycle.clone(),
        gather: Arc::new(move || {
            gathered.metrics.memory.set(i64::try_from(gathered.budget.used()).unwrap_or(i64::MAX));
            gathered.registry.gather()
        }),
        clients: Arc::new(move || counted.registry.clients() as u64),
        upstream_ready: config.ready_needs_upstream.then_some(check),
        publish: Arc::new(move |publication| Box::pin(publish::publish(Arc::clone(&published), publication))),
        max_publish: config.max_publish,
        routes: Arc::new(move || publish::routes(&named)),
        channels: Arc::new(move || publish::channels(&listed)),
        subscribers: Arc::new(move || publish::subscribers(&followed)),
    }
}

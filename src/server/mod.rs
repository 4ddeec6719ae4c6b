//! The ports: connections are accepted, their requests answered, and in a drain they are closed.
//!
//! The way of a connection:
//!
//! * [`listener`] opens the ports, [`accept`] takes connections in;
//! * [`connection`] drives one: PROXY header, TLS, HTTP/1.1 or HTTP/2, and what becomes of its socket after a 101;
//! * [`request`] answers one request of it: its route ([`router`]), its admission, its mode.
//!
//! Below them stand [`state`], which all connections share; [`http`], which the parts of one HTTP connection share;
//! [`limits`]: how many there may be of what.
//!
//! For the process as a whole: [`reload`] makes a new snapshot while it runs, [`drain`] closes all connections in time,
//! [`operations`] is what operators may see and do, [`overview`] describes at the start what is served;
//! [`access`] and [`lines`] write the log.
//!
//! # Not here
//! What happens to frames ([`crate::tunnel`]), requests to upstreams ([`crate::upstream`]), and signals
//! ([`crate::cli`]: a library handles none).

mod accept;
mod access;
mod connection;
mod drain;
mod error;
mod fallback;
mod http;
mod limits;
mod lines;
mod listener;
mod operations;
mod overview;
mod reload;
mod request;
mod router;
mod state;

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};
use tracing::warn;

pub use self::error::StartError;
use self::listener::{Listener, listen, listen_unix};
pub use self::overview::Overview;
pub use self::reload::Reload;
use self::reload::Reloader;
use self::state::{Snapshot, State};
use crate::admin::{self, Access, Admin, Guard};
use crate::broadcast::Hubs;
use crate::config::{self, Config, ConfigErrors, ListenAddress, Sources};
use crate::connections::lifecycle::{self, Lifecycle};
use crate::log::Logs;
use crate::memory::Budget;
pub use crate::net::Workers;
use crate::net::raise_descriptor_limit;
use crate::session::Sessions;
use crate::telemetry::logging::Dropped;
use crate::telemetry::panics::{catch_panic, restart_on_panic};
use crate::telemetry::{Metrics, TaskKind};

/// How long the operators' port goes on after the drain, so that requests that wait for its end are answered.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the process does its housekeeping.
const TICK: Duration = Duration::from_millis(500);

/// A tick that is so late is logged: far later than on a busy machine, far less than any peer's timeout.
const STANDSTILL: Duration = Duration::from_secs(1);

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
    /// Opens the ports. Nothing is served until [`Server::run`], and all of it on the runtime of that.
    ///
    /// # Errors
    /// A port is taken or not allowed.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        Self::bind_on(config, Workers::default()).await
    }

    /// As [`Server::bind`]; connections and the shards of feeds live on `workers`, and the ports on the runtime of
    /// [`Server::run`]: a worker that is busy keeps nobody from connecting, and operators from nothing.
    ///
    /// # Errors
    /// As of [`Server::bind`].
    #[expect(clippy::unused_async, reason = "sockets are registered with the runtime this is awaited in")]
    pub async fn bind_on(config: Config, workers: Workers) -> Result<Self, StartError> {
        let metrics = Metrics::new(&config.metrics_prefix)?;
        reload::warn_exposed(&config);
        metrics.process.set_limit("descriptors", raise_descriptor_limit());
        reload::show_limits(&config, &metrics);
        metrics.process.on_config_accepted();
        let (listener, address) = match &config.listen.address {
            ListenAddress::Tcp(wanted) => {
                let (tcp, bound) = listen("listen.address", *wanted)?;
                (Listener::Tcp(tcp, bound.port()), Some(bound))
            }
            ListenAddress::Unix(path) => (listen_unix(path)?, None),
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
            state: State::new(config, metrics, workers).map_err(ConfigErrors::from)?,
            reloader: None,
        })
    }

    /// As [`Server::bind_on`], for a configuration that was read from `sources`: they are read again whenever
    /// one of their files changes, or `reload` asks for it.
    ///
    /// # Errors
    /// As of [`Server::bind`].
    pub async fn bind_reloading(
        config: Config,
        sources: Sources,
        reload: Reload,
        workers: Workers,
    ) -> Result<Self, StartError> {
        let reloader = Some(Reloader::new(sources, config.clone(), reload));
        Ok(Self { reloader, ..Self::bind_on(config, workers).await? })
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
        let shards = (config.listen.workers, Workers::default());
        let sessions = Sessions::new(Arc::clone(&logs), Arc::clone(&budget), Arc::clone(&metrics));
        let hubs = Hubs::new(logs, Arc::clone(&budget), Arc::clone(&metrics), shards, Lifecycle::new());
        Snapshot::new(config, None, &metrics, &budget, (&hubs, &sessions)).map_err(ConfigErrors::from)?;
        Ok(())
    }

    /// The address that clients connect to, with the system's choice if port 0 was asked for; `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Where clients connect to, in words.
    pub fn listening_on(&self) -> String {
        match &self.state.snapshot().listen.address {
            ListenAddress::Tcp(wanted) => self.address.unwrap_or(*wanted).to_string(),
            ListenAddress::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// Has the metrics count log lines that were lost.
    pub fn count_dropped_lines(&self, dropped: Dropped) {
        self.state.registry.count_dropped_lines(dropped);
    }

    /// Where operators come in.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The lifecycle of the process, to watch it and to request a drain.
    pub fn lifecycle(&self) -> Lifecycle {
        self.state.lifecycle.clone()
    }

    /// Serves until a stop was asked for and the drain is over. A drain alone closes connections and refuses new ones,
    /// until the stop.
    pub async fn run(self) {
        self.run_until(pending::<()>()).await;
    }

    /// As [`Server::run`]; a drain is cut short when `force_stop` completes.
    pub async fn run_until(self, force_stop: impl Future) {
        let Self { listener, admin, probes, admin_config, admin_address, state, reloader, .. } = self;
        // Before the operators' port answers: it must not say `starting` after the start was announced. Connections of
        // clients wait in the kernel meanwhile.
        state.lifecycle.ready();
        let (stop, stopped) = watch::channel(false);
        let operators = Arc::new(Admin {
            operations: Arc::clone(&state) as _,
            ready_needs_upstream: admin_config.ready_needs_upstream,
            max_publish: admin_config.max_publish,
        });
        // Dropped, and so ended, with this future.
        let mut ports = JoinSet::new();
        let guard = Guard::new(admin_address, &admin_config.hosts, admin_config.token.clone());
        let port = |listener, access| {
            let port = admin::serve(listener, access, Arc::clone(&operators), wait_for_stop(stopped.clone()));
            let metrics = Arc::clone(&state.metrics);
            // The panic was counted; probes see that the port does not answer any more.
            async move {
                let _ = catch_panic(TaskKind::Admin, &metrics, port).await;
            }
        };
        ports.spawn(port(admin, Access::All(guard)));
        if let Some(probes) = probes {
            ports.spawn(port(probes, Access::Probes));
        }
        let housekeeping_state = Arc::clone(&state);
        let housekeeping = ports.spawn(async move {
            restart_on_panic(TaskKind::Sweep, &housekeeping_state.metrics, || {
                housekeeping(&housekeeping_state)
            })
            .await;
        });
        let reloading = reloader.map(|reloader| ports.spawn(reloader.run(Arc::clone(&state))));
        let draining = async {
            state.lifecycle.until(lifecycle::State::Draining).await;
            drain::run(&state, force_stop).await;
        };
        tokio::select! {
            () = restart_on_panic(TaskKind::Accept, &state.metrics, || accept::run(&listener, &state)) => {}
            () = draining => {}
        }
        stop.send_replace(true);
        housekeeping.abort();
        if let Some(reloading) = reloading {
            reloading.abort();
        }
        let ended = async { while ports.join_next().await.is_some() {} };
        // Others learn it from the end of their connection.
        let _ = timeout(FLUSH_TIMEOUT, ended).await;
    }
}

/// Does what the process has to do now and then, and thereby keeps a timer in this runtime that is due soon: tokio wakes
/// its driver by a system call for every new timer that is due before all others, even from the thread that would wait
/// in it. With this timer there, those of handshakes and heartbeats, all of a second or more, are never the first.
/// Workers that are threads have such a timer each (`cli::runtime`).
async fn housekeeping(state: &State) {
    let mut ticks = tokio::time::interval(TICK);
    // After a standstill, missed ticks are not made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let late = ticks.tick().await.elapsed();
        if late >= STANDSTILL {
            warn!(
                ms = late.as_millis() as u64,
                "this process stood still; peers are heard before they are judged"
            );
        }
        state.snapshot().counts.sweep(&state.metrics);
        state.logs.expire();
        state.hubs.enforce_budget();
        state.sessions.log_left_out();
        state.lines.log_left_out();
    }
}

async fn wait_for_stop(mut stopped: watch::Receiver<bool>) {
    // An error means that the server was dropped, which is an end too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

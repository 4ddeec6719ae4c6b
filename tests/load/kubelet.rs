//! As much of a kubelet as it takes to stop a pod: an application and its sidecar, two processes.
//!
//! # What it does, as a kubelet does it
//! 1. The preStop hooks of both containers run at the same time.
//! 2. A container gets SIGTERM when its own hook is over; one without a hook gets it at once. A native
//!    sidecar gets it only after the application has ended.
//!    While a runtime still starts the process of a hook, such a container may be gone already: so it is here.
//! 3. Hooks and signals share one grace period. Whatever is there at its end gets SIGKILL.
//!
//! # Not here
//! Starting in order, since a server that chooses its port has to be there before its sidecar.

use std::time::Duration;

use tokio::process::Command;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::support::DEADLINE;
use crate::support::binary::{self, Binary, Builder, Running};
use crate::support::peer::Peer;
use crate::support::wait::eventually;

/// Starting a process inside of a container takes a runtime about so long.
const EXEC: Duration = Duration::from_millis(200);
/// How long it may take on a bad day.
const EXEC_AT_MOST: Duration = Duration::from_secs(3);

async fn signal(app: &Peer, name: &str) {
    binary::signal(app.child.id().expect("it is still running"), name).await;
}

/// How the sidecar stands in the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sidecar {
    /// An init container with `restartPolicy: Always`.
    Native,
    /// A container as any other.
    Ordinary,
}

/// A pod that runs.
pub(crate) struct Pod {
    app: Peer,
    script: String,
    pub sidecar: Running,
}

/// How a pod ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Exit codes; `None` after a signal.
    pub app: Option<i32>,
    pub hook: Option<i32>,
    pub sidecar: Option<i32>,
    /// Whether the sidecar was there to get its SIGTERM. If not, outside of a stop it would have been started anew.
    pub stayed: bool,
    /// Whether SIGKILL was needed.
    pub killed: bool,
}

/// When the application was told to stop.
pub(crate) type Told = Instant;

impl Pod {
    /// The server of this script, and a sidecar before it with these settings (as of [`Binary::run`]); returns
    /// when the pod is ready.
    pub(crate) async fn start(script: &str, settings: &[(&str, &str)]) -> Self {
        let app = Peer::start(script).await;
        let sidecar = Binary::run(&app.url(), settings).await;
        eventually(DEADLINE, || async { sidecar.admin_get("/readyz").await.status() == 200 }).await;
        Self { app, script: script.to_owned(), sidecar }
    }

    /// Ends the application by this signal, and starts it again where it was, beside the sidecar that lives on.
    pub(crate) async fn restart_app(&mut self, name: &str) {
        let port = self.app.port();
        signal(&self.app, name).await;
        self.app.exited_within(DEADLINE).await.expect("it ends by the signal");
        self.app = Peer::start_at(&self.script, Some(port)).await;
    }

    /// Stops it. `app_sleep` is the application's preStop hook, `grace` its terminationGracePeriodSeconds.
    pub(crate) async fn terminate(
        self,
        kind: Sidecar,
        app_sleep: Option<Duration>,
        grace: Duration,
    ) -> (Ended, Told) {
        let Self { mut app, mut sidecar, .. } = self;
        let until = Instant::now() + grace;
        let left = || until.saturating_duration_since(Instant::now());
        let admin = sidecar.admin_url();

        let app_ended = Notify::new();

        let stop_app = async {
            if let Some(duration) = app_sleep {
                sleep(EXEC).await;
                let mut hook = Command::new("sleep");
                hook.arg(duration.as_secs_f64().to_string()).kill_on_drop(true);
                // A hook that takes too long is cut off, and one that fails changes nothing.
                let _ = timeout(left(), hook.status()).await;
            }
            let told = Instant::now();
            signal(&app, "TERM").await;
            let status = app.exited_within(left()).await;
            app_ended.notify_one();
            match status {
                Some(status) => (status.code(), told, false),
                None => {
                    signal(&app, "KILL").await;
                    (app.exited_within(DEADLINE).await.expect("nothing survives this").code(), told, true)
                }
            }
        };
        let run_hook = async {
            match app_sleep {
                Some(_) => sleep(EXEC).await,
                None => drop(timeout(EXEC_AT_MOST, app_ended.notified()).await),
            }
            let drain = Builder::new(&["drain", "--wait", "--admin", &admin]).output();
            timeout(left(), drain).await.ok().and_then(|told| told.code)
        };
        let stop_sidecar = async |sidecar: &mut Running| {
            let stayed = sidecar.binary.is_running();
            if stayed {
                sidecar.binary.signal("TERM").await;
            }
            match timeout(left(), sidecar.binary.exited()).await {
                Ok(status) => (status.code(), stayed, false),
                Err(_) => {
                    sidecar.binary.signal("KILL").await;
                    (sidecar.binary.exited().await.code(), stayed, true)
                }
            }
        };

        let ((app, told, app_killed), (hook, (sidecar, stayed, sidecar_killed))) = match kind {
            Sidecar::Native => {
                let (app, hook) = tokio::join!(stop_app, run_hook);
                (app, (hook, stop_sidecar(&mut sidecar).await))
            }
            Sidecar::Ordinary => tokio::join!(stop_app, async {
                let hook = run_hook.await;
                (hook, stop_sidecar(&mut sidecar).await)
            }),
        };
        (Ended { app, hook, sidecar, stayed, killed: app_killed || sidecar_killed }, told)
    }
}

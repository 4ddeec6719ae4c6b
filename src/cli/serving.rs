//! Runs a server until signals end it.

use std::io;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::connections::lifecycle::Lifecycle;
use crate::server::Server;
use crate::telemetry::logging::Logging;

/// Serves until a signal asks for the end and the drain is over. A second signal ends the drain at once; a signal that
/// comes after `outrigger drain` counts as the first.
pub(super) async fn serve(
    server: Server,
    logging: &Logging,
    announce: impl FnOnce(&Server) -> io::Result<()>,
) -> anyhow::Result<()> {
    server.count_dropped_lines(logging.dropped_counter());
    let force_stop = Notify::new();
    let signals = on_signals(server.lifecycle(), &force_stop)?;
    // Whoever reads that the server runs may stop it at once: from here on a signal begins a drain.
    announce(&server).context("cannot write to standard output")?;
    tokio::select! {
        () = server.run_until(force_stop.notified()) => {}
        () = signals => {}
    }
    Ok(())
}

/// The first SIGTERM or SIGINT starts the drain or joins it, the next one ends it. Never completes.
fn on_signals(lifecycle: Lifecycle, force_stop: &Notify) -> anyhow::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if !lifecycle.request_stop() {
                force_stop.notify_one();
            }
        }
    })
}

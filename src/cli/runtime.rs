//! The runtime that a command runs on.

use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Runtime;

/// How long the runtime may take to end what is still running when the command is done.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs `future` to its end, and does not wait long for what it leaves running: the system's resolver may take half a
/// minute for a name, and cannot be stopped.
pub(super) fn run_on<F: Future>(runtime: Runtime, future: F) -> F::Output {
    let output = runtime.block_on(future);
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    output
}

/// A runtime with so many worker threads. One worker needs no other thread to hand work to.
pub(super) fn runtime(workers: usize) -> anyhow::Result<Runtime> {
    let mut builder = match workers {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(workers).enable_all().build().context("cannot start the runtime")
}

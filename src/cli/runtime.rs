//! The runtimes that a command runs on.
//!
//! One worker needs no other thread to hand work to: one runtime has all there is. With more of them each is a thread with a
//! runtime of its own, where connections live, and the main thread has the ports and what belongs to the process.
//!
//! # Why not one runtime with many threads?
//! Any of its threads may run any task: whichever is asleep is woken to look for work, one at a time waits for all sockets and
//! hands what came to the others, and a connection's next message finds it on another core. At few messages a second for each
//! connection that was a seventh of what a message costs, and half of it where other processes want the cores too. What is
//! lost: a thread with nothing to do takes no connections from one that has too much. They are spread evenly as they come
//! ([`Workers`]), and a relay yields to the others after its turn.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::abort;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::server::Workers;

/// How long the runtime may take to end what is still running when the command is done.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(500);

/// How often a worker's own timer fires. As long as one is there that is due soon, none of a connection is the first, for which
/// tokio would wake its driver by a system call, even from the thread that would wait in it.
const TICK: Duration = Duration::from_millis(500);

/// Runs `future` to its end, and does not wait long for what it leaves running: the system's resolver may take half a
/// minute for a name, and cannot be stopped.
pub(super) fn run_on<F: Future>(runtime: Runtime, future: F) -> F::Output {
    let output = runtime.block_on(future);
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    output
}

/// A runtime on the thread that waits for its future.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    current_thread().context("cannot start the runtime")
}

/// Runs `command` to its end on this thread, with so many workers; as [`run_on`], these are not waited for long.
///
/// # Errors
/// A runtime or a thread cannot be started.
pub(super) fn run_on_workers<T>(count: usize, command: impl AsyncFnOnce(Workers) -> T) -> anyhow::Result<T> {
    let main = runtime()?;
    if count < 2 {
        return Ok(run_on(main, command(Workers::default())));
    }
    let started: io::Result<Vec<Worker>> = (0..count).map(|_| Worker::start()).collect();
    let started = started.context("cannot start the runtime")?;
    let workers = Workers::new(started.iter().map(|worker| worker.runtime.clone()));
    let output = run_on(main, command(workers));
    Worker::end_all(started);
    Ok(output)
}

/// A thread that runs what is spawned on its runtime.
struct Worker {
    runtime: Handle,
    /// Dropped to end it.
    stop: oneshot::Sender<()>,
    /// Disconnected once it has ended.
    ended: mpsc::Receiver<()>,
}

impl Worker {
    fn start() -> io::Result<Self> {
        let runtime = current_thread()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let (ending, ended) = mpsc::channel();
        thread::Builder::new().name("worker".into()).spawn(move || {
            let running = || run_on(runtime, tick_until(stopped));
            // A panic of a task ends that task alone; this one is of the runtime. Nothing would serve what this worker has, and
            // it would seem to be the one with the least to do.
            if catch_unwind(AssertUnwindSafe(running)).is_err() {
                abort();
            }
            drop(ending);
        })?;
        Ok(Self { runtime: handle, stop, ended })
    }

    /// Ends them, each at its next moment between two tasks. One that does not come to it is left behind.
    fn end_all(workers: Vec<Self>) {
        let deadline = Instant::now() + 2 * SHUTDOWN_TIMEOUT;
        let ended: Vec<_> = workers
            .into_iter()
            .map(|Self { stop, ended, .. }| {
                drop(stop);
                ended
            })
            .collect();
        for ended in ended {
            // Nothing is ever sent: the end of the other side is awaited.
            let _ = ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        }
    }
}

async fn tick_until(mut stopped: oneshot::Receiver<()>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            _ = ticks.tick() => {}
        }
    }
}

fn current_thread() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::thread::ThreadId;

    use super::*;

    /// The threads of the workers.
    async fn threads(workers: &Workers) -> HashSet<ThreadId> {
        let mut threads = HashSet::new();
        for at in 0..6 {
            threads.insert(workers.nth(at).spawn(async { thread::current().id() }).await.unwrap());
        }
        threads
    }

    #[test]
    fn one_worker_is_the_main_thread_and_each_of_several_is_a_thread_beside_it() {
        let main = thread::current().id();
        let alone = run_on_workers(1, async |workers| threads(&workers).await).unwrap();
        assert_eq!(alone, HashSet::from([main]));
        let several = run_on_workers(3, async |workers| threads(&workers).await).unwrap();
        assert!(several.len() == 3 && !several.contains(&main), "{several:?}");
    }

    #[test]
    fn a_worker_that_is_blocked_holds_up_neither_others_nor_the_end() {
        let (release, blocked) = mpsc::channel::<()>();
        let (began, begun) = oneshot::channel();
        run_on_workers(2, async |workers| {
            workers.nth(0).spawn(async move {
                let _ = began.send(());
                let _ = blocked.recv();
            });
            begun.await.unwrap();
            assert_eq!(workers.nth(1).spawn(async { 7 }).await.unwrap(), 7);
        })
        .unwrap();
        // It came to its end while that one was still blocked.
        release.send(()).unwrap();
    }

    #[test]
    fn what_runs_on_a_worker_at_the_end_is_dropped_and_a_panic_of_a_task_ends_that_alone() {
        let (held, dropped) = mpsc::channel::<()>();
        run_on_workers(2, async |workers| {
            for at in 0..2 {
                let held = held.clone();
                workers.nth(at).spawn(async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                });
                assert!(workers.nth(at).spawn(async { panic!("as it is to be") }).await.is_err());
                assert_eq!(workers.nth(at).spawn(async { 7 }).await.unwrap(), 7);
            }
        })
        .unwrap();
        drop(held);
        assert_eq!(dropped.recv(), Err(mpsc::RecvError), "nobody holds it any more");
    }
}

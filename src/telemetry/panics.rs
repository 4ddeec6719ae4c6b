//! Panics: each ends one task, but not the tasks that wait for it, and is counted (`outrigger_task_panics_total`).
//!
//! # Invariants
//! 1. Whoever waits for a task learns of its end: something is dropped with it, or [`catch_panic`] answers.
//! 2. A task that has to run as long as the process does is started again ([`restart_on_panic`]).
//!
//! # Not here
//! The panic's message: the runtime writes that to standard error, with its location.

use std::future::Future;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::error;

use super::metrics::{Label, Metrics, TaskKind};

/// How long to wait before a task is started again: it may panic again at once.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// A task has panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a part of the proxy has failed (a panic, which is a bug)")]
pub(crate) struct Panicked;

impl Metrics {
    /// Counts a panic, and says which task it has ended.
    pub(crate) fn on_panic(&self, task: TaskKind) {
        self.process.task_panics.inc(task);
        error!(
            task = task.as_str(),
            "a task has panicked and was ended, with those who waited for it: please report what standard error says"
        );
    }
}

pin_project! {
    /// A future whose panic is counted, and ends it alone. A type of its own, since an async block would hold `work` twice: as
    /// what it was given, and as what it polls.
    struct CatchPanic<M, F> {
        task: TaskKind,
        metrics: M,
        #[pin]
        work: F,
    }
}

impl<M: Deref<Target = Metrics>, F: Future> Future for CatchPanic<M, F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // After a panic `work` is not polled again, only dropped.
        match catch_unwind(AssertUnwindSafe(|| this.work.poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => {
                this.metrics.on_panic(*this.task);
                Poll::Ready(Err(Panicked))
            }
        }
    }
}

/// Runs `work` to its end; a panic ends it alone.
///
/// # Errors
/// It has panicked.
pub(crate) fn catch_panic<F: Future>(
    task: TaskKind,
    metrics: &Metrics,
    work: F,
) -> impl Future<Output = Result<F::Output, Panicked>> {
    CatchPanic { task, metrics, work }
}

/// Spawns `work`, whose output nobody waits for. What is returned ends it at once.
pub(crate) fn spawn<F>(task: TaskKind, metrics: &Arc<Metrics>, work: F) -> AbortHandle
where
    F: Future<Output = ()> + Send + 'static,
{
    spawn_on(&Handle::current(), task, metrics, work)
}

/// As [`spawn`], on a runtime that need not be the one this is called in.
pub(crate) fn spawn_on<F>(runtime: &Handle, task: TaskKind, metrics: &Arc<Metrics>, work: F) -> AbortHandle
where
    F: Future<Output = ()> + Send + 'static,
{
    // A panic is counted; nobody waits for this task.
    runtime.spawn(CatchPanic { task, metrics: Arc::clone(metrics), work }).abort_handle()
}

/// Runs the future of `make` until it completes; after a panic, `make` is called again, [`PAUSE`] later.
pub(crate) async fn restart_on_panic<F: Future>(
    task: TaskKind,
    metrics: &Metrics,
    mut make: impl FnMut() -> F,
) -> F::Output {
    loop {
        if let Ok(output) = catch_panic(task, metrics, make()).await {
            return output;
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_panic_ends_a_task_and_what_it_held_and_is_counted_once() {
        let metrics = Metrics::new("outrigger").unwrap();
        let (held, dropped) = oneshot::channel::<()>();
        spawn(TaskKind::Channel, &metrics, async move {
            let _held = held;
            tokio::task::yield_now().await;
            panic!("as it is to be");
        });
        assert!(dropped.await.is_err(), "whoever waits hears of it");
        let counted = |task: TaskKind| metrics.process.task_panics.get(task);
        assert_eq!((counted(TaskKind::Channel), counted(TaskKind::Shard)), (1, 0));
        assert_eq!(catch_panic(TaskKind::Shard, &metrics, async { 7 }).await, Ok(7));
        assert_eq!(counted(TaskKind::Shard), 0);
    }

    #[test]
    fn what_catches_a_panic_holds_its_work_once() {
        let metrics = Metrics::new("outrigger").unwrap();
        let held = [0_u8; 1000];
        let work = std::future::poll_fn(move |_| Poll::Ready(held.len()));
        let size = size_of_val(&work);
        let caught = size_of_val(&catch_panic(TaskKind::Session, &metrics, work));
        assert!(caught <= size + 16, "{caught} for {size}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_to_run_begins_anew_after_a_pause_until_it_ends_by_itself() {
        let metrics = Metrics::new("outrigger").unwrap();
        let (runs, start) = (AtomicU32::new(0), Instant::now());
        let make = || async {
            let run = runs.fetch_add(1, Relaxed) + 1;
            tokio::task::yield_now().await;
            assert_eq!(run, 4, "as it is to be");
            run
        };
        assert_eq!(restart_on_panic(TaskKind::Sweep, &metrics, make).await, 4);
        assert_eq!(metrics.process.task_panics.get(TaskKind::Sweep), 3);
        assert!(start.elapsed() >= 3 * PAUSE);
    }
}

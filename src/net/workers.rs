//! The runtimes that connections live on: one a worker, each with a thread of its own, so that what a connection is woken
//! for wakes no other thread, and nothing of it is shared with one.
//!
//! # Invariants
//! 1. A connection stays where it was put: its sockets are registered there, and what it spawns lands there. A task that runs
//!    elsewhere may use them all the same; each wake then crosses threads.
//! 2. Nothing here waits for a worker: one that is busy holds up its own connections alone.
//!
//! # Not here
//! How they are started and ended (`cli::runtime`: a library is given them, or runs on the runtime it is called in).

use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeMetrics};

/// The runtimes of the workers; by default the one that whoever asks is on, as the only one.
#[derive(Debug, Clone, Default)]
pub struct Workers(Arc<[(Handle, RuntimeMetrics)]>);

impl Workers {
    /// One worker for each of `runtimes`. They have to live as long as what is given them.
    pub fn new(runtimes: impl IntoIterator<Item = Handle>) -> Self {
        let with_metrics = |runtime: Handle| {
            let metrics = runtime.metrics();
            (runtime, metrics)
        };
        Self(runtimes.into_iter().map(with_metrics).collect())
    }

    /// The worker with the fewest tasks, of equal ones any: where a new connection goes. A tunnel and a session are a task
    /// each, and so is a connection that is still HTTP.
    pub(crate) fn least_busy(&self) -> Handle {
        let runtimes = &self.0;
        // By chance: the clients of a feed are no tasks for long, and would all go to the first one.
        let from = if runtimes.len() > 1 { fastrand::usize(..runtimes.len()) } else { 0 };
        let in_turn = runtimes[from..].iter().chain(&runtimes[..from]);
        match in_turn.min_by_key(|(_, metrics)| metrics.num_alive_tasks()) {
            Some((runtime, _)) => runtime.clone(),
            None => Handle::current(),
        }
    }

    /// The index of the worker that this is called on; 0 elsewhere.
    pub(crate) fn here(&self) -> usize {
        let runtimes = &self.0;
        match Handle::try_current() {
            Ok(here) if runtimes.len() > 1 => {
                runtimes.iter().position(|(runtime, _)| runtime.id() == here.id()).unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// The worker with this index; they are counted round.
    pub(crate) fn nth(&self, index: usize) -> Handle {
        let runtimes = &self.0;
        match runtimes.get(index.checked_rem(runtimes.len()).unwrap_or(0)) {
            Some((runtime, _)) => runtime.clone(),
            None => Handle::current(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::future::pending;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtimes(count: usize) -> (Vec<Runtime>, Workers) {
        let make = |_| Builder::new_current_thread().enable_all().build().unwrap();
        let runtimes: Vec<Runtime> = (0..count).map(make).collect();
        let workers = Workers::new(runtimes.iter().map(|runtime| runtime.handle().clone()));
        (runtimes, workers)
    }

    #[test]
    fn the_worker_with_the_fewest_tasks_is_next() {
        let (runtimes, workers) = runtimes(3);
        let mut on_last = Vec::new();
        let mut spawn = |_| {
            let worker = workers.least_busy();
            let task = worker.spawn(pending::<()>());
            if worker.id() == runtimes[2].handle().id() {
                on_last.push(task.id());
            }
            task
        };
        let tasks: Vec<_> = (0..9).map(&mut spawn).collect();
        let alive = || runtimes.iter().map(|runtime| runtime.metrics().num_alive_tasks()).collect::<Vec<_>>();
        assert_eq!(alive(), [3, 3, 3]);
        let of_last: Vec<_> = tasks.iter().filter(|task| on_last.contains(&task.id())).collect();
        for ended in &of_last[..2] {
            ended.abort();
        }
        runtimes[2].block_on(tokio::task::yield_now());
        assert_eq!(alive(), [3, 3, 1]);
        for _ in 0..2 {
            let next = workers.least_busy();
            assert_eq!(next.id(), runtimes[2].handle().id());
            next.spawn(pending::<()>());
        }
        assert_eq!(alive(), [3, 3, 3]);
    }

    #[test]
    fn of_workers_with_equally_many_tasks_each_gets_connections() {
        let (runtimes, workers) = runtimes(3);
        // As many as it takes that none is left out: the odds are (2/3)^300.
        let next: HashSet<_> = (0..300).map(|_| workers.least_busy().id()).collect();
        assert_eq!(next.len(), runtimes.len());
    }

    #[test]
    fn a_task_knows_its_worker_and_others_do_not_matter() {
        let (runtimes, workers) = runtimes(2);
        for (index, runtime) in runtimes.iter().enumerate() {
            assert_eq!(runtime.block_on(async { workers.here() }), index);
            assert_eq!(workers.nth(index).id(), runtime.handle().id());
            assert_eq!(workers.nth(index + 2).id(), runtime.handle().id());
        }
        assert_eq!(workers.here(), 0, "on no runtime at all");
    }

    #[tokio::test]
    async fn without_workers_it_is_the_runtime_of_whoever_asks() {
        let workers = Workers::default();
        let here = Handle::current().id();
        assert_eq!([workers.least_busy().id(), workers.nth(7).id()], [here, here]);
        assert_eq!(workers.here(), 0);
    }
}

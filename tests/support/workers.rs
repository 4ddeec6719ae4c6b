//! Threads with a runtime each, as the program has for `listen.workers`.

use std::thread::JoinHandle;

use outrigger::server::Workers;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// So many of them; they end when this is dropped.
pub struct Threads {
    runtimes: Vec<Handle>,
    running: Vec<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Threads {
    pub fn start(count: usize) -> Self {
        let (mut runtimes, mut running) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtimes.push(runtime.handle().clone());
            let (stop, stopped) = oneshot::channel::<()>();
            let thread = std::thread::spawn(move || {
                let _ = runtime.block_on(stopped);
            });
            running.push((stop, thread));
        }
        Self { runtimes, running }
    }

    /// As a server is given them.
    pub fn workers(&self) -> Workers {
        Workers::new(self.runtimes.iter().cloned())
    }

    /// The runtime of one of them.
    pub fn runtime(&self, index: usize) -> &Handle {
        &self.runtimes[index]
    }

    /// How many tasks each has.
    pub fn tasks(&self) -> Vec<usize> {
        self.runtimes.iter().map(|runtime| runtime.metrics().num_alive_tasks()).collect()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for (stop, thread) in self.running.drain(..) {
            drop(stop);
            // It has panicked, which its test has seen.
            let _ = thread.join();
        }
    }
}

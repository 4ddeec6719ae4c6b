//! What takes the whole machine, or counts what belongs to the whole process: thousands of clients, descriptors,
//! memory, delays beside a noisy client, a rollout. One test runs at a time ([`alone`]).

#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test, as it should")]

mod broadcast_restart;
mod broadcast_slow;
mod fallback_client;
mod fallback_costs;
mod fallback_drain;
mod fallback_switches;
mod kubelet;
mod leaks;
mod noise;
mod rollout;
mod session_churn;
mod session_crashes;
mod session_drain;
mod session_herd;
mod session_restart;
mod session_server;
mod session_slow;
mod session_tickets;
mod storm;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "`tests/it` uses all of it")]
mod support;

use std::env;
use std::process::Command;

use tokio::sync::{Mutex, MutexGuard};

/// Waits for its turn: every test here begins with it, and has the process to itself until the guard is dropped,
/// on however many threads the tests run.
async fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// Whether a test that counts what its process has, and is called `name`, runs in one of its own. If not, it runs there
/// now, and has passed once this returns.
fn is_in_a_process_of_its_own(name: &str) -> bool {
    const APART: &str = "OUTRIGGER_TEST_APART";
    if env::var_os(APART).is_some() {
        return true;
    }
    let program = env::current_exe().unwrap();
    let output =
        Command::new(program).args([name, "--exact", "--nocapture"]).env(APART, "1").output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success() && said.contains("1 passed"), "{name}, in a process of its own:\n{said}");
    false
}

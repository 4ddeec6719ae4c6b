//! Tests that need more than Rust: whether they are wanted, and what happens where they cannot run.
//!
//! Plain `cargo test` leaves them out and says so on standard error. With `OUTRIGGER_INTEROP=1`, as `make test` sets
//! it, and with `CI=true`, as `.ci/run` sets it, nothing may be left out: what cannot run fails, and says what is
//! missing.

use std::collections::BTreeSet;
use std::env;
use std::io::Write as _;

use parking_lot::Mutex;

/// Whether tests that need `what` are left out here. `scripts/setup-tests.sh` installs it.
pub fn skipped(what: &str) -> bool {
    if is_set("OUTRIGGER_INTEROP", "1") {
        return false;
    }
    assert!(
        !is_set("CI", "true"),
        "tests need {what}, and with CI=true none may be left out: run `make test`, which installs it \
         (scripts/setup-tests.sh) and sets OUTRIGGER_INTEROP=1"
    );
    say(&format!("SKIPPED, all tests with {what}: they run with OUTRIGGER_INTEROP=1 only (make test)"));
    true
}

/// Tells that a test cannot run here, and why. Fails where nothing may be left out.
pub fn cannot_run(why: &str) {
    let is_wanted = is_set("OUTRIGGER_INTEROP", "1") || is_set("CI", "true");
    assert!(!is_wanted, "this test cannot run here, and none may be left out: {why}");
    say(&format!("SKIPPED: {why}"));
}

fn is_set(name: &str, value: &str) -> bool {
    env::var_os(name).is_some_and(|found| found == value)
}

/// Says it once, past the capture of test output.
fn say(what: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().insert(what.to_owned()) {
        let line = format!("\n{what}\n");
        std::io::stderr().write_all(line.as_bytes()).expect("standard error can be written");
    }
}

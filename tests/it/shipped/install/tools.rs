//! Those who read our files for a living.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::wanted;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether tests that ask them are left out here.
pub(crate) fn skipped() -> bool {
    wanted::skipped("systemd, schemas and linters")
}

/// A program from `tests/install/.venv`.
pub(crate) fn tool(name: &str) -> Command {
    let path = root().join("tests/install/.venv/bin").join(name);
    assert!(path.exists(), "{} is missing: run scripts/setup-tests.sh", path.display());
    let mut command = Command::new(path);
    command.current_dir(root());
    command
}

/// Runs it to its end, which has to be a good one; what it says on both streams.
#[track_caller]
pub(crate) fn good(command: &mut Command) -> String {
    let (code, said) = end(command);
    assert_eq!(code, Some(0), "{command:?}\n{said}");
    said
}

/// How it ends, and what it says on both streams.
#[track_caller]
pub(crate) fn end(command: &mut Command) -> (Option<i32>, String) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// A YAML file, as YAML 1.2 has it: `on` is a word.
pub(crate) fn yaml(path: &str) -> Value {
    let program = "import json, sys; from ruamel.yaml import YAML; \
                   json.dump(YAML(typ='safe').load(open(sys.argv[1])), sys.stdout)";
    serde_json::from_str(&good(tool("python").args(["-c", program, path]))).unwrap()
}

/// A folder of this test, empty, which stays in `target/tmp` until it is made anew.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("install-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// `45s`, as units and Compose files have it.
pub(crate) fn seconds(text: &str) -> Duration {
    let digits = text.strip_suffix('s').unwrap_or_else(|| panic!("{text}: in seconds"));
    Duration::from_secs(digits.parse().unwrap())
}

/// The longest that a drain takes with these settings: what is cut at its end has some more seconds
/// (docs/operations.md).
pub(crate) fn longest_drain(config: &outrigger::config::Config) -> Duration {
    config.drain.timeout + Duration::from_secs(3)
}

//! Servers and clients of other languages, from `tests/interop`, in processes of their own.
//!
//! They need Node and Python packages, so tests ask [`skipped`] first: they run only with
//! `OUTRIGGER_INTEROP=1`, as `make test` sets it after `scripts/setup-tests.sh`; then a missing peer is a
//! failure.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::{DEADLINE, binary, wanted};

/// Whether tests with peers are left out here.
pub fn skipped() -> bool {
    wanted::skipped("Node and Python peers")
}

/// The interpreter and the script, from the folder where the setup put its packages.
pub fn command(script: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("interop");
    let (program, packages) = match Path::new(script).extension() {
        Some(extension) if extension == "py" => (folder.join(".venv/bin/python"), folder.join(".venv")),
        _ => (PathBuf::from("node"), folder.join("node_modules")),
    };
    assert!(packages.is_dir(), "{} is missing: run scripts/setup-tests.sh", packages.display());
    let mut command = Command::new(program);
    command.arg(script).current_dir(folder);
    command
}

/// A server in another process; killed when it is dropped.
pub struct Peer {
    pub child: Child,
    /// Apart from the child: waiting for that would close it.
    stdin: Option<ChildStdin>,
    port: u16,
    script: String,
    /// Held so that the server can go on writing.
    _stdout: BufReader<ChildStdout>,
}

impl Peer {
    /// Returns once it listens.
    pub async fn start(script: &str) -> Self {
        Self::start_at(script, None).await
    }

    /// As [`Peer::start`], on this port.
    pub async fn start_at(script: &str, port: Option<u16>) -> Self {
        let mut command = command(script);
        command.args(port.map(|port| port.to_string()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{script} cannot be run: {error}"));
        let mut stdout = BufReader::new(child.stdout.take().expect("its output is piped"));
        let stdin = child.stdin.take();
        let mut line = String::new();
        let read = timeout(DEADLINE, stdout.read_line(&mut line)).await;
        let port = line.trim().strip_prefix("listening ").and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("{script} did not say its port: {line:?} ({read:?})"));
        Self { child, stdin, port, script: script.to_owned(), _stdout: stdout }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// As `upstream.url` has it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it in the middle of whatever it does.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it is running");
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it is running")
    }

    /// Asks it to end, as supervisors do, and waits until it has.
    pub async fn terminate(mut self) {
        binary::signal(self.id(), "TERM").await;
        let status = self.exited_within(DEADLINE).await;
        assert!(status.is_some(), "{} is still running after SIGTERM", self.script);
    }

    /// Waits for its end; `None` if it is still running then.
    pub async fn exited_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let status = timeout(patience, self.child.wait()).await.ok()?;
        Some(status.expect("it is our child"))
    }

    /// Closes its standard input, and wants it to end well.
    pub async fn stop(mut self) {
        drop(self.stdin.take());
        let status = self.exited_within(DEADLINE).await;
        let ended_well = status.as_ref().is_some_and(ExitStatus::success);
        assert!(ended_well, "{} did not end with its standard input: {status:?}", self.script);
    }
}

//! The program itself, in a process of its own: for what only a process has (signals, exit codes,
//! standard output, an environment).

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::DEADLINE;
use super::client::{Dial, RawClient};
use super::http::Response;
use super::metrics::Metrics;
use super::wait::eventually;

/// A command line that is not started yet. Nothing of `OUTRIGGER__…` is inherited.
#[derive(Debug, Default)]
pub struct Builder {
    args: Vec<String>,
    env: Vec<(String, String)>,
    stdin: Option<Vec<u8>>,
}

/// What a command left behind.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A running process; killed when it is dropped.
pub struct Binary {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// Lines as they come.
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reading: JoinHandle<()>,
}

/// A running `outrigger run` that is ready: it listens on ports of the system's choice.
pub struct Running {
    pub binary: Binary,
    address: SocketAddr,
    pub admin: SocketAddr,
}

impl Builder {
    /// `outrigger` with these arguments.
    pub fn new(args: &[&str]) -> Self {
        Self { args: args.iter().map(|arg| (*arg).to_owned()).collect(), env: Vec::new(), stdin: None }
    }

    /// More of them.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What it reads on standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = Some(bytes.to_owned());
        self
    }

    /// Starts it.
    pub fn spawn(self) -> Binary {
        // What is measured is another build than what is tested.
        let program = std::env::var_os("OUTRIGGER_TEST_BINARY");
        let mut command = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_outrigger").into()));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("OUTRIGGER_") {
                command.env_remove(name);
            }
        }
        command.args(&self.args).envs(self.env).kill_on_drop(true);
        command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built and can be started");
        if let Some(bytes) = self.stdin {
            let mut stdin = child.stdin.take().expect("it is piped");
            // Whoever does not read it to its end has reasons.
            tokio::spawn(async move { stdin.write_all(&bytes).await });
        }
        let stdout = Lines::read(child.stdout.take().expect("it is piped"));
        let stderr = Lines::read(child.stderr.take().expect("it is piped"));
        Binary { child, stdout, stderr }
    }

    /// Runs it to its end.
    pub async fn output(self) -> Output {
        let mut binary = self.spawn();
        let code = binary.exited().await.code();
        Output { code, stdout: binary.stdout.text(), stderr: binary.stderr.text() }
    }
}

impl Binary {
    /// `outrigger run` in front of `url`, with further settings, once it is ready. Settings are given as
    /// in a file, through the environment: `("DRAIN", "{spread: 1s}")`.
    pub async fn run(url: &str, settings: &[(&str, &str)]) -> Running {
        let ports = ["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", url];
        let mut builder = Builder::new(&ports);
        for (section, value) in settings {
            builder = builder.env(&format!("OUTRIGGER__{section}"), value);
        }
        builder.spawn().ready().await
    }

    /// Waits for `outrigger run` to say that it listens, in its default log format.
    pub async fn ready(mut self) -> Running {
        let ready = self.line_with("\"ready\"").await;
        let ready: serde_json::Value = serde_json::from_str(&ready).expect("a log line is JSON");
        let address = |key: &str| {
            let text = ready[key].as_str().unwrap_or_else(|| panic!("no {key} in {ready}"));
            text.parse().unwrap_or_else(|_| panic!("{key} is no address in {ready}"))
        };
        Running { address: address("listen"), admin: address("admin"), binary: self }
    }

    /// Waits for a line on standard output that contains this.
    pub async fn line_with(&mut self, text: &str) -> String {
        eventually(DEADLINE, || async {
            let found = self.stdout.all().into_iter().find(|line| line.contains(text));
            found.ok_or_else(|| format!("{}\n{}", self.stdout.text(), self.stderr.text()))
        })
        .await
    }

    /// Lines on standard output until now.
    pub fn lines(&self) -> Vec<String> {
        self.stdout.all()
    }

    /// Everything said until now, on both streams.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout.text(), self.stderr.text())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("it is still running")
    }

    /// Sends a signal: `TERM`, `INT`, `HUP`.
    pub async fn signal(&self, name: &str) {
        signal(self.id(), name).await;
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Waits for its end and for the last of what it said; panics after [`DEADLINE`].
    #[track_caller]
    pub fn exited(&mut self) -> impl Future<Output = ExitStatus> {
        let caller = std::panic::Location::caller();
        async move {
            let status = match timeout(DEADLINE, self.child.wait()).await {
                Ok(status) => status.expect("it is our child"),
                Err(_) => panic!("{caller}: it is still running after {DEADLINE:?}:\n{}", self.said()),
            };
            for lines in [&mut self.stdout, &mut self.stderr] {
                timeout(DEADLINE, &mut lines.reading).await.expect("its pipes end with it").expect("read");
            }
            status
        }
    }
}

/// Sends a signal to a process of ours.
pub async fn signal(id: u32, name: &str) {
    let kill = format!("kill -{name} {id}");
    let status = Command::new("sh").args(["-c", &kill]).status().await.expect("there is a shell");
    assert!(status.success(), "{kill}");
}

impl Running {
    /// The port of clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of operators, as `--admin` wants it.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    pub fn dial(&self) -> Dial {
        RawClient::dial(self.address)
    }

    pub fn plain(&self) -> Dial {
        RawClient::plain(self.address)
    }

    /// A `GET` on the operators' port.
    pub async fn admin_get(&self, path: &str) -> Response {
        RawClient::plain(self.admin).path(path).header("Connection", "close").answer().await.response
    }

    /// All of `/metrics`.
    pub async fn metrics(&self) -> Metrics {
        Metrics(self.admin_get("/metrics").await.text())
    }
}

impl Lines {
    fn read(stream: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&lines);
        let reading = tokio::spawn(async move {
            let mut from = BufReader::new(stream).lines();
            while let Ok(Some(line)) = from.next_line().await {
                into.lock().push(line);
            }
        });
        Self { lines, reading }
    }

    fn all(&self) -> Vec<String> {
        self.lines.lock().clone()
    }

    fn text(&self) -> String {
        self.all().iter().map(|line| format!("{line}\n")).collect()
    }
}

//! A client from `tests/interop/fallback` that does what it is asked: npm `eventsource`, or Chromium.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::support::files::Folder;
use crate::support::peer::command;

/// A page loads in a fraction of it, also beside other tests.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Killed when it is dropped, and a browser with it.
pub(super) struct Script {
    name: &'static str,
    /// One order at a time, with its answer.
    pipes: Mutex<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
    child: Child,
    /// Where a browser keeps what it does.
    _profile: Folder,
}

impl Script {
    pub(super) fn event_source() -> Self {
        Self::start("fallback/event_source.mjs")
    }

    pub(super) fn browser() -> Self {
        Self::start("fallback/browser.mjs")
    }

    fn start(name: &'static str) -> Self {
        let profile = Folder::new("profile");
        let mut command = command(name);
        command.arg(profile.root()).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be run: {error}"));
        let stdin = child.stdin.take().expect("its input is piped");
        let lines = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
        Self { name, pipes: Mutex::new((stdin, lines)), child, _profile: profile }
    }

    /// What comes of an order; panics if it cannot be done.
    pub(super) async fn does(&self, order: &str, mut details: Value) -> Value {
        details["order"] = order.into();
        let mut pipes = self.pipes.lock().await;
        pipes.0.write_all(format!("{details}\n").as_bytes()).await.expect("it reads its orders");
        let line = timeout(PATIENCE, pipes.1.next_line()).await;
        let Ok(Ok(Some(line))) = line else { panic!("{}: {details}: {line:?}", self.name) };
        let mut answer: Value = serde_json::from_str(&line).expect("an answer is JSON");
        assert!(answer["failed"].is_null(), "{}: {details}: {}", self.name, answer["failed"]);
        answer["done"].take()
    }

    /// Where Chromium's pages are served.
    pub(super) async fn pages(&self) -> u16 {
        let port = self.does("port", json!({})).await;
        port.as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port")
    }

    /// Goes to this URL, in a tab of this name.
    pub(super) async fn visits(&self, page: &str, url: &str) -> Value {
        self.does("visit", json!({ "page": page, "url": url })).await
    }

    /// What comes of an expression in a tab.
    pub(super) async fn runs(&self, page: &str, script: &str) -> Value {
        self.does("run", json!({ "page": page, "script": script })).await
    }

    /// It ends with its input, and well.
    pub(super) async fn ends(self) {
        let Self { pipes, mut child, name, _profile } = self;
        let (stdin, _lines) = pipes.into_inner();
        drop(stdin);
        let status = timeout(PATIENCE, child.wait()).await;
        assert!(matches!(&status, Ok(Ok(status)) if status.success()), "{name}: {status:?}");
    }
}

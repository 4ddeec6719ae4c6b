//! What a test's proxy writes into its log.

use std::io::{self, Write};
use std::sync::{Arc, LazyLock};

use outrigger::internals::JsonLines;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing::{Dispatch, Level};
use tracing_subscriber::fmt::time::SystemTime;

/// What was logged, line by line.
#[derive(Clone, Default)]
pub struct Logged(Arc<Mutex<Vec<u8>>>);

impl Logged {
    /// From now until the guard is dropped. A test's proxy runs on the test's own thread.
    pub fn of_this_thread() -> (Self, DefaultGuard) {
        Self::down_to(Level::INFO)
    }

    /// As [`Logged::of_this_thread`], with lines of this level and above.
    pub fn down_to(level: Level) -> (Self, DefaultGuard) {
        // While there is one subscriber only, a thread that has none decides for all whether a line that it
        // comes to first is ever written. Tests without a log run beside this one.
        static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));
        LazyLock::force(&ANOTHER);
        let logged = Self::default();
        let to = logged.clone();
        let lines = tracing_subscriber::fmt().event_format(JsonLines(SystemTime)).with_max_level(level);
        let lines = lines.with_writer(move || to.clone()).finish();
        (logged, tracing::subscriber::set_default(lines))
    }

    pub fn find(&self, message: &str) -> Option<Value> {
        let mut lines = self
            .text()
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"))
            .collect::<Vec<_>>();
        lines.retain(|line| line["message"] == message);
        lines.pop()
    }

    pub fn line(&self, message: &str) -> Value {
        self.find(message).unwrap_or_else(|| panic!("no {message}:\n{}", self.text()))
    }

    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.bytes().clone()).expect("a log is text")
    }
}

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

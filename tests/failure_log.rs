//! The line that tells of a failure can be found by the request's id.

mod support;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use support::proxy::Proxy;

/// What was logged, line by line.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Logged {
    fn line(&self, message: &str) -> Value {
        let bytes = self.0.lock().unwrap().clone();
        let lines = String::from_utf8(bytes).unwrap();
        let found = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        found.into_iter().find(|line| line["message"] == message).unwrap_or_else(|| panic!("no {message}:\n{lines}"))
    }
}

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_failed_request_is_told_with_its_id() {
    let logged = Logged::default();
    let to = logged.clone();
    let lines = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || to.clone()).finish();
    // For this thread, which is the one that the proxy of this test runs on.
    let _logging = tracing::subscriber::set_default(lines);
    let proxy = Proxy::to_url("unix:///nobody/listens/here").spawn().await;

    let refused = proxy.dial().header("X-Request-Id", "handshake-7").refused().await;
    assert_eq!(refused.status(), 502);
    assert_eq!(logged.line("handshake failed")["request_id"], "handshake-7");

    let answer = proxy.plain().header("X-Request-Id", "plain-7").answer().await.response;
    assert_eq!(answer.status(), 502);
    assert_eq!(logged.line("request failed")["request_id"], "plain-7");

}

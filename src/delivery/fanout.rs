//! The clients of one feed.

use std::sync::Arc;

use super::{Arrival, FromClients, Settings};
use crate::frame::CloseCode;
use crate::log::Log;
use crate::telemetry::Reason;

/// All clients of one feed, spread over a few tasks.
#[derive(Debug)]
pub struct Fanout {}

impl Fanout {
    /// No client yet. Needs a runtime from the first client on.
    pub fn new(log: Arc<Log>, from_clients: FromClients, settings: Arc<Settings>) -> Arc<Self> {
        let _ = (log, from_clients, settings);
        unimplemented!()
    }

    /// Takes a client in: from here on it gets what the log has for it (`history.on_join`).
    pub fn join(&self, arrival: Arrival) {
        let _ = arrival;
        unimplemented!()
    }

    /// Closes every client there is, after what it is still to get. Who comes later is closed as well.
    pub fn close(&self, cause: Reason, code: CloseCode, reason: &str) {
        let _ = (cause, code, reason);
        unimplemented!()
    }
}

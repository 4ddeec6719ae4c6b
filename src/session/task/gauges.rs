//! What the gauges show of one session, taken back when it is dropped.

use std::sync::Arc;

use crate::session::machine::Client;
use crate::telemetry::SessionMetrics;

#[derive(Debug)]
pub(super) struct Gauges {
    metrics: Arc<SessionMetrics>,
    place: Place,
    is_connected: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Attached,
    Http,
    Away,
    None,
}

impl Gauges {
    /// A session whose links are both up.
    pub(super) fn new(metrics: Arc<SessionMetrics>) -> Self {
        metrics.attached.inc();
        metrics.connected.inc();
        Self { metrics, place: Place::Attached, is_connected: true }
    }

    pub(super) fn set(&mut self, client: Client, is_http: bool, is_connected: bool) {
        let place = match client {
            Client::Attached | Client::Leaving { .. } if is_http => Place::Http,
            Client::Attached | Client::Leaving { .. } => Place::Attached,
            Client::Away { .. } => Place::Away,
            Client::Gone => Place::None,
        };
        if place != self.place {
            self.count(-1);
            self.place = place;
            self.count(1);
        }
        if is_connected != self.is_connected {
            self.metrics.connected.add(if is_connected { 1 } else { -1 });
            self.is_connected = is_connected;
        }
    }

    fn count(&self, by: i64) {
        match self.place {
            Place::Attached => self.metrics.attached.add(by),
            Place::Http => self.metrics.http.add(by),
            Place::Away => self.metrics.away.add(by),
            Place::None => {}
        }
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        self.set(Client::Gone, false, false);
    }
}

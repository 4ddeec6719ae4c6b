//! What the logs of all channels hold, and what they let go.

use prometheus::IntGauge;

use super::declare::{CounterBy, Declare, MetricsError};
use super::label::labels;

labels! {
    /// What made a log shorter (`outrigger_history_trimmed_total{reason}`).
    pub(crate) enum Trim {
        /// `history.messages`
        Messages = "messages",
        /// `history.bytes`
        Bytes = "bytes",
        /// `history.age`
        Age = "age",
        /// `memory.max_buffered`: nobody was to read them any more.
        Memory = "memory",
        /// `memory.max_buffered`: the furthest behind had not read them yet.
        Laggard = "laggard",
    }
}

/// The logs of the process.
#[derive(Debug)]
pub struct LogMetrics {
    /// Messages that they hold.
    pub messages: IntGauge,
    /// Bytes that they hold.
    pub bytes: IntGauge,
    pub(crate) trimmed: CounterBy<Trim>,
}

impl LogMetrics {
    pub(super) fn declare(d: &Declare<'_>) -> Result<Self, MetricsError> {
        Ok(Self {
            messages: d.gauge("history_messages", "Messages that logs hold")?,
            bytes: d.gauge("history_bytes", "Bytes that logs hold")?,
            trimmed: d.counter_by(
                "history_trimmed_total",
                "Messages that left a log, by what took them",
                "reason",
            )?,
        })
    }
}

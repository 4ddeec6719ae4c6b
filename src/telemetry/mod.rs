//! What an operator is told: log lines, and where the process is in its life.

pub mod lifecycle;
pub mod logging;
pub mod redact;

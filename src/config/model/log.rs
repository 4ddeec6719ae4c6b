//! What is written to standard output.

/// `log`
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// A level, or directives as `tracing` reads them (`info,outrigger::tunnel=debug`).
    pub level: String,
    /// One JSON object a line, or words.
    pub format: LogFormat,
    /// Which connections' lifecycle is told.
    pub connections: LogConnections,
    /// Which plain HTTP requests are told of.
    pub requests: LogRequests,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For eyes.
    Text,
}

/// `log.connections`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogConnections {
    /// Connect and disconnect of each.
    All,
    /// Only those that did not end in an orderly way.
    Errors,
    /// None.
    Off,
}

/// `log.requests`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRequests {
    /// Each.
    All,
    /// Those that were answered with 400 or above, or not in full.
    Errors,
    /// None.
    Off,
}

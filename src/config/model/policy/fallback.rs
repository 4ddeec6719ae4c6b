//! Other ways to reach a client than a WebSocket.

/// `policy.fallback`: which endpoints a route has for clients that cannot have a WebSocket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fallback {
    /// `GET P/events`
    pub sse: bool,
    /// `GET P/poll`; in mode session `POST P/send` as well.
    pub poll: bool,
    /// `GET P/replay`
    pub replay: bool,
    /// Stands between the path of a WebSocket and the name of an endpoint: empty, or whole segments behind a slash.
    pub prefix: String,
}

impl Fallback {
    /// Whether there is any endpoint.
    pub fn is_on(&self) -> bool {
        self.sse || self.poll || self.replay
    }
}

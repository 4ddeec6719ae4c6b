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

/// What a client without a WebSocket asks, below the path of the WebSocket that it would have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Answers when there is a message.
    Poll,
    /// Takes messages of the client.
    Send,
    /// A stream of messages.
    Events,
    /// What is kept.
    Replay,
}

impl Fallback {
    /// Whether there is any endpoint.
    pub fn is_on(&self) -> bool {
        self.sse || self.poll || self.replay
    }
}

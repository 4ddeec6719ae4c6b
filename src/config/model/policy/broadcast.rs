//! Mode `broadcast`.

use std::ops::RangeInclusive;
use std::time::Duration;

/// `policy.broadcast`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broadcast {
    /// Clients of which these parts are equal share a channel; never empty.
    pub channel_key: Vec<KeyPart>,
    /// Whose credentials the shared link carries.
    pub credentials: Credentials,
    /// What becomes of messages from clients.
    pub uplink: UplinkMode,
    /// How long the feed stays after its last client.
    pub linger: Duration,
    /// What is said to the server at each dial, in this order, before anything that clients say.
    pub greeting: Vec<Greeting>,
    /// What becomes of the clients of a server that was lost and is back.
    pub on_redial: OnRedial,
    /// Codes of a server's Close that are its word and reach the clients; after any other it is dialled again. 1005
    /// stands for a Close without a code (RFC 6455 §7.1.5).
    pub final_codes: Vec<RangeInclusive<u16>>,
    /// At least 1.
    pub max_channels: usize,
}

impl Broadcast {
    /// Whether a server that closes with this code has said its last word.
    pub fn is_final(&self, code: u16) -> bool {
        self.final_codes.iter().any(|codes| codes.contains(&code))
    }
}

/// One of `policy.broadcast.greeting`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// A text message.
    Text(String),
    /// A binary one.
    Binary(Vec<u8>),
}

impl Greeting {
    /// Its payload.
    pub fn payload(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

/// `policy.broadcast.on_redial`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRedial {
    /// They stay.
    Keep,
    /// They are closed one by one, and say what they have to say on a new connection.
    Close,
}

/// One of `policy.broadcast.channel_key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPart {
    /// The path.
    Path,
    /// The whole query.
    Query,
    /// The user.
    User,
    /// One parameter of the query.
    QueryParameter(String),
    /// One header, in lower case; never one that carries credentials.
    Header(String),
}

/// `policy.broadcast.credentials`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody's.
    Strip,
    /// Those of the client that came first.
    First,
}

/// `policy.broadcast.uplink`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UplinkMode {
    /// They end here, and are counted.
    Drop,
    /// Whoever says one is closed.
    Refuse,
    /// They go to the server.
    Forward,
}

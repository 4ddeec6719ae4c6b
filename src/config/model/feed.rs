//! What holds around feeds and their clients: breakers, the log, mode `broadcast`.

use std::ops::RangeInclusive;
use std::time::Duration;

/// `policy.breaker`
#[derive(Debug, Clone, PartialEq)]
pub struct Breaker {
    /// Outcomes older than this are forgotten.
    pub window: Duration,
    /// Fewer outcomes than this say nothing; at least 1.
    pub min_calls: u32,
    /// The share of failures that opens it: above 0, at most 1.
    pub failure_ratio: f64,
    /// Statuses of a handshake's answer that are failures: 500 to 599.
    pub statuses: Vec<u16>,
    /// How long it stays open.
    pub open_for: Duration,
    /// Handshakes at a time while it is half-open, and successes that close it; at least 1.
    pub probes: u32,
    /// Handshakes that wait for what a probe finds out, at most; further ones are refused.
    pub max_waiting: usize,
    /// A handshake that its client gave up after waiting so long for an answer says something against the server.
    pub slow_after: Duration,
}

/// `policy.delivery`
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// What happens to the upstream while a client does not read.
    pub on_stall: OnStall,
    /// How far one client may lag behind.
    pub max_lag: Lag,
    /// A client that takes not one byte for this long, while there is something for it, is given up (tunnel),
    /// or trips its breaker (logs).
    pub stall_timeout: Option<Duration>,
    /// How long a client that was tripped is left alone.
    pub cool_down: Duration,
    /// Trips after which it is closed; at least 1.
    pub max_trips: u32,
    /// Where it goes on.
    pub resume_from: ResumeFrom,
    /// `None`: every message is delivered.
    pub throttle: Option<Throttle>,
    /// `policy.delivery.channel_breaker`; `None`: whatever clients lag, all is sent.
    pub channel_breaker: Option<ChannelBreaker>,
}

/// `policy.delivery.on_stall`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStall {
    /// Tunnels: `backpressure`; logs: `isolate`.
    Auto,
    /// Stop reading the upstream.
    Backpressure,
    /// Keep reading it, up to `max_lag`.
    Isolate,
}

/// A distance in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Messages (tunnels do not count them); at least 1.
    pub messages: u64,
    /// Bytes of their frames; at least 1.
    pub bytes: usize,
}

/// `policy.delivery.resume_from`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumeFrom {
    /// From the oldest message that it has not had and that is still there.
    Oldest,
    /// From the next message that comes.
    Latest,
}

/// `policy.delivery.throttle`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Throttle {
    /// Above 0.
    pub every: Duration,
    /// Where a message has its key.
    pub key: Pointer,
}

/// `policy.delivery.channel_breaker`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChannelBreaker {
    /// The share of tripped clients that opens it: above 0, at most 1.
    pub tripped_ratio: f64,
    /// Fewer clients than this say nothing; at least 1.
    pub min_clients: u32,
    /// How long it stays open.
    pub open_for: Duration,
}

/// A JSON pointer (RFC 6901), checked: empty, or it begins with `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// Unescaped tokens, outermost first.
    pub tokens: Vec<String>,
}

/// Which messages a rule means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// Texts that are JSON and have one of these strings at that place.
    Pointer {
        /// Where to look.
        pointer: Pointer,
        /// What may stand there; never empty.
        values: Vec<String>,
    },
    /// Texts that this matches anywhere; it compiles.
    Regex(String),
    /// So many messages from the start; at least 1.
    First(u64),
}

impl Match {
    /// As every [`Match::Regex`] is compiled, so that what was checked is what is used: an expression cannot
    /// take more memory than this.
    ///
    /// # Errors
    /// It is none, or too large.
    pub fn compile(regex: &str) -> Result<regex::Regex, regex::Error> {
        const MOST_BYTES: usize = 1 << 20;
        regex::RegexBuilder::new(regex).size_limit(MOST_BYTES).dfa_size_limit(MOST_BYTES).build()
    }
}

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

/// `policy.redial`, for every link that outlives its upstream; with full jitter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Redial {
    /// The longest wait before the first try; above 0.
    pub base: Duration,
    /// How much longer each further wait may be; at least 1.
    pub factor: f64,
    /// The longest wait of all; at least `base`.
    pub cap: Duration,
    /// After this long without an upstream its clients are closed; `None`: never.
    pub give_up: Option<Duration>,
    /// The waits begin anew only after a link has lived for so long.
    pub reset_after: Duration,
}

/// `policy.history`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Most messages of one log; at least 1.
    pub messages: usize,
    /// Most bytes of one log; at least 1. The newest message stays, however long it is.
    pub bytes: usize,
    /// Older messages go.
    pub age: Duration,
    /// Messages that are kept longest: apart, up to `messages` and `bytes` of them, whatever their age.
    pub critical: Option<Match>,
    /// What a late joiner gets.
    pub on_join: OnJoin,
}

/// `policy.history.on_join`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnJoin {
    /// Nothing: it begins with the next message.
    None,
    /// Critical messages.
    Critical,
    /// All that is there.
    All,
    /// Critical messages, and so many of the newest.
    Last(u64),
}

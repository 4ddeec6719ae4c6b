//! What an upstream may be told to do.

use std::sync::Arc;
use std::time::Duration;

use crate::support::http::{self, Head};
use crate::support::wire::Frame;

/// Makes the bytes of a response from a request.
pub type Responder = Arc<dyn Fn(&Head) -> Vec<u8> + Send + Sync>;

/// How a handshake is answered.
#[derive(Clone, Default)]
pub enum Answer {
    /// 101, without a subprotocol or extensions.
    #[default]
    Accept,
    /// 101 with these headers as well, asked for or not.
    AcceptWith(Vec<(String, String)>),
    /// 101 with the `Sec-WebSocket-Accept` of another key.
    WrongAccept,
    /// 101 without `Sec-WebSocket-Accept`.
    NoAccept,
    /// 101 without `Upgrade`.
    NoUpgrade,
    /// 101 without `Connection`.
    NoConnection,
    /// This status, with these headers and body (200 to an upgrade is one of them).
    Refuse(u16, Vec<(String, String)>, Vec<u8>),
    /// These bytes, whatever they are.
    Raw(Vec<u8>),
    /// What this makes of the request.
    With(Responder),
    /// Not at all: the request is read, and then there is silence.
    Silent,
    /// Not at all: nothing is ever read.
    NeverRead,
    /// Not at all: the connection is closed as soon as it is accepted.
    Hangup,
    /// Not at all: the connection is closed once the request was read.
    HangupAfterRequest,
    /// Not at all: the connection is reset once the request was read.
    ResetAfterRequest,
    /// By the test, which gets the connection from `Upstream::accept` with nothing answered.
    HandOver,
}

impl Answer {
    pub fn accept_with(headers: &[(&str, &str)]) -> Self {
        Self::AcceptWith(owned(headers))
    }

    pub fn refuse(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        Self::Refuse(status, owned(headers), body.as_bytes().to_vec())
    }
}

/// How a plain request is answered.
#[derive(Clone)]
pub enum Plain {
    /// With this status, headers and body; its length is told.
    Fixed(u16, Vec<(String, String)>, Vec<u8>),
    /// 200, chunked: each part in a chunk of its own, with a pause between.
    Chunked(Vec<Vec<u8>>, Duration),
    /// 200 without a length: the body ends with the connection.
    UntilEnd(Vec<u8>),
    /// 200 with what the request's body was.
    EchoBody,
    /// These bytes, whatever they are.
    Raw(Vec<u8>),
    /// Not at all: the request's head is read, and then there is silence.
    Silent,
    /// By the test, which gets the connection from `Upstream::accept` after the request's head.
    HandOver,
}

impl Plain {
    pub fn fixed(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        Self::Fixed(status, owned(headers), body.as_bytes().to_vec())
    }
}

impl Default for Plain {
    fn default() -> Self {
        Self::fixed(200, &[("Content-Type", "text/plain")], "hello from the upstream\n")
    }
}

/// Something a server does on an open WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Send(Frame),
    /// Raw bytes, for what no frame can say.
    Bytes(Vec<u8>),
    /// So many binary messages of this size, as fast as they are taken. Each begins with its number,
    /// from 0, in eight bytes, where it is that long.
    Flood {
        messages: usize,
        size: usize,
    },
    /// A close handshake with this code and reason, to its end.
    Close(u16, &'static str),
    /// The header of a 1000-byte message and ten bytes of it, then the connection ends.
    DieMidFrame,
    /// The connection ends without a Close.
    Hangup,
    /// The connection is reset.
    Reset,
    /// Holds the connection and never reads again.
    StopReading,
    /// Reads on, and never says anything again.
    Ignore,
    /// The test takes over, through `Upstream::accept`.
    HandOver,
}

/// Everything one connection is served by.
#[derive(Clone, Default)]
pub(super) struct Script {
    pub(super) answer: Answer,
    pub(super) delay: Duration,
    pub(super) plain: Plain,
    pub(super) on_open: Vec<Act>,
    pub(super) on_text: Vec<(String, Vec<Act>)>,
}

impl Script {
    /// The bytes of the answer to a handshake, where it is one of those.
    pub(super) fn handshake_response(&self, request: &Head) -> Vec<u8> {
        let key = request.header("Sec-WebSocket-Key").unwrap_or_default();
        let upgrade = ("Upgrade".to_owned(), "websocket".to_owned());
        let connection = ("Connection".to_owned(), "Upgrade".to_owned());
        let accept = |key: &str| ("Sec-WebSocket-Accept".to_owned(), http::accept_value(key));
        match &self.answer {
            Answer::AcceptWith(more) => {
                switching(&[&[upgrade, connection, accept(key)], more.as_slice()].concat())
            }
            Answer::WrongAccept => switching(&[upgrade, connection, accept("bm90IHRoZSBjbGllbnQncyBrZXk=")]),
            Answer::NoAccept => switching(&[upgrade, connection]),
            Answer::NoUpgrade => switching(&[connection, accept(key)]),
            Answer::NoConnection => switching(&[upgrade, accept(key)]),
            Answer::Refuse(status, headers, body) => http::response(*status, headers, body),
            Answer::Raw(bytes) => bytes.clone(),
            Answer::With(make) => make(request),
            // The others are dealt with before it comes to a response.
            _ => switching(&[upgrade, connection, accept(key)]),
        }
    }
}

fn switching(headers: &[(String, String)]) -> Vec<u8> {
    let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let head = lines.collect::<String>();
    format!("HTTP/1.1 101 Switching Protocols\r\n{head}\r\n").into_bytes()
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

//! HTTP/1.1 heads and body framing, as bytes: names keep their case, lines keep their order.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// Header lines in order, with the case they came in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The first value of this name, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    /// Every value of this name, in any case, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.0.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    /// Names as they came.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Whether a comma-separated header lists this word, in any case.
    pub fn lists(&self, name: &str, word: &str) -> bool {
        let words = |value: &str| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(word));
        self.all(name).into_iter().any(words)
    }
}

/// The first line of a request or response, and its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub first_line: String,
    pub headers: Headers,
}

impl Head {
    /// Reads a head without its empty line. Panics on what is not one: both ends are ours or under test.
    pub fn parse(bytes: &[u8]) -> Self {
        let shown = || bytes.escape_ascii().to_string();
        let text = std::str::from_utf8(bytes).unwrap_or_else(|_| panic!("not UTF-8: {}", shown()));
        let mut lines = text.split("\r\n");
        let first_line = lines.next().unwrap_or_default().to_owned();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
            (name.to_owned(), value.trim().to_owned())
        };
        Self { first_line, headers: Headers(lines.map(header).collect()) }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    fn word(&self, index: usize) -> &str {
        self.first_line.split(' ').nth(index).unwrap_or_default()
    }

    /// Of a request.
    pub fn method(&self) -> &str {
        self.word(0)
    }

    /// Path and query of a request.
    pub fn target(&self) -> &str {
        self.word(1)
    }

    /// Of a response.
    #[track_caller]
    pub fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or_else(|_| panic!("no status line: {:?}", self.first_line))
    }

    /// Whether a request asks to become a WebSocket.
    pub fn asks_for_websocket(&self) -> bool {
        self.headers.lists("Upgrade", "websocket") && self.headers.lists("Connection", "upgrade")
    }

    /// How this message's body is delimited (RFC 9112 §6.3). `method` is that of the request; a
    /// response needs it, since what answers a HEAD has no body.
    pub fn body(&self, method: &str, is_response: bool) -> Body {
        let bodiless = is_response && (matches!(self.status(), 100..=199 | 204 | 304) || method == "HEAD");
        if bodiless {
            return Body::Fixed(0);
        }
        if self.headers.lists("Transfer-Encoding", "chunked") {
            return Body::Chunked;
        }
        match self.header("Content-Length") {
            Some(length) => Body::Fixed(length.parse().expect("Content-Length must be a number")),
            None if is_response => Body::UntilEnd,
            None => Body::Fixed(0),
        }
    }
}

/// How a body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    Fixed(usize),
    Chunked,
    UntilEnd,
}

/// A whole response. For a 101, `body` is empty: what follows are frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub head: Head,
    pub body: Vec<u8>,
    /// Header lines after a chunked body.
    pub trailers: Headers,
}

impl Response {
    #[track_caller]
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text, however broken.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Fails unless it is an answer of the proxy's own, with this status and for this reason.
#[track_caller]
pub fn assert_ours(response: &Response, status: u16, reason: &str) {
    let told = (response.status(), response.header("X-Outrigger-Reason"));
    assert_eq!(told, (status, Some(reason)), "{:#?}\n{}", response.head, response.text());
    assert!(!response.body.is_empty(), "an answer of ours says in words what was wrong");
}

/// The value a server must answer with in `Sec-WebSocket-Accept` (RFC 6455 §4.2.2).
pub fn accept_value(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.trim().as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}

/// A fresh `Sec-WebSocket-Key`.
pub fn random_key() -> String {
    STANDARD.encode(fastrand::u128(..).to_be_bytes())
}

/// The 101 to a handshake.
pub fn switching(request: &Head) -> Vec<u8> {
    let accept = accept_value(request.header("Sec-WebSocket-Key").unwrap_or_default());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    head.into_bytes()
}

/// A response with a length of its own, ready to send.
pub fn response(status: u16, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {status} Scripted\r\n").into_bytes();
    for (name, value) in headers {
        out.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    out.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
    out.extend_from_slice(body);
    out
}

/// One chunk of a chunked body; an empty one ends it.
pub fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

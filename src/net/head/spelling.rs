//! How names of headers are spelled in heads that the proxy writes by itself.
//!
//! Names mean the same in any case (RFC 9110 §5.1), and still there are devices that compare them letter by letter. So
//! what is written here is spelled as its RFC spells it, and what a client or a server wrote keeps its spelling.
//!
//! hyper writes a name as it was read, if the message carries what hyper noted when it read a head; it begins each word
//! of any other name with a capital, if it is told to. That is right for all names but those in [`ODD`]. What it notes
//! is a type of its own, which nobody else can make. So it is given a head with those names to read, once.
//!
//! What hyper has noted cannot be read either. [`Standard`] tells that there is nothing in it that we would not write by
//! ourselves: a head that carries it, and has no body, can be written without hyper. A message that most likely will be carries
//! that alone ([`standard`]), and gets hyper's notes when hyper has to write it after all ([`note`]).
//!
//! # Why not write all heads without hyper?
//! That would be a second place that decides where a message ends.
//!
//! # Not here
//! Telling hyper to begin words with capitals (`title_case_headers`): whoever makes a connection does. What goes on of
//! a head, and its spelling with it ([`crate::upstream::headers`]).

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::ready;
use std::sync::LazyLock;
use std::task::{Context, Waker};

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use http_body_util::Empty;
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::MAX_HEADERS;

/// Names that are not spelled word by word with a capital (RFC 6455 §11.3, RFC 9110 §11.6.1).
const ODD: [(HeaderName, &str); 6] = [
    (header::SEC_WEBSOCKET_ACCEPT, "Sec-WebSocket-Accept"),
    (header::SEC_WEBSOCKET_EXTENSIONS, "Sec-WebSocket-Extensions"),
    (header::SEC_WEBSOCKET_KEY, "Sec-WebSocket-Key"),
    (header::SEC_WEBSOCKET_PROTOCOL, "Sec-WebSocket-Protocol"),
    (header::SEC_WEBSOCKET_VERSION, "Sec-WebSocket-Version"),
    (header::WWW_AUTHENTICATE, "WWW-Authenticate"),
];

/// Times that hyper is asked to go on: it stops by itself after each few steps.
const TURNS: usize = 8;

/// Carried by a message whose names are all spelled as this proxy spells them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standard {
    /// Whether hyper finds beside it how they are spelled. If not, [`note`] has to be called before it is given the message.
    is_noted: bool,
}

impl Standard {
    /// Of a head that hyper has read.
    pub(crate) const NOTED: Self = Self { is_noted: true };
}

/// What a message carries that is likely to be written without hyper. hyper's own notes would take longer to copy than its
/// head takes to read.
pub(crate) fn standard() -> Extensions {
    let mut extensions = Extensions::new();
    extensions.insert(Standard { is_noted: false });
    extensions
}

/// Has hyper spell the names of this message as we do, if it carries [`standard`].
pub(crate) fn note(message: &mut Extensions) {
    if message.get().is_some_and(|standard: &Standard| !standard.is_noted) {
        message.extend(own());
    }
}

/// Whether these bytes are one whole head, and all names in it are [`Standard`].
pub(crate) fn is_standard_head(head: &[u8]) -> bool {
    let mut lines = head.split_inclusive(|byte| *byte == b'\n').skip(1);
    let is_field = |line: &[u8]| line.split(|byte| *byte == b':').next().is_some_and(is_standard);
    // The first line that is no field is the empty one, and the last of all.
    lines.find(|line| !is_field(line)) == Some(b"\r\n") && lines.next().is_none()
}

/// Whether we would spell the name so. No name holds the end of a line.
pub(crate) fn is_standard(name: &[u8]) -> bool {
    if let Some(spelled) = odd(name) {
        return name == spelled.as_bytes();
    }
    let mut before = b'-';
    for byte in name {
        let is_first = before == b'-';
        if *byte == b'\r' || (if is_first { byte.is_ascii_lowercase() } else { byte.is_ascii_uppercase() }) {
            return false;
        }
        before = *byte;
    }
    !name.is_empty()
}

/// Whether this name is among those that are not spelled word by word.
pub(crate) fn is_odd(name: &HeaderName) -> bool {
    odd(name.as_str().as_bytes()).is_some()
}

/// Writes the name as we spell it.
pub(crate) fn write(name: &HeaderName, into: &mut Vec<u8>) {
    let name = name.as_str().as_bytes();
    if let Some(spelled) = odd(name) {
        return into.extend_from_slice(spelled.as_bytes());
    }
    let begin = into.len();
    into.extend_from_slice(name);
    let mut before = b'-';
    for byte in &mut into[begin..] {
        if before == b'-' {
            byte.make_ascii_uppercase();
        }
        before = *byte;
    }
}

fn odd(name: &[u8]) -> Option<&'static str> {
    if !matches!(name.first(), Some(b's' | b'S' | b'w' | b'W')) {
        return None;
    }
    ODD.iter().map(|(_, spelled)| *spelled).find(|spelled| name.eq_ignore_ascii_case(spelled.as_bytes()))
}

/// What a message of our own carries so that its names are spelled as their RFCs spell them. Each of them is there
/// once: of a name that stands in a head twice the second is left to hyper.
pub(crate) fn own() -> Extensions {
    static OWN: LazyLock<Extensions> = LazyLock::new(|| {
        let lines: String = ODD.iter().map(|(_, name)| format!("{name}: x\r\n")).collect();
        let mut own = noted(&lines);
        own.insert(Standard::NOTED);
        own
    });
    OWN.clone()
}

/// Has an answer whose `headers` were spelled by a server keep that spelling, with `added` in our own: the server did
/// not write that one.
pub(crate) fn add(answer: &mut Extensions, headers: &HeaderMap, added: &HeaderName) {
    let Some((_, spelled)) = ODD.iter().find(|(odd, _)| odd == added) else { return };
    note(answer);
    let mut lines = written(headers, answer.clone(), added);
    lines.push_str(spelled);
    lines.push_str(": x\r\n");
    answer.extend(noted(&lines));
}

/// How hyper spells these but for one, given what it has noted: as lines.
fn written(headers: &HeaderMap, noted: Extensions, but: &HeaderName) -> String {
    let mut named = HeaderMap::with_capacity(headers.len());
    // Names only: no value has to be one that may stand in this answer.
    for (name, _) in headers.iter().filter(|(name, _)| *name != but && *name != header::CONTENT_LENGTH) {
        named.append(name, HeaderValue::from_static("x"));
    }
    let mut answer = Response::new(Empty::<Bytes>::new());
    *answer.headers_mut() = named;
    *answer.extensions_mut() = noted;
    let (_, bytes) = exchange(b"GET / HTTP/1.0\r\n\r\n", answer);
    let text = String::from_utf8_lossy(&bytes);
    // What hyper adds by itself may be read with the rest.
    text.split_inclusive("\r\n").skip(1).take_while(|line| *line != "\r\n").collect()
}

/// What hyper notes of the spelling of these lines.
fn noted(lines: &str) -> Extensions {
    exchange(format!("GET / HTTP/1.0\r\n{lines}\r\n").as_bytes(), Response::new(Empty::<Bytes>::new())).0
}

/// One request and its answer, in memory: what was noted of the one, and the bytes of the other. It never waits.
pub(super) fn exchange<B>(request: &[u8], answer: Response<B>) -> (Extensions, Vec<u8>)
where
    B: Body<Data = Bytes, Error = Infallible> + Default + 'static,
{
    let noted = RefCell::new((Extensions::new(), Some(answer)));
    let service = service_fn(|request: Request<Incoming>| {
        let (seen, answer) = &mut *noted.borrow_mut();
        *seen = request.extensions().clone();
        ready(Ok::<_, Infallible>(answer.take().unwrap_or_default()))
    });
    let mut connection = http1::Builder::new()
        .preserve_header_case(true)
        .title_case_headers(true)
        // All there is to read has been read before the answer is written.
        .half_close(true)
        .header_read_timeout(None)
        // As many as were read of a server, and one of our own.
        .max_headers(MAX_HEADERS + 1)
        .serve_connection(TokioIo::new(tokio::io::join(request, Vec::new())), service);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..TURNS {
        if connection.poll_without_shutdown(&mut context).is_ready() {
            break;
        }
    }
    let (_, bytes) = connection.into_parts().io.into_inner().into_inner();
    (noted.into_inner().0, bytes)
}

/// What a client's request carries that has these lines, as hyper has read it.
#[cfg(test)]
pub(crate) fn of_client(lines: &str) -> Extensions {
    let mut noted = noted(lines);
    if is_standard_head(format!("GET / HTTP/1.1\r\n{lines}\r\n").as_bytes()) {
        noted.insert(Standard::NOTED);
    }
    noted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(headers: &[(&'static str, &'static str)], noted: Extensions) -> Vec<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let text = written(&map, noted, &header::DATE);
        text.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn names_of_our_own_are_spelled_as_their_rfcs_spell_them() {
        let names: Vec<_> = ODD.iter().map(|(name, _)| (name.as_str().to_owned(), "")).collect();
        let mut headers = HeaderMap::new();
        for (name, _) in &names {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("x"));
        }
        let text = written(&headers, own(), &header::DATE);
        for (_, spelled) in ODD {
            assert!(text.contains(&format!("{spelled}: x\r\n")), "{spelled}: {text}");
        }
        let others = [("upgrade", "x"), ("x-forwarded-for", "x"), ("x-outrigger-reason", "x")];
        let written = lines(&others, own());
        for name in ["Upgrade", "X-Forwarded-For", "X-Outrigger-Reason"] {
            assert!(written.contains(&name.to_owned()), "{written:?}");
        }
    }

    #[test]
    fn a_head_is_standard_if_it_is_whole_and_no_name_in_it_is_spelled_otherwise() {
        let good = "GET /a:b HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Key: sec\r\nX-1a-B: \r\n\r\n";
        assert!(is_standard_head(good.as_bytes()));
        assert!(is_standard_head(b"GET / HTTP/1.1\r\n\r\n"));
        for cut in 0..good.len() {
            assert!(!is_standard_head(&good.as_bytes()[..cut]), "cut at {cut}");
        }
        for name in
            ["host", "HOST", "Sec-Websocket-Key", "sec-websocket-key", "DNT", "X-a", "X-AB", "X_Ab", ""]
        {
            assert!(!is_standard(name.as_bytes()), "{name}");
            let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{name}: x\r\n\r\n");
            assert!(!is_standard_head(head.as_bytes()), "{name}");
        }
        for more in ["\r\n", "x", "GET / HTTP/1.1\r\n\r\n"] {
            assert!(!is_standard_head(format!("{good}{more}").as_bytes()), "{more:?} behind it");
        }
    }

    #[test]
    fn names_are_written_as_hyper_writes_them() {
        for name in
            ["host", "sec-websocket-key", "sec-websocket-version", "www-authenticate", "x-1a--b_c", "-"]
        {
            let mut headers = HeaderMap::new();
            let name = HeaderName::from_static(name);
            headers.insert(&name, HeaderValue::from_static("x"));
            let mut ours = Vec::new();
            write(&name, &mut ours);
            let text = written(&headers, own(), &header::DATE);
            let ours = String::from_utf8(ours).unwrap();
            assert!(text.contains(&format!("{ours}: x\r\n")), "{ours}: {text}");
            assert!(is_standard(ours.as_bytes()), "{ours}");
        }
    }

    #[test]
    fn what_a_server_spelled_keeps_its_spelling_beside_what_is_added() {
        let said = noted("sec-websocket-ACCEPT: x\r\nX-b: 1\r\nset-cookie: 1\r\nSET-cookie: 2\r\n");
        let mut headers = HeaderMap::new();
        for name in ["sec-websocket-accept", "x-b", "set-cookie", "set-cookie", "sec-websocket-protocol"] {
            headers.append(name, HeaderValue::from_static("x"));
        }
        let mut answer = said;
        add(&mut answer, &headers, &header::SEC_WEBSOCKET_PROTOCOL);
        let text = written(&headers, answer, &header::DATE);
        for name in ["sec-websocket-ACCEPT", "X-b", "set-cookie", "SET-cookie", "Sec-WebSocket-Protocol"] {
            assert!(text.contains(&format!("{name}: x\r\n")), "{name}: {text}");
        }
    }
}

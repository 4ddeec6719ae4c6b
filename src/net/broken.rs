//! Why a connection gave no answer, in texts for operators: hyper's are for programmers.
//!
//! # Not here
//! What an answer's head may say once it was read ([`super::head`]).

use std::error::Error;
use std::io;

use super::tls;

/// The limit of a head's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadLimit {
    /// The limit.
    pub bytes: usize,
    /// The setting of the limit, if there is one.
    pub setting: Option<&'static str>,
}

/// What was wrong with a connection, or with what came over it instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// It ended too early.
    #[error("it closed the connection before its answer was complete")]
    Closed,
    /// The socket, or TLS over it, failed.
    #[error("the connection broke: {0}")]
    Io(String),
    /// hyper reads as much of a head, and as many headers, as it was told.
    #[error(
        "the head of its answer is longer than {bytes} bytes{setting}, or has more than {max} headers",
        bytes = .0.bytes, max = super::head::MAX_HEADERS,
        setting = .0.setting.map(|key| format!(" ({key})")).unwrap_or_default()
    )]
    TooLarge(HeadLimit),
    /// What came is no answer of HTTP/1: what of it is wrong.
    #[error("{0}: does it speak HTTP/1.1 on this port?")]
    NotHttp(&'static str),
    /// Bytes came that do not answer a request.
    #[error("it said something that it was not asked for")]
    Unasked,
    /// The connection ended before the request was sent.
    #[error("the connection ended before the request could be sent")]
    Unsent,
    /// Any other error: hyper's kind would not help an operator.
    #[error("the exchange was broken off")]
    Other,
}

impl Broken {
    /// Classifies hyper's error. `limit` is the limit that hyper was given for heads.
    pub(crate) fn of(error: &hyper::Error, limit: HeadLimit) -> Self {
        if error.is_parse_too_large() {
            return Self::TooLarge(limit);
        }
        if error.is_parse() {
            // hyper names the part that it could not read only in its text; another text of a later hyper costs a detail.
            let said = error.to_string();
            return Self::NotHttp(if said.contains("version") {
                "what it said does not begin as an answer of HTTP/1.1 does"
            } else if error.is_parse_status() {
                "the status of its answer is none"
            } else if said.contains("content-length") {
                "the Content-Length of its answer is no number, or there are two"
            } else if said.contains("transfer-encoding") {
                "the Transfer-Encoding of its answer cannot be"
            } else {
                "a header of its answer is malformed"
            });
        }
        if error.is_incomplete_message() {
            return Self::Closed;
        }
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(error) = cause.downcast_ref::<io::Error>() {
                return Self::Io(describe_io(error));
            }
            source = cause.source();
        }
        if error.is_canceled() || error.is_closed() {
            Self::Unsent
        } else if error.to_string().contains("unexpected message") {
            Self::Unasked
        } else {
            Self::Other
        }
    }
}

/// Errors of the kernel keep its text, which operators look up; those of rustls inside them are described.
pub(crate) fn describe_io(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => tls::describe(error),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::Request;
    use http_body_util::Empty;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::super::head::MAX_HEADERS;
    use super::*;

    const LIMIT: HeadLimit = HeadLimit { bytes: 16 * 1024, setting: Some("a.setting") };

    async fn told(answer: &[u8]) -> Broken {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let mut builder = http1::Builder::new();
        builder.max_headers(MAX_HEADERS).max_header_size(LIMIT.bytes);
        let (mut sender, connection) = builder.handshake(TokioIo::new(ours)).await.unwrap();
        tokio::spawn(connection);
        let asking = sender.send_request(Request::new(Empty::<Bytes>::new()));
        let answering = async {
            let mut head = [0; 1024];
            assert!(theirs.read(&mut head).await.unwrap() > 0);
            theirs.write_all(answer).await.unwrap();
            theirs.shutdown().await.unwrap();
        };
        let both = async { tokio::join!(asking, answering).0 };
        let error = timeout(Duration::from_secs(10), both).await.unwrap().unwrap_err();
        let told = Broken::of(&error, LIMIT);
        let words = told.to_string();
        assert!(!words.contains(&error.to_string()), "these are hyper's words: {words}");
        told
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_in_our_words() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(LIMIT.bytes));
        let cases: [(&[u8], &str); 9] = [
            (b"", "closed the connection"),
            (b"HTTP/1.1 200 OK\r\nContent-Le", "closed the connection"),
            (b"SSH-2.0-OpenSSH\r\n", "does not begin as an answer of HTTP/1.1"),
            (b"HTTP/1.1 abc OK\r\n\r\n", "the status of its answer is none"),
            (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "a header of its answer is malformed"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "Content-Length"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "Content-Length"),
            (many.as_bytes(), "longer than 16384 bytes (a.setting), or has more than 512 headers"),
            (long.as_bytes(), "longer than 16384 bytes (a.setting), or has more than 512 headers"),
        ];
        for (answer, words) in cases {
            let told = told(answer).await.to_string();
            assert!(
                told.contains(words),
                "{}: {told}",
                String::from_utf8_lossy(&answer[..answer.len().min(40)])
            );
        }
    }
}

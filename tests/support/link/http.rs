//! HTTP/1.1 heads and bodies over a [`Link`], cut out of the same bytes as the frames after them.

use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use bytes::Buf;
use tokio::time::timeout;

use super::{End, Link};
use crate::support::http::{Body, Head, Headers, Response};

impl Link {
    /// The next head. Panics when the connection ends before, or the deadline passes.
    #[track_caller]
    pub fn read_head(&mut self) -> impl Future<Output = Head> {
        let caller = Location::caller();
        async move {
            match self.try_read_head().await {
                Ok(head) => head,
                Err(end) => panic!("{caller}: {}: a head was due, but: {end:?}; {}", self.name, self.story()),
            }
        }
    }

    /// The next head, or how the connection ended instead. Panics when the deadline passes.
    pub async fn try_read_head(&mut self) -> Result<Head, End> {
        let bytes = self.read_to("\r\n\r\n").await?;
        Ok(Head::parse(&bytes))
    }

    /// The whole response to these bytes, which are a `GET`.
    pub async fn ask(&mut self, request: &[u8]) -> Response {
        self.send_bytes(request).await;
        self.read_response("GET").await
    }

    /// A whole response to a request of this method. A 101 has no body: frames follow.
    #[track_caller]
    pub fn read_response(&mut self, method: &str) -> impl Future<Output = Response> {
        let caller = Location::caller();
        let method = method.to_owned();
        async move {
            let read = async {
                let head = self.try_read_head().await?;
                let framing = head.body(&method, true);
                let (body, trailers) = self.read_body(framing).await?;
                Ok::<_, End>(Response { head, body, trailers })
            };
            match read.await {
                Ok(response) => response,
                Err(end) => {
                    panic!("{caller}: {}: a response was due, but: {end:?}; {}", self.name, self.story())
                }
            }
        }
    }

    /// A body and what trails it; `Err` where the connection ended within.
    pub async fn read_body(&mut self, framing: Body) -> Result<(Vec<u8>, Headers), End> {
        match framing {
            Body::Fixed(length) => Ok((self.read_exactly(length).await?, Headers::default())),
            Body::UntilEnd => loop {
                match self.more().await {
                    Ok(()) => {}
                    // The end *is* the delimiter here; a reset is still an error.
                    Err(End::Reset) => return Err(End::Reset),
                    Err(_) => return Ok((self.decoder.buffer.split().to_vec(), Headers::default())),
                }
            },
            Body::Chunked => {
                let mut body = Vec::new();
                loop {
                    match self.read_chunk().await? {
                        Ok(chunk) => body.extend(chunk),
                        Err(trailers) => return Ok((body, trailers)),
                    }
                }
            }
        }
    }

    /// One chunk of a chunked body, for tests that watch it stream; the last one yields the trailers.
    pub async fn read_chunk(&mut self) -> Result<Result<Vec<u8>, Headers>, End> {
        let line = String::from_utf8(self.read_to("\r\n").await?).expect("a chunk's size is ASCII");
        let size = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("no chunk size: {line:?}"));
        if size == 0 {
            let mut lines = String::new();
            loop {
                let line = self.read_to("\r\n").await?;
                if line.is_empty() {
                    return Ok(Err(Head::parse(lines.as_bytes()).headers));
                }
                lines.push_str("\r\n");
                lines.push_str(&String::from_utf8(line).expect("trailers are ASCII"));
            }
        }
        let data = self.read_exactly(size).await?;
        let end = self.read_exactly(2).await?;
        assert_eq!(end, b"\r\n", "{}: a chunk must end with a line", self.name);
        Ok(Ok(data))
    }

    /// Exactly so many bytes, or how the connection ended before them.
    pub async fn read_exactly(&mut self, count: usize) -> Result<Vec<u8>, End> {
        while self.decoder.buffer.len() < count {
            self.more().await?;
        }
        Ok(self.decoder.buffer.split_to(count).to_vec())
    }

    /// Everything up to this text, which is taken off too.
    pub async fn read_to(&mut self, delimiter: &str) -> Result<Vec<u8>, End> {
        let delimiter = delimiter.as_bytes();
        loop {
            let found = self.decoder.buffer.windows(delimiter.len()).position(|bytes| bytes == delimiter);
            if let Some(at) = found {
                let before = self.decoder.buffer.split_to(at).to_vec();
                self.decoder.buffer.advance(delimiter.len());
                return Ok(before);
            }
            self.more().await?;
        }
    }

    /// What arrives within `patience` (all of it, unparsed) stays readable; returns a copy of it.
    pub async fn peek_for(&mut self, patience: Duration) -> Vec<u8> {
        let gather = async {
            while self.end.is_none() {
                self.fill().await;
            }
        };
        // Running out of patience is how this normally ends.
        let _ = timeout(patience, gather).await;
        self.decoder.buffer.to_vec()
    }

    /// Waits for further bytes. `Err` is the connection's end; panics when the deadline passes.
    async fn more(&mut self) -> Result<(), End> {
        if let Some(end) = self.end() {
            return Err(end);
        }
        if timeout(self.deadline, self.fill()).await.is_err() {
            panic!("{}: nothing came in {:?}; {}", self.name, self.deadline, self.story());
        }
        self.end().map_or(Ok(()), Err)
    }
}

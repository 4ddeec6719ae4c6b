//! The two sides of pushpin (GRIP): a backend that subscribes whoever opens a WebSocket to the one
//! channel (WebSocket-over-HTTP), and a keep-alive connection to its publish endpoint.
//!
//! # Not here
//! Any check of what pushpin says beyond the length of it: it has its own tests.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};

use crate::sys::{self, Epoll, IN};
use crate::ws::{self, Outbox};

const SUBSCRIBE: &str = r#"c:{"type":"subscribe","channel":"feed"}"#;

/// One HTTP/1.1 connection, ours or theirs.
struct Peer {
    sock: TcpStream,
    inbox: Vec<u8>,
    out: Outbox,
}

pub struct Grip {
    listener: TcpListener,
    at: usize,
    backend: HashMap<usize, Peer>,
    next: usize,
    publisher: Peer,
    publisher_at: usize,
    host: SocketAddrV4,
    /// Items of the next request.
    items: String,
    /// The last request is not answered yet: what comes meanwhile goes into the next one.
    waiting: bool,
}

impl Grip {
    /// The backend listens, the publisher connects; each at its place among the tokens.
    pub fn open(
        ep: &Epoll,
        at: usize,
        backend: SocketAddrV4,
        publisher_at: usize,
        publish: SocketAddrV4,
    ) -> io::Result<Self> {
        let listener = sys::listen(backend)?;
        ep.add(&listener, at, IN)?;
        let sock = sys::connect(publish, Ipv4Addr::LOCALHOST, None)?;
        ep.add(&sock, publisher_at, IN)?;
        Ok(Self {
            listener,
            at,
            backend: HashMap::new(),
            next: at.max(publisher_at) + 1,
            publisher: Peer::new(sock),
            publisher_at,
            host: publish,
            items: String::new(),
            waiting: false,
        })
    }

    /// Messages are ASCII without anything that JSON escapes.
    pub fn queue(&mut self, message: &[u8]) {
        let comma = if self.items.is_empty() { "" } else { "," };
        let _ = write!(
            self.items,
            r#"{comma}{{"channel":"feed","formats":{{"ws-message":{{"content":"{}"}}}}}}"#,
            String::from_utf8_lossy(message)
        );
    }

    pub fn flush(&mut self, ep: &Epoll) -> io::Result<()> {
        if self.waiting || self.items.is_empty() {
            return Ok(());
        }
        let body = format!(r#"{{"items":[{}]}}"#, self.items);
        self.items.clear();
        self.waiting = true;
        let request = format!(
            "POST /publish/ HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.publisher.send(ep, self.publisher_at, request.as_bytes())
    }

    pub fn serve(&mut self, ep: &Epoll, token: usize, scratch: &mut [u8]) -> io::Result<()> {
        if token == self.at {
            while let Ok((sock, _)) = self.listener.accept() {
                sock.set_nonblocking(true)?;
                sock.set_nodelay(true)?;
                ep.add(&sock, self.next, IN)?;
                self.backend.insert(self.next, Peer::new(sock));
                self.next += 1;
            }
            return Ok(());
        }
        if token == self.publisher_at {
            if !self.publisher.receive(ep, token, scratch)? {
                return Err(io::Error::other("the publish endpoint hung up"));
            }
            while let Some((head, _)) = self.publisher.take() {
                if !head.starts_with("HTTP/1.1 200") {
                    return Err(io::Error::other(format!("publishing failed: {head}")));
                }
                self.waiting = false;
            }
            return self.flush(ep);
        }
        let Some(peer) = self.backend.get_mut(&token) else { return Ok(()) };
        let mut alive = peer.receive(ep, token, scratch).unwrap_or(false);
        while let Some((_, body)) = peer.take() {
            alive = alive && peer.send(ep, token, answer(&body).as_bytes()).is_ok();
        }
        if !alive {
            self.backend.remove(&token);
        }
        Ok(())
    }
}

/// A new WebSocket is accepted and subscribed; any other event is taken note of.
fn answer(body: &[u8]) -> String {
    let events = if body.starts_with(b"OPEN") {
        format!("OPEN\r\nTEXT {:x}\r\n{SUBSCRIBE}\r\n", SUBSCRIBE.len())
    } else {
        String::new()
    };
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/websocket-events\r\n\
         Sec-WebSocket-Extensions: grip\r\nContent-Length: {}\r\n\r\n{events}",
        events.len()
    )
}

impl Peer {
    fn new(sock: TcpStream) -> Self {
        Self { sock, inbox: Vec::new(), out: Outbox::default() }
    }

    fn send(&mut self, ep: &Epoll, token: usize, data: &[u8]) -> io::Result<()> {
        self.out.send(&self.sock, data)?;
        self.watch(ep, token);
        Ok(())
    }

    fn watch(&self, ep: &Epoll, token: usize) {
        ep.set(&self.sock, token, if self.out.left.is_empty() { IN } else { IN | sys::OUT });
    }

    /// `Ok(false)` at the end of the stream.
    fn receive(&mut self, ep: &Epoll, token: usize, scratch: &mut [u8]) -> io::Result<bool> {
        if !self.out.left.is_empty() {
            self.out.flush(&self.sock)?;
            self.watch(ep, token);
        }
        match (&self.sock).read(scratch) {
            Ok(0) => return Ok(false),
            Ok(n) => self.inbox.extend_from_slice(&scratch[..n]),
            Err(e) if ws::would_block(&e) => {}
            Err(e) => return Err(e),
        }
        Ok(true)
    }

    /// Head and body of the next whole message.
    fn take(&mut self) -> Option<(String, Vec<u8>)> {
        let end = ws::http_head_len(&self.inbox)?;
        let head = String::from_utf8_lossy(&self.inbox[..end]).into_owned();
        let length = ws::header(&head, "content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
        let body = self.inbox.get(end..end + length)?.to_vec();
        self.inbox.drain(..end + length);
        Some((head, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_websocket_is_subscribed_and_a_closing_one_is_not() {
        let opened = answer(b"OPEN\r\n");
        // The length of the content, in hex, as WebSocket-over-HTTP has it.
        assert!(
            opened
                .ends_with("\r\n\r\nOPEN\r\nTEXT 27\r\nc:{\"type\":\"subscribe\",\"channel\":\"feed\"}\r\n")
        );
        assert!(opened.contains("Content-Length: 56\r\n"), "{opened}");
        assert!(answer(b"DISCONNECT\r\n").ends_with("Content-Length: 0\r\n\r\n"));
    }
}

//! The two sides of pushpin (GRIP): a backend that subscribes whoever opens a WebSocket to the one
//! channel (WebSocket-over-HTTP), and a ZeroMQ connection on which it is published to (its HTTP endpoint
//! closes the connection after each request, and would so cost it more).
//!
//! # Not here
//! Any check of what pushpin says: each message that does not arrive is counted where it is missing.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};

use crate::sys::{self, Epoll, IN};
use crate::ws::{self, Outbox};

const SUBSCRIBE: &str = r#"c:{"type":"subscribe","channel":"feed"}"#;

/// ZMTP 3.0 (23/ZMTP): a greeting without security, then the name of our socket's type.
const GREETING: [u8; 64] = {
    let mut bytes = [0; 64];
    (bytes[0], bytes[9], bytes[10]) = (0xff, 0x7f, 3);
    let mut i = 0;
    while i < 4 {
        bytes[12 + i] = b"NULL"[i];
        i += 1;
    }
    bytes
};
const READY: &[u8] = b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PUSH";

/// One connection, and what it said that is not yet understood.
struct Peer {
    sock: TcpStream,
    inbox: Vec<u8>,
    out: Outbox,
}

pub struct Grip {
    listener: TcpListener,
    at: usize,
    peers: HashMap<usize, Peer>,
    next: usize,
    publisher: Peer,
    publisher_at: usize,
}

impl Grip {
    /// The backend listens, the publisher connects; each at its place among the tokens.
    pub fn open(
        ep: &Epoll,
        at: usize,
        backend: TcpListener,
        publisher_at: usize,
        publish: SocketAddrV4,
    ) -> io::Result<Self> {
        ep.add(&backend, at, IN)?;
        let sock = sys::connect(publish, Ipv4Addr::LOCALHOST, None)?;
        // It is sent as soon as the connection is there.
        ep.add(&sock, publisher_at, IN | sys::OUT)?;
        let mut publisher = Peer::new(sock);
        publisher.out.left.extend_from_slice(&GREETING);
        publisher.out.left.extend_from_slice(READY);
        Ok(Self {
            listener: backend,
            at,
            peers: HashMap::new(),
            next: at.max(publisher_at) + 1,
            publisher,
            publisher_at,
        })
    }

    /// The message is ASCII without anything that JSON escapes.
    pub fn publish(&mut self, ep: &Epoll, message: &[u8]) -> io::Result<()> {
        let item = format!(
            r#"J{{"channel":"feed","formats":{{"ws-message":{{"content":"{}"}}}}}}"#,
            String::from_utf8_lossy(message)
        );
        let mut frame = vec![2]; // the last part of its message, its length in 8 bytes
        frame.extend_from_slice(&(item.len() as u64).to_be_bytes());
        frame.extend_from_slice(item.as_bytes());
        self.publisher.send(ep, self.publisher_at, &frame)
    }

    pub fn serve(&mut self, ep: &Epoll, token: usize, scratch: &mut [u8]) -> io::Result<()> {
        if token == self.at {
            while let Ok((sock, _)) = self.listener.accept() {
                sock.set_nonblocking(true)?;
                sock.set_nodelay(true)?;
                ep.add(&sock, self.next, IN)?;
                self.peers.insert(self.next, Peer::new(sock));
                self.next += 1;
            }
            return Ok(());
        }
        if token == self.publisher_at {
            if !self.publisher.receive(ep, token, scratch)? {
                return Err(io::Error::other("pushpin hung up"));
            }
            self.publisher.inbox.clear(); // a greeting, and heartbeats if it were told to
            return Ok(());
        }
        let Some(peer) = self.peers.get_mut(&token) else { return Ok(()) };
        let mut alive = peer.receive(ep, token, scratch).unwrap_or(false);
        while let Some(body) = peer.take() {
            alive = alive && peer.send(ep, token, answer(&body).as_bytes()).is_ok();
        }
        if !alive {
            self.peers.remove(&token);
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

    /// The body of the next whole HTTP request.
    fn take(&mut self) -> Option<Vec<u8>> {
        let end = ws::http_head_len(&self.inbox)?;
        let head = String::from_utf8_lossy(&self.inbox[..end]).into_owned();
        let length = ws::header(&head, "content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
        let body = self.inbox.get(end..end + length)?.to_vec();
        self.inbox.drain(..end + length);
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_names_our_socket_is_as_long_as_it_says() {
        assert_eq!(READY.len(), 2 + usize::from(READY[1]));
        assert_eq!(usize::from(READY[2]), "READY".len());
        assert_eq!(usize::from(READY[8]), "Socket-Type".len());
    }

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

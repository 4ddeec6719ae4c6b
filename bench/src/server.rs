//! The server side that all share: any number of WebSocket connections in one event loop.
//!
//! A client that does not read never delays the others: what its socket does not take waits in a
//! buffer of its own, and [`Conns::send_to_all`] leaves it out while that is full.

use std::io;
use std::net::{TcpListener, TcpStream};

use rustix::event::epoll::EventFlags;

use crate::sys::{Epoll, IN, NOTHING, OUT};
use crate::ws::{self, Inbox, Outbox};

/// Unsent bytes at which an echoed connection is no longer read, and a flood leaves it out.
const OUT_LIMIT: usize = 1 << 20;
/// A request head longer than this is no request of ours.
const HEAD_LIMIT: usize = 64 * 1024;

const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

struct Conn {
    sock: TcpStream,
    inbox: Inbox,
    out: Outbox,
    open: bool,
    /// Ends as soon as everything is sent.
    closing: bool,
    interest: EventFlags,
}

/// The index is the token.
pub struct Conns {
    slots: Vec<Option<Conn>>,
    free: Vec<usize>,
}

impl Conns {
    /// The tokens below `reserved` are the caller's own, and never those of a connection.
    pub fn new(reserved: usize) -> Self {
        Self { slots: (0..reserved).map(|_| None).collect(), free: Vec::new() }
    }

    pub fn accept(&mut self, ep: &Epoll, listener: &TcpListener) -> io::Result<()> {
        while let Ok((sock, _)) = listener.accept() {
            sock.set_nonblocking(true)?;
            sock.set_nodelay(true)?;
            let token = self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            });
            ep.add(&sock, token, IN)?;
            let (inbox, out) = Default::default();
            self.slots[token] = Some(Conn { sock, inbox, out, open: false, closing: false, interest: IN });
        }
        Ok(())
    }

    /// Answers what a connection says; with `echo` its messages too.
    pub fn serve_one(
        &mut self,
        ep: &Epoll,
        token: usize,
        flags: EventFlags,
        scratch: &mut [u8],
        reply: &mut Vec<u8>,
        echo: bool,
    ) {
        let Some(conn) = self.slots[token].as_mut() else { return };
        reply.clear();
        let mut alive = true;
        if flags.contains(OUT) {
            alive = conn.out.flush(&conn.sock).is_ok();
        }
        if alive && flags != OUT {
            alive = if conn.interest.contains(IN) {
                conn.receive(scratch, reply, echo).unwrap_or(false)
            } else {
                !flags.intersects(!(OUT | IN)) // an error or a hang-up of a connection that is not read
            };
        }
        if alive && !reply.is_empty() {
            alive = conn.out.send(&conn.sock, reply).is_ok();
        }
        if !alive || (conn.closing && conn.out.left.is_empty()) {
            self.remove(token);
        } else {
            conn.update_interest(ep, token);
        }
    }

    /// Dropping the connection closes its socket.
    fn remove(&mut self, token: usize) {
        self.slots[token] = None;
        self.free.push(token);
    }

    /// `frames` to every open connection that has room for them.
    pub fn send_to_all(&mut self, ep: &Epoll, frames: &[u8]) {
        for token in 0..self.slots.len() {
            let Some(conn) = &mut self.slots[token] else { continue };
            if !conn.open || conn.closing || conn.out.left.len() > OUT_LIMIT {
                continue;
            }
            if conn.out.send(&conn.sock, frames).is_err() {
                self.remove(token);
            } else {
                conn.update_interest(ep, token);
            }
        }
    }

    /// Connections whose handshake is done.
    pub fn open(&self) -> usize {
        self.slots.iter().flatten().filter(|conn| conn.open).count()
    }
}

impl Conn {
    fn update_interest(&mut self, ep: &Epoll, token: usize) {
        let full = self.out.left.len() > OUT_LIMIT;
        let read = if self.closing || full { NOTHING } else { IN };
        let write = if self.out.left.is_empty() { NOTHING } else { OUT };
        if self.interest != read | write {
            self.interest = read | write;
            ep.set(&self.sock, token, self.interest);
        }
    }

    /// Reads once; what is to be answered goes to `reply`. `Ok(false)` at the end of the stream.
    fn receive(&mut self, scratch: &mut [u8], reply: &mut Vec<u8>, echo: bool) -> io::Result<bool> {
        let Self { sock, inbox, closing, .. } = self;
        let mut on_frame = |head: &ws::Head, payload: &[u8]| {
            let first = match head.opcode() {
                ws::PING => ws::FIN | ws::PONG,
                ws::PONG => return,
                ws::CLOSE => {
                    *closing = true;
                    head.first
                }
                _ if !echo => return,
                _ => head.first,
            };
            ws::put_head(reply, first, payload.len(), None);
            let at = reply.len();
            reply.extend_from_slice(payload);
            if let Some(mask) = head.mask {
                ws::xor(&mut reply[at..], mask);
            }
        };
        if self.open {
            return inbox.read_frames(sock, scratch, on_frame);
        }
        let n = match io::Read::read(sock, scratch) {
            Err(e) if ws::would_block(&e) => return Ok(true),
            read => read?,
        };
        inbox.left.extend_from_slice(&scratch[..n]);
        let Some(end) = ws::http_head_len(&inbox.left) else {
            return Ok(n > 0 && inbox.left.len() < HEAD_LIMIT);
        };
        let head = String::from_utf8_lossy(&inbox.left[..end]).into_owned();
        inbox.left.drain(..end);
        let Some(key) = ws::header(&head, "sec-websocket-key") else {
            *closing = true;
            reply.extend_from_slice(BAD_REQUEST);
            return Ok(true);
        };
        self.open = true;
        let switch = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            ws::accept_for(key)
        );
        self.out.send(sock, switch.as_bytes())?;
        inbox.parse_left(&mut on_frame);
        Ok(true)
    }
}

//! The client side that all workloads share: one connection, and opening many of them.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};

use hdrhistogram::Histogram;
use rustix::event::epoll::EventFlags;

use crate::events;
use crate::sys::{self, Epoll, IN, NOTHING, OUT, SEC, now_ns};
use crate::ws::{self, Inbox, Outbox};

/// Connections from one source address; the next ones come from the next address of 127/8.
const PER_SOURCE: usize = 5_000;

/// Receive buffer of a client that is soon full.
const NARROW: usize = 4096;

/// Where to connect, and what to say first.
#[derive(Clone)]
pub struct Target {
    pub addr: SocketAddrV4,
    pub request: Vec<u8>,
    pub kind: Kind,
}

/// What a client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    WebSocket,
    /// One that only listens, to an event stream.
    Events,
}

/// Accepts `ws://IPV4:PORT[/PATH]`, on loopback only. `headers` go with each request.
pub fn target(url: &str, headers: &[String]) -> Result<Target, String> {
    let handshake = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\n",
        ws::KEY
    );
    asking(Kind::WebSocket, url, &handshake, headers)
}

/// The same for a client that asks for an event stream; the URL begins with `ws://` all the same.
pub fn events_target(url: &str, headers: &[String]) -> Result<Target, String> {
    asking(Kind::Events, url, "Accept: text/event-stream\r\n", headers)
}

fn asking(kind: Kind, url: &str, own: &str, headers: &[String]) -> Result<Target, String> {
    let rest = url.strip_prefix("ws://").ok_or("the URL must begin with ws://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let addr: SocketAddrV4 = host.parse().map_err(|e| format!("{host}: {e}"))?;
    if !addr.ip().is_loopback() {
        return Err(format!("{host}: only loopback addresses are allowed"));
    }
    let request = format!(
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\n{own}{}\r\n",
        headers.iter().map(|header| format!("{header}\r\n")).collect::<String>()
    );
    Ok(Target { addr, request: request.into_bytes(), kind })
}

#[derive(PartialEq, Clone, Copy, Debug)]
pub enum State {
    Connecting,
    /// The request is sent, its answer is not there yet.
    Asked,
    Open,
    /// Terminal: refused, failed or ended.
    Dead,
}

/// One connection. Its token is its index in the caller's list.
pub struct Client {
    pub sock: TcpStream,
    pub state: State,
    pub inbox: Inbox,
    pub out: Outbox,
    pub started: u64,
    kind: Kind,
    interest: EventFlags,
}

impl Client {
    /// `nth` counts the connections of this process so far: it chooses the source address.
    pub fn start(ep: &Epoll, to: &Target, token: usize, nth: usize) -> io::Result<Self> {
        Self::start_with(ep, to, token, nth, None)
    }

    fn start_with(
        ep: &Epoll,
        to: &Target,
        token: usize,
        nth: usize,
        receive_buffer: Option<usize>,
    ) -> io::Result<Self> {
        let source = Ipv4Addr::new(127, 0, 0, 2 + (nth / PER_SOURCE % 250) as u8);
        let started = now_ns();
        let sock = sys::connect(to.addr, source, receive_buffer)?;
        ep.add(&sock, token, OUT)?;
        let (inbox, out) = Default::default();
        Ok(Self { sock, state: State::Connecting, inbox, out, started, kind: to.kind, interest: OUT })
    }

    pub fn set_interest(&mut self, ep: &Epoll, token: usize, want: EventFlags) {
        if want != self.interest {
            self.interest = want;
            ep.set(&self.sock, token, want);
        }
    }

    pub fn kill(&mut self, ep: &Epoll) {
        ep.del(&self.sock);
        let _ = self.sock.shutdown(Shutdown::Both); // it may be gone already
        self.state = State::Dead;
    }

    /// Takes the handshake a step further; any error or refusal leaves the client dead.
    pub fn handshake(&mut self, ep: &Epoll, to: &Target, token: usize, scratch: &mut [u8]) {
        if self.try_handshake(ep, to, token, scratch).is_err() {
            self.kill(ep);
        }
    }

    fn try_handshake(&mut self, ep: &Epoll, to: &Target, token: usize, scratch: &mut [u8]) -> io::Result<()> {
        if self.state == State::Connecting {
            if let Some(e) = self.sock.take_error()? {
                return Err(e);
            }
            self.out.send(&self.sock, &to.request)?;
            self.state = State::Asked;
            self.set_interest(ep, token, IN);
            return Ok(());
        }
        let n = match io::Read::read(&mut &self.sock, scratch) {
            Err(e) if ws::would_block(&e) => return Ok(()),
            read => read?,
        };
        self.inbox.left.extend_from_slice(&scratch[..n]);
        let Some(end) = ws::http_head_len(&self.inbox.left) else {
            return if n == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) };
        };
        let head = String::from_utf8_lossy(&self.inbox.left[..end]);
        let is_accepted = match self.kind {
            Kind::WebSocket => {
                let accept = ws::header(&head, "sec-websocket-accept");
                head.starts_with("HTTP/1.1 101") && accept == Some(ws::ACCEPT)
            }
            Kind::Events => {
                let media_type = ws::header(&head, "content-type").unwrap_or_default();
                let is_plain = ws::header(&head, "transfer-encoding").is_none();
                head.starts_with("HTTP/1.1 200") && media_type.starts_with("text/event-stream") && is_plain
            }
        };
        if !is_accepted {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.inbox.left.drain(..end);
        self.state = State::Open;
        Ok(())
    }

    /// Sends what is still unsent, reads once if there is something; false when the connection ended.
    /// Pings are answered here, as every client does; `on_frame` sees all other frames.
    pub fn pump(
        &mut self,
        ep: &Epoll,
        token: usize,
        flags: EventFlags,
        scratch: &mut [u8],
        mut on_frame: impl FnMut(&ws::Head, &[u8]),
    ) -> bool {
        let mut alive = true;
        let mut pongs = Vec::new(); // allocates only when there is one
        if flags.contains(OUT) {
            alive = self.out.flush(&self.sock).is_ok();
            if self.out.left.is_empty() {
                self.set_interest(ep, token, IN);
            }
        }
        if alive && flags != OUT {
            let reply = |head: &ws::Head, payload: &[u8]| match head.opcode() {
                ws::PING => pongs.extend_from_slice(&ws::client_frame(ws::PONG, payload)),
                _ => on_frame(head, payload),
            };
            let read = match self.kind {
                Kind::WebSocket => self.inbox.read_frames(&self.sock, scratch, reply),
                Kind::Events => self.inbox.read_events(&self.sock, scratch, reply),
            };
            alive = read.unwrap_or(false);
        }
        if !alive {
            self.kill(ep);
            return false;
        }
        pongs.is_empty() || self.send(ep, token, &pongs)
    }

    /// Throws away what came together with the answer.
    fn parse_left(&mut self) {
        match self.kind {
            Kind::WebSocket => self.inbox.parse_left(|_, _| {}),
            Kind::Events => {
                let used = events::in_stream(&self.inbox.left, &mut |_, _| {});
                self.inbox.left.drain(..used);
            }
        }
    }

    pub fn send(&mut self, ep: &Epoll, token: usize, data: &[u8]) -> bool {
        if self.out.send(&self.sock, data).is_err() {
            self.kill(ep);
            return false;
        }
        if !self.out.left.is_empty() {
            self.set_interest(ep, token, IN | OUT);
        }
        true
    }

    /// From now on nothing is read; only an error or a hang-up is still reported.
    pub fn stop_reading(&mut self, ep: &Epoll, token: usize) {
        self.set_interest(ep, token, NOTHING);
    }
}

/// How to open many connections.
#[derive(Clone, Copy)]
pub struct Opening {
    pub conns: usize,
    /// New connections per second, at most.
    pub rate: f64,
    /// Handshakes in progress at once, at most.
    pub at_once: usize,
    /// So many, the last ones, get a receive buffer of [`NARROW`] bytes.
    pub narrow: usize,
}

impl Opening {
    /// For workloads that need few connections and do not measure how they came about.
    pub fn few(conns: usize) -> Self {
        Self { conns, rate: 400.0, at_once: 64, narrow: 0 }
    }
}

/// What [`open_all`] achieved.
pub struct Opened {
    pub clients: Vec<Client>,
    pub failures: usize,
    pub secs: f64,
    /// Connect to 101, in nanoseconds.
    pub latency: Histogram<u64>,
}

/// From a microsecond to two minutes, to three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 120 * SEC, 3).expect("constant bounds that are in range")
}

/// Opens all connections at a bounded rate. Messages that arrive meanwhile are thrown away.
pub fn open_all(ep: &mut Epoll, to: &Target, how: Opening) -> Opened {
    let mut clients: Vec<Client> = Vec::with_capacity(how.conns);
    let mut scratch = vec![0; ws::SCRATCH];
    let mut latency = histogram();
    let begin = now_ns();
    let mut last = begin;
    let (mut done, mut failures, mut started) = (0, 0, 0);
    let limit = begin + sys::nanos(how.conns as f64 / how.rate * 4.0 + 20.0);
    while done + failures < how.conns && now_ns() < limit {
        let due = ((now_ns() - begin) as f64 / SEC as f64 * how.rate) as usize + 1;
        while started < due.min(how.conns) && started - done - failures < how.at_once {
            let receive_buffer = (started >= how.conns - how.narrow).then_some(NARROW);
            match Client::start_with(ep, to, clients.len(), started, receive_buffer) {
                Ok(client) => clients.push(client),
                Err(_) => failures += 1,
            }
            started += 1;
        }
        for i in 0..ep.wait(1_000_000) {
            let (token, flags) = ep.event(i);
            let client = &mut clients[token];
            match client.state {
                State::Dead => {}
                State::Open => drop(client.pump(ep, token, flags, &mut scratch, |_, _| {})),
                State::Connecting | State::Asked => {
                    client.handshake(ep, to, token, &mut scratch);
                    if client.state == State::Open {
                        last = now_ns();
                        done += 1;
                        latency.saturating_record(last - client.started);
                        client.parse_left();
                    } else if client.state == State::Dead {
                        failures += 1;
                    }
                }
            }
        }
    }
    failures += how.conns - done - failures;
    for client in clients.iter_mut().filter(|c| matches!(c.state, State::Connecting | State::Asked)) {
        client.kill(ep);
    }
    Opened { clients, failures, secs: (last - begin) as f64 / SEC as f64, latency }
}

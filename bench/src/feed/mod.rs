//! Where the messages of a fan-out come from: a thread of its own, which says what it is ordered to.
//!
//! A broadcasting proxy dials it as its server; one that is published to is dialled by it. Each message
//! is stamped the moment before it is sent.

mod grip;

use std::io;
use std::net::{SocketAddrV4, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use grip::Grip;

use crate::client::{Client, State, Target};
use crate::server::Conns;
use crate::sys::{Epoll, IN, SEC, now_ns};
use crate::upstream::{frame, message};
use crate::ws;

/// The listener's place among the tokens, and that of the connection to publish on.
const LISTENER: usize = 0;
const PUBLISHER: usize = 1;
/// How long an idle feed takes to notice an order.
const GLANCE: u64 = 2_000_000;

/// How the messages reach the proxy.
pub enum Way {
    /// The proxy connects here, and every connection gets every message.
    Serve(TcpListener),
    /// One WebSocket to the proxy (nchan).
    Publish(Target),
    /// ZeroMQ to the proxy; its backend, which subscribes each client, listens here (pushpin).
    Grip { backend: TcpListener, publish: SocketAddrV4 },
}

/// What to send: `burst` messages of `size` bytes each `period` nanoseconds, until it is all of them.
#[derive(Clone, Copy)]
pub struct Order {
    pub messages: u64,
    pub burst: u64,
    pub period: u64,
    pub size: usize,
}

/// Ends when it is dropped.
pub struct Feed {
    orders: Sender<Order>,
    links: Arc<AtomicUsize>,
}

impl Feed {
    /// Fails where there is nobody to publish to.
    pub fn start(way: Way) -> io::Result<Self> {
        let links = Arc::new(AtomicUsize::new(0));
        let (orders, inbox) = channel();
        let (ready, opened) = channel::<io::Result<()>>();
        let shown = Arc::clone(&links);
        std::thread::spawn(move || {
            let open = || {
                let mut ep = Epoll::new()?;
                let outlet = Outlet::open(&mut ep, way)?;
                Ok((ep, outlet))
            };
            let (mut ep, outlet) = match open() {
                Ok(both) => both,
                Err(e) => return drop(ready.send(Err(e))),
            };
            let _ = ready.send(Ok(())); // whoever asked may be gone
            if let Err(e) = run(&mut ep, outlet, &inbox, &shown) {
                eprintln!("the feed ended: {e}"); // the messages that are missing then are counted
            }
        });
        opened.recv().map_err(io::Error::other)??;
        Ok(Self { orders, links })
    }

    /// Begins at once; messages are numbered on from the last order, the first one is 0.
    pub fn send(&self, order: Order) -> io::Result<()> {
        self.orders.send(order).map_err(|_| io::Error::other("the feed has ended"))
    }

    /// Connections of the proxy to this server, or the one to publish on.
    pub fn links(&self) -> usize {
        self.links.load(Ordering::Relaxed)
    }
}

fn run(ep: &mut Epoll, mut outlet: Outlet, orders: &Receiver<Order>, links: &AtomicUsize) -> io::Result<()> {
    let mut scratch = vec![0; ws::SCRATCH];
    let mut number = 0;
    loop {
        let order = match orders.try_recv() {
            Ok(order) => order,
            Err(TryRecvError::Empty) => {
                outlet.serve(ep, GLANCE, &mut scratch)?;
                links.store(outlet.links(), Ordering::Relaxed);
                continue;
            }
            Err(TryRecvError::Disconnected) => return Ok(()),
        };
        let (mut left, mut due) = (order.messages, now_ns());
        while left > 0 {
            if now_ns() < due {
                outlet.serve(ep, due.saturating_sub(now_ns()), &mut scratch)?;
                continue;
            }
            for _ in 0..order.burst.min(left) {
                outlet.send(ep, &message(order.size, number))?;
                number += 1;
                left -= 1;
            }
            due += order.period;
        }
    }
}

enum Outlet {
    Server { listener: TcpListener, conns: Conns, reply: Vec<u8> },
    Publisher(Box<Client>),
    Grip(Grip),
}

impl Outlet {
    fn open(ep: &mut Epoll, way: Way) -> io::Result<Self> {
        match way {
            Way::Serve(listener) => {
                ep.add(&listener, LISTENER, IN)?;
                Ok(Self::Server { listener, conns: Conns::new(LISTENER + 1), reply: Vec::new() })
            }
            Way::Publish(to) => {
                let mut client = Client::start(ep, &to, PUBLISHER, 0)?;
                let mut scratch = vec![0; ws::SCRATCH];
                let limit = now_ns() + 5 * SEC;
                while matches!(client.state, State::Connecting | State::Asked) && now_ns() < limit {
                    if ep.wait(SEC) > 0 {
                        client.handshake(ep, &to, PUBLISHER, &mut scratch);
                    }
                }
                if client.state != State::Open {
                    return Err(io::Error::other("no WebSocket to publish on"));
                }
                Ok(Self::Publisher(Box::new(client)))
            }
            Way::Grip { backend, publish } => {
                Ok(Self::Grip(Grip::open(ep, LISTENER, backend, PUBLISHER, publish)?))
            }
        }
    }

    fn send(&mut self, ep: &Epoll, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Server { conns, .. } => conns.send_to_all(ep, &frame(message)),
            Self::Publisher(client) => {
                if !client.send(ep, PUBLISHER, &ws::client_frame(ws::TEXT, message)) {
                    return Err(io::Error::other("the connection to publish on is gone"));
                }
            }
            Self::Grip(grip) => return grip.publish(ep, message),
        }
        Ok(())
    }

    fn links(&self) -> usize {
        match self {
            Self::Server { conns, .. } => conns.open(),
            Self::Publisher(_) | Self::Grip(_) => 1,
        }
    }

    /// Waits at most `ns` and does what has come.
    fn serve(&mut self, ep: &mut Epoll, ns: u64, scratch: &mut [u8]) -> io::Result<()> {
        for i in 0..ep.wait(ns) {
            let (token, flags) = ep.event(i);
            match self {
                Self::Server { listener, conns, .. } if token == LISTENER => conns.accept(ep, listener)?,
                Self::Server { conns, reply, .. } => {
                    conns.serve_one(ep, token, flags, scratch, reply, false);
                }
                // It answers each message; what it says is of no interest.
                Self::Publisher(client) => {
                    if !client.pump(ep, PUBLISHER, flags, scratch, |_, _| {}) {
                        return Err(io::Error::other("the connection to publish on is gone"));
                    }
                }
                Self::Grip(grip) => grip.serve(ep, token, scratch)?,
            }
        }
        Ok(())
    }
}

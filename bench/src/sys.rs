//! Thin layer over Linux: one clock, epoll with timeouts in nanoseconds, sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit};
use rustix::time::ClockId;

/// One second, in the unit of [`now_ns`].
pub const SEC: u64 = 1_000_000_000;
/// Interest in what can be read.
pub const IN: EventFlags = EventFlags::IN;
/// Interest in room to write.
pub const OUT: EventFlags = EventFlags::OUT;
/// No interest: only an error or a hang-up is reported.
pub const NOTHING: EventFlags = EventFlags::empty();

/// CLOCK_MONOTONIC in nanoseconds: the upstream stamps messages with it, the clients read the stamp,
/// so it has to be the same clock in two processes, which no type of `std::time` promises.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * SEC + now.tv_nsec as u64
}

pub fn nanos(secs: f64) -> u64 {
    (secs * SEC as f64) as u64
}

/// Takes all the descriptors the hard limit grants, and makes timers precise.
pub fn prepare_process() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let all = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where either is refused the figures are still right: opening fails loudly, timers are a bit late.
    let _ = rustix::process::setrlimit(Resource::Nofile, all);
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000));
}

/// Level-triggered epoll; a token is whatever index the caller likes.
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Epoll {
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: epoll::create(epoll::CreateFlags::CLOEXEC)?, events: Vec::with_capacity(512) })
    }

    pub fn add(&self, sock: &impl AsFd, token: usize, interest: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.fd, sock, EventData::new_u64(token as u64), interest)?)
    }

    /// A socket that is no longer registered is left alone.
    pub fn set(&self, sock: &impl AsFd, token: usize, interest: EventFlags) {
        let _ = epoll::modify(&self.fd, sock, EventData::new_u64(token as u64), interest);
    }

    /// A socket that is no longer registered is left alone.
    pub fn del(&self, sock: &impl AsFd) {
        let _ = epoll::delete(&self.fd, sock);
    }

    /// Waits at most `ns`; returns the number of events, to be read with [`Epoll::event`].
    pub fn wait(&mut self, ns: u64) -> usize {
        let timeout = Timespec { tv_sec: (ns / SEC) as i64, tv_nsec: (ns % SEC) as i64 };
        self.events.clear();
        // An interrupted wait is a wait without events: every caller loops by the clock.
        epoll::wait(&self.fd, spare_capacity(&mut self.events), Some(&timeout)).unwrap_or(0)
    }

    pub fn event(&self, i: usize) -> (usize, EventFlags) {
        let event = self.events[i];
        (event.data.u64() as usize, event.flags)
    }
}

/// A listener whose queue does not overflow when thousands connect at once.
pub fn listen(addr: SocketAddrV4) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(addr)?;
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Starts a connect that does not block; `source` widens the range of ports. A receive buffer has to be
/// set before: it decides how large a window is offered.
pub fn connect(to: SocketAddrV4, source: Ipv4Addr, receive_buffer: Option<usize>) -> io::Result<TcpStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    rustix::net::sockopt::set_tcp_nodelay(&fd, true)?;
    if let Some(bytes) = receive_buffer {
        rustix::net::sockopt::set_socket_recv_buffer_size(&fd, bytes)?;
    }
    rustix::net::bind(&fd, &SocketAddrV4::new(source, 0))?;
    match rustix::net::connect(&fd, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(TcpStream::from(fd)),
        Err(e) => Err(e.into()),
    }
}

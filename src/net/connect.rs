//! Connects to a host by name or address, over whichever of its addresses answers first (RFC 8305, "Happy Eyeballs").
//!
//! A name may have addresses at which nobody answers: a node that is gone, a family that leads nowhere. One that
//! swallows what it is sent must not take the time of the others. [`schedule`] says when which attempt begins; the first
//! that connects wins, and the others are dropped with their sockets.
//!
//! # Invariants
//! 1. Every address is tried before the deadline, however short that is; one that fails at once lets the next begin at
//!    once.
//! 2. What stayed silent while a later attempt connected is tried last for [`KNOWN_FOR`]. One that merely refused
//!    keeps its place, since it costs no time: the addresses of a name go on sharing the load as the resolver orders
//!    them, which they would not if the one that answered were always asked first.
//! 3. At most [`MAX_SILENT`] addresses are remembered.
//! 4. At most [`MAX_ATTEMPTS`] are under way for one connection.
//! 5. At most [`MAX_LOOKUPS`] times at once the name is looked up, those included that nobody waits for any more: the
//!    resolver is a call that blocks its thread, and cannot be given up.
//!
//! # Not here
//! How long it may take, how many connect at once, and what a failure is called (whoever dials). TLS ([`super::tls`]).

mod schedule;

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use self::schedule::{Schedule, order};
use super::upstream_socket;

/// How long an address that stayed silent is tried last. To try it first again costs the dials of one moment a quarter
/// of a second, and gives a node that is back its share of the connections.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// More addresses than any resolver answers with in one packet without EDNS; what is beyond is only not remembered.
const MAX_SILENT: usize = 32;

/// Attempts that are under way for one connection. Whoever has been silent longest makes room for the next: a name may
/// have hundreds of addresses, and each attempt holds a socket.
const MAX_ATTEMPTS: usize = 8;

/// A resolver that does not answer keeps each lookup for 10 seconds or more, long after its dial was given up. Threads that
/// block are few (512), and reading a changed configuration needs one too.
const MAX_LOOKUPS: usize = 32;

/// Connects to one host. Clones share what is known of its addresses.
#[derive(Debug, Clone)]
pub(crate) struct TcpConnector {
    host: Box<str>,
    port: u16,
    silent: Arc<Mutex<Vec<Silent>>>,
    lookups: Arc<Semaphore>,
}

/// An address that did not answer while another one did.
#[derive(Debug)]
struct Silent {
    address: SocketAddr,
    until: Instant,
}

impl TcpConnector {
    /// To `host`: a name, or an address without brackets.
    pub(crate) fn new(host: &str, port: u16) -> Self {
        let lookups = Arc::new(Semaphore::new(MAX_LOOKUPS));
        Self { host: host.into(), port, silent: Arc::default(), lookups }
    }

    /// A new connection. Attempts are spread so that each address has its turn before `deadline`; to end at it is the
    /// caller's business. May be given up at any time: the sockets of all attempts are closed then.
    ///
    /// # Errors
    /// The name has no address, or no address could be connected to; then it is what the last one said, or one before
    /// it if that was reachable at all.
    pub(crate) async fn connect(&self, deadline: Instant) -> io::Result<TcpStream> {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => attempt(SocketAddr::new(ip, self.port)).await,
            Err(_) => {
                let (host, port) = (self.host.clone(), self.port);
                let lookup = async move { Ok(tokio::net::lookup_host((&*host, port)).await?.collect()) };
                let addresses = look_up(&self.lookups, lookup).await?;
                self.connect_to_any(addresses, deadline).await
            }
        }
    }

    async fn connect_to_any(&self, found: Vec<SocketAddr>, deadline: Instant) -> io::Result<TcpStream> {
        let now = Instant::now();
        let addresses = order(&found, |address| {
            self.silent().iter().any(|silent| silent.address == *address && silent.until > now)
        });
        match addresses[..] {
            [] => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
            [only] => attempt(only).await,
            _ => {
                let won = race(&addresses, deadline, attempt).await?;
                self.remember(addresses[won.index], won.silent.iter().map(|index| addresses[*index]));
                Ok(won.connection)
            }
        }
    }

    /// That `answered` did, and `silent` did not though they had more time.
    fn remember(&self, answered: SocketAddr, silent: impl Iterator<Item = SocketAddr>) {
        let now = Instant::now();
        let mut known = self.silent();
        known.retain(|silent| silent.address != answered && silent.until > now);
        for address in silent {
            known.retain(|silent| silent.address != address);
            if known.len() < MAX_SILENT {
                known.push(Silent { address, until: now + KNOWN_FOR });
            }
        }
    }

    fn silent(&self) -> MutexGuard<'_, Vec<Silent>> {
        // A panic under this lock cannot leave it half changed.
        self.silent.lock()
    }
}

/// Holds a place until the lookup is over, whether its answer is waited for or not.
async fn look_up(
    places: &Arc<Semaphore>,
    lookup: impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
) -> io::Result<Vec<SocketAddr>> {
    // The semaphore is never closed.
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let task = tokio::spawn(async move {
        let _place = place;
        lookup.await
    });
    task.await.map_err(io::Error::other)?
}

async fn attempt(address: SocketAddr) -> io::Result<TcpStream> {
    upstream_socket(address)?.connect(address).await
}

/// What came of several attempts.
#[derive(Debug)]
struct Won<T> {
    connection: T,
    /// Of the address that it leads to.
    index: usize,
    /// Of those that had begun earlier, and had not answered.
    silent: Vec<usize>,
}

/// Begins an attempt for each address, one after another, until one connects or all have failed.
async fn race<T, F>(
    addresses: &[SocketAddr],
    deadline: Instant,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<Won<T>>
where
    F: Future<Output = io::Result<T>>,
{
    let begin = Instant::now();
    let mut schedule = Schedule::new(addresses.len(), begin, deadline);
    let mut under_way: Vec<(usize, Pin<Box<F>>)> = Vec::new();
    let mut given_up = Vec::new();
    let mut failure = None;
    let mut timer = pin!(sleep_until(begin));
    poll_fn(|cx| {
        loop {
            let now = Instant::now();
            if let Some(index) = schedule.begin(now) {
                let oldest = (0..under_way.len()).min_by_key(|at| under_way[*at].0);
                if let Some(oldest) = oldest.filter(|_| under_way.len() >= MAX_ATTEMPTS) {
                    given_up.push(under_way.swap_remove(oldest).0);
                }
                under_way.push((index, Box::pin(connect(addresses[index]))));
            }
            let mut at = 0;
            while at < under_way.len() {
                match under_way[at].1.as_mut().poll(cx) {
                    Poll::Pending => at += 1,
                    Poll::Ready(Ok(connection)) => {
                        let (index, _) = under_way.swap_remove(at);
                        let earlier = under_way.iter().map(|(other, _)| *other);
                        let silent =
                            given_up.drain(..).chain(earlier.filter(|other| *other < index)).collect();
                        return Poll::Ready(Ok(Won { connection, index, silent }));
                    }
                    Poll::Ready(Err(error)) => {
                        drop(under_way.swap_remove(at));
                        keep(&mut failure, error);
                        schedule.on_failure(now);
                    }
                }
            }
            match schedule.next() {
                Some(next) if next <= now => {}
                Some(next) => {
                    timer.as_mut().reset(next);
                    std::task::ready!(timer.as_mut().poll(cx));
                }
                None if under_way.is_empty() => {
                    let none = || io::Error::new(io::ErrorKind::NotFound, "there is no address");
                    return Poll::Ready(Err(failure.take().unwrap_or_else(none)));
                }
                None => return Poll::Pending,
            }
        }
    })
    .await
}

/// Keeps the failure that says more: that a machine has no road to IPv6 says nothing of a server that refuses IPv4.
fn keep(failure: &mut Option<io::Error>, error: io::Error) {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable};
    let has_no_road = matches!(
        error.kind(),
        AddrNotAvailable | HostUnreachable | NetworkUnreachable | io::ErrorKind::Unsupported
    );
    if failure.is_none() || !has_no_road {
        *failure = Some(error);
    }
}

#[cfg(test)]
mod tests;

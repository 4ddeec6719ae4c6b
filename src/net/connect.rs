//! Connects to a host by name or address, over the address that answers first (RFC 8305, "Happy Eyeballs").
//!
//! A name may have addresses that do not answer: those of a node that is gone, or of a family without a route. An
//! address that drops packets must not use up the time of the others. [`schedule`] decides when which attempt begins;
//! the first that connects wins, and the others are dropped with their sockets.
//!
//! # Invariants
//! 1. Every address is tried before the deadline, however short that is; when an attempt fails, the next begins at
//!    once.
//! 2. An address that did not answer while a later attempt connected is tried last for [`REMEMBERED_FOR`]. One that
//!    refused keeps its place, since it costs no time: so the addresses of a name share the load in the resolver's
//!    order, which they would not if the one that answered were always tried first.
//! 3. At most [`MAX_UNRESPONSIVE`] addresses are remembered.
//! 4. At most [`MAX_ATTEMPTS`] attempts are in progress for one connection.
//! 5. At most [`MAX_LOOKUPS`] lookups of the name are in progress, including those that nobody waits for any more: the
//!    resolver is a call that blocks its thread, and cannot be cancelled.
//!
//! # Not here
//! Deadlines, how many connect at once, and the errors of a dial ([`crate::upstream`]). TLS ([`super::tls`]).

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

use self::schedule::{Schedule, sort_addresses};
use super::connect_tcp;

/// How long an address that did not answer is tried last. Trying it first again costs the dials of that moment a
/// quarter of a second, and gives a node that is back its share of the connections.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// More addresses than any resolver answers with in one packet without EDNS; further ones are not remembered.
const MAX_UNRESPONSIVE: usize = 32;

/// Attempts in progress for one connection. Beyond that the oldest is abandoned: a name may have hundreds of addresses,
/// and each attempt holds a socket.
const MAX_ATTEMPTS: usize = 8;

/// A resolver that does not answer blocks each lookup for 10 seconds or more, long after its dial has timed out. There
/// are only 512 threads for blocking calls, and reading a changed configuration needs one too.
const MAX_LOOKUPS: usize = 32;

/// Connects to one host. Clones share which of its addresses do not answer.
#[derive(Debug, Clone)]
pub(crate) struct TcpConnector {
    host: Box<str>,
    port: u16,
    unresponsive: Arc<Mutex<Vec<UnresponsiveAddress>>>,
    lookups: Arc<Semaphore>,
}

/// An address that did not answer while another one did.
#[derive(Debug)]
struct UnresponsiveAddress {
    address: SocketAddr,
    until: Instant,
}

impl TcpConnector {
    /// For `host`, which is a name, or an address without brackets.
    pub(crate) fn new(host: &str, port: u16) -> Self {
        let lookups = Arc::new(Semaphore::new(MAX_LOOKUPS));
        Self { host: host.into(), port, unresponsive: Arc::default(), lookups }
    }

    /// A new connection. Attempts are spread so that each address has its turn before `deadline`; to end at it is the
    /// caller's business. May be given up at any time: the sockets of all attempts are closed then.
    ///
    /// # Errors
    /// The name has no address, or no address could be connected to; then it is what the last one said, or one before
    /// it if that was reachable at all.
    pub(crate) async fn connect(&self, deadline: Instant) -> io::Result<TcpStream> {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => connect_tcp(SocketAddr::new(ip, self.port)).await,
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
        let addresses = sort_addresses(&found, |address| {
            self.unresponsive()
                .iter()
                .any(|unresponsive| unresponsive.address == *address && unresponsive.until > now)
        });
        match addresses[..] {
            [] => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
            [only] => connect_tcp(only).await,
            _ => {
                let winner = race(&addresses, deadline, connect_tcp).await?;
                self.remember(
                    addresses[winner.index],
                    winner.unresponsive.iter().map(|index| addresses[*index]),
                );
                Ok(winner.connection)
            }
        }
    }

    /// That `answered` did, and `unresponsive` did not though they had more time.
    fn remember(&self, answered: SocketAddr, unresponsive: impl Iterator<Item = SocketAddr>) {
        let now = Instant::now();
        let mut known = self.unresponsive();
        known.retain(|unresponsive| unresponsive.address != answered && unresponsive.until > now);
        for address in unresponsive {
            known.retain(|unresponsive| unresponsive.address != address);
            if known.len() < MAX_UNRESPONSIVE {
                known.push(UnresponsiveAddress { address, until: now + REMEMBERED_FOR });
            }
        }
    }

    fn unresponsive(&self) -> MutexGuard<'_, Vec<UnresponsiveAddress>> {
        self.unresponsive.lock()
    }
}

/// Holds a permit until the lookup is over, whether its answer is waited for or not.
async fn look_up(
    permits: &Arc<Semaphore>,
    lookup: impl Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
) -> io::Result<Vec<SocketAddr>> {
    // The semaphore is never closed.
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let task = tokio::spawn(async move {
        let _permit = permit;
        lookup.await
    });
    task.await.map_err(io::Error::other)?
}

/// The attempt that connected.
#[derive(Debug)]
struct Winner<T> {
    connection: T,
    /// The index of its address.
    index: usize,
    /// The indices of the addresses whose attempts had begun earlier, and had not answered.
    unresponsive: Vec<usize>,
}

/// Begins an attempt for each address, one after another, until one connects or all have failed.
async fn race<T, F>(
    addresses: &[SocketAddr],
    deadline: Instant,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<Winner<T>>
where
    F: Future<Output = io::Result<T>>,
{
    let begin = Instant::now();
    let mut schedule = Schedule::new(addresses.len(), begin, deadline);
    let mut attempts: Vec<(usize, Pin<Box<F>>)> = Vec::new();
    let mut abandoned = Vec::new();
    let mut failure = None;
    let mut timer = pin!(sleep_until(begin));
    poll_fn(|cx| {
        loop {
            let now = Instant::now();
            if let Some(index) = schedule.begin(now) {
                let oldest = (0..attempts.len()).min_by_key(|at| attempts[*at].0);
                if let Some(oldest) = oldest.filter(|_| attempts.len() >= MAX_ATTEMPTS) {
                    abandoned.push(attempts.swap_remove(oldest).0);
                }
                attempts.push((index, Box::pin(connect(addresses[index]))));
            }
            let mut at = 0;
            while at < attempts.len() {
                match attempts[at].1.as_mut().poll(cx) {
                    Poll::Pending => at += 1,
                    Poll::Ready(Ok(connection)) => {
                        let (index, _) = attempts.swap_remove(at);
                        let earlier = attempts.iter().map(|(other, _)| *other);
                        let unresponsive =
                            abandoned.drain(..).chain(earlier.filter(|other| *other < index)).collect();
                        return Poll::Ready(Ok(Winner { connection, index, unresponsive }));
                    }
                    Poll::Ready(Err(error)) => {
                        drop(attempts.swap_remove(at));
                        keep_failure(&mut failure, error);
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
                None if attempts.is_empty() => {
                    let no_address = || io::Error::new(io::ErrorKind::NotFound, "there is no address");
                    return Poll::Ready(Err(failure.take().unwrap_or_else(no_address)));
                }
                None => return Poll::Pending,
            }
        }
    })
    .await
}

/// Keeps the failure that tells more: that this machine has no route to IPv6 says nothing of a server that refuses
/// IPv4.
fn keep_failure(failure: &mut Option<io::Error>, error: io::Error) {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable};
    let is_unroutable = matches!(
        error.kind(),
        AddrNotAvailable | HostUnreachable | NetworkUnreachable | io::ErrorKind::Unsupported
    );
    if failure.is_none() || !is_unroutable {
        *failure = Some(error);
    }
}

#[cfg(test)]
mod tests;

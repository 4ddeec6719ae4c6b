//! A flood to some clients, first while all of them read, then while one has stopped.
//!
//! Everything is compared within one run, on the same connections: the delivery times of those that
//! read with those of the same before, and the memory at the end with that before the stop. The one
//! that stops has read the flood until then, so that every buffer on its way has grown as buffers do.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};

use hdrhistogram::Histogram;
use serde_json::json;

use super::{Figures, Watch, Window, memory, quantile_us, round};
use crate::client::{Client, Opening, State, Target, histogram, open_all};
use crate::sockets::{self, Socket};
use crate::sys::{Epoll, IN, OUT, nanos, now_ns};
use crate::ws;

/// One run.
#[derive(Clone, Copy)]
pub struct Stalled {
    /// Clients that read throughout.
    pub readers: usize,
    /// Length of each of the two phases.
    pub secs: f64,
    pub warmup: f64,
    /// The flooding upstream: its sockets tell which one belongs to the stalled client.
    pub upstream: SocketAddrV4,
}

/// After a look at the memory, which takes its time, messages wait: they are not measured.
const SETTLE: f64 = 0.5;

/// All clients; the last one is the one that will stop.
struct Crowd {
    clients: Vec<Client>,
    scratch: Vec<u8>,
    /// Number of the last round each of them got.
    last_round: Vec<Option<u64>>,
    /// Connections that ended.
    lost: usize,
    /// Messages without a stamp.
    corrupt: u64,
}

/// What the readers saw in one phase.
struct Phase {
    times: Histogram<u64>,
    /// Messages to all who read.
    delivered: u64,
    /// Rounds a reader did not get: the upstream leaves out whoever is 1 MiB behind.
    missed: u64,
    /// The proxy ended the client that does not read.
    cut: bool,
}

impl Crowd {
    fn run(&mut self, ep: &mut Epoll, secs: f64, stopped: bool) -> Phase {
        let mut phase = Phase { times: histogram(), delivered: 0, missed: 0, cut: false };
        let last = self.clients.len() - 1;
        let end = now_ns() + nanos(secs);
        while now_ns() < end {
            for i in 0..ep.wait(10_000_000) {
                let (token, flags) = ep.event(i);
                let client = &mut self.clients[token];
                if client.state != State::Open {
                    continue;
                }
                if token == last && stopped {
                    // Only an error or a hang-up is reported here.
                    if flags.intersects(!(IN | OUT)) {
                        client.kill(ep);
                        phase.cut = true;
                    }
                    continue;
                }
                let previous = &mut self.last_round[token];
                let alive = client.pump(ep, token, flags, &mut self.scratch, |head, payload| {
                    if !head.is_data() || head.opcode() == ws::CONTINUATION {
                        return;
                    }
                    let round = payload.get(16..).and_then(ws::from_hex16);
                    let (Some(stamp), Some(round)) = (ws::from_hex16(payload), round) else {
                        self.corrupt += 1;
                        return;
                    };
                    phase.delivered += 1;
                    if token != last {
                        phase.times.saturating_record(now_ns().saturating_sub(stamp));
                        phase.missed += previous.map_or(0, |p| round.saturating_sub(p + 1));
                    }
                    *previous = Some(round);
                });
                self.lost += usize::from(!alive);
            }
        }
        phase
    }

    fn stop_the_last(&mut self, ep: &Epoll) {
        let last = self.clients.len() - 1;
        self.clients[last].stop_reading(ep, last);
    }
}

/// Where the one client's data waits in the kernel, as far as the proxy is charged with it.
struct Pair {
    proxy: SocketAddrV4,
    upstream: SocketAddrV4,
    /// The client's own end of its connection.
    client: SocketAddrV4,
    /// The proxy's end of the connection to the upstream.
    uplink: SocketAddrV4,
}

impl Pair {
    /// Bytes in the socket towards the client, and in the one towards the upstream.
    fn bytes(&self) -> io::Result<(u64, u64)> {
        let sockets = sockets::list(self.proxy, self.upstream)?;
        let find = |local, peer| sockets.iter().find(|s| s.local == local && s.peer == peer);
        let bytes = |socket: Option<&Socket>| socket.map_or(0, Socket::bytes);
        Ok((bytes(find(self.proxy, self.client)), bytes(find(self.uplink, self.upstream))))
    }
}

/// The proxy's ends of its connections to the upstream.
fn uplinks(proxy: SocketAddrV4, upstream: SocketAddrV4) -> io::Result<Vec<SocketAddrV4>> {
    let sockets = sockets::list(proxy, upstream)?;
    Ok(sockets.into_iter().filter(|s| s.peer == upstream).map(|s| s.local).collect())
}

/// Opens the readers, then the one that will stop: the uplink that is new then is that one's.
fn gather(ep: &mut Epoll, to: &Target, p: Stalled) -> io::Result<(Crowd, Option<Pair>)> {
    let opened = open_all(ep, to, Opening::few(p.readers));
    if opened.failures > 0 {
        return Err(io::Error::other(format!("{} readers could not connect", opened.failures)));
    }
    let mut clients = opened.clients;
    let before = uplinks(to.addr, p.upstream)?;
    let mut last = Client::start(ep, to, clients.len(), clients.len())?;
    let mut scratch = vec![0; ws::SCRATCH];
    let limit = now_ns() + nanos(5.0);
    while matches!(last.state, State::Connecting | State::Asked) && now_ns() < limit {
        for i in 0..ep.wait(10_000_000) {
            let (token, flags) = ep.event(i);
            match clients.get_mut(token) {
                Some(reader) => drop(reader.pump(ep, token, flags, &mut scratch, |_, _| {})),
                None => last.handshake(ep, to, token, &mut scratch),
            }
        }
    }
    if last.state != State::Open {
        return Err(io::Error::other("the client that is to stall could not connect"));
    }
    let SocketAddr::V4(client) = last.sock.local_addr()? else {
        return Err(io::Error::other("not an IPv4 socket"));
    };
    let mut new = uplinks(to.addr, p.upstream)?;
    new.retain(|uplink| !before.contains(uplink));
    let pair = match new[..] {
        // No proxy in between: there is nobody to be charged.
        _ if to.addr == p.upstream => None,
        [uplink] => Some(Pair { proxy: to.addr, upstream: p.upstream, client, uplink }),
        _ => {
            let found = new.len();
            return Err(io::Error::other(format!("{found} new uplinks for one new client")));
        }
    };
    clients.push(last);
    let last_round = vec![None; clients.len()];
    Ok((Crowd { clients, scratch, last_round, lost: 0, corrupt: 0 }, pair))
}

/// Runs both phases and returns their figures.
pub fn run(to: &Target, p: Stalled, watch: Watch) -> io::Result<Figures> {
    let mut ep = Epoll::new()?;
    let mut figures = Figures::new();
    let (mut crowd, pair) = gather(&mut ep, to, p)?;
    crowd.run(&mut ep, p.warmup, false);

    let window = Window::open(watch);
    let without = crowd.run(&mut ep, p.secs, false);
    window.close(&mut figures, "delivery", without.delivered);
    let before = memory(&mut figures, watch, "before");
    crowd.run(&mut ep, SETTLE, false);

    crowd.stop_the_last(&ep);
    let with = crowd.run(&mut ep, p.secs, true);
    let after = memory(&mut figures, watch, "stalled");
    if let (Some(pair), Some(_)) = (pair, watch.proxy) {
        let growth = after as f64 - before as f64;
        let (client, uplink) = pair.bytes()?;
        let (client, uplink) = (client as f64 / 1024.0, uplink as f64 / 1024.0);
        figures.insert("pss_growth_kb".into(), json!(growth));
        figures.insert("kernel_client_kb".into(), json!(round(client, 1)));
        figures.insert("kernel_upstream_kb".into(), json!(round(uplink, 1)));
        figures.insert("stalled_cost_kb".into(), json!(round(growth.max(0.0) + client + uplink, 1)));
    }
    for (name, phase) in [("without", &without), ("with", &with)] {
        figures.insert(format!("p50_{name}_us"), quantile_us(&phase.times, 0.5));
        figures.insert(format!("p99_{name}_us"), quantile_us(&phase.times, 0.99));
        figures.insert(format!("delivered_{name}"), json!(phase.delivered));
        figures.insert(format!("missed_{name}"), json!(phase.missed));
    }
    let p99 = |phase: &Phase| phase.times.value_at_quantile(0.99).max(1) as f64;
    figures.insert("p99_with_to_without".into(), json!(round(p99(&with) / p99(&without), 3)));
    figures.insert("stalled_was_cut".into(), json!(with.cut));
    figures.insert("errors".into(), json!(crowd.lost as u64 + crowd.corrupt));
    Ok(figures)
}

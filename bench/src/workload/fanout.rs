//! One feed, many subscribers: what a delivery costs, and when it is there.
//!
//! Every subscriber is connected before the first message, so each has to get every message, once and
//! in order: one that is missing, doubled, cut or without its stamp is an error. The window holds whole
//! messages only: it is opened when everything before it has arrived, and closed when the last message
//! has reached the last subscriber.

use std::io;

use hdrhistogram::Histogram;
use serde_json::json;

use super::{Figures, Watch, Window, latency, memory, quantile_us, round};
use crate::client::{Client, Opening, State, Target, histogram, open_all};
use crate::feed::{Feed, Order, Way};
use crate::sys::{Epoll, IN, OUT, SEC, nanos, now_ns};
use crate::ws;

/// One run.
#[derive(Clone, Copy)]
pub struct Fanout {
    pub conns: usize,
    /// New connections per second, at most: how they come about is not measured here.
    pub connects: f64,
    /// Messages per second, on average.
    pub rate: f64,
    /// Messages that are sent back to back.
    pub burst: u64,
    /// Payload bytes of a message.
    pub size: usize,
    pub secs: f64,
    pub warmup: f64,
    /// So many subscribers stop reading for a second part of the run; 0 leaves that part out.
    pub stalled: usize,
}

/// Time for the proxy to come to rest after the last handshake.
const SETTLE: f64 = 1.0;
/// How long after its time the last message may come: a proxy that cannot keep up delivers late, but all.
const PATIENCE: f64 = 30.0;
/// From the last message on: a doubled one would come now.
const GRACE: f64 = 0.1;
/// What fills all buffers on the way to those that stopped reading, one after the other. 5 MiB: the
/// largest send buffer has 4 (`net.ipv4.tcp_wmem`), and outrigger bears 1 more before it skips them.
const FILLING: (usize, usize) = (80, 64 * 1024);

/// All subscribers; the last ones are those that may stop.
struct Crowd {
    clients: Vec<Client>,
    /// The number that each of them waits for.
    next: Vec<u64>,
    /// So many are read, from the first one on.
    reading: usize,
    /// The delivery times of so many are told.
    timed: usize,
    /// Payload bytes of a right message.
    size: usize,
    scratch: Vec<u8>,
    times: Histogram<u64>,
    seen: Seen,
    /// Numbers given out so far.
    sent: u64,
}

#[derive(Default, Clone, Copy)]
struct Seen {
    delivered: u64,
    missed: u64,
    doubled: u64,
    /// Messages without a stamp, of another length, or in pieces.
    corrupt: u64,
    /// Connections of those that read which ended.
    lost: u64,
    /// Connections of those that do not read which ended.
    cut: u64,
}

impl Seen {
    fn errors(&self) -> u64 {
        self.missed + self.doubled + self.corrupt + self.lost
    }

    /// Takes one message to a subscriber that waits for number `next`; returns when it was sent.
    fn message(&mut self, next: &mut u64, head: &ws::Head, payload: &[u8], size: usize) -> Option<u64> {
        let whole = head.ends_message() && head.opcode() != ws::CONTINUATION && head.mask.is_none();
        let stamp = ws::from_hex16(payload).zip(payload.get(16..).and_then(ws::from_hex16));
        let Some((at, number)) = stamp.filter(|_| whole && payload.len() == size) else {
            self.corrupt += 1;
            return None;
        };
        if number < *next {
            self.doubled += 1;
            return None;
        }
        self.missed += number - *next;
        *next = number + 1;
        self.delivered += 1;
        Some(at)
    }
}

impl Crowd {
    fn pump(&mut self, ep: &mut Epoll, ns: u64) {
        for i in 0..ep.wait(ns) {
            let (token, flags) = ep.event(i);
            let client = &mut self.clients[token];
            if client.state != State::Open {
                continue;
            }
            if token >= self.reading {
                // Only an error or a hang-up is reported here.
                if flags.intersects(!(IN | OUT)) {
                    client.kill(ep);
                    self.seen.cut += 1;
                }
                continue;
            }
            let (next, timed) = (&mut self.next[token], token < self.timed);
            let alive = client.pump(ep, token, flags, &mut self.scratch, |head, payload| {
                if !head.is_data() {
                    return;
                }
                if let Some(at) = self.seen.message(next, head, payload, self.size)
                    && timed
                {
                    self.times.saturating_record(now_ns().saturating_sub(at));
                }
            });
            self.seen.lost += u64::from(!alive);
        }
    }

    fn rest(&mut self, ep: &mut Epoll, secs: f64) {
        let end = now_ns() + nanos(secs);
        while now_ns() < end {
            self.pump(ep, end.saturating_sub(now_ns()));
        }
    }

    /// Has everything sent and waits until everyone who reads has it all, or should have had it.
    fn take(&mut self, ep: &mut Epoll, feed: &Feed, order: Order) -> io::Result<()> {
        self.size = order.size;
        self.sent += order.messages;
        let before = self.seen;
        let due = self.reading as u64 * order.messages;
        let limit = now_ns() + order.messages.div_ceil(order.burst) * order.period + nanos(PATIENCE);
        feed.send(order)?;
        while self.seen.delivered - before.delivered < due && now_ns() < limit {
            self.pump(ep, 10_000_000);
        }
        Ok(())
    }

    /// After this every message counts, if not as delivered then as missed.
    fn settle_accounts(&mut self, ep: &mut Epoll) {
        self.rest(ep, GRACE);
        for next in &mut self.next[..self.reading] {
            self.seen.missed += self.sent - *next;
            *next = self.sent;
        }
    }

    fn stop_reading(&mut self, ep: &Epoll, stalled: usize) {
        self.reading = self.clients.len() - stalled;
        for (token, client) in self.clients.iter_mut().enumerate().skip(self.reading) {
            client.stop_reading(ep, token);
        }
    }

    fn p99(&self) -> f64 {
        self.times.value_at_quantile(0.99) as f64 / 1e3
    }
}

/// Runs the fan-out and returns its figures.
pub fn run(to: &Target, p: Fanout, way: Way, watch: Watch) -> io::Result<Figures> {
    let mut ep = Epoll::new()?;
    let mut figures = Figures::new();
    let feed = Feed::start(way)?;
    let before = memory(&mut figures, watch, "before");
    let opening = Opening { conns: p.conns, rate: p.connects, at_once: 256, narrow: p.stalled };
    let opened = open_all(&mut ep, to, opening);
    let live = opened.clients.iter().filter(|c| c.state == State::Open).count();
    if opened.failures > 0 {
        return Err(io::Error::other(format!("{} of {} could not connect", opened.failures, p.conns)));
    }
    let mut crowd = Crowd {
        next: vec![0; live],
        reading: live,
        timed: live - p.stalled,
        size: p.size,
        scratch: vec![0; ws::SCRATCH],
        times: histogram(),
        seen: Seen::default(),
        sent: 0,
        clients: opened.clients,
    };
    crowd.rest(&mut ep, SETTLE);
    let growth = memory(&mut figures, watch, "idle").saturating_sub(before) as f64;
    figures.insert("conns".into(), json!(live));
    if watch.proxy.is_some() {
        let each = growth * 1024.0 / live.max(1) as f64;
        figures.insert("pss_bytes_per_subscriber".into(), json!(each.round()));
    }

    let period = (SEC as f64 * p.burst as f64 / p.rate) as u64;
    let lasting = |secs: f64| Order {
        messages: ((secs * p.rate / p.burst as f64).ceil() as u64).max(1) * p.burst,
        burst: p.burst,
        period,
        size: p.size,
    };
    crowd.take(&mut ep, &feed, lasting(p.warmup))?;
    crowd.settle_accounts(&mut ep);
    crowd.times.reset();
    let earlier = crowd.seen.delivered;
    let window = Window::open(watch);
    crowd.take(&mut ep, &feed, lasting(p.secs))?;
    let delivered = crowd.seen.delivered - earlier;
    let secs = window.close(&mut figures, "delivery", delivered);
    crowd.settle_accounts(&mut ep);
    figures.insert("deliveries_per_s".into(), json!((delivered as f64 / secs).round()));
    figures.insert("delivered".into(), json!(delivered));
    figures.insert("feed_links".into(), json!(feed.links()));
    latency(&mut figures, &crowd.times);
    memory(&mut figures, watch, "after");

    if p.stalled > 0 {
        stalled_part(&mut ep, &feed, &mut crowd, lasting(p.secs), p.stalled, watch, &mut figures)?;
    }
    let seen = crowd.seen;
    for (name, count) in [
        ("missed", seen.missed),
        ("doubled", seen.doubled),
        ("corrupt", seen.corrupt),
        ("lost_connections", seen.lost),
        ("errors", seen.errors()),
    ] {
        figures.insert(name.into(), json!(count));
    }
    Ok(figures)
}

/// The same once more, with some who do not read and for whom nothing can be sent any more.
fn stalled_part(
    ep: &mut Epoll,
    feed: &Feed,
    crowd: &mut Crowd,
    order: Order,
    stalled: usize,
    watch: Watch,
    figures: &mut Figures,
) -> io::Result<()> {
    let without = crowd.p99();
    figures.insert("p99_without_us".into(), json!(round(without, 1)));
    crowd.stop_reading(ep, stalled);
    let (times, size) = FILLING;
    for _ in 0..times {
        crowd.take(ep, feed, Order { messages: 1, burst: 1, period: 0, size })?;
    }
    crowd.settle_accounts(ep);
    crowd.rest(ep, SETTLE);
    crowd.times.reset();
    let (earlier, window) = (crowd.seen.delivered, Window::open(watch));
    crowd.take(ep, feed, order)?;
    let delivered = crowd.seen.delivered - earlier;
    let mut with = Figures::new();
    window.close(&mut with, "delivery", delivered);
    crowd.settle_accounts(ep);
    if let Some(cpu) = with.remove("cpu_us_per_delivery") {
        figures.insert("cpu_us_with".into(), cpu);
    }
    figures.insert("delivered_with".into(), json!(delivered));
    figures.insert("p99_with_us".into(), quantile_us(&crowd.times, 0.99));
    // What the stalled ones may cost the others: a tenth, and what is more than that.
    figures.insert("p99_beyond_a_tenth_us".into(), json!(round(crowd.p99() - 1.1 * without, 1)));
    figures.insert("stalled_cut".into(), json!(crowd.seen.cut));
    memory(figures, watch, "stalled");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::message;

    fn take(seen: &mut Seen, next: &mut u64, first: u8, payload: &[u8]) -> bool {
        let head = ws::Head { first, mask: None, size: 2, len: payload.len() };
        seen.message(next, &head, payload, 64).is_some()
    }

    #[test]
    fn every_message_counts_once_and_a_gap_is_as_long_as_it_is() {
        let (mut seen, mut next) = (Seen::default(), 0);
        let fin = ws::FIN | ws::TEXT;
        assert!(take(&mut seen, &mut next, fin, &message(64, 0)));
        assert!(take(&mut seen, &mut next, fin, &message(64, 3)));
        assert_eq!((seen.delivered, seen.missed, seen.errors(), next), (2, 2, 2, 4));
        assert!(!take(&mut seen, &mut next, fin, &message(64, 3)));
        assert_eq!((seen.delivered, seen.doubled), (2, 1));
    }

    #[test]
    fn a_message_of_another_length_in_pieces_or_without_stamp_is_none() {
        let (mut seen, mut next) = (Seen::default(), 0);
        let fin = ws::FIN | ws::TEXT;
        assert!(!take(&mut seen, &mut next, fin, &message(65, 0)));
        assert!(!take(&mut seen, &mut next, ws::TEXT, &message(64, 0)));
        assert!(!take(&mut seen, &mut next, fin, &[b'x'; 64]));
        assert_eq!((seen.corrupt, seen.delivered, next), (3, 0, 0));
    }
}

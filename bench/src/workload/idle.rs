//! Many connections that say nothing: what one costs, and whether it is given back.

use std::io;
use std::time::Duration;

use serde_json::json;

use super::{Figures, Watch, Window, memory, round};
use crate::client::{Client, Opening, State, Target, open_all};
use crate::sys::{Epoll, SEC, nanos, now_ns};
use crate::usage;
use crate::ws;

/// One run.
#[derive(Clone, Copy)]
pub struct Idle {
    pub conns: usize,
    /// New connections per second, at most.
    pub rate: f64,
    /// How long CPU and wake-ups of the idle proxy are watched.
    pub hold: f64,
    /// From the last close to the last look at the memory.
    pub after_close: f64,
}

/// Time for the proxy to come to rest after the last handshake.
const SETTLE: f64 = 2.0;

/// Opens the connections, watches them, closes them, and returns what they cost.
pub fn run(to: &Target, p: Idle, watch: Watch) -> io::Result<Figures> {
    let mut ep = Epoll::new()?;
    let mut figures = Figures::new();
    let before = memory(&mut figures, watch, "before");
    let opening = Window::open(watch);
    let mut opened = open_all(&mut ep, to, Opening { conns: p.conns, rate: p.rate, at_once: 256, narrow: 0 });
    let live = opened.clients.iter().filter(|c| c.state == State::Open).count();
    opening.close(&mut figures, "handshake", live as u64);

    let mut lost = hold(&mut ep, &mut opened.clients, SETTLE);
    let (window, asleep) = (Window::open(watch), usage::sleeps(watch.proxy));
    lost += hold(&mut ep, &mut opened.clients, p.hold);
    let mut idle = Figures::new();
    let secs = window.close(&mut idle, "x", 0);
    let idle_memory = memory(&mut figures, watch, "idle");
    figures.insert("conns".into(), json!(live));
    figures.insert("connects_per_s".into(), json!((live as f64 / opened.secs).round()));
    for (name, q) in [("handshake_p50_ms", 0.5), ("handshake_p99_ms", 0.99)] {
        figures.insert(name.into(), json!(round(opened.latency.value_at_quantile(q) as f64 / 1e6, 3)));
    }
    if let Some(percent) = idle.remove("proxy_cpu_pct") {
        let wakeups = usage::sleeps(watch.proxy).saturating_sub(asleep) as f64 / secs;
        figures.insert("idle_cpu_pct".into(), percent);
        figures.insert("idle_wakeups_per_s".into(), json!(round(wakeups, 1)));
        let growth = idle_memory.saturating_sub(before) as f64;
        figures.insert("pss_bytes_per_conn".into(), json!((growth * 1024.0 / live.max(1) as f64).round()));
        drop(opened.clients);
        std::thread::sleep(Duration::from_secs_f64(p.after_close));
        let kept = memory(&mut figures, watch, "closed").saturating_sub(before) as f64;
        let given_back = 100.0 * (1.0 - kept / growth.max(1.0));
        figures.insert("given_back_pct".into(), json!(round(given_back, 1)));
    }
    figures.insert("errors".into(), json!(opened.failures + lost));
    Ok(figures)
}

/// Answers pings for that long and says how many connections ended.
fn hold(ep: &mut Epoll, clients: &mut [Client], secs: f64) -> usize {
    let mut scratch = vec![0; ws::SCRATCH];
    let mut lost = 0;
    let end = now_ns() + nanos(secs);
    while now_ns() < end {
        for i in 0..ep.wait(end.saturating_sub(now_ns()).min(SEC)) {
            let (token, flags) = ep.event(i);
            let client = &mut clients[token];
            if client.state == State::Open && !client.pump(ep, token, flags, &mut scratch, |_, _| {}) {
                lost += 1;
            }
        }
    }
    lost
}

//! Connect, upgrade, close handshake, end of stream; again and again in a fixed number of slots.

use std::io;

use serde_json::json;

use super::{Figures, Watch, Window, latency, memory};
use crate::client::{Client, State, Target, histogram};
use crate::sys::{Epoll, nanos, now_ns};
use crate::ws;

/// One run.
#[derive(Clone, Copy)]
pub struct Handshakes {
    pub concurrency: usize,
    pub secs: f64,
    pub warmup: f64,
}

struct Slot {
    client: Client,
    /// The close frame was answered.
    closed: bool,
}

/// Runs them and returns their figures. One counts when its TCP stream has ended after both close frames.
pub fn run(to: &Target, p: Handshakes, watch: Watch) -> io::Result<Figures> {
    let mut ep = Epoll::new()?;
    let mut scratch = vec![0; ws::SCRATCH];
    let close = ws::client_frame(ws::CLOSE, &1000u16.to_be_bytes());
    let mut times = histogram();
    let mut slots: Vec<Option<Slot>> = (0..p.concurrency).map(|_| None).collect();
    let (mut started, mut completed, mut failures, mut unclean) = (0, 0u64, 0u64, 0u64);
    let start = now_ns() + nanos(p.warmup);
    let end = start + nanos(p.secs);
    let mut window = None;
    while now_ns() < end {
        if window.is_none() && now_ns() >= start {
            window = Some(Window::open(watch));
            completed = 0;
            times.reset();
        }
        for (token, slot) in slots.iter_mut().enumerate().filter(|(_, slot)| slot.is_none()) {
            match Client::start(&ep, to, token, started) {
                Ok(client) => *slot = Some(Slot { client, closed: false }),
                Err(_) => failures += 1,
            }
            started += 1;
        }
        for i in 0..ep.wait(1_000_000) {
            let (token, flags) = ep.event(i);
            let Some(Slot { client, closed }) = slots[token].as_mut() else { continue };
            if client.state == State::Open {
                let on_frame = |head: &ws::Head, _: &[u8]| *closed |= head.opcode() == ws::CLOSE;
                if !client.pump(&ep, token, flags, &mut scratch, on_frame) {
                    completed += 1;
                    unclean += u64::from(!*closed);
                }
            } else {
                client.handshake(&ep, to, token, &mut scratch);
                if client.state == State::Open {
                    times.saturating_record(now_ns() - client.started);
                    client.send(&ep, token, &close);
                } else if client.state == State::Dead {
                    failures += 1;
                }
            }
            if client.state == State::Dead {
                slots[token] = None;
            }
        }
    }
    let mut figures = Figures::new();
    let window = window.unwrap_or_else(|| Window::open(watch));
    let secs = window.close(&mut figures, "handshake", completed);
    figures.insert("handshakes_per_s".into(), json!((completed as f64 / secs).round()));
    latency(&mut figures, &times);
    memory(&mut figures, watch, "after");
    // With those before the window: what `strace -c` counts is all that the proxy has ever done.
    figures.insert("started".into(), json!(started));
    figures.insert("without_close_frame".into(), json!(unclean));
    figures.insert("errors".into(), json!(failures + unclean));
    Ok(figures)
}

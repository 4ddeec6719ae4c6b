//! What stands behind the proxies: an echo server that can flood its clients instead.

use std::io;
use std::net::TcpListener;

use crate::server::Conns;
use crate::sys::{Epoll, IN, SEC, now_ns};
use crate::ws;

/// The listener's place among the tokens.
const LISTENER: usize = 0;

/// Messages to every client, whatever it says.
#[derive(Clone, Copy)]
pub struct Flood {
    /// Messages per second to each client.
    pub rate: f64,
    /// Bytes of a message, at least [`STAMP`].
    pub size: usize,
}

/// Each flooded message begins with the moment its round began and the number of the round, each as
/// 16 hex digits.
pub const STAMP: usize = 32;

/// Serves until `max_secs` have passed: a server that was forgotten ends by itself.
pub fn serve(listener: &TcpListener, flood: Option<Flood>, max_secs: u64) -> io::Result<()> {
    let mut ep = Epoll::new()?;
    ep.add(listener, LISTENER, IN)?;
    let mut conns = Conns::new(LISTENER + 1);
    let mut scratch = vec![0; ws::SCRATCH];
    let mut reply = Vec::new();
    let end = now_ns() + max_secs * SEC;
    let period = flood.map_or(SEC, |f| (SEC as f64 / f.rate) as u64);
    let (mut tick, mut round) = (now_ns() + period, 0);
    while now_ns() < end {
        if now_ns() >= tick {
            if let Some(flood) = flood {
                conns.send_to_all(&ep, &frame(&message(flood.size, round)));
                round += 1;
            }
            tick = (tick + period).max(now_ns().saturating_sub(period));
        }
        for i in 0..ep.wait(tick.saturating_sub(now_ns())) {
            let (token, flags) = ep.event(i);
            if token == LISTENER {
                conns.accept(&ep, listener)?;
            } else {
                conns.serve_one(&ep, token, flags, &mut scratch, &mut reply, flood.is_none());
            }
        }
    }
    Ok(())
}

/// A message of `size` bytes that says when it was made, and its number.
pub fn message(size: usize, number: u64) -> Vec<u8> {
    let mut payload = Vec::with_capacity(size.max(STAMP));
    payload.extend_from_slice(&ws::hex16(now_ns()));
    payload.extend_from_slice(&ws::hex16(number));
    payload.resize(size.max(STAMP), b'x');
    payload
}

/// The message as a server sends it.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    ws::put_head(&mut frame, ws::FIN | ws::TEXT, payload.len(), None);
    frame.extend_from_slice(payload);
    frame
}

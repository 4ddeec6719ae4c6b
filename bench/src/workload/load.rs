//! Echo round trips: each connection sends its next message when the last one came back, or at its next moment after.
//!
//! Messages of 16 bytes and more carry a number: one that comes back wrong, twice, or out of order is
//! an error, and so is a connection that ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

use serde_json::json;

use super::{Figures, Watch, Window, latency, memory, round};
use crate::client::{Client, Opening, State, Target, histogram, open_all};
use crate::sys::{Epoll, nanos, now_ns};
use crate::ws;

/// One run.
#[derive(Clone, Copy)]
pub struct Load {
    pub conns: usize,
    /// Payload bytes of a message.
    pub size: usize,
    /// From one message of a connection to its next, in seconds; 0: as soon as it came back.
    pub every: f64,
    pub secs: f64,
    pub warmup: f64,
}

/// Digits of a message's number.
const NUMBER: usize = 16;

/// The one message a connection has under way.
#[derive(Clone, Default)]
struct Flow {
    /// When its message was to be sent.
    due: u64,
    sent_at: u64,
    number: u64,
    /// Payload so far of an answer that arrives in fragments (a proxy may cut it so).
    partial: usize,
    /// The answer is there, and the next message is due.
    answered: bool,
}

impl Flow {
    /// Takes one data frame; true if it is not what was sent.
    fn receive(&mut self, head: &ws::Head, payload: &[u8], size: usize) -> bool {
        let begins = head.opcode() != ws::CONTINUATION;
        let numbered = size >= NUMBER;
        let mut wrong = head.mask.is_some() || begins == (self.partial > 0) || self.answered;
        if begins && numbered {
            wrong |= payload.get(..NUMBER) != Some(&ws::hex16(self.number));
        }
        self.partial += payload.len();
        if head.ends_message() {
            wrong |= self.partial != size;
            self.partial = 0;
            self.answered = true;
        }
        wrong
    }
}

/// A message that is sent again and again, with another number each time.
struct Message {
    frame: Vec<u8>,
    payload_at: usize,
}

impl Message {
    fn new(size: usize) -> Self {
        let frame = ws::client_frame(ws::BINARY, &vec![b'x'; size]);
        Self { payload_at: frame.len() - size, frame }
    }

    fn send(&mut self, ep: &Epoll, client: &mut Client, token: usize, flow: &mut Flow) {
        if let Some(number) = self.frame.get_mut(self.payload_at..self.payload_at + NUMBER) {
            let mut digits = ws::hex16(flow.number);
            ws::xor(&mut digits, ws::MASK);
            number.copy_from_slice(&digits);
        }
        flow.answered = false;
        flow.sent_at = now_ns();
        client.send(ep, token, &self.frame);
    }
}

/// Runs the load and returns its figures.
pub fn run(to: &Target, p: Load, watch: Watch) -> io::Result<Figures> {
    let mut ep = Epoll::new()?;
    let mut opened = open_all(&mut ep, to, Opening::few(p.conns));
    let mut flows = vec![Flow::default(); opened.clients.len()];
    let mut message = Message::new(p.size);
    let mut scratch = vec![0; ws::SCRATCH];
    let mut times = histogram();
    let (mut completed, mut corrupt, mut lost) = (0u64, 0u64, 0u64);
    let start = now_ns() + nanos(p.warmup);
    let end = start + nanos(p.secs);
    // Spread over the time between two messages of one connection: never all at once.
    let (pace, all) = (nanos(p.every), opened.clients.len().max(1) as u64);
    let mut agenda = BinaryHeap::new();
    let began = now_ns();
    for (token, _) in opened.clients.iter().enumerate().filter(|(_, c)| c.state == State::Open) {
        flows[token].due = began + pace * token as u64 / all;
        agenda.push(Reverse((flows[token].due, token)));
    }
    let mut window = None;
    while now_ns() < end {
        if window.is_none() && now_ns() >= start {
            window = Some(Window::open(watch));
        }
        let mut patience = 10_000_000;
        while let Some(&Reverse((due, token))) = agenda.peek() {
            let early = due.saturating_sub(now_ns());
            if early > 0 {
                patience = early.min(patience);
                break;
            }
            agenda.pop();
            let client = &mut opened.clients[token];
            if client.state == State::Open {
                message.send(&ep, client, token, &mut flows[token]);
            }
        }
        for i in 0..ep.wait(patience) {
            let (token, flags) = ep.event(i);
            let (client, flow) = (&mut opened.clients[token], &mut flows[token]);
            if client.state == State::Dead {
                continue;
            }
            let alive = client.pump(&ep, token, flags, &mut scratch, |head, payload| {
                corrupt += u64::from(head.is_data() && flow.receive(head, payload, p.size));
            });
            if !alive {
                lost += 1;
            } else if flow.answered {
                if window.is_some() {
                    completed += 1;
                    times.saturating_record(now_ns() - flow.sent_at);
                }
                flow.number += 1;
                if pace == 0 {
                    message.send(&ep, client, token, flow);
                } else {
                    flow.answered = false;
                    flow.due += pace;
                    agenda.push(Reverse((flow.due, token)));
                }
            }
        }
    }

    let mut figures = Figures::new();
    let window = window.unwrap_or_else(|| Window::open(watch));
    let secs = window.close(&mut figures, "message", completed);
    latency(&mut figures, &times);
    memory(&mut figures, watch, "after");
    // A connection that went quiet would not show in any percentile.
    let waiting = |(client, flow): (&Client, &Flow)| {
        if client.state == State::Open { end.saturating_sub(flow.sent_at.max(flow.due)) } else { 0 }
    };
    let oldest = opened.clients.iter().zip(&flows).map(waiting).max().unwrap_or(0);
    figures.insert("messages_per_s".into(), json!((completed as f64 / secs).round()));
    figures.insert("oldest_unanswered_ms".into(), json!(round(oldest as f64 / 1e6, 1)));
    figures.insert("corrupt".into(), json!(corrupt));
    figures.insert("lost_connections".into(), json!(lost));
    figures.insert("errors".into(), json!(opened.failures as u64 + corrupt + lost));
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(first: u8, len: usize) -> ws::Head {
        ws::Head { first, mask: None, size: 2, len }
    }

    #[test]
    fn an_answer_is_right_whole_or_in_fragments_and_only_once() {
        let payload = ws::hex16(0);
        let mut flow = Flow::default();
        assert!(!flow.receive(&head(ws::FIN | ws::BINARY, 16), &payload, 16));
        assert!(flow.answered);
        assert!(flow.receive(&head(ws::FIN | ws::BINARY, 16), &payload, 16), "a second answer");

        let long = [&payload[..], b"xxxx"].concat();
        let mut flow = Flow::default();
        assert!(!flow.receive(&head(ws::BINARY, 18), &long[..18], 20));
        assert!(!flow.answered);
        assert!(!flow.receive(&head(ws::FIN | ws::CONTINUATION, 2), &long[18..], 20));
        assert!(flow.answered);
    }

    #[test]
    fn a_wrong_number_length_mask_or_fragment_is_an_error() {
        let (right, wrong) = (ws::hex16(0), ws::hex16(1));
        let fin = ws::FIN | ws::BINARY;
        assert!(Flow::default().receive(&head(fin, 16), &wrong, 16));
        assert!(Flow::default().receive(&head(fin, 16), &right, 20));
        assert!(Flow::default().receive(&head(ws::FIN | ws::CONTINUATION, 16), &right, 16));
        let masked = ws::Head { mask: Some(ws::MASK), ..head(fin, 16) };
        assert!(Flow::default().receive(&masked, &right, 16));
    }
}

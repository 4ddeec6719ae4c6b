//! Whole messages over a [`Link`], for tests that care about what is said and not how it is cut.
//!
//! Reading messages answers pings, as every WebSocket stack does.

use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::Instant;

use super::{Link, Received};
use crate::support::wire::{self, Frame};

/// A whole data message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Text(String),
    Binary(Vec<u8>),
}

impl Link {
    #[track_caller]
    pub fn text(&mut self, text: &str) -> impl Future<Output = ()> {
        let frame = Frame::text(text);
        let caller = Location::caller();
        async move { self.send_or_panic(frame, caller).await }
    }

    #[track_caller]
    pub fn binary(&mut self, payload: &[u8]) -> impl Future<Output = ()> {
        let frame = Frame::binary(payload);
        let caller = Location::caller();
        async move { self.send_or_panic(frame, caller).await }
    }

    #[track_caller]
    pub fn ping(&mut self, payload: &[u8]) -> impl Future<Output = ()> {
        let frame = Frame::ping(payload);
        let caller = Location::caller();
        async move { self.send_or_panic(frame, caller).await }
    }

    #[track_caller]
    pub fn close(&mut self, code: u16, reason: &str) -> impl Future<Output = ()> {
        let frame = Frame::close(code, reason);
        let caller = Location::caller();
        async move { self.send_or_panic(frame, caller).await }
    }

    /// The next data message, put together from its frames. Answers pings, skips pongs.
    #[track_caller]
    pub fn next_message(&mut self) -> impl Future<Output = Message> {
        let caller = Location::caller();
        async move { self.assemble(caller).await }
    }

    /// The next text within this time, of a connection that is to stay and on which nobody says bytes. Answers pings.
    #[track_caller]
    pub fn text_within(&mut self, patience: Duration) -> impl Future<Output = Option<String>> {
        let caller = Location::caller();
        let until = Instant::now() + patience;
        async move {
            loop {
                match self.receive_within(until - Instant::now()).await? {
                    Received::End(end) => panic!("{caller}: it was let go: {end:?}"),
                    Received::Frame(frame) if frame.opcode == wire::PING => {
                        let sent = self.try_send_frame(&Frame::pong(frame.payload)).await;
                        sent.unwrap_or_else(|error| panic!("{caller}: it was let go: {error}"));
                    }
                    Received::Frame(frame) => {
                        assert_eq!(frame.opcode, wire::TEXT, "{caller}: {frame:?}");
                        return Some(frame.as_text().to_owned());
                    }
                }
            }
        }
    }

    /// The next data message must be this text. Answers pings, skips pongs.
    #[track_caller]
    pub fn expect_text(&mut self, expected: &str) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            let message = self.assemble(caller).await;
            assert_eq!(message, Message::Text(expected.to_owned()), "{caller}");
        }
    }

    /// The next data message must be these bytes. Answers pings, skips pongs.
    #[track_caller]
    pub fn expect_binary(&mut self, expected: &[u8]) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            let message = self.assemble(caller).await;
            // Not assert_eq: a megabyte of differing bytes helps nobody.
            match message {
                Message::Binary(bytes) if bytes == expected => {}
                Message::Binary(bytes) => panic!(
                    "{caller}: {} bytes came instead of {}; first difference at {:?}",
                    bytes.len(),
                    expected.len(),
                    bytes.iter().zip(expected).position(|(came, due)| came != due)
                ),
                Message::Text(text) => panic!("{caller}: text came instead of bytes: {text:?}"),
            }
        }
    }

    /// The next frame must be a pong with this payload.
    #[track_caller]
    pub fn expect_pong(&mut self, payload: &[u8]) -> impl Future<Output = ()> {
        let caller = Location::caller();
        let next = self.next_frame();
        async move {
            let frame = next.await;
            assert!(
                frame.opcode == wire::PONG && frame.payload == payload,
                "{caller}: a pong \"{}\" was due, but: {frame:?}",
                payload.escape_ascii()
            );
        }
    }

    /// Lives on for this long: answers every ping, says nothing else, and returns how many pings came.
    /// Panics when the connection ends or a data message arrives.
    #[track_caller]
    pub fn answer_pings_for(&mut self, time: Duration) -> impl Future<Output = usize> {
        let caller = Location::caller();
        async move {
            let until = Instant::now() + time;
            let mut pings = 0;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                match self.receive_within(left).await {
                    Some(Received::Frame(frame)) if frame.opcode == wire::PING => {
                        pings += 1;
                        self.send_or_panic(Frame::pong(frame.payload), caller).await;
                    }
                    Some(other) => panic!("{caller}: {}: only pings were due, but: {other:?}", self.name),
                    None => break,
                }
            }
            pings
        }
    }

    async fn send_or_panic(&mut self, frame: Frame, caller: &'static Location<'static>) {
        if let Err(error) = self.try_send_frame(&frame).await {
            panic!("{caller}: {}: {frame:?} could not be sent: {error}; {}", self.name, self.story());
        }
    }

    async fn assemble(&mut self, caller: &'static Location<'static>) -> Message {
        let mut started: Option<(u8, Vec<u8>)> = None;
        loop {
            let frame = match self.receive_within(self.deadline).await {
                Some(Received::Frame(frame)) => frame,
                Some(Received::End(end)) => {
                    panic!("{caller}: {}: a message was due, but: {end:?}; {}", self.name, self.story())
                }
                None => {
                    panic!("{caller}: {}: no message in {:?}; {}", self.name, self.deadline, self.story())
                }
            };
            match (frame.opcode, &mut started) {
                (wire::PING, _) => {
                    self.send_or_panic(Frame::pong(frame.payload), caller).await;
                    continue;
                }
                (wire::PONG, _) => continue,
                (wire::TEXT | wire::BINARY, None) => started = Some((frame.opcode, frame.payload)),
                (wire::CONTINUATION, Some((_, payload))) => payload.extend(frame.payload),
                _ => panic!("{caller}: {}: {frame:?} is out of place; {}", self.name, self.story()),
            }
            if !frame.fin {
                continue;
            }
            return match started.take() {
                Some((wire::TEXT, payload)) => {
                    let text = String::from_utf8(payload);
                    Message::Text(text.unwrap_or_else(|_| panic!("{caller}: a text message is not UTF-8")))
                }
                Some((_, payload)) => Message::Binary(payload),
                None => unreachable!("a final frame was just put in"),
            };
        }
    }
}

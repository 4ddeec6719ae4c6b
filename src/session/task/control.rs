//! What is told to a client that speaks the protocol among the messages ([`crate::delivery::control`]), over one of its links. Pure.
//!
//! # Invariants
//! 1. The hello is the first frame of a link.
//! 2. What waits to be told is bounded ([`MAX_FRAMES`]).
//! 3. Nothing follows the bye, which tells what was received.
//!
//! # Not here
//! What a session tells when ([`super::telling`]).

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::time::Instant;

use crate::connections::EndedSession;
use crate::delivery::control::{Acknowledgements, FromProxy};
use crate::net::own_protocols::Nonce;

/// Frames that may wait for a client that takes nothing.
const MAX_FRAMES: usize = 64;

/// What a client that speaks the protocol has to hear first.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Greeted {
    /// Of its handshake.
    pub nonce: Option<Nonce>,
    /// How many messages it will never get of a session that it has asked for; `None`: it is not known.
    pub missed: Option<u64>,
    /// What is known of a session that it has asked for and that is over.
    pub previous: Option<EndedSession>,
}

/// One link of such a client.
#[derive(Debug)]
pub(super) struct Control {
    /// The number of the ticket that it was given on this link, until it has shown that it has it.
    unproven: Option<u32>,
    acknowledgements: Acknowledgements,
    /// Until it goes out.
    hello: Option<Bytes>,
    frames: VecDeque<Bytes>,
    /// Whether it is to be told how many of its messages were received: the newest number, however long it takes nothing.
    has_ack: bool,
    /// What it asked for last, not answered yet.
    pong: Option<u64>,
    /// Whether a Close of its means that it comes back.
    detaches: bool,
    has_said_bye: bool,
}

impl Control {
    /// A link whose `hello` tells `received`, and the ticket with the number `generation`.
    pub(super) fn new(hello: Bytes, generation: Option<u32>, received: u64, now: Instant) -> Self {
        Self {
            unproven: generation,
            acknowledgements: Acknowledgements::new(received, now),
            hello: Some(hello),
            frames: VecDeque::new(),
            has_ack: false,
            pong: None,
            detaches: false,
            has_said_bye: false,
        }
    }

    /// What goes out before the next message.
    pub(super) fn next_frame(&mut self, encode: impl Fn(&FromProxy) -> Option<Bytes>) -> Option<Bytes> {
        self.hello.take().or_else(|| self.frames.pop_front()).or_else(|| {
            if self.has_said_bye {
                return None;
            }
            let has_ack = std::mem::take(&mut self.has_ack);
            let ack = has_ack.then(|| FromProxy::Ack(self.acknowledgements.told()));
            let next = ack.or_else(|| self.pong.take().map(FromProxy::Pong))?;
            encode(&next)
        })
    }

    /// Whether something waits that is told once.
    pub(super) fn has_frames(&self) -> bool {
        self.hello.is_some() || !self.frames.is_empty()
    }

    /// Whether the hello was handed to the link.
    pub(super) fn is_greeted(&self) -> bool {
        self.hello.is_none()
    }

    /// Whether the last words were said: nothing may follow them.
    pub(super) fn has_said_bye(&self) -> bool {
        self.has_said_bye
    }

    /// Adds a frame. False: the client takes nothing, and as many wait as may.
    pub(super) fn push(&mut self, frame: Bytes) -> bool {
        let has_room = self.frames.len() < MAX_FRAMES;
        if has_room {
            self.frames.push_back(frame);
        }
        has_room
    }

    /// The client said a message.
    pub(super) fn on_message(&mut self, bytes: usize) {
        self.acknowledgements.on_message(bytes);
    }

    /// The client said something beside its messages: it has read its hello, and so has the ticket in it. Answers the number of
    /// that, the first time.
    pub(super) fn prove(&mut self) -> Option<u32> {
        self.unproven.take()
    }

    /// Whether it has still to show that.
    pub(super) fn is_unproven(&self) -> bool {
        self.unproven.is_some()
    }

    /// The client asked. Only the newest question is answered.
    pub(super) fn on_ping(&mut self, number: u64) {
        self.pong = Some(number);
    }

    /// The client comes back, whatever its Close says.
    pub(super) fn on_detach(&mut self) {
        self.detaches = true;
    }

    /// Whether a Close of its means that it comes back.
    pub(super) fn detaches(&self) -> bool {
        self.detaches
    }

    /// Tells the client what was received of it, where that is due.
    pub(super) fn acknowledge(&mut self, received: u64, now: Instant) {
        if !self.has_said_bye {
            self.has_ack |= self.acknowledgements.take_due(received, now).is_some();
        }
    }

    /// When that is to be asked if nothing more comes.
    pub(super) fn next_due(&self, received: u64) -> Option<Instant> {
        self.acknowledgements.next_due(received).filter(|_| !self.has_said_bye)
    }

    /// Adds the last words, which tell what was received.
    pub(super) fn say_bye(&mut self, frame: Bytes) {
        self.has_said_bye = true;
        self.frames.push_back(frame);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::delivery::control::Prefix;
    use crate::frame::Header;

    fn prefix() -> Prefix {
        Prefix::new(*b"~AAAAAAAAAAAAAA:").unwrap()
    }

    /// What is told next, without the prefix.
    fn next(control: &mut Control) -> Option<String> {
        let frame = control.next_frame(|frame| Some(frame.frame(&prefix())))?;
        let header = Header::parse(&frame).unwrap().unwrap();
        let text = String::from_utf8(frame[header.size..].to_vec()).unwrap();
        Some(text.trim_start_matches(prefix().as_str()).to_owned())
    }

    fn control(now: Instant) -> Control {
        let mut control = Control::new(Bytes::new(), None, 0, now);
        control.hello = None;
        control
    }

    #[test]
    fn who_says_much_and_takes_nothing_is_told_the_newest_number_alone() {
        let start = Instant::now();
        let mut control = control(start);
        for received in 1..=1000 * MAX_FRAMES as u64 {
            control.on_message(10);
            control.acknowledge(received, start);
            control.on_ping(received);
        }
        assert!(!control.has_frames(), "nobody is too slow for that");
        assert_eq!(next(&mut control).as_deref(), Some(r#"{"ack":64000}"#));
        assert_eq!(next(&mut control).as_deref(), Some(r#"{"pong":64000}"#));
        assert_eq!(next(&mut control), None);
    }

    #[test]
    fn nothing_follows_the_bye() {
        let start = Instant::now();
        let mut control = control(start);
        control.on_message(10);
        assert_eq!(control.next_due(1), Some(start + Duration::from_secs(1)));
        assert!(control.push(FromProxy::SERVER_BACK.frame(&prefix())) && !control.has_said_bye());
        control.say_bye(FromProxy::SERVER_LOST.frame(&prefix()));
        assert!(control.has_said_bye());
        control.on_ping(7);
        let later = start + Duration::from_secs(2);
        control.acknowledge(1, later);
        assert_eq!(next(&mut control).as_deref(), Some(r#"{"server":"back"}"#));
        assert_eq!(next(&mut control).as_deref(), Some(r#"{"server":"lost"}"#));
        assert_eq!((next(&mut control), control.next_due(1)), (None, None));
    }
}

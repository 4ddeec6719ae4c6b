//! The body of an answer that is written over time: one piece at most lies between who writes it and hyper, which sends it.
//!
//! # Invariants
//! 1. Nobody is woken here: who writes polls hyper's future right after that, and whenever its own task is woken
//!    ([`super`]).

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use parking_lot::Mutex;

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Empty,
    Piece(Bytes),
    /// Nothing more is written; `last` was not taken yet.
    Ending {
        last: Option<Bytes>,
    },
    /// hyper has all of it.
    Taken,
}

/// A body, as it is written.
#[derive(Debug)]
pub(crate) struct BodyWriter(Arc<Mutex<Slot>>);

/// A body, as hyper reads it.
#[derive(Debug)]
pub(crate) struct BodyReader(Arc<Mutex<Slot>>);

/// A body, of which nothing was written yet.
pub(crate) fn body() -> (BodyWriter, BodyReader) {
    let slot = Arc::default();
    (BodyWriter(Arc::clone(&slot)), BodyReader(slot))
}

impl BodyWriter {
    /// Copies all of `bytes`, if there is room for them.
    pub(super) fn poll_write(&mut self, bytes: &[u8]) -> Poll<usize> {
        let mut slot = self.0.lock();
        match *slot {
            Slot::Empty if bytes.is_empty() => Poll::Ready(0),
            Slot::Empty => {
                *slot = Slot::Piece(Bytes::copy_from_slice(bytes));
                Poll::Ready(bytes.len())
            }
            Slot::Piece(_) | Slot::Ending { .. } | Slot::Taken => Poll::Pending,
        }
    }

    /// Nothing more is written.
    pub(super) fn end(&mut self) {
        let mut slot = self.0.lock();
        *slot = match std::mem::take(&mut *slot) {
            Slot::Empty => Slot::Ending { last: None },
            Slot::Piece(last) => Slot::Ending { last: Some(last) },
            ended @ (Slot::Ending { .. } | Slot::Taken) => ended,
        };
    }

    /// Whether hyper was told of the end, after all pieces.
    pub(super) fn is_taken(&self) -> bool {
        matches!(*self.0.lock(), Slot::Taken)
    }
}

impl Body for BodyReader {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut slot = self.0.lock();
        let (left, piece) = match std::mem::take(&mut *slot) {
            Slot::Empty => (Slot::Empty, Poll::Pending),
            Slot::Piece(piece) => (Slot::Empty, Poll::Ready(Some(piece))),
            Slot::Ending { last: Some(last) } => (Slot::Ending { last: None }, Poll::Ready(Some(last))),
            Slot::Ending { last: None } | Slot::Taken => (Slot::Taken, Poll::Ready(None)),
        };
        *slot = left;
        piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn read(reader: &mut BodyReader) -> Poll<Option<Bytes>> {
        let frame = Pin::new(reader).poll_frame(&mut Context::from_waker(Waker::noop()));
        frame.map(|frame| frame.map(|frame| frame.unwrap().into_data().unwrap()))
    }

    #[test]
    fn one_piece_waits_at_most_and_the_end_comes_after_it() {
        let (mut writer, mut reader) = body();
        assert_eq!(read(&mut reader), Poll::Pending);
        assert_eq!(writer.poll_write(b""), Poll::Ready(0));
        assert_eq!(read(&mut reader), Poll::Pending, "an empty piece is none");
        assert_eq!(writer.poll_write(b"one"), Poll::Ready(3));
        assert_eq!(writer.poll_write(b"two"), Poll::Pending);
        assert_eq!(read(&mut reader), Poll::Ready(Some("one".into())));
        assert_eq!(writer.poll_write(b"two"), Poll::Ready(3));
        writer.end();
        writer.end();
        assert_eq!(writer.poll_write(b"three"), Poll::Pending);
        assert_eq!(read(&mut reader), Poll::Ready(Some("two".into())));
        assert!(!writer.is_taken());
        assert_eq!(read(&mut reader), Poll::Ready(None));
        writer.end();
        assert!(writer.is_taken());
        assert_eq!(read(&mut reader), Poll::Ready(None));

        let (mut writer, mut reader) = body();
        writer.end();
        assert_eq!(read(&mut reader), Poll::Ready(None));
        assert!(writer.is_taken());
    }
}

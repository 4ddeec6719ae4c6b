//! Between plaintext and records: drives rustls without buffers of its own.
//!
//! # Invariants
//! 1. After [`Records::decrypt`] nothing whole is left in what it was given: what it did not use up is the
//!    beginning of a record, or of a handshake message.
//! 2. Records leave in the order they were encrypted in: they are numbered.
//! 3. After an error rustls is not asked again: it may count on bytes that are gone.
//!
//! # Why not rustls' buffered connection?
//! It keeps a buffer of 4 KiB for as long as it lives, and reads no more than that at once: an idle
//! connection would cost twice as much, and a message of 64 KiB sixteen reads.

use rustls::Error;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};

/// The longest handshake of one side, or answers that a peer asks for without reading them.
const MAX_UNSENT: usize = 256 * 1024;

/// Bytes on their way, taken from the front. Empty means no memory.
#[derive(Default)]
pub(super) struct ByteQueue {
    bytes: Vec<u8>,
    taken: usize,
}

impl ByteQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    pub(super) fn front(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    pub(super) fn push(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
    }

    pub(super) fn take(&mut self, n: usize) {
        self.taken += n;
        if self.taken >= self.bytes.len() {
            *self = Self::default();
        }
    }

    fn grow(&mut self, by: usize) -> &mut [u8] {
        let end = self.bytes.len();
        self.bytes.resize(end + by, 0);
        &mut self.bytes[end..]
    }
}

/// Which end of the hop we are.
pub(super) enum End {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What is to be encrypted.
#[derive(Clone, Copy)]
pub(super) enum Outgoing<'a> {
    Data(&'a [u8]),
    /// RFC 8446 §6.1: nothing follows it.
    CloseNotify,
}

/// What rustls wanted.
enum Step {
    /// It was done; there may be more.
    More,
    /// The peer sent its close_notify.
    PeerEnded,
    /// So many bytes were encrypted.
    Encrypted(usize),
    /// Nothing: it waits for more from the peer, or for more to encrypt.
    Idle,
}

/// The state of one connection.
pub(super) struct Records {
    end: End,
    /// Encrypted, and not sent yet.
    pub(super) unsent: ByteQueue,
    /// The peer has sent its close_notify.
    pub(super) has_peer_ended: bool,
    has_failed: bool,
}

impl Records {
    pub(super) fn new(end: End) -> Self {
        Self { end, unsent: ByteQueue::default(), has_peer_ended: false, has_failed: false }
    }

    pub(super) fn state(&self) -> &rustls::CommonState {
        match &self.end {
            End::Server(server) => server,
            End::Client(client) => client,
        }
    }

    pub(super) fn is_server(&self) -> bool {
        matches!(self.end, End::Server(_))
    }

    /// Decrypts what came into `plain`; answers how much of it, from the front, is used up. May leave something to be
    /// sent, even if it fails: the alert that tells why.
    pub(super) fn decrypt(
        &mut self,
        received: &mut [u8],
        plain: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, Error> {
        if self.has_failed {
            return Err(failed());
        }
        let mut used = 0;
        loop {
            let (discard, step) = self.step(&mut received[used..], None, &mut [], plain);
            used += discard;
            match step {
                Ok(Step::More) => {}
                Ok(Step::PeerEnded) => self.has_peer_ended = true,
                Ok(Step::Encrypted(_) | Step::Idle) => return Ok(used),
                Err(error) => {
                    // Its alert about it: while there is one to send, rustls looks at nothing else.
                    while self.state().wants_write() {
                        if self.step(&mut received[used..], None, &mut [], plain).1.is_err() {
                            break;
                        }
                    }
                    self.has_failed = true;
                    return Err(error);
                }
            }
            if self.unsent.len() > MAX_UNSENT {
                self.has_failed = true;
                return Err(Error::General("the peer does not take the answers it asks for".into()));
            }
        }
    }

    /// Encrypts `outgoing` into `out`; answers its length there. `held` is what [`Records::decrypt`] did not use
    /// up. What is `unsent` afterwards goes before it.
    pub(super) fn encrypt(
        &mut self,
        held: &mut Vec<u8>,
        outgoing: Outgoing<'_>,
        out: &mut [u8],
        plain: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, Error> {
        if self.has_failed {
            return Err(failed());
        }
        loop {
            let (discard, step) = self.step(held, Some(outgoing), out, plain);
            held.drain(..discard);
            match step {
                Ok(Step::More) => {}
                Ok(Step::PeerEnded) => self.has_peer_ended = true,
                Ok(Step::Encrypted(n)) => return Ok(n),
                Ok(Step::Idle) => return Err(Error::HandshakeNotComplete),
                Err(error) => {
                    self.has_failed = true;
                    return Err(error);
                }
            }
        }
    }

    fn step(
        &mut self,
        received: &mut [u8],
        outgoing: Option<Outgoing<'_>>,
        out: &mut [u8],
        plain: &mut dyn FnMut(&[u8]),
    ) -> (usize, Result<Step, Error>) {
        match &mut self.end {
            End::Server(server) => {
                apply(server.process_tls_records(received), outgoing, out, &mut self.unsent, plain)
            }
            End::Client(client) => {
                apply(client.process_tls_records(received), outgoing, out, &mut self.unsent, plain)
            }
        }
    }
}

fn failed() -> Error {
    Error::General("the connection has failed before".into())
}

/// Does what rustls asks for.
fn apply<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    outgoing: Option<Outgoing<'_>>,
    out: &mut [u8],
    unsent: &mut ByteQueue,
    plain: &mut dyn FnMut(&[u8]),
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                None => break Ok(Step::More),
                Some(Err(error)) => break Err(error),
                Some(Ok(record)) => {
                    discard += record.discard;
                    plain(record.payload);
                }
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            // An empty place is always too small, and tells how large it has to be.
            let written = match data.encode(&mut []) {
                Err(EncodeError::InsufficientSize(short)) => data.encode(unsent.grow(short.required_size)),
                other => other,
            };
            written.map(|_| Step::More).map_err(|error| Error::General(error.to_string()))
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // It is ours to send from now on.
            data.done();
            Ok(Step::More)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerEnded),
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match outgoing {
            None => Ok(Step::Idle),
            Some(Outgoing::Data(data)) => encrypted(traffic.encrypt(data, out)),
            Some(Outgoing::CloseNotify) => encrypted(traffic.queue_close_notify(out)),
        },
        // Early data is never asked for.
        Ok(_) => Ok(Step::Idle),
    };
    (discard, step)
}

fn encrypted<E: std::fmt::Display>(result: Result<usize, E>) -> Result<Step, Error> {
    result.map(Step::Encrypted).map_err(|error| Error::General(error.to_string()))
}

//! Ends a client's connection so that the last answer arrives: the kernel turns bytes that are left unread into a reset.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::admission::Refused;
use crate::net::{Peer, Stream};
use crate::server::request::errors;
use crate::server::state::State;

/// How long a client may go on sending after our last byte before its connection is dropped.
pub(in crate::server) const LINGER: Duration = Duration::from_secs(2);
/// How much of that is read at most.
const LINGER_BYTES: usize = 4 << 20;

/// As [`refuse`], and counts and logs the refusal.
pub(super) async fn refuse_and_log(state: &State, peer: &Peer, stream: Stream, refused: &Refused) {
    errors::record(state, peer, refused);
    refuse(stream, refused).await;
}

/// Answers a request that could not be read as one, and lets the answer arrive.
pub(in crate::server) async fn refuse(mut stream: Stream, refused: &Refused) {
    let answered = async {
        stream.write_all(&refused.to_bytes()).await?;
        linger(stream).await
    };
    // A client that does not read the answer in time does without it.
    let _ = timeout(LINGER, answered).await;
}

/// Shuts our direction down, and reads on until the client has shut down its own or enough was read.
pub(super) async fn linger(mut stream: Stream) -> io::Result<()> {
    stream.shutdown().await?;
    // On the heap: inside the future it would make the task of every connection larger.
    let mut sink = vec![0; 8192];
    let mut left = LINGER_BYTES;
    while left > 0 {
        match stream.read(&mut sink).await? {
            0 => break,
            n => left = left.saturating_sub(n),
        }
    }
    Ok(())
}

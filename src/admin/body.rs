//! A request's body, read with a bound on its length and on its time.

use std::fmt::Display;
use std::pin::pin;
use std::time::Duration;

use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Bytes;
use tokio::time::timeout;

/// How long a whole body may take: publishers are near, as a rule.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How much of a body that is too long is read and discarded beyond the bound: with unread bytes the kernel would reset the
/// connection, and the answer would be lost.
const MAX_DISCARDED: usize = 16 << 20;

/// Why a body was not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// Longer than it may be.
    TooLong,
    /// It did not come in time.
    TimedOut,
    /// It did not come whole.
    Broken(String),
}

/// All of `body`, if that is at most `max` bytes.
pub(super) async fn read<B>(body: B, max: usize) -> Result<Vec<u8>, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: Display,
{
    // A client that announces too much, and waits for a 100, has not sent it yet.
    if body.size_hint().lower() > max.saturating_add(MAX_DISCARDED) as u64 {
        return Err(BodyError::TooLong);
    }
    timeout(BODY_TIMEOUT, collect(body, max)).await.unwrap_or(Err(BodyError::TimedOut))
}

async fn collect<B>(body: B, max: usize) -> Result<Vec<u8>, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: Display,
{
    let mut body = pin!(body);
    let (mut read, mut received) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        received += data.len();
        if received <= max {
            read.extend_from_slice(&data);
        } else {
            read = Vec::new();
            if received > max.saturating_add(MAX_DISCARDED) {
                break;
            }
        }
    }
    if received > max { Err(BodyError::TooLong) } else { Ok(read) }
}

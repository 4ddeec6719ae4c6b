//! A request's body, read with a bound on its length and on its time.

use std::fmt::Display;
use std::pin::pin;
use std::time::Duration;

use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Bytes;
use tokio::time::timeout;

/// For the whole of a body: those who publish stand near, as a rule.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Of a body that is too long, so much is read past its bound and thrown away: an answer to somebody who
/// still writes would be lost in a reset.
const THROWN_AWAY: usize = 16 << 20;

/// Why there is no body to work with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// Longer than it may be.
    TooLong,
    /// It did not come in time.
    Late,
    /// It did not come whole.
    Broken(String),
}

/// All of `body`, if that is at most `most` bytes.
pub(super) async fn read<B>(body: B, most: usize) -> Result<Vec<u8>, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: Display,
{
    // Who announces too much and waits for a 100 has sent nothing yet, and need not.
    if body.size_hint().lower() > most.saturating_add(THROWN_AWAY) as u64 {
        return Err(BodyError::TooLong);
    }
    timeout(BODY_TIMEOUT, collect(body, most)).await.unwrap_or(Err(BodyError::Late))
}

async fn collect<B>(body: B, most: usize) -> Result<Vec<u8>, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: Display,
{
    let mut body = pin!(body);
    let (mut read, mut came) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        came += data.len();
        if came <= most {
            read.extend_from_slice(&data);
        } else {
            read = Vec::new();
            if came > most.saturating_add(THROWN_AWAY) {
                break;
            }
        }
    }
    if came > most { Err(BodyError::TooLong) } else { Ok(read) }
}

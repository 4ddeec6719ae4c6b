//! What the two sides of a session can be in. Which follows on which is said in [`super`].

use tokio::time::Instant;

/// The server's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Server {
    /// Connected and greeted.
    Live,
    /// Connected; it is said what it has to hear first, and has to reply until then.
    Greeting { reply_by: Instant },
    /// Lost. It may be asked from then on, when it is this session's turn.
    Waiting { not_before: Instant },
    /// A dial is under way.
    Dialling,
    /// Lost, and not dialled as no client is attached.
    Asleep,
    /// It is not dialled any more.
    Over,
}

/// The client's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Client {
    /// It has a link.
    Attached,
    /// It has none, and may come back until then.
    Away { until: Instant },
    /// It was sent, or is about to be sent, a Close of ours. Then it may come back, or not.
    Leaving { may_resume: bool },
    /// Nobody will come back.
    Gone,
}

/// How a dial went that brought no link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum DialEnd {
    /// The server is not there: the gate knows when it is asked again.
    ServerDown,
    /// It does not answer this session as it did: it is asked again later.
    Declined,
    /// 401 or 403.
    Unauthorized,
    /// Another subprotocol than the client was told.
    OtherProtocol,
}

//! What becomes of a client's socket when its 101 was sent: made by the mode that answers the handshake, and kept by
//! the HTTP connection until hyper gives the socket back.

use std::sync::Arc;

use bytes::Bytes;

use crate::broadcast::Reservation;
use crate::connections::Admitted;
use crate::delivery::events::DataForm;
use crate::frame::{CloseCode, Extensions};
use crate::net::Transport;
use crate::net::own_protocols::Nonce;
use crate::server::limits::refusals::RefusalPermit;
use crate::session::{self, EventsStart, Greeted, Handle, Identity, Opened, SessionGuard, TicketKeys, Wire};
use crate::tunnel;
use crate::upstream::opening::Opening;

/// One variant for each mode, and one for refusals that are sent as a Close.
#[derive(Debug)]
pub(in crate::server) enum PendingUpgrade {
    Tunnel(PendingTunnel),
    /// Boxed: most connections are tunnels.
    Session(Box<PendingSession>),
    Resume(Box<PendingResume>),
    SessionEvents(Box<PendingSessionEvents>),
    Broadcast(Box<PendingSubscription>),
    Events(Box<PendingEvents>),
    Close(PendingClose),
    /// A test takes the socket.
    #[cfg(test)]
    Taken(tokio::sync::oneshot::Sender<Transport>),
}

/// A client of mode `tunnel`, and the upstream that has agreed.
#[derive(Debug)]
pub(in crate::server) struct PendingTunnel {
    pub(in crate::server) admitted: Admitted,
    pub(in crate::server) upstream: Transport,
    pub(in crate::server) extensions: Extensions,
    pub(in crate::server) settings: Arc<tunnel::Settings>,
}

/// A client of mode `session`, and the upstream that has agreed.
#[derive(Debug)]
pub(in crate::server) struct PendingSession {
    pub(in crate::server) admitted: Admitted,
    pub(in crate::server) plan: Arc<session::Plan>,
    pub(in crate::server) opened: Opened,
    /// What the session is, for a client that may come back to it.
    pub(in crate::server) identity: Identity,
    /// What it hears first, if it speaks the protocol among the messages.
    pub(in crate::server) greeted: Option<Greeted>,
    /// Whether compressed messages were agreed upon.
    pub(in crate::server) has_deflate: bool,
}

/// A client that begins a session with an event stream, and the upstream that has agreed.
#[derive(Debug)]
pub(in crate::server) struct PendingSessionEvents {
    pub(in crate::server) admitted: Admitted,
    pub(in crate::server) plan: Arc<session::Plan>,
    pub(in crate::server) opened: Opened,
    /// The session, which has a ticket already.
    pub(in crate::server) guard: SessionGuard,
    pub(in crate::server) greeted: Greeted,
    pub(in crate::server) start: EventsStart,
}

/// A client that comes back to its session.
#[derive(Debug)]
pub(in crate::server) struct PendingResume {
    pub(in crate::server) admitted: Admitted,
    pub(in crate::server) handle: Arc<Handle>,
    /// The number of its ticket, and that of the newest message that it has had.
    pub(in crate::server) generation: u32,
    pub(in crate::server) seen: u64,
    pub(in crate::server) nonce: Option<Nonce>,
    /// What the server is asked from now on.
    pub(in crate::server) opening: Opening,
    /// What its tickets are signed with from now on.
    pub(in crate::server) keys: Arc<TicketKeys>,
    /// What it is closed with if its session ends before its socket arrives.
    pub(in crate::server) over: CloseCode,
    pub(in crate::server) wire: Wire,
}

/// A client of mode `broadcast`, and its place on a channel.
#[derive(Debug)]
pub(in crate::server) struct PendingSubscription {
    pub(in crate::server) admitted: Admitted,
    pub(in crate::server) reservation: Reservation,
    /// Whether compressed messages were agreed upon.
    pub(in crate::server) has_deflate: bool,
}

/// A client of mode `broadcast` whose answer is an event stream, and its place on a channel.
#[derive(Debug)]
pub(in crate::server) struct PendingEvents {
    pub(in crate::server) admitted: Admitted,
    pub(in crate::server) reservation: Reservation,
    /// How texts stand in it.
    pub(in crate::server) form: DataForm,
    /// What is written first.
    pub(in crate::server) head: Bytes,
}

/// A client that is refused by a Close: no connection comes of it.
#[derive(Debug)]
pub(in crate::server) struct PendingClose {
    pub(in crate::server) code: CloseCode,
    pub(in crate::server) reason: &'static str,
    pub(in crate::server) permit: RefusalPermit,
}

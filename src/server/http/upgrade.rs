//! What becomes of a client's socket when its 101 was sent: made by the mode that answers the handshake, and kept by
//! the HTTP connection until hyper gives the socket back.

use std::sync::Arc;

use crate::broadcast::Reservation;
use crate::connections::Admitted;
use crate::frame::{CloseCode, Extensions};
use crate::net::Transport;
use crate::server::limits::refusals::RefusalPermit;
use crate::session::{self, Opened};
use crate::tunnel;

/// One variant for each mode, and one for refusals that are sent as a Close.
#[derive(Debug)]
pub(in crate::server) enum PendingUpgrade {
    Tunnel(PendingTunnel),
    /// Boxed: most connections are tunnels.
    Session(Box<PendingSession>),
    Broadcast(Box<PendingSubscription>),
    Close(PendingClose),
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
    /// Whether compressed messages were agreed upon.
    pub(in crate::server) has_deflate: bool,
}

/// A client of mode `broadcast`, and its place on a channel.
#[derive(Debug)]
pub(in crate::server) struct PendingSubscription {
    pub(in crate::server) admitted: Admitted,
    pub(in crate::server) reservation: Reservation,
    /// Whether compressed messages were agreed upon.
    pub(in crate::server) has_deflate: bool,
}

/// A client that is refused by a Close: no connection comes of it.
#[derive(Debug)]
pub(in crate::server) struct PendingClose {
    pub(in crate::server) code: CloseCode,
    pub(in crate::server) reason: &'static str,
    pub(in crate::server) permit: RefusalPermit,
}

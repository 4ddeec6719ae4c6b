//! What becomes of a client's socket once its 101 was sent.

use super::closing;
use crate::connections::{Admitted, Connection};
use crate::net::Transport;
use crate::server::http::upgrade::{PendingSession, PendingSubscription, PendingTunnel, PendingUpgrade};
use crate::server::state::State;
use crate::tunnel;

/// Hands the client's socket to the mode that waits for it. Nothing of HTTP stays alive.
pub(super) async fn start(state: &State, client: Transport, pending: PendingUpgrade) {
    match pending {
        PendingUpgrade::Tunnel(pending) => {
            let PendingTunnel { admitted, upstream, extensions, settings } = pending;
            tunnel::spawn(client, upstream, extensions, &settings, open(state, admitted));
        }
        PendingUpgrade::Session(pending) => {
            let PendingSession { admitted, plan, opened, has_deflate } = *pending;
            plan.spawn(client, has_deflate, opened, open(state, admitted));
        }
        PendingUpgrade::Broadcast(pending) => {
            let PendingSubscription { mut admitted, reservation, has_deflate } = *pending;
            admitted.info.channel = Some(reservation.channel());
            reservation.join(client, has_deflate, open(state, admitted));
        }
        PendingUpgrade::Close(pending) => closing::close(client, pending).await,
    }
}

/// Enters the connection into the registry, and schedules its close if a drain has begun.
fn open(state: &State, admitted: Admitted) -> Connection {
    let connection = admitted.open(&state.registry);
    state.drain.schedule(connection.guard.handle());
    connection
}

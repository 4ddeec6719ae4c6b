//! What becomes of a client's socket once its 101 was sent.

use std::sync::Arc;

use super::closing;
use crate::connections::{Admitted, Connection};
use crate::net::Transport;
use crate::server::http::upgrade::{
    PendingResume, PendingSession, PendingSubscription, PendingTunnel, PendingUpgrade,
};
use crate::server::state::State;
use crate::session::{Arrival, Attach};
use crate::tunnel;

/// Hands the client's socket to the mode that waits for it. Nothing of HTTP stays alive.
pub(super) async fn start(state: &State, client: Transport, pending: PendingUpgrade) {
    match pending {
        PendingUpgrade::Tunnel(pending) => {
            let PendingTunnel { admitted, upstream, extensions, settings } = pending;
            tunnel::spawn(client, upstream, extensions, &settings, open(state, admitted));
        }
        PendingUpgrade::Session(pending) => {
            let PendingSession { admitted, plan, opened, identity, greeted, has_deflate } = *pending;
            let guard = greeted.and_then(|_| plan.enter(identity));
            let connection = match &guard {
                None => open(state, admitted),
                // Its place is the session's, which outlives the connection.
                Some(guard) => {
                    let holder = Arc::clone(guard.handle());
                    let (mut connection, held) = admitted.open_for(holder, &state.registry);
                    state.drain.schedule(connection.guard.handle());
                    connection.held = held;
                    connection
                }
            };
            plan.spawn(client, Arrival { has_deflate, opened, connection, greeted, guard });
        }
        PendingUpgrade::Resume(pending) => {
            let PendingResume { admitted, handle, generation, seen, nonce, opening, keys, has_deflate } =
                *pending;
            let connection = open(state, admitted);
            let attach =
                Attach { generation, seen, transport: client, has_deflate, connection, nonce, opening, keys };
            // A session that has ended meanwhile takes nothing: the client asks again, and gets another one.
            drop(handle.attach(Box::new(attach)));
        }
        PendingUpgrade::Broadcast(pending) => {
            let PendingSubscription { mut admitted, reservation, has_deflate } = *pending;
            admitted.info.channel = Some(reservation.channel());
            reservation.join(client, has_deflate, open(state, admitted));
        }
        PendingUpgrade::Close(pending) => closing::close(client, pending).await,
        #[cfg(test)]
        PendingUpgrade::Taken(taken) => drop(taken.send(client)),
    }
}

/// Enters the connection into the registry, and schedules its close if a drain has begun.
fn open(state: &State, admitted: Admitted) -> Connection {
    let connection = admitted.open(&state.registry);
    state.drain.schedule(connection.guard.handle());
    connection
}

//! What becomes of a client's socket once its 101 was sent.

use std::sync::Arc;

use super::closing;
use crate::connections::{Admitted, Connection, EndReport, Via};
use crate::frame::CloseCode;
use crate::net::Transport;
use crate::server::http::upgrade::{
    PendingClose, PendingEvents, PendingResume, PendingSession, PendingSessionEvents, PendingSubscription,
    PendingTunnel, PendingUpgrade,
};
use crate::server::state::State;
use crate::session::{Arrival, Attach, Wire};
use crate::telemetry::{By, Reason};
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
                    let (mut connection, held) = admitted.open_for(holder, &state.registry, Via::WebSocket);
                    state.drain.schedule(connection.guard.handle());
                    connection.held = held;
                    connection
                }
            };
            let wire = Wire::WebSocket { has_deflate };
            plan.spawn(client, Arrival { wire, opened, connection, greeted, guard });
        }
        PendingUpgrade::Resume(pending) => {
            let PendingResume { admitted, handle, generation, seen, nonce, opening, keys, over, wire } =
                *pending;
            let via = match wire {
                Wire::WebSocket { .. } => Via::WebSocket,
                Wire::Events(_) => Via::Events,
            };
            let connection = open_via(state, admitted, via);
            let attach =
                Attach { generation, seen, transport: client, wire, connection, nonce, opening, keys };
            if let Some(returned) = handle.attach(Box::new(attach)).returned().await {
                close_resume(*returned, over).await;
            }
        }
        PendingUpgrade::SessionEvents(pending) => {
            let PendingSessionEvents { admitted, plan, opened, guard, greeted, start } = *pending;
            let holder = Arc::clone(guard.handle());
            let (mut connection, held) = admitted.open_for(holder, &state.registry, Via::Events);
            state.drain.schedule(connection.guard.handle());
            connection.held = held;
            let wire = Wire::Events(Box::new(start));
            let arrival = Arrival { wire, opened, connection, greeted: Some(greeted), guard: Some(guard) };
            plan.spawn(client, arrival);
        }
        PendingUpgrade::Broadcast(pending) => {
            let PendingSubscription { mut admitted, reservation, has_deflate } = *pending;
            admitted.info.channel = Some(reservation.channel());
            reservation.join(client, has_deflate, open(state, admitted));
        }
        PendingUpgrade::Events(pending) => {
            let PendingEvents { mut admitted, reservation, form, head } = *pending;
            admitted.info.channel = Some(reservation.channel());
            let connection = open_via(state, admitted, Via::Events);
            reservation.join_events(client, form, &head, connection);
        }
        PendingUpgrade::Close(pending) => {
            let PendingClose { code, reason, permit } = pending;
            closing::close(client, code, reason).await;
            drop(permit);
        }
        #[cfg(test)]
        PendingUpgrade::Taken(taken) => drop(taken.send(client)),
    }
}

/// Enters the connection into the registry, and schedules its close if a drain has begun.
fn open(state: &State, admitted: Admitted) -> Connection {
    open_via(state, admitted, Via::WebSocket)
}

fn open_via(state: &State, admitted: Admitted, via: Via) -> Connection {
    let connection = admitted.open_via(&state.registry, via);
    state.drain.schedule(connection.guard.handle());
    connection
}

/// The session has ended between the answer to the client's handshake and the arrival of its socket: it is told to ask again.
async fn close_resume(attach: Attach, code: CloseCode) {
    let Attach { transport, wire, mut connection, .. } = attach;
    let close = match wire {
        Wire::WebSocket { .. } => {
            closing::close(transport, code, "upstream lost").await;
            Some((By::Proxy, code))
        }
        // It asks again, as after any end.
        Wire::Events(start) => {
            closing::end_stream(transport, &start.wire.preface).await;
            None
        }
    };
    connection.guard.leave(EndReport { reason: Reason::UpstreamLost, close, fault: None });
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, Uri};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::config::LogConnections;
    use crate::connections::{ConnectionInfo, Registry};
    use crate::net::Stream;
    use crate::session::TicketKeys;
    use crate::telemetry::Metrics;
    use crate::upstream::opening::Opening;

    #[tokio::test(start_paused = true)]
    async fn a_client_whose_session_has_ended_meanwhile_gets_a_close() {
        let metrics = Metrics::new("outrigger").unwrap();
        let registry = Registry::new(Arc::clone(&metrics), LogConnections::Off);
        let guard = registry.enter(ConnectionInfo {
            client: None,
            user: None,
            channel: None,
            request_id: "".into(),
            route: metrics.route("r"),
        });
        let (ours, mut client) = tokio::io::duplex(1024);
        let attach = Attach {
            generation: 1,
            seen: 0,
            transport: Transport { stream: Stream::Scripted(ours), read_ahead: Bytes::new() },
            wire: Wire::WebSocket { has_deflate: false },
            connection: Connection { guard, expires: None, held: None },
            nonce: None,
            opening: Opening::of_one_client(&Uri::from_static("/"), HeaderMap::new()),
            keys: Arc::new(TicketKeys::random()),
        };
        let closing = tokio::spawn(close_resume(attach, CloseCode(1012)));
        let mut close = [0; 17];
        client.read_exact(&mut close).await.unwrap();
        assert_eq!(&close, b"\x88\x0f\x03\xf4upstream lost");
        assert_eq!(registry.len(), 1, "it is there until it is closed");
        client.write_all(b"\x88\x82\0\0\0\0\x03\xf4").await.unwrap();
        closing.await.unwrap();
        assert_eq!((client.read(&mut close).await.unwrap(), registry.len()), (0, 0));
    }
}

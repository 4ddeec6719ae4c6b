//! The PROXY header that a load balancer sends before everything else (`listen.proxy_protocol`).
//!
//! * `optional`: a trusted peer may send a PROXY header. From any other peer it is not looked for, and a PROXY line is a
//!   request that cannot be read.
//! * `required`: every peer has to send one, and every peer is believed. The port must not be reachable by clients then:
//!   any of them could give another client's address.
//!
//! The address in the header replaces the peer's: from there on it decides whether forwarding headers are believed.

use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::config::ProxyProtocol;
use crate::net::proxy_protocol::{ReadError, ReadOutcome};
use crate::net::{Peer, Stream, proxy_protocol};
use crate::server::state::{Snapshot, State};
use crate::telemetry::{ProxyFault, nonzero};

/// The connection is not to be served.
#[derive(Debug)]
pub(super) struct NotServed;

/// Puts into `peer` the addresses that the header names, if there is one.
///
/// # Errors
/// [`NotServed`]: there is no header where there has to be one, or it cannot be read.
pub(super) async fn read(
    state: &State,
    snapshot: &Snapshot,
    stream: &mut Stream,
    peer: &mut Peer,
    deadline: Instant,
) -> Result<(), NotServed> {
    let is_required = match snapshot.listen.proxy_protocol {
        ProxyProtocol::Off => return Ok(()),
        ProxyProtocol::Optional => {
            if !snapshot.trusted.contains(peer.address.map(|address| address.ip())) {
                return Ok(());
            }
            false
        }
        ProxyProtocol::Required => true,
    };
    let fault = match timeout_at(deadline, proxy_protocol::read(stream)).await {
        Ok(Ok(ReadOutcome::Header(addresses))) => {
            if let Some(addresses) = addresses {
                peer.address = Some(addresses.source);
                peer.port = Some(addresses.destination.port());
            }
            return Ok(());
        }
        // If it has timed out, the wait for the first request ends at once too, with a 408.
        Ok(Ok(ReadOutcome::None)) | Err(_) if !is_required => return Ok(()),
        Ok(Ok(ReadOutcome::None)) => (ProxyFault::Missing, "there is none".to_owned()),
        // A load balancer's health check, or a connection that has ended: not a fault.
        Ok(Ok(ReadOutcome::Closed) | Err(ReadError::Io(_))) => return Err(NotServed),
        Ok(Err(error @ ReadError::Malformed(_))) => (ProxyFault::Malformed, error.to_string()),
        Err(_) => (ProxyFault::Timeout, "it did not come in time (listen.handshake_timeout)".to_owned()),
    };
    let (fault, error) = fault;
    state.metrics.server.proxy_errors.inc(fault);
    if let Some(left_out) = state.lines.warnings.allow("proxy_protocol", Instant::now()) {
        warn!(
            // Operators filter by it: it stays what it was before this file was called so.
            target: "outrigger::server::preface",
            left_out = nonzero(left_out),
            peer = peer.address.map(tracing::field::display),
            %error,
            "a connection ended for want of a PROXY header (listen.proxy_protocol); is the load balancer set to \
             send it? Further ones are counted in outrigger_proxy_protocol_errors_total and told once a minute"
        );
    }
    Err(NotServed)
}

//! A client that was admitted: what identifies its connection and what the connection holds, made by admission and
//! passed on as a whole to any mode.
//!
//! # Not here
//! Which clients are admitted (admission), and what a permit counts.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use super::handle::{ConnectionInfo, Handle};
use super::registry::{ConnectionGuard, Registry};
use crate::resilience::Expiry;

/// A client whose handshake was admitted, until its 101 was sent.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub info: ConnectionInfo,
    /// When its credentials expire, and the connection ends.
    pub expires: Option<Expiry>,
    /// Its place in a quota.
    pub permit: Option<Box<dyn ConnectionPermit>>,
}

/// What a connection holds until it ends, whatever ends it.
pub(crate) trait ConnectionPermit: Any + Debug + Send + Sync {
    /// The handshake has become this connection.
    fn on_open(&mut self, handle: &Arc<Handle>);
}

/// A client whose 101 was sent: what the task of its connection owns beside the sockets.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Its place in the registry.
    pub guard: ConnectionGuard,
    pub expires: Option<Expiry>,
    /// Dropped when the client is gone.
    pub held: Option<Box<dyn Any + Send + Sync>>,
}

impl Admitted {
    /// Enters the connection into `registry`. From here on its permit is given back with it.
    pub(crate) fn open(self, registry: &Arc<Registry>) -> Connection {
        let Self { info, expires, permit } = self;
        let guard = registry.enter(info);
        let held = permit.map(|mut permit| {
            permit.on_open(guard.handle());
            permit as Box<dyn Any + Send + Sync>
        });
        Connection { guard, expires, held }
    }
}

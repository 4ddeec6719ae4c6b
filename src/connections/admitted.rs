//! A client that was admitted: what identifies its connection and what the connection holds, made by admission and
//! passed on as a whole to any mode.
//!
//! What it holds belongs to its connection, or to something that outlives this: a session, whose client may lose one
//! connection and come back by another.
//!
//! # Not here
//! Which clients are admitted (admission), and what a permit counts.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use super::handle::{Command, ConnectionInfo, Handle, Via};
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

/// What a connection or a session holds until it ends, whatever ends it.
pub(crate) trait ConnectionPermit: Any + Debug + Send + Sync {
    /// The handshake has become `holder`, which may be commanded to give its place to a newer one. `id`: the number of its
    /// first connection.
    fn on_open(&mut self, id: u64, holder: Arc<dyn PermitHolder>);
}

/// Who holds a permit.
pub(crate) trait PermitHolder: Debug + Send + Sync {
    /// As a connection is commanded ([`Handle::send`]).
    fn command(&self, command: Command);
}

impl PermitHolder for Handle {
    fn command(&self, command: Command) {
        self.send(command);
    }
}

/// A client whose 101 was sent: what the task of its connection owns beside the sockets.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Its place in the registry.
    pub guard: ConnectionGuard,
    pub expires: Option<Expiry>,
    /// Dropped when the client is gone.
    pub held: Option<Held>,
}

/// What is held, to be dropped when it is not any more.
pub(crate) type Held = Box<dyn Any + Send + Sync>;

impl Admitted {
    /// As [`Admitted::open_via`], for a WebSocket.
    #[cfg(test)]
    pub(crate) fn open(self, registry: &Arc<Registry>) -> Connection {
        self.open_via(registry, Via::WebSocket)
    }

    /// Enters the connection into `registry`. From here on its permit is given back with it.
    pub(crate) fn open_via(self, registry: &Arc<Registry>, via: Via) -> Connection {
        let Self { info, expires, permit } = self;
        let guard = registry.enter_via(info, via);
        let held =
            permit.map(|permit| hold(permit, &guard, Arc::clone(guard.handle()) as Arc<dyn PermitHolder>));
        Connection { guard, expires, held }
    }

    /// As [`Admitted::open_via`], for the first connection of something that outlives it, and holds what it was admitted
    /// with: that is answered beside the connection.
    pub(crate) fn open_for(
        self,
        holder: Arc<dyn PermitHolder>,
        registry: &Arc<Registry>,
        via: Via,
    ) -> (Connection, Option<Held>) {
        let Self { info, expires, permit } = self;
        let guard = registry.enter_via(info, via);
        let held = permit.map(|permit| hold(permit, &guard, holder));
        (Connection { guard, expires, held: None }, held)
    }
}

fn hold(
    mut permit: Box<dyn ConnectionPermit>,
    first: &ConnectionGuard,
    holder: Arc<dyn PermitHolder>,
) -> Held {
    permit.on_open(first.handle().id, holder);
    permit
}

//! A request that asks to be admitted, and what the layers have found out about it: each reads what those before it
//! wrote, and the mode gets all of it.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use http::request::Parts;

use super::address::Client;
use super::quota::QuotaPermit;
use crate::connections::{Admitted, ConnectionInfo, ConnectionPermit};
use crate::net::Peer;
use crate::resilience::{Caller, Expiry};
use crate::telemetry::RouteMetrics;
use crate::upstream::headers::{Forwarding, Requester};

/// A request at the door.
#[derive(Debug)]
pub(crate) struct RequestContext {
    /// Its head. Layers take out of it what the upstream must not see.
    pub head: Parts,
    /// What it wants to become.
    pub kind: Kind,
    /// The hop it came over.
    pub peer: Arc<Peer>,
    /// Whose it is. Until identity has looked: the peer's own.
    pub client: Client,
    /// What a trusted peer says of where it comes from; `None`: identity has not looked, or the peer is not trusted.
    pub forwarding: Option<Box<Forwarding>>,
    /// Who authentication says it is.
    pub user: Option<User>,
    /// What else the authentication service says of it, for the upstream. The client's own words under these
    /// names are out of `head` by then, whether there is anything here or not.
    pub attested: HeaderMap,
    /// An entry of `Sec-WebSocket-Protocol` that was ours, and what the client is answered if the server
    /// chooses none of the others: clients fail when none of theirs is chosen.
    pub own_protocol: Option<&'static str>,
    /// What its connection holds until it ends: a place in the quota.
    pub quota_permit: Option<QuotaPermit>,
    /// What the log may be told of it, whatever becomes of the request.
    pub log_fields: Arc<LogFields>,
}

impl RequestContext {
    /// One of whom nothing is known but what the hop tells.
    pub(crate) fn new(head: Parts, kind: Kind, peer: Arc<Peer>) -> Self {
        let client = Client { address: peer.address };
        Self {
            head,
            kind,
            peer,
            client,
            forwarding: None,
            user: None,
            attested: HeaderMap::new(),
            own_protocol: None,
            quota_permit: None,
            log_fields: Arc::default(),
        }
    }
}

/// What stays known of a request when the layers have taken it apart or turned it away.
#[derive(Debug, Default)]
pub(crate) struct LogFields {
    client: OnceLock<Option<SocketAddr>>,
    user: OnceLock<Arc<str>>,
}

impl LogFields {
    /// Whose request it is, once identity has looked.
    pub(crate) fn client(&self) -> Option<SocketAddr> {
        self.client.get().copied().flatten()
    }

    /// Who authentication says it is, once it has.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.get().map(|name| &**name)
    }

    pub(super) fn set_client(&self, client: &Client) {
        // There is one identity check in a stack: a second value would be the same.
        let _ = self.client.set(client.address);
    }

    /// By the mode, which is asked last.
    pub(crate) fn set_user(&self, user: &User) {
        let _ = self.user.set(Arc::clone(&user.name));
    }
}

impl RequestContext {
    /// What the upstream is told of where it comes from.
    pub(crate) fn requester(&self) -> Requester<'_> {
        Requester {
            peer: &self.peer,
            forwarding: self.forwarding.as_deref(),
            client: self.client.address,
            user: self.user.as_ref().map(|user| &*user.name),
            attested: Some(&self.attested),
        }
    }

    /// What its connection is and holds, now that it was let in.
    pub(crate) fn into_admitted(self, request_id: Box<str>, route: Arc<RouteMetrics>) -> Admitted {
        let (user, expires) = self.user.map_or((None, None), |User { name, expires }| (Some(name), expires));
        let client = self.client.address;
        Admitted {
            info: ConnectionInfo { client, user, channel: None, request_id, route },
            expires,
            permit: self.quota_permit.map(|permit| permit as Box<dyn ConnectionPermit>),
        }
    }

    /// As the breaker around the server tells clients apart: a user is one from however many addresses.
    pub(crate) fn caller(&self) -> Caller {
        // Hashed with a key of this process: no client can choose an address that collides with another one's.
        static KEYS: OnceLock<RandomState> = OnceLock::new();
        let keys = KEYS.get_or_init(RandomState::new);
        Caller(match &self.user {
            Some(user) => keys.hash_one(("user", &*user.name)),
            None => keys.hash_one(("address", self.client.key())),
        })
    }
}

/// What a request wants to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A WebSocket.
    Handshake,
    /// An answer.
    Plain,
}

/// Who authentication says a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// Its key: what quotas count, and what the upstream is told in `X-Outrigger-User`.
    pub name: Arc<str>,
    /// When its credentials end, where the connection has to end with them.
    pub expires: Option<Expiry>,
}

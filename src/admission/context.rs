//! A request on its way through admission, with what the layers have found out about it: each reads what those before
//! it wrote, and the mode gets all of it.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use http::request::Parts;

use super::address::Client;
use super::quota::QuotaPermit;
use crate::connections::{Admitted, ConnectionInfo, ConnectionPermit, EndedSession, ResumeGrant};
use crate::net::Peer;
use crate::net::own_protocols::{OwnProtocols, TicketText};
use crate::resilience::{Caller, Expiry};
use crate::telemetry::RouteMetrics;
use crate::upstream::headers::{Forwarding, Requester};

/// A request on its way through admission.
#[derive(Debug)]
pub(crate) struct RequestContext {
    /// Its head. Layers take out of it what the upstream must not see.
    pub head: Parts,
    /// Whether it is a handshake.
    pub kind: Kind,
    /// The hop it came over.
    pub peer: Arc<Peer>,
    /// Its client: the peer, until the identity check has run.
    pub client: Client,
    /// The forwarding headers of a trusted peer; `None` if the peer is not trusted, or the identity check has not run.
    pub forwarding: Option<Box<Forwarding>>,
    /// The authenticated user.
    pub user: Option<User>,
    /// Further headers of the authentication service, for the upstream. The client's own headers of these names were
    /// removed from `head`, whether there is any here or not.
    pub attested: HeaderMap,
    /// The subprotocols that are the proxy's own, which were taken out of the head.
    pub own_protocols: Option<Box<OwnProtocols>>,
    /// The ticket that it has, if it came to an endpoint of the fallback.
    pub ticket: Ticket,
    /// The log that it says it has read, if it came to such an endpoint.
    pub epoch: Option<u64>,
    /// Whether it is let in as a client that comes back to its session.
    pub resume: ResumeDecision,
    /// Whether it goes on reading a log that is there, and so asks nothing of a server.
    pub is_continued: bool,
    /// Its permit of the quota, which the connection holds until it ends.
    pub quota_permit: Option<QuotaPermit>,
    /// What log lines about the request have, whatever its result.
    pub log_fields: Arc<LogFields>,
}

impl RequestContext {
    /// A request of which only head and peer are known. The subprotocols that are ours leave its head here, whatever its
    /// route is.
    pub(crate) fn new(mut head: Parts, kind: Kind, peer: Arc<Peer>) -> Self {
        let client = Client { address: peer.address };
        let own_protocols = OwnProtocols::take(&mut head.headers);
        Self {
            head,
            kind,
            peer,
            client,
            forwarding: None,
            user: None,
            attested: HeaderMap::new(),
            own_protocols,
            ticket: Ticket::Missing,
            epoch: None,
            resume: ResumeDecision::None,
            is_continued: false,
            quota_permit: None,
            log_fields: Arc::default(),
        }
    }
}

/// What log lines say of a request's client, kept when the layers have consumed or refused the request.
#[derive(Debug, Default)]
pub(crate) struct LogFields {
    client: OnceLock<Option<SocketAddr>>,
    user: OnceLock<Arc<str>>,
}

impl LogFields {
    /// The client, once the identity check has run.
    pub(crate) fn client(&self) -> Option<SocketAddr> {
        self.client.get().copied().flatten()
    }

    /// The user, once authenticated.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.get().map(|name| &**name)
    }

    pub(super) fn set_client(&self, client: &Client) {
        // There is one identity check in a stack: a second value would be the same.
        let _ = self.client.set(client.address);
    }

    /// Called when the request was admitted.
    pub(crate) fn set_user(&self, user: &User) {
        let _ = self.user.set(Arc::clone(&user.name));
    }
}

impl RequestContext {
    /// What forwarding headers tell the upstream of the client.
    pub(crate) fn requester(&self) -> Requester<'_> {
        Requester {
            peer: &self.peer,
            forwarding: self.forwarding.as_deref(),
            client: self.client.address,
            user: self.user.as_ref().map(|user| &*user.name),
            attested: Some(&self.attested),
        }
    }

    /// Whether it is let in as a client that comes back.
    pub(super) fn is_resumed(&self) -> bool {
        matches!(self.resume, ResumeDecision::Granted(_))
    }

    /// What its connection is and holds, once it was admitted.
    pub(crate) fn into_admitted(self, request_id: Box<str>, route: Arc<RouteMetrics>) -> Admitted {
        let (user, expires) = self.user.map_or((None, None), |User { name, expires }| (Some(name), expires));
        let client = self.client.address;
        Admitted {
            info: ConnectionInfo { client, user, channel: None, request_id, route },
            expires,
            permit: self.quota_permit.map(|permit| permit as Box<dyn ConnectionPermit>),
        }
    }

    /// The caller as the upstream's breaker distinguishes them: a user is one caller from any number of addresses.
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

/// Whether a handshake is let in as a client that comes back to its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResumeDecision {
    /// It does not ask to.
    None,
    /// It is: no connection to the server comes of it, and its session has a place in the quota already.
    Granted(ResumeGrant),
    /// It asks to and is not: it is a new client. What is known of the session that is over.
    Refused(Option<EndedSession>),
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A WebSocket.
    Handshake,
    /// An HTTP response of the server.
    Plain,
    /// What a WebSocket would bring, without one (`policy.fallback`).
    Fallback(FallbackUse),
}

/// What a request to an endpoint of the fallback takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FallbackUse {
    /// A place among the clients, for as long as it lasts.
    Place,
    /// An answer at once.
    Answer,
    /// Only the word that it may be asked: a CORS preflight, which browsers send without credentials.
    Preflight,
}

/// The ticket of a session that a request to an endpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ticket {
    Missing,
    /// It has the form of one.
    Read(TicketText),
    /// It has not, or there are several.
    Malformed,
}

impl Kind {
    /// Whether it asks for a place among the clients.
    pub(super) fn takes_place(self) -> bool {
        matches!(self, Self::Handshake | Self::Fallback(FallbackUse::Place))
    }
}

/// An authenticated user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// The name: quotas count by it, and the upstream gets it in `X-Outrigger-User`.
    pub name: Arc<str>,
    /// When its credentials expire, if the connection has to end then.
    pub expires: Option<Expiry>,
}

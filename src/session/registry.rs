//! The sessions of the process that can be resumed: by id, those without their clients, and what is remembered of those
//! that are over.
//!
//! # Invariants
//! 1. A session is found exactly as long as its [`SessionGuard`] exists, whatever ends its task.
//! 2. Nothing is looked up for a ticket before it was found to be signed ([`Gate`]).
//! 3. Everything is bounded: sessions by the connections and by `max_detached`, graves by their number and age.
//!
//! # Not here
//! Sessions whose clients have no ticket: nobody can look for them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::detached::{Detached, DetachedPlace};
use super::graves::Graves;
use super::handle::{Handle, Identity};
use super::request::{EndRequest, Request};
use super::ticket::{Claims, InvalidTicket, ProcessId, TicketKeys};
use crate::config::TokenKeys;
use crate::connections::{EndedSession, ResumeGate, ResumeGrant, SessionId};
use crate::net::own_protocols::TicketText;
use crate::net::random_bytes;
use crate::telemetry::{Label, ResumeOutcome, SessionEnd, SessionMetrics};

/// Locks that the sessions are spread over.
const SHARDS: usize = 16;

#[derive(Debug)]
pub(crate) struct Registry {
    shards: [Mutex<HashMap<SessionId, Arc<Handle>>>; SHARDS],
    graves: Mutex<Graves>,
    /// By route, for as long as one of its sessions is there.
    detached: Mutex<HashMap<Box<str>, Weak<Detached>>>,
    process: ProcessId,
    /// Of routes without a file of keys.
    keys: Arc<TicketKeys>,
}

impl Registry {
    /// Empty, as a process that nobody knows.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: Default::default(),
            graves: Mutex::default(),
            detached: Mutex::default(),
            process: ProcessId::random(),
            keys: Arc::new(TicketKeys::random()),
        })
    }

    /// What gives and verifies the tickets of a route.
    pub(crate) fn gate(
        self: &Arc<Self>,
        route: &str,
        keys: Option<&TokenKeys>,
        metrics: Arc<SessionMetrics>,
    ) -> Arc<Gate> {
        let keys = keys.map_or_else(|| Arc::clone(&self.keys), |keys| Arc::new(TicketKeys::new(keys.all())));
        Arc::new(Gate { sessions: Arc::clone(self), route: route.into(), keys, metrics })
    }

    /// Enters a session that has begun.
    pub(crate) fn enter(self: &Arc<Self>, identity: Identity) -> SessionGuard {
        let detached = self.detached_of(&identity.route);
        let id = SessionId(random_bytes());
        let handle = Arc::new(Handle::new(id, identity));
        self.shard(&id).lock().insert(id, Arc::clone(&handle));
        SessionGuard { handle, sessions: Arc::clone(self), detached, place: None }
    }

    /// The session of this id, as long as it lives.
    pub(crate) fn find(&self, id: &SessionId) -> Option<Arc<Handle>> {
        self.shard(id).lock().get(id).map(Arc::clone)
    }

    /// What is remembered of a session that is over.
    pub(crate) fn ended(&self, id: &SessionId) -> Option<EndedSession> {
        self.graves.lock().find(id, Instant::now())
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether there are none.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends those whose clients are away: in a drain, when clients begin to be closed.
    pub(crate) fn end_detached(&self) {
        let all: Vec<Arc<Detached>> = self.detached.lock().values().filter_map(Weak::upgrade).collect();
        for detached in all {
            detached.end_all(EndRequest::Drained);
        }
    }

    fn detached_of(&self, route: &str) -> Arc<Detached> {
        let mut all = self.detached.lock();
        if let Some(detached) = all.get(route).and_then(Weak::upgrade) {
            return detached;
        }
        let detached = Arc::default();
        // Those of routes that are gone are left behind once; there is a new entry rarely enough to look at all.
        all.retain(|_, detached| detached.strong_count() > 0);
        all.insert(route.into(), Arc::downgrade(&detached));
        detached
    }

    fn shard(&self, id: &SessionId) -> &Mutex<HashMap<SessionId, Arc<Handle>>> {
        // The ids are random.
        &self.shards[usize::from(id.0[0]) % SHARDS]
    }
}

/// A session's place among those that can be resumed. Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct SessionGuard {
    handle: Arc<Handle>,
    sessions: Arc<Registry>,
    /// Of its route.
    detached: Arc<Detached>,
    /// While its client is away.
    place: Option<DetachedPlace>,
}

impl SessionGuard {
    /// How others reach it.
    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// Its client is away. Beyond `max` of its route one is asked to end, as [`super::detached`] says.
    pub(crate) fn detach(&mut self, max: usize) {
        if self.place.is_none() {
            self.place = Some(self.detached.enter(&self.handle, max));
        }
    }

    /// Its client is there again.
    pub(crate) fn attach(&mut self) {
        self.place = None;
    }

    /// It is over, having received so many messages of its client, who may ask for it yet.
    pub(crate) fn end(self, why: SessionEnd, received: u64) {
        let ended = EndedSession { received, why: why.as_str() };
        // Before it is taken out: whoever does not find the session any more finds this.
        self.sessions.graves.lock().add(self.handle.id(), ended, Instant::now());
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        {
            let mut shard = self.sessions.shard(&self.handle.id()).lock();
            shard.remove(&self.handle.id());
            // A burst must not leave its table behind.
            if shard.capacity() > 64 && shard.len() < shard.capacity() / 4 {
                shard.shrink_to_fit();
            }
        }
        // Afterwards: whoever has found it until now is told that it is gone, and not that its ticket was used.
        self.handle.close().into_iter().for_each(Request::give_back);
    }
}

/// Gives and verifies the tickets of one route.
#[derive(Debug)]
pub(crate) struct Gate {
    sessions: Arc<Registry>,
    route: Box<str>,
    keys: Arc<TicketKeys>,
    metrics: Arc<SessionMetrics>,
}

impl Gate {
    /// The next ticket of a session; the ones before stay valid as [`super::ticket`] says. Answers its number too. `None`:
    /// the client cannot come back.
    pub(super) fn issue(&self, session: &Handle) -> Option<(u32, TicketText)> {
        let generation = session.issue()?;
        let claims = Claims { session: session.id(), generation };
        let ticket = self.keys.issue(self.sessions.process, &self.route, claims)?;
        Some((generation, ticket))
    }

    /// What tickets are signed and verified with.
    pub(super) fn keys(&self) -> &Arc<TicketKeys> {
        &self.keys
    }

    /// The same with other keys: they were replaced by a reload.
    pub(super) fn with_keys(&self, keys: Arc<TicketKeys>) -> Arc<Self> {
        let Self { sessions, route, metrics, .. } = self;
        let (sessions, route, metrics) = (Arc::clone(sessions), route.clone(), Arc::clone(metrics));
        Arc::new(Self { sessions, route, keys, metrics })
    }

    fn refuse<T>(
        &self,
        outcome: ResumeOutcome,
        ended: Option<EndedSession>,
    ) -> Result<T, Option<EndedSession>> {
        self.metrics.resumes.inc(outcome);
        Err(ended)
    }
}

impl ResumeGate for Gate {
    fn check(&self, ticket: &TicketText) -> Result<ResumeGrant, Option<EndedSession>> {
        let Claims { session, generation } = match self.keys.read(self.sessions.process, &self.route, ticket)
        {
            Ok(claims) => claims,
            Err(InvalidTicket::Forged) => return self.refuse(ResumeOutcome::Forged, None),
            Err(InvalidTicket::Elsewhere) => return self.refuse(ResumeOutcome::Elsewhere, None),
        };
        match self.sessions.find(&session) {
            Some(handle) if handle.is_valid(generation) => Ok(ResumeGrant { session, generation }),
            Some(_) => self.refuse(ResumeOutcome::Used, None),
            None => self.refuse(ResumeOutcome::Gone, self.sessions.ended(&session)),
        }
    }

    fn is_owner(&self, grant: &ResumeGrant, user: Option<&str>, path: &str) -> bool {
        let Some(handle) = self.sessions.find(&grant.session) else {
            self.metrics.resumes.inc(ResumeOutcome::Gone);
            return false;
        };
        let identity = handle.identity();
        let is_owner = identity.user.as_deref() == user && *identity.path == *path;
        if !is_owner {
            self.metrics.resumes.inc(ResumeOutcome::Foreign);
        }
        is_owner
    }

    fn on_malformed(&self) {
        self.metrics.resumes.inc(ResumeOutcome::Forged);
    }
}

#[cfg(test)]
mod tests;

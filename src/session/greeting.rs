//! What is said again to a new server of a session before anything else, by the rules of its route. Pure.
//!
//! # Invariants
//! 1. Only what has left for some server is kept; what still waits is not said twice.
//! 2. A newer version of a message takes the place of the older one, so that credentials which were renewed still go in
//!    front of what needs them. A version that is said again after a newer one has left does not come back.
//! 3. After a message whose rule has a `reply` nothing is said until the server has given it. What is awaited is swallowed, once
//!    for each time that it is awaited; everything else is the client's.
//! 4. A rule without `match` awaits what a server says by itself: before anything of the rules behind it is said, whenever
//!    it comes.
//!
//! # What bounds it?
//! A rule keeps `keep` messages, all rules together [`Greetings::new`]'s bytes, keys included. Beyond either what was said
//! first goes, and is counted: a client that floods its greeting loses the oldest of it, and nobody else anything.
//!
//! # Not here
//! How long a reply is awaited; what the client said that is no greeting ([`super::outbox`]).

mod rules;
mod store;

use std::sync::Arc;

pub(super) use self::rules::Rules;
use self::store::Store;
use crate::frame::Kind;

/// The greeting of one session.
pub(super) struct Greetings {
    rules: Arc<Rules>,
    store: Store,
    progress: Progress,
}

/// How far this server was greeted.
#[derive(Debug, Default)]
struct Progress {
    /// The place of what it was told last.
    said: u64,
    awaited: Option<Reply>,
    /// Rules without `match` whose message has not come yet, in their order.
    unspoken: Vec<usize>,
}

/// What is to answer the message that was said last.
#[derive(Debug)]
struct Reply {
    rule: usize,
    /// What has to stand at the key, if anything does.
    key: Option<Box<str>>,
}

/// What comes next in a greeting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// This is to be said.
    Say { kind: Kind, payload: &'a [u8] },
    /// The server is to say something first.
    Await,
    /// The server has been greeted.
    Done,
}

impl Greetings {
    /// `max_bytes`: what may be kept.
    pub(super) fn new(rules: Arc<Rules>, max_bytes: usize) -> Self {
        Self { rules, store: Store::new(max_bytes), progress: Progress::default() }
    }

    /// The client's message with this number has left for a server. Answers how many messages are not kept any more
    /// because of it, or not at all, although they should be.
    pub(super) fn on_client_message(&mut self, number: u64, kind: Kind, payload: &[u8]) -> u64 {
        self.forget(kind, payload);
        let Some((index, rule)) = self.rules.rule_of(number, kind, payload) else { return 0 };
        self.store.keep(index, rule.keep(), number, rule.key_in(kind, payload), kind, payload)
    }

    /// The server has said something that is not swallowed.
    pub(super) fn on_server_message(&mut self, kind: Kind, payload: &[u8]) {
        self.forget(kind, payload);
    }

    /// Whether anything that a server says has a meaning here while it is not being greeted.
    pub(super) fn wants_server_messages(&self) -> bool {
        self.rules.has_forget()
    }

    /// Whether a new server is told this message of the client, or a newer version of it, by its greeting.
    pub(super) fn is_kept(&self, number: u64, kind: Kind, payload: &[u8]) -> bool {
        let Some((index, rule)) = self.rules.rule_of(number, kind, payload) else { return false };
        let key = rule.key_in(kind, payload);
        self.store.newest(index, key.as_deref(), kind, payload).is_some_and(|newest| newest >= number)
    }

    /// The numbers of all that is kept.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.store.numbers()
    }

    /// There is a new server, which is told all from the start.
    pub(super) fn begin(&mut self) {
        self.progress = Progress { unspoken: self.rules.speaking_first().collect(), ..Progress::default() };
    }

    /// What is to be done now.
    pub(super) fn next(&self) -> Step<'_> {
        let progress = &self.progress;
        let next = self.store.after(progress.said);
        let rule = next.map_or(usize::MAX, |kept| kept.rule());
        if progress.awaited.is_some() || progress.unspoken.first().is_some_and(|before| *before < rule) {
            return Step::Await;
        }
        next.map_or(Step::Done, |kept| Step::Say { kind: kept.kind(), payload: kept.payload() })
    }

    /// What [`Step::Say`] has named was said.
    pub(super) fn on_said(&mut self) {
        debug_assert!(matches!(self.next(), Step::Say { .. }), "nothing was to be said");
        let Some(kept) = self.store.after(self.progress.said) else { return };
        self.progress.said = kept.place();
        let has_reply = self.rules.get(kept.rule()).is_some_and(rules::Rule::has_reply);
        self.progress.awaited =
            has_reply.then(|| Reply { rule: kept.rule(), key: kept.key().map(Box::from) });
    }

    /// Whether this message of a server that is being greeted is awaited, and therefore not for the client.
    pub(super) fn takes(&mut self, kind: Kind, payload: &[u8]) -> bool {
        let (progress, rules) = (&mut self.progress, &self.rules);
        let is_reply =
            |rule: usize, key| rules.get(rule).is_some_and(|rule| rule.is_reply(key, kind, payload));
        if progress.awaited.as_ref().is_some_and(|reply| is_reply(reply.rule, reply.key.as_deref())) {
            progress.awaited = None;
        } else if let Some(index) = progress.unspoken.iter().position(|rule| is_reply(*rule, None)) {
            progress.unspoken.remove(index);
        } else {
            return false;
        }
        self.forget(kind, payload);
        true
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.store.held()
    }

    fn forget(&mut self, kind: Kind, payload: &[u8]) {
        for (index, key) in self.rules.forgotten_by(kind, payload) {
            self.store.forget(index, &key);
        }
    }
}

#[cfg(test)]
mod tests;

//! The rules of a route, made ready: which messages make up a greeting. Pure.

use std::sync::Arc;

use regex::Regex;

use crate::config::{GreetingRule, Match, MessageKey, Pointer};
use crate::frame::Kind;
use crate::log::rules::{Matcher, key_at};

/// The number of a message for a rule that has no use for numbers: none matches it by `first`.
const UNNUMBERED: u64 = 0;

/// All of them, in their order. Made once for a route.
#[derive(Debug)]
pub(in crate::session) struct Rules {
    rules: Vec<Rule>,
}

#[derive(Debug)]
pub(super) struct Rule {
    said: Option<Matcher>,
    reply: Option<Matcher>,
    key: Option<Key>,
    forget: Option<Matcher>,
    keep: usize,
}

#[derive(Debug)]
enum Key {
    Pointer(Pointer),
    Capture(Regex),
    /// An expression that does not compile, which the configuration would have refused.
    Nothing,
}

impl Rules {
    /// The configuration has checked that they can be made.
    pub(in crate::session) fn new(rules: &[GreetingRule]) -> Self {
        Self { rules: rules.iter().map(Rule::new).collect() }
    }

    /// Whether there is nothing to greet with, whatever clients say.
    pub(in crate::session) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Rule> {
        self.rules.get(index)
    }

    /// The rule that keeps this message of the client: the first that matches.
    pub(super) fn rule_of(&self, number: u64, kind: Kind, payload: &[u8]) -> Option<(usize, &Rule)> {
        let matches =
            |rule: &Rule| rule.said.as_ref().is_some_and(|said| said.matches(kind, payload, number));
        self.rules.iter().enumerate().find(|(_, rule)| matches(rule))
    }

    /// Rules that await what a server says by itself.
    pub(super) fn speaking_first(&self) -> impl Iterator<Item = usize> {
        let rules = self.rules.iter().enumerate();
        rules.filter(|(_, rule)| rule.said.is_none() && rule.reply.is_some()).map(|(index, _)| index)
    }

    pub(super) fn has_forget(&self) -> bool {
        self.rules.iter().any(|rule| rule.forget.is_some())
    }

    /// What is over after this message: rules, and the keys of which they keep nothing any more.
    pub(super) fn forgotten_by(&self, kind: Kind, payload: &[u8]) -> Vec<(usize, Arc<str>)> {
        let rules = self.rules.iter().enumerate();
        let key = |rule: &Rule| {
            let forgets = rule.forget.as_ref()?.matches(kind, payload, UNNUMBERED);
            rule.key_in(kind, payload).filter(|_| forgets)
        };
        rules.filter_map(|(index, rule)| Some((index, key(rule)?))).collect()
    }
}

impl Rule {
    fn new(rule: &GreetingRule) -> Self {
        let matcher = |rule: &Option<Match>| rule.as_ref().map(Matcher::new);
        Self {
            said: matcher(&rule.said),
            reply: matcher(&rule.reply),
            key: rule.key.as_ref().map(Key::new),
            forget: matcher(&rule.forget),
            keep: rule.keep,
        }
    }

    pub(super) fn keep(&self) -> usize {
        self.keep
    }

    pub(super) fn has_reply(&self) -> bool {
        self.reply.is_some()
    }

    /// What tells the message apart from others; `None`: there is no key, or the message has nothing there, so that
    /// the whole message does.
    pub(super) fn key_in(&self, kind: Kind, payload: &[u8]) -> Option<Arc<str>> {
        match self.key.as_ref()? {
            Key::Pointer(pointer) => key_at(pointer, kind, payload),
            Key::Capture(expression) if kind == Kind::Text => {
                let text = std::str::from_utf8(payload).ok()?;
                Some(Arc::from(expression.captures(text)?.get(1)?.as_str()))
            }
            Key::Capture(_) | Key::Nothing => None,
        }
    }

    /// Whether a server's message is the reply to a message with this key. One that has no key is about whatever was said.
    pub(super) fn is_reply(&self, key: Option<&str>, kind: Kind, payload: &[u8]) -> bool {
        let is_one = self.reply.as_ref().is_some_and(|reply| reply.matches(kind, payload, UNNUMBERED));
        let is_about = |key: &str| self.key_in(kind, payload).is_none_or(|its| *its == *key);
        is_one && key.is_none_or(is_about)
    }
}

impl Key {
    fn new(key: &MessageKey) -> Self {
        match key {
            MessageKey::Pointer(pointer) => Self::Pointer(pointer.clone()),
            MessageKey::Capture(expression) => {
                Match::compile(expression).map_or(Self::Nothing, Self::Capture)
            }
        }
    }
}

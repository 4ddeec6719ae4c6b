//! `policy.session`: what outlives either link of a client.

mod greeting;

use std::path::PathBuf;
use std::sync::Arc;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::{Replay, Session, SessionQueue, TokenKeys};
use crate::config::problems::Problems;
use crate::config::raw::policy::session::greeting::RawGreetingRules;
use crate::config::raw::values::check;
use crate::config::raw::values::matching::RawMatch;
use crate::config::raw::values::scalar::{Scalar, words};
use crate::config::raw::values::units::{Bytes, Span, SpanOrOff};
use crate::config::raw::values::unsupported::{Identity, Unsupported};

/// `policy.session`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
pub(crate) struct RawSession {
    resume_window: Scalar<SpanOrOff>,
    max_detached: Scalar<u32>,
    receipts: Scalar<bool>,
    identity: Unsupported<Identity>,
    greeting: Option<RawGreetingRules>,
    queue: RawQueue,
    token_key_file: Option<Scalar<PathBuf>>,
}

impl Default for RawSession {
    fn default() -> Self {
        Self {
            resume_window: Scalar(SpanOrOff(Some(Span::secs(30).0))),
            max_detached: Scalar(1000),
            receipts: Scalar(true),
            identity: Unsupported::default(),
            greeting: None,
            queue: RawQueue::default(),
            token_key_file: None,
        }
    }
}

impl RawSession {
    pub(crate) fn validate(self, problems: &mut Problems) -> Session {
        let defaults = Self::default();
        let Self { resume_window, max_detached, receipts, identity, greeting, queue, token_key_file } = self;
        problems.refuse_unless_default("identity", &identity, &defaults.identity);
        check::at_least_one("max_detached", max_detached, problems);
        Session {
            resume_window: resume_window.0.0,
            max_detached: max_detached.0 as usize,
            receipts: receipts.0,
            greeting: greeting.map(|rules| rules.validate("greeting", problems)).unwrap_or_default(),
            queue: problems.within("queue", |problems| queue.validate(problems)),
            token_keys: token_key_file.and_then(|Scalar(path)| {
                let file = problems.file("token_key_file", &path);
                if problems.has("token_key_file") {
                    return None;
                }
                match TokenKeys::read(&file) {
                    Ok(keys) => Some(Arc::new(keys)),
                    Err(wrong) => {
                        problems.refuse("token_key_file", wrong, TokenKeys::ACCEPTED);
                        None
                    }
                }
            }),
        }
    }
}

/// `policy.session.queue`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings")]
struct RawQueue {
    messages: Scalar<u32>,
    bytes: Scalar<Bytes>,
    age: Scalar<Span>,
    replay: Scalar<Replay>,
    skip: Option<RawMatch>,
}

impl Default for RawQueue {
    fn default() -> Self {
        Self {
            messages: Scalar(100),
            bytes: Scalar(Bytes(1 << 20)),
            age: Scalar(Span::secs(60)),
            replay: Scalar(Replay::Unsent),
            skip: None,
        }
    }
}

words!(Replay { Unsent = "unsent", Unacknowledged = "unacknowledged" });

impl RawQueue {
    fn validate(self, problems: &mut Problems) -> SessionQueue {
        let Self { messages, bytes, age, replay, skip } = self;
        check::at_least_one("messages", messages, problems);
        check::not_empty("bytes", bytes, problems);
        check::positive("age", age, problems);
        SessionQueue {
            messages: messages.0 as usize,
            bytes: bytes.0.0 as usize,
            age: age.0.0,
            replay: replay.0,
            skip: skip
                .and_then(|rule| problems.within("skip", |problems| rule.validate_by_contents(problems))),
        }
    }
}

//! `policy.session`: what outlives a connection. Nothing of it is built.

use crate::config::raw::values::unsupported::{Greeting, Identity, Later, Match, unsupported_sections};

unsupported_sections! {
    /// `policy.session`
    RawSession {
        resume_window: Later = Later::word("30s"),
        identity: Later<Identity> = Later::default(),
        greeting: Later<Greeting> = Later::default(),
        queue: RawQueue = RawQueue::default(),
        token_key_file: Later = Later::default(),
    }

    /// `policy.session.queue`
    RawQueue {
        messages: Later = Later::word("100"),
        bytes: Later = Later::word("1MiB"),
        age: Later = Later::word("60s"),
        replay: Later = Later::word("unsent"),
        skip: Later<Match> = Later::default(),
    }
}

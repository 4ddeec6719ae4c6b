//! `policy.session`: what outlives a connection. Nothing of it is built.

use crate::config::raw::values::unsupported::{Greeting, Identity, Match, Unsupported, unsupported_sections};

unsupported_sections! {
    /// `policy.session`
    RawSession {
        resume_window: Unsupported = Unsupported::word("30s"),
        identity: Unsupported<Identity> = Unsupported::default(),
        greeting: Unsupported<Greeting> = Unsupported::default(),
        queue: RawQueue = RawQueue::default(),
        token_key_file: Unsupported = Unsupported::default(),
    }

    /// `policy.session.queue`
    RawQueue {
        messages: Unsupported = Unsupported::word("100"),
        bytes: Unsupported = Unsupported::word("1MiB"),
        age: Unsupported = Unsupported::word("60s"),
        replay: Unsupported = Unsupported::word("unsent"),
        skip: Unsupported<Match> = Unsupported::default(),
    }
}

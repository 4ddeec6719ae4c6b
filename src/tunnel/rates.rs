//! Rates of one client: token buckets for its messages and its control frames.
//!
//! # Not here
//! What follows when one is empty: the client is not read for a while ([`super::relay`]), or closed
//! ([`super::closing`]).

use tokio::time::Instant;

use crate::config::{Policy, Rate};
use crate::resilience::Bucket;

/// The token buckets of one client.
#[derive(Debug)]
pub(super) struct Rates {
    pub(super) messages: Option<Bucket>,
    pub(super) controls: Option<Bucket>,
    /// When it may send the next message, while it may not.
    pub(super) next_token_at: Option<Instant>,
}

impl Rates {
    pub(super) fn new(policy: &Policy, now: Instant) -> Option<Box<Self>> {
        let bucket = |rate: Option<Rate>| rate.map(|rate| Bucket::new(rate, now));
        let (messages, controls) = (bucket(policy.message_rate), bucket(policy.control_rate.in_tunnels()));
        let is_limited = messages.is_some() || controls.is_some();
        is_limited.then(|| Box::new(Self { messages, controls, next_token_at: None }))
    }

    /// How many messages the client may send now; of none, notes when it may send the next one.
    pub(super) fn available(&mut self, now: Instant) -> u32 {
        let Some(bucket) = &mut self.messages else { return u32::MAX };
        let most = bucket.available(now);
        self.next_token_at = (most == 0).then(|| bucket.next_token_at());
        most
    }
}

/// The bucket for messages, if their rate is limited.
pub(super) fn messages(rates: &mut Option<Box<Rates>>) -> Option<&mut Bucket> {
    rates.as_mut()?.messages.as_mut()
}

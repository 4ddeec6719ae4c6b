//! How much of a client is read: its rate of messages and of control frames, and pauses. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Rate;
use crate::resilience::{ArrivalTime, Bucket, Gcra};

/// What a client may still send.
#[derive(Debug)]
pub(in crate::delivery) struct ReadLimits {
    /// There for a client whose rate of messages is limited, or that was not read for a while.
    messages: Option<Box<MessageLimit>>,
    controls: ArrivalTime,
}

#[derive(Debug, Default)]
struct MessageLimit {
    /// `limits.message_rate`, if there is one.
    bucket: Option<Bucket>,
    /// Since when the client is not read, and until when.
    pause: Option<(Instant, Instant)>,
}

impl ReadLimits {
    pub(super) fn new(message_rate: Option<Rate>, now: Instant) -> Self {
        let limit = |rate| MessageLimit { bucket: Some(Bucket::new(rate, now)), pause: None };
        Self { messages: message_rate.map(|rate| Box::new(limit(rate))), controls: ArrivalTime::default() }
    }

    /// So many messages came. Beyond their rate the client is not read for a while.
    pub(in crate::delivery) fn on_messages(&mut self, messages: u32, now: Instant) {
        if messages == 0 {
            return;
        }
        let bucket = self.messages.as_deref_mut().and_then(|limit| limit.bucket.as_mut());
        let Some(bucket) = bucket else { return };
        bucket.take(messages);
        if bucket.available(now) == 0 {
            let until = bucket.next_token_at();
            self.pause(until, now);
        }
    }

    /// So many control frames came. Whether their rate allows that.
    pub(in crate::delivery) fn allows_controls(&mut self, controls: u32, rate: Rate, now: Instant) -> bool {
        self.controls.take_or_empty(controls, Gcra::new(rate), now)
    }

    /// The client is not read until then.
    pub(in crate::delivery) fn pause(&mut self, until: Instant, now: Instant) {
        let pause = &mut self.messages.get_or_insert_default().pause;
        *pause = Some((now, pause.map_or(until, |(_, known)| known.max(until))));
    }

    pub(in crate::delivery) fn is_paused(&self) -> bool {
        self.paused_until().is_some()
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.messages.as_ref()?.pause.map(|(_, until)| until)
    }

    /// Ends a pause that is over, and answers how long it was.
    pub(super) fn end_pause(&mut self, now: Instant) -> Option<Duration> {
        let pause = &mut self.messages.as_mut()?.pause;
        pause.take_if(|(_, until)| *until <= now).map(|(since, _)| now - since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_pause_ends_once_and_the_later_of_two_holds() {
        let now = Instant::now();
        let mut limits = ReadLimits::new(None, now);
        limits.on_messages(1000, now);
        assert_eq!((limits.is_paused(), limits.end_pause(now)), (false, None), "there is no limit");
        limits.pause(now + secs(5), now);
        limits.pause(now + secs(3), now + secs(1));
        assert_eq!(limits.paused_until(), Some(now + secs(5)));
        assert_eq!(limits.end_pause(now + secs(4)), None);
        assert!(limits.is_paused());
        assert_eq!(limits.end_pause(now + secs(6)), Some(secs(5)), "since it was asked for last");
        assert_eq!((limits.is_paused(), limits.end_pause(now + secs(6))), (false, None));
    }

    #[test]
    fn who_has_used_up_its_messages_is_not_read_until_the_next_token() {
        let now = Instant::now();
        let rate = Rate { per_second: 2.0, burst: 3 };
        let mut limits = ReadLimits::new(Some(rate), now);
        limits.on_messages(2, now);
        assert!(!limits.is_paused());
        limits.on_messages(1, now);
        let until = limits.paused_until().expect("it is paused");
        assert!(until > now && until <= now + secs(1), "{:?}", until - now);
        assert_eq!(limits.end_pause(until), Some(until - now));
    }
}

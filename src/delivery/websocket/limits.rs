//! How much of a client is read: its rate of messages and of control frames, and pauses. Pure.
//!
//! # Invariants
//! 1. While a client is not read its clocks stand still: whoever ends a pause is told how long it was.
//! 2. A client that is not read is looked at each second, whatever it is not read for; one that has gone stays gone, also if
//!    what it has left is read in between, a little at a time.
//! 3. A pause without a date ends through [`ReadLimits::end_pause`] like any other one, and has a date for that from then on:
//!    whoever arms a timer with [`ReadLimits::paused_until`] reads on.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Rate;
use crate::resilience::{ArrivalTime, Bucket, Gcra};

/// How often a client that is not read is looked at, whether it is still there: the end of its stream stands behind bytes
/// that are not taken. The same as in tunnels.
const PRESENCE_CHECK: Duration = Duration::from_secs(1);

/// What a client may still send.
#[derive(Debug)]
pub(crate) struct ReadLimits {
    /// There for a client whose rate of messages is limited, or that was not read for a while.
    messages: Option<Box<MessageLimit>>,
    controls: ArrivalTime,
}

/// What a client has used up of its rates, for another link of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpentRates {
    messages: Option<Bucket>,
    controls: ArrivalTime,
}

#[derive(Debug, Default)]
struct MessageLimit {
    /// `limits.message_rate`, if there is one.
    bucket: Option<Bucket>,
    pause: Option<Pause>,
    /// What is known since the first of several pauses.
    presence: Option<Presence>,
}

/// A client is not read.
#[derive(Debug, Clone, Copy)]
struct Pause {
    since: Instant,
    /// Until then at least.
    until: Instant,
    /// Nobody takes what the client says: it is not read until that has changed.
    is_back_pressure: bool,
}

/// Whether a client that is not read is still there.
#[derive(Debug, Clone, Copy)]
enum Presence {
    /// It was there when it was looked at, and is looked at again then.
    CheckAt(Instant),
    /// It has gone, which was seen then.
    GoneSince(Instant),
}

impl ReadLimits {
    pub(crate) fn new(message_rate: Option<Rate>, now: Instant) -> Self {
        let limit = |rate| MessageLimit { bucket: Some(Bucket::new(rate, now)), ..MessageLimit::default() };
        Self { messages: message_rate.map(|rate| Box::new(limit(rate))), controls: ArrivalTime::default() }
    }

    /// What the client has used up.
    pub(crate) fn spent(&self) -> SpentRates {
        SpentRates {
            messages: self.messages.as_ref().and_then(|limit| limit.bucket),
            controls: self.controls,
        }
    }

    /// The client has used up so much over a link before: coming back gives it nothing anew.
    pub(crate) fn go_on_from(&mut self, spent: SpentRates, now: Instant) {
        self.controls = spent.controls;
        let Some(bucket) = self.messages.as_deref_mut().and_then(|limit| limit.bucket.as_mut()) else {
            return;
        };
        let Some(before) = spent.messages else { return };
        *bucket = before;
        if bucket.available(now) == 0 {
            let until = bucket.next_token_at();
            self.pause(until, now);
        }
    }

    /// So many messages came. Beyond their rate the client is not read for a while.
    pub(crate) fn on_messages(&mut self, messages: u32, now: Instant) {
        if messages == 0 {
            return;
        }
        let bucket = self.messages.as_deref_mut().and_then(|limit| limit.bucket.as_mut());
        let Some(bucket) = bucket else { return };
        // Time that has passed fills it up to its burst, and no further.
        bucket.available(now);
        bucket.take(messages);
        if bucket.available(now) == 0 {
            let until = bucket.next_token_at();
            self.pause(until, now);
        }
    }

    /// So many control frames came. Whether their rate allows that.
    pub(super) fn allows_controls(&mut self, controls: u32, rate: Rate, now: Instant) -> bool {
        self.controls.take_or_empty(controls, Gcra::new(rate), now)
    }

    /// The client is not read until then.
    pub(crate) fn pause(&mut self, until: Instant, now: Instant) {
        let limit = self.messages.get_or_insert_default();
        limit.pause = Some(match limit.pause {
            Some(known) => Pause {
                since: if known.is_back_pressure { known.since } else { now },
                until: known.until.max(until),
                ..known
            },
            None => Pause { since: now, until, is_back_pressure: false },
        });
        limit.presence.get_or_insert(Presence::CheckAt(now + PRESENCE_CHECK));
    }

    /// The client is not read until [`ReadLimits::resume_reading`].
    pub(crate) fn pause_reading(&mut self, now: Instant) {
        let limit = self.messages.get_or_insert_default();
        let pause = limit.pause.get_or_insert(Pause { since: now, until: now, is_back_pressure: true });
        pause.is_back_pressure = true;
        limit.presence.get_or_insert(Presence::CheckAt(now + PRESENCE_CHECK));
    }

    /// Ends what [`ReadLimits::pause_reading`] has begun: the client may be read as soon as its rate allows that.
    pub(crate) fn resume_reading(&mut self, now: Instant) {
        let Some(limit) = self.messages.as_deref_mut() else { return };
        if let Some(pause) = limit.pause.as_mut().filter(|pause| pause.is_back_pressure) {
            pause.is_back_pressure = false;
            pause.until = pause.until.max(now);
            // All that it has left may be read now.
            limit.presence = Some(Presence::CheckAt(now + PRESENCE_CHECK));
        }
    }

    /// Whether the client is not read now.
    pub(crate) fn is_paused(&self) -> bool {
        self.known_pause().is_some()
    }

    /// When the pause ends by itself.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        let pause = self.known_pause()?;
        (!pause.is_back_pressure).then_some(pause.until)
    }

    /// Ends a pause that is over, and answers how long it was.
    pub(super) fn end_pause(&mut self, now: Instant) -> Option<Duration> {
        let pause = &mut self.messages.as_mut()?.pause;
        let ended = pause.take_if(|pause| !pause.is_back_pressure && pause.until <= now)?;
        Some(now - ended.since)
    }

    /// When the client is to be looked at, whether it is still there.
    pub(super) fn presence_check_at(&self) -> Option<Instant> {
        match self.presence()? {
            Presence::CheckAt(at) => Some(at),
            Presence::GoneSince(_) => None,
        }
    }

    /// The client was looked at.
    pub(super) fn on_presence(&mut self, is_gone: bool, now: Instant) {
        if let Some(presence) = self.messages.as_mut().and_then(|limit| limit.presence.as_mut()) {
            *presence =
                if is_gone { Presence::GoneSince(now) } else { Presence::CheckAt(now + PRESENCE_CHECK) };
        }
    }

    /// Since when it is known that the client has gone, behind what is not read of it.
    pub(super) fn gone_since(&self) -> Option<Instant> {
        match self.presence()? {
            Presence::GoneSince(since) => Some(since),
            Presence::CheckAt(_) => None,
        }
    }

    /// Of a client that is not read.
    fn presence(&self) -> Option<Presence> {
        self.messages.as_ref().filter(|limit| limit.pause.is_some())?.presence
    }

    fn known_pause(&self) -> Option<&Pause> {
        self.messages.as_ref()?.pause.as_ref()
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
        assert_eq!(limits.presence_check_at(), None);
    }

    #[test]
    fn who_comes_back_has_used_up_what_it_had_used_up() {
        let now = Instant::now();
        let rate = Rate { per_second: 2.0, burst: 3 };
        let mut before = ReadLimits::new(Some(rate), now);
        before.on_messages(7, now);
        let mut after = ReadLimits::new(Some(rate), now);
        after.go_on_from(before.spent(), now);
        assert_eq!(after.paused_until(), before.paused_until());
        assert!(after.is_paused());
        // A link without a rate of messages has none afterwards, and one that was not used up is read at once.
        let mut free = ReadLimits::new(None, now);
        free.go_on_from(before.spent(), now);
        assert!(!free.is_paused());
        let mut fresh = ReadLimits::new(Some(rate), now);
        fresh.go_on_from(ReadLimits::new(Some(rate), now).spent(), now);
        assert!(!fresh.is_paused());
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

    #[test]
    fn who_was_silent_for_long_may_say_as_much_at_once_as_the_burst_and_no_more() {
        let begun = Instant::now();
        let rate = Rate { per_second: 2.0, burst: 3 };
        let mut limits = ReadLimits::new(Some(rate), begun);
        let now = begun + secs(3600);
        limits.on_messages(3 + 10, now);
        // What was said beyond it is waited for: five seconds, and the half that a token takes.
        assert_eq!(limits.paused_until(), Some(now + Duration::from_millis(5500)));
    }

    #[test]
    fn back_pressure_has_no_date_until_it_is_taken_back() {
        let now = Instant::now();
        let mut limits = ReadLimits::new(None, now);
        limits.resume_reading(now);
        assert!(!limits.is_paused(), "there was none");
        limits.pause_reading(now);
        limits.pause_reading(now + secs(1));
        assert_eq!((limits.is_paused(), limits.paused_until()), (true, None));
        assert_eq!(limits.end_pause(now + secs(100)), None);
        // Its rate is used up as well, and for longer.
        limits.pause(now + secs(8), now + secs(2));
        assert_eq!(limits.paused_until(), None);
        limits.resume_reading(now + secs(4));
        assert_eq!((limits.paused_until(), limits.end_pause(now + secs(7))), (Some(now + secs(8)), None));
        limits.resume_reading(now + secs(9));
        assert_eq!(limits.end_pause(now + secs(9)), Some(secs(9)), "since it was not read");
        limits.pause_reading(now + secs(10));
        limits.resume_reading(now + secs(12));
        assert_eq!(limits.paused_until(), Some(now + secs(12)), "at once");
        assert_eq!(limits.end_pause(now + secs(12)), Some(secs(2)));
    }

    #[test]
    fn who_is_under_back_pressure_is_looked_at_each_second_until_it_is_seen_to_have_gone() {
        let now = Instant::now();
        let mut limits = ReadLimits::new(None, now);
        limits.on_presence(true, now);
        assert_eq!((limits.presence_check_at(), limits.gone_since()), (None, None), "it is read");
        limits.pause_reading(now);
        limits.pause_reading(now + Duration::from_millis(900));
        assert_eq!(limits.presence_check_at(), Some(now + secs(1)), "however often that is asked for");
        limits.on_presence(false, now + secs(1));
        assert_eq!((limits.presence_check_at(), limits.gone_since()), (Some(now + secs(2)), None));
        limits.on_presence(true, now + secs(2));
        assert_eq!((limits.presence_check_at(), limits.gone_since()), (None, Some(now + secs(2))));
        limits.resume_reading(now + secs(3));
        assert_eq!(limits.gone_since(), None, "what it has left is read");
    }

    #[test]
    fn who_is_not_read_for_its_rate_is_looked_at_too_and_stays_gone_through_several_pauses() {
        let now = Instant::now();
        let rate = Rate { per_second: 2.0, burst: 1 };
        let mut limits = ReadLimits::new(Some(rate), now);
        limits.on_messages(1, now);
        let until = limits.paused_until().unwrap();
        assert_eq!(limits.presence_check_at(), Some(now + secs(1)));
        // Its pause is shorter than that, and so is the next one.
        limits.end_pause(until);
        assert_eq!(limits.presence_check_at(), None, "it is read");
        limits.on_messages(1, until);
        assert_eq!(limits.presence_check_at(), Some(now + secs(1)));
        limits.end_pause(now + secs(1));
        limits.on_messages(1, now + secs(1));
        limits.on_presence(true, now + secs(1));
        assert_eq!(limits.gone_since(), Some(now + secs(1)));
        limits.end_pause(now + secs(2));
        limits.on_messages(9, now + secs(2));
        assert_eq!((limits.gone_since(), limits.presence_check_at()), (Some(now + secs(1)), None));
    }
}

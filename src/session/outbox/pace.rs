//! How what is said again is said, where a message may be what servers die of. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// With so many deaths the oldest uncertain message is a suspect, and what follows is said one at a time.
const SUSPECT_DEATHS: u8 = 2;

/// With so many deaths, the last of them alone, it is the culprit.
const POISON_DEATHS: u8 = 3;

/// A new server has lived at least so long, and at most so much longer, before it hears a suspect.
pub(super) const TRIAL: Duration = Duration::from_millis(100);
pub(super) const TRIAL_SPREAD: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// All at once.
    Free,
    /// Each after the one before it was taken. The first one waits until then on a new link, if that is set.
    OneAtATime { from: Option<Instant> },
    /// Not any more.
    Poisoned,
}

impl Pace {
    pub(super) fn is_cautious(self) -> bool {
        matches!(self, Self::OneAtATime { .. })
    }

    /// The server has died while one message was the oldest uncertain one, so often; `was_alone`: nothing else was.
    pub(super) fn on_death(&mut self, deaths: u8, was_alone: bool) {
        if deaths >= POISON_DEATHS && was_alone {
            *self = Self::Poisoned;
        } else if deaths >= SUSPECT_DEATHS && *self == Self::Free {
            *self = Self::OneAtATime { from: None };
        }
    }

    /// Nothing is left that was said before.
    pub(super) fn relax(&mut self) {
        if self.is_cautious() {
            *self = Self::Free;
        }
    }

    /// A new server was greeted; see [`super::Outbox::on_greeted`].
    pub(super) fn begin_trial(&mut self, random: f64, now: Instant) {
        if let Self::OneAtATime { from } = self {
            *from = Some(now + TRIAL + TRIAL_SPREAD.mul_f64(random.clamp(0.0, 1.0)));
        }
    }

    /// Until when that is on trial.
    pub(super) fn trial_ends(self) -> Option<Instant> {
        match self {
            Self::OneAtATime { from } => from,
            Self::Free | Self::Poisoned => None,
        }
    }

    /// Time has passed.
    pub(super) fn end_trial(&mut self, now: Instant) {
        if let Self::OneAtATime { from } = self {
            *from = from.filter(|from| *from > now);
        }
    }
}

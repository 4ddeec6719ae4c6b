//! What became of messages that a client was told are received, until it surely knows. Pure.
//!
//! A control frame goes with its link, and a client that is away hears none. So everything is kept that was to be told, and told
//! again over each next link, until the client proves that it has read it. It does so when it
//! * confirms a message that was sent behind it, or comes back with that as the newest one that it has had;
//! * answers the question that was asked behind it: where the server says nothing there is nothing to confirm.
//!
//! The pong of RFC 6455 is no proof: a browser answers it for a page that will not get to reading what came before it.
//!
//! # Invariants
//! 1. All of it was told over one link, or nothing is proven: a proof is one for all.
//! 2. There are at most [`MAX_RANGES`] ranges of a kind. Beyond that the two become one that are nearest to each other: no number
//!    is left out, and the client is told of some that are neither lost nor uncertain.
//!
//! # Not here
//! When it is told ([`super::telling`]).

use std::ops::RangeInclusive;

use crate::delivery::control::{FromProxy, LossCause};
use crate::session::outbox::{GivenUp, Lost};
use crate::telemetry::MessageLoss;

/// Together with the question, fewer than the frames that may wait for one link.
const MAX_RANGES: usize = 16;

/// What became of a message of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// A server that is gone may have taken it.
    Uncertain,
    /// No server has heard it, and none will: it was too old.
    Expired,
    /// The same, since the session is over.
    Unsaid,
}

impl Fate {
    /// What is given up, with what became of it: of what no server has heard, `of_lost`.
    pub(super) fn of_each(given_up: GivenUp, of_lost: Self) -> impl Iterator<Item = (Self, Lost)> {
        let GivenUp { uncertain, lost } = given_up;
        let uncertain = uncertain.map(|uncertain| (Self::Uncertain, uncertain));
        uncertain.into_iter().chain(lost.map(|lost| (of_lost, lost)))
    }

    /// As it is counted.
    pub(super) fn reason(self) -> MessageLoss {
        match self {
            Self::Uncertain => MessageLoss::Uncertain,
            Self::Expired => MessageLoss::Age,
            Self::Unsaid => MessageLoss::Queue,
        }
    }

    /// As a client is told of it.
    pub(super) fn frame(self, numbers: &RangeInclusive<u64>) -> FromProxy {
        let (from, to) = (*numbers.start(), *numbers.end());
        match self {
            Self::Uncertain => FromProxy::Uncertain { from, to },
            Self::Expired => FromProxy::Lost { from, to, why: LossCause::Age },
            Self::Unsaid => FromProxy::Lost { from, to, why: LossCause::Queue },
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Untold {
    uncertain: Ranges,
    expired: Ranges,
    told: Option<Told>,
}

/// All of it was told over one link.
#[derive(Debug, Clone, Copy)]
struct Told {
    /// The number of the message that was sent next.
    next: u64,
    /// What was asked then.
    question: u64,
}

impl Untold {
    pub(super) fn add(&mut self, fate: Fate, numbers: &RangeInclusive<u64>) {
        self.told = None;
        match fate {
            Fate::Uncertain => self.uncertain.add(numbers),
            Fate::Expired => self.expired.add(numbers),
            // There is no link after this one.
            Fate::Unsaid => {}
        }
    }

    /// What a new link is told.
    pub(super) fn frames(&self) -> impl Iterator<Item = FromProxy> {
        let of = |fate: Fate, ranges: &Ranges| {
            let frames: Vec<FromProxy> = ranges.0.iter().map(|numbers| fate.frame(numbers)).collect();
            frames
        };
        of(Fate::Uncertain, &self.uncertain).into_iter().chain(of(Fate::Expired, &self.expired))
    }

    /// All of it was told over the present link: before the message with the number `next`, and before this question.
    pub(super) fn on_told(&mut self, next: u64, question: u64) {
        self.told = Some(Told { next, question });
    }

    /// The link that it was told over is gone, or it is to be told over another one.
    pub(super) fn on_other_link(&mut self) {
        self.told = None;
    }

    /// Whether all of it was told over the present link.
    pub(super) fn is_told(&self) -> bool {
        self.told.is_some()
    }

    /// Whether a client that has had this message knows.
    pub(super) fn is_proven_by_seen(&self, seen: u64) -> bool {
        self.told.is_some_and(|told| seen >= told.next)
    }

    /// Whether a client that has answered so knows.
    pub(super) fn is_proven_by_pong(&self, number: u64) -> bool {
        self.told.is_some_and(|told| number == told.question)
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        let ranges = self.uncertain.0.capacity() + self.expired.0.capacity();
        size_of::<Self>() + ranges * size_of::<RangeInclusive<u64>>()
    }
}

/// In their order; neither do they overlap nor follow each other directly.
#[derive(Debug, Default)]
struct Ranges(Vec<RangeInclusive<u64>>);

impl Ranges {
    fn add(&mut self, numbers: &RangeInclusive<u64>) {
        let (mut from, mut to) = (*numbers.start(), *numbers.end());
        let at = self.0.partition_point(|range| range.end().saturating_add(1) < from);
        let touched = self.0[at..].iter().take_while(|range| *range.start() <= to.saturating_add(1)).count();
        for range in self.0.drain(at..at + touched) {
            from = from.min(*range.start());
            to = to.max(*range.end());
        }
        self.0.insert(at, from..=to);
        if self.0.len() > MAX_RANGES {
            self.join_nearest();
        }
    }

    fn join_nearest(&mut self) {
        let gaps = self.0.windows(2).map(|pair| pair[1].start() - pair[0].end());
        let Some((at, _)) = gaps.enumerate().min_by_key(|(_, gap)| *gap) else { return };
        let next = self.0.remove(at + 1);
        self.0[at] = *self.0[at].start()..=*next.end();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_the_client_did_behind_it_proves_that_it_has_read_it() {
        let mut untold = Untold::default();
        untold.add(Fate::Uncertain, &(3..=4));
        assert!(!untold.is_proven_by_seen(u64::MAX), "it was told over no link");
        untold.on_told(6, 77);
        for (seen, is_proven) in [(0, false), (5, false), (6, true), (9, true)] {
            assert_eq!(untold.is_proven_by_seen(seen), is_proven, "{seen}");
        }
        for (number, is_proven) in [(0, false), (76, false), (77, true)] {
            assert_eq!(untold.is_proven_by_pong(number), is_proven, "{number}");
        }
        // What the client was not told yet is not proven by what proves the rest.
        untold.add(Fate::Expired, &(8..=8));
        assert!(!untold.is_proven_by_seen(9) && !untold.is_proven_by_pong(77));
        let lost = FromProxy::Lost { from: 8, to: 8, why: LossCause::Age };
        assert_eq!(untold.frames().collect::<Vec<_>>(), [FromProxy::Uncertain { from: 3, to: 4 }, lost]);
    }

    proptest! {
        /// Beside a plain list of numbers.
        #[test]
        fn no_number_is_forgotten_and_little_is_kept(
            added in prop::collection::vec((1..2000_u64, 0..20_u64), 1..100)
        ) {
            let mut ranges = Ranges::default();
            for (nth, (from, length)) in added.iter().enumerate() {
                ranges.add(&(*from..=from + length));
                prop_assert!(ranges.0.len() <= MAX_RANGES);
                prop_assert!(ranges.0.windows(2).all(|pair| pair[0].end() + 1 < *pair[1].start()));
                let covers = |number: u64| ranges.0.iter().any(|range| range.contains(&number));
                let so_far = &added[..=nth];
                prop_assert!(so_far.iter().all(|(from, length)| (*from..=from + length).all(covers)));
                if so_far.len() <= MAX_RANGES {
                    let is_added = |number| {
                        so_far.iter().any(|(from, length)| (*from..=from + length).contains(&number))
                    };
                    prop_assert!(ranges.0.iter().all(|range| range.clone().all(is_added)), "nothing else");
                }
            }
        }
    }
}

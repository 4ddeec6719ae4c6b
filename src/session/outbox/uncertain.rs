//! Numbers of messages that have left for a server, and of which it is not known whether it took them. Pure.
//!
//! Nothing is kept of a message itself: messages that follow each other both in their numbers and in their positions on the link
//! are one run, whatever their number.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// More runs than these are not told apart. Runs break where a number was left out, which takes a message that was
/// dropped or that the greeting has said.
const MAX_RUNS: usize = 32;

/// Messages that the client will not be able to find out about otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) struct Lost {
    /// They are among these. What else is among them was taken, or was told of before.
    pub(in crate::session) numbers: RangeInclusive<u64>,
    /// How many they are; at least 1.
    pub(in crate::session) messages: u64,
}

impl Lost {
    /// Adds the next number to what is lost.
    fn push(lost: &mut Option<Self>, number: u64) {
        match lost {
            None => *lost = Some(Self { numbers: number..=number, messages: 1 }),
            Some(lost) => {
                lost.numbers = *lost.numbers.start()..=number;
                lost.messages += 1;
            }
        }
    }
}

/// Messages that are not said any more.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::session) struct GivenUp {
    /// A server that is gone may have taken them.
    pub(in crate::session) uncertain: Option<Lost>,
    /// No server has heard of them.
    pub(in crate::session) lost: Option<Lost>,
}

impl GivenUp {
    /// The message with this number too, which stands behind those before.
    pub(super) fn push(&mut self, number: u64, may_be_known: bool) {
        Lost::push(if may_be_known { &mut self.uncertain } else { &mut self.lost }, number);
    }
}

#[derive(Debug, Default)]
pub(super) struct Uncertain {
    /// In the order of their numbers and of their positions, which do not overlap.
    runs: VecDeque<Run>,
}

/// Messages in a row.
#[derive(Debug)]
struct Run {
    first: u64,
    last: u64,
    /// How many of the numbers are meant: all, but for runs that were put together.
    messages: u64,
    /// Where the last one stands.
    end: u64,
}

impl Uncertain {
    /// The message with this number has left, which stands at this position, after all that have left before.
    pub(super) fn add(&mut self, number: u64, position: u64) {
        let has_room = self.runs.len() < MAX_RUNS;
        match self.runs.back_mut() {
            Some(run) if (number == run.last + 1 && position == run.end + 1) || !has_room => {
                run.last = number;
                run.end = position;
                run.messages += 1;
            }
            _ => self.runs.push_back(Run { first: number, last: number, messages: 1, end: position }),
        }
    }

    /// The server has taken what stands up to this position.
    pub(super) fn prove(&mut self, position: u64) {
        while self.runs.front().is_some_and(|run| run.end <= position) {
            self.runs.pop_front();
        }
        if let Some(run) = self.runs.front_mut() {
            // No two messages have one position, so at most so many are left.
            let messages = run.messages.min(run.end - position);
            run.first += run.messages - messages;
            run.messages = messages;
        } else {
            self.runs = VecDeque::new();
        }
    }

    /// All of them but those with the numbers `except`.
    pub(super) fn lost(self, except: impl IntoIterator<Item = u64>) -> Option<Lost> {
        let mut runs = Vec::from(self.runs);
        if runs.is_empty() {
            return None;
        }
        for number in except {
            leave_out(&mut runs, number);
        }
        let (first, last) = (runs.first()?.first, runs.last()?.last);
        Some(Lost { numbers: first..=last, messages: runs.iter().map(|run| run.messages).sum() })
    }

    pub(super) fn held(&self) -> usize {
        self.runs.capacity() * size_of::<Run>()
    }
}

/// Splits the run that has the number.
fn leave_out(runs: &mut Vec<Run>, number: u64) {
    let Some(index) = runs.iter().position(|run| (run.first..=run.last).contains(&number)) else { return };
    let run = runs.remove(index);
    if run.last - run.first + 1 != run.messages {
        // Which of the numbers are meant is not known any more.
        let messages = run.messages - 1;
        if messages > 0 {
            runs.insert(index, Run { messages, ..run });
        }
        return;
    }
    let after = run.last - number;
    if after > 0 {
        runs.insert(index, Run { first: number + 1, last: run.last, messages: after, end: run.end });
    }
    let before = number - run.first;
    if before > 0 {
        runs.insert(
            index,
            Run { first: run.first, last: number - 1, messages: before, end: run.end - after - 1 },
        );
    }
}

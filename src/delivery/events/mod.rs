//! A message of a log as JSON: in an event stream, and in the answers to a poll and a replay. Pure, but for the random time
//! in [`stream::push_retry`].
//!
//! * [`data`]: a message as a value of JSON, and its event. [`stream`]: what stands in a `text/event-stream` (WHATWG HTML
//!   §9.2). [`answer`]: whole answers.
//!
//! # Invariants
//! 1. An event is one line of JSON, whatever bytes its message has: nothing that a server says can end a line of an event
//!    stream, or look like another field or event.
//! 2. In the form [`DataForm::Text`] a message can be had again exactly; so can a binary one, and text that is no UTF-8, in
//!    either form.
//! 3. What we nest is no deeper than common parsers of JSON go by themselves: one message cannot make the events beside it
//!    unreadable.
//!
//! # Not here
//! Which messages are due ([`super::batch`], [`super::poll`]); heads of answers, and statuses (the server's business).

mod answer;
mod data;
pub(crate) mod stream;

pub(crate) use self::answer::{PollAnswer, ReplayAnswer};
pub(crate) use self::data::{DataForm, max_len};

#[cfg(test)]
pub(super) mod tests;

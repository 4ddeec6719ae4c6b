//! What stands in an event stream (WHATWG HTML §9.2). Each piece ends with an empty line, and has none before that: an event
//! stream may end after any of them.
//!
//! Events without a name are the messages: `onmessage` of an `EventSource` sees these alone. What the proxy says itself has a
//! name, and no id but in the hello, so that it changes nothing about where a client goes on.

use std::time::Duration;

use bytes::Bytes;

use super::data::{DataForm, push, push_event, push_string};
use crate::delivery::control::FromProxy;
use crate::log::Entry;

/// What ends a piece.
pub(in crate::delivery) const END: &[u8] = b"\n\n";

/// Says nothing, to a client or whatever stands on the way to it: the connection is in use.
pub(in crate::delivery) const COMMENT: &[u8] = b":\n\n";

/// A client comes back after a time from here on, unless it was told another one.
const RETRY: Duration = Duration::from_secs(2);
/// And within so much more, so that clients that went together do not come back together.
const RETRY_SPREAD: Duration = Duration::from_secs(2);
/// After so long where a newer connection has its place.
const REPLACED_RETRY: Duration = Duration::from_secs(60);

/// What ids of messages of this epoch begin with, where there is no session.
pub(crate) fn epoch_prefix(epoch: u64) -> String {
    format!("{epoch:016x}.")
}

/// Puts a message behind `out`. Its id is `id_prefix` and its number: with `Last-Event-ID` a client says it again.
pub(crate) fn push_message(entry: &Entry, id_prefix: &str, form: DataForm, out: &mut Vec<u8>) {
    push(out, format_args!("id: {id_prefix}{}\ndata: ", entry.sequence));
    push_event(entry, form, out);
    out.extend_from_slice(END);
}

/// Puts the time after which a client comes back behind `out`.
pub(crate) fn push_retry(out: &mut Vec<u8>) {
    let retry = RETRY + RETRY_SPREAD.mul_f64(fastrand::f64());
    push(out, format_args!("retry: {}\n\n", retry.as_millis()));
}

/// Puts the hello behind `out`: `members` is its JSON ([`crate::delivery::control::Hello::members`]), `sequence` the number
/// before that of the next message.
pub(crate) fn push_hello(id_prefix: &str, sequence: u64, members: &[u8], out: &mut Vec<u8>) {
    push(out, format_args!("event: outrigger\nid: {id_prefix}{sequence}\ndata: "));
    out.extend_from_slice(members);
    out.extend_from_slice(END);
}

/// A whole stream for a client that is turned away and may come back: any other status than 200 would end an `EventSource`
/// for good.
pub(crate) fn refusal(reason: &str) -> Bytes {
    let mut out = Vec::with_capacity(96);
    push_retry(&mut out);
    push_error(reason, &mut out);
    out.into()
}

/// The last piece of a stream whose place a newer connection of the client's user has taken. An `EventSource` comes back to
/// take it again, unless its page closes it: so it is to wait, or two of them would do nothing else.
pub(in crate::delivery) fn replaced() -> Bytes {
    let mut out = Vec::with_capacity(96);
    push(&mut out, format_args!("retry: {}\n\n", REPLACED_RETRY.as_millis()));
    push_error("replaced", &mut out);
    out.into()
}

fn push_error(reason: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: outrigger\ndata: {\"error\":");
    push_string(reason, out);
    out.extend_from_slice(b"}\n\n");
}

/// What is said beside the messages: what a WebSocket would be said in a control frame.
pub(crate) fn control(frame: &FromProxy) -> Bytes {
    let mut out = Vec::with_capacity(96);
    out.extend_from_slice(b"event: outrigger\ndata: ");
    // Numbers and words of our own: there is nothing that could fail.
    let _ = serde_json::to_writer(&mut out, frame);
    out.extend_from_slice(END);
    out.into()
}

/// So many messages will not come, and the next one has the number after `at`, or a later one.
pub(in crate::delivery) fn gap(at: u64, missed: u64) -> Bytes {
    format!("event: outrigger\ndata: {{\"at\":{at},\"missed\":{missed}}}\n\n").into()
}

/// The last piece of a stream. `said`: the code and the reason of the server's Close, if it was one that ended it.
pub(in crate::delivery) fn last(said: Option<(u16, &str)>) -> Bytes {
    let mut out = Vec::with_capacity(96);
    match said {
        Some((code, reason)) => {
            push(&mut out, format_args!("event: close\ndata: {{\"code\":{code},\"reason\":"));
            push_string(reason, &mut out);
            out.extend_from_slice(b"}\n\n");
        }
        None => push_retry(&mut out),
    }
    out.into()
}

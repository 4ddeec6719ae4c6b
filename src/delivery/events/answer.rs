//! The answers to a poll and to a replay.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::data::{DataForm, max_len, push, push_events, push_string};
use super::stream::epoch_prefix;
use crate::delivery::control::FromProxy;
use crate::log::Entry;

/// More than is written beside the events.
const AROUND: usize = 512;

/// The answer to a poll. What is `None` is null, but for `closed`, which is left out then.
#[derive(Debug)]
pub(crate) struct PollAnswer<'a> {
    /// The ticket; `None` on feeds, where numbers are told together with their epoch.
    pub session: Option<&'a str>,
    pub epoch: u64,
    /// How many of the client's messages were received.
    pub received: Option<u64>,
    pub entries: &'a [Arc<Entry>],
    /// The number that the client is to have had when it asks the next time.
    pub next: u64,
    /// How many messages it will not get; `None`: that is not known.
    pub lost: Option<u64>,
    /// How long the session waits for the next poll.
    pub expires_in: Option<Duration>,
    /// The server's Close.
    pub closed: Option<(u16, &'a str)>,
    pub is_draining: bool,
}

impl PollAnswer<'_> {
    /// The answer's body.
    pub(crate) fn to_json(&self, form: DataForm) -> Bytes {
        self.to_json_with(&[], form)
    }

    /// The same with what a WebSocket would be told in control frames.
    pub(crate) fn to_json_with(&self, control: &[FromProxy], form: DataForm) -> Bytes {
        let mut out = Vec::with_capacity(capacity(self.entries));
        out.extend_from_slice(br#"{"session":"#);
        match self.session {
            Some(ticket) => push_string(ticket, &mut out),
            None => out.extend_from_slice(b"null"),
        }
        push(
            &mut out,
            format_args!(r#","epoch":"{:016x}","received":{}"#, self.epoch, Nullable(self.received)),
        );
        out.extend_from_slice(br#","events":"#);
        push_events(self.entries, form, &mut out);
        match self.session {
            Some(_) => push(&mut out, format_args!(r#","nextSequence":{}"#, self.next)),
            None => {
                let prefix = epoch_prefix(self.epoch);
                push(&mut out, format_args!(r#","nextSequence":"{prefix}{}""#, self.next));
            }
        }
        let expires_in = self.expires_in.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        push(
            &mut out,
            format_args!(r#","lost":{},"expiresIn":{}"#, Nullable(self.lost), Nullable(expires_in)),
        );
        if let Some((code, reason)) = self.closed {
            push(&mut out, format_args!(r#","closed":{{"code":{code},"reason":"#));
            push_string(reason, &mut out);
            out.push(b'}');
        }
        if !control.is_empty() {
            out.extend_from_slice(br#","control":"#);
            // Numbers and words of our own: there is nothing that could fail.
            let _ = serde_json::to_writer(&mut out, control);
        }
        if self.is_draining {
            out.extend_from_slice(br#","draining":true"#);
        }
        out.push(b'}');
        out.into()
    }
}

/// The answer to a replay.
#[derive(Debug)]
pub(crate) struct ReplayAnswer<'a> {
    pub epoch: u64,
    pub entries: &'a [Arc<Entry>],
    /// How many messages there are from the number on that was asked for, those included that this answer has no room for.
    pub total: u64,
    /// The number of the oldest message that is kept.
    pub first: u64,
}

impl ReplayAnswer<'_> {
    /// The answer's body.
    pub(crate) fn to_json(&self, form: DataForm) -> Bytes {
        let mut out = Vec::with_capacity(capacity(self.entries));
        push(&mut out, format_args!(r#"{{"epoch":"{:016x}","events":"#, self.epoch));
        push_events(self.entries, form, &mut out);
        let (total, first) = (self.total, self.first);
        push(&mut out, format_args!(r#","totalEvents":{total},"firstSequence":{first}}}"#));
        out.into()
    }
}

fn capacity(entries: &[Arc<Entry>]) -> usize {
    AROUND + entries.iter().map(|entry| max_len(entry)).sum::<usize>()
}

/// A number, or null.
struct Nullable(Option<u64>);

impl std::fmt::Display for Nullable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(number) => number.fmt(f),
            None => f.write_str("null"),
        }
    }
}

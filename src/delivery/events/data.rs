//! One message as JSON.

use std::io::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::frame::Kind;
use crate::log::Entry;

/// How texts stand in events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum DataForm {
    /// As the JSON that they are, or else as a string.
    #[default]
    Value,
    /// Always as a string: which text it was can be told.
    Text,
}

/// How deep a text may be nested to stand as JSON. With the three levels around it an answer is no deeper than 64, which is
/// where the strictest of the common parsers stop; a deeper one would make everything beside it unreadable to them.
const MAX_DEPTH: usize = 61;

/// More than is written of an event beside its data: names, three numbers of 20 digits, an epoch.
const AROUND: usize = 192;

/// Puts the event behind `out`.
pub(super) fn push_event(entry: &Entry, form: DataForm, out: &mut Vec<u8>) {
    let (number, millis) = (entry.sequence, entry.unix_millis());
    push(out, format_args!(r#"{{"sequenceNumber":{number},"timestamp":{millis},"data":"#));
    push_data(entry, form, out);
    push(out, format_args!(r#","isCritical":{}}}"#, entry.is_critical));
}

/// Puts a list of events behind `out`.
pub(super) fn push_events(entries: &[Arc<Entry>], form: DataForm, out: &mut Vec<u8>) {
    out.push(b'[');
    for (place, entry) in entries.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        push_event(entry, form, out);
    }
    out.push(b']');
}

/// How long the event is at most, in either form.
pub(crate) fn max_len(entry: &Entry) -> usize {
    let payload = entry.payload();
    let data = match text_of(entry) {
        // As JSON it is as long as it is, and escaped it is never shorter.
        Some(text) => payload.len() + escaped(text).map(|(_, escape)| escape.more()).sum::<usize>(),
        None => payload.len().div_ceil(3) * 4,
    };
    AROUND + data
}

fn push_data(entry: &Entry, form: DataForm, out: &mut Vec<u8>) {
    let Some(text) = text_of(entry) else {
        let at = out.len() + 1;
        out.push(b'"');
        out.resize(at + entry.payload().len().div_ceil(3) * 4, 0);
        // There is as much room as it takes.
        let length = STANDARD.encode_slice(entry.payload(), &mut out[at..]).unwrap_or(0);
        out.truncate(at + length);
        out.extend_from_slice(br#"","encoding":"base64""#);
        return;
    };
    match json_of(text).filter(|_| form == DataForm::Value) {
        // Between tokens a line may end anywhere, and within strings only as an escape.
        Some(json) => {
            out.extend(json.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
        }
        None => push_string(text, out),
    }
}

/// `None`: it is binary, or no UTF-8, which a log does not rule out.
fn text_of(entry: &Entry) -> Option<&str> {
    match entry.kind() {
        Kind::Text => std::str::from_utf8(entry.payload()).ok(),
        Kind::Binary => None,
    }
}

/// The text without the white space around it, if it is JSON that may stand in an event. What is skipped as a raw value is
/// read in a loop, so that no depth overflows the stack.
fn json_of(text: &str) -> Option<&str> {
    let json = serde_json::from_str::<&RawValue>(text).ok()?.get();
    (!is_too_deep(json) && serde_json::from_str::<Readable>(json).is_ok()).then_some(json)
}

/// JSON whose numbers and strings have a value. By its grammar `1e999` is a number and `"\ud800"` a string, and strict parsers
/// read neither: as with depth, one of them would make everything beside it unreadable (RFC 8259 sections 6 and 8.2).
struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

fn is_too_deep(json: &str) -> bool {
    let opens = |byte: &u8| matches!(byte, b'[' | b'{');
    // Most texts have not as many brackets, wherever they stand.
    if json.as_bytes().iter().filter(|byte| opens(byte)).nth(MAX_DEPTH).is_none() {
        return false;
    }
    let (mut depth, mut is_string, mut is_escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            _ if is_string => {}
            b'[' | b'{' if depth == MAX_DEPTH => return true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Puts a string of JSON behind `out`, in which no character ends a line, by whatever rules.
pub(super) fn push_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut done = 0;
    for (at, escape) in escaped(text) {
        out.extend_from_slice(&text.as_bytes()[done..at]);
        match escape {
            Escape::Short(letter) => out.extend_from_slice(&[b'\\', letter]),
            Escape::Number(character) => push(out, format_args!("\\u{:04x}", u32::from(character))),
        }
        done = at + escape.character().len_utf8();
    }
    out.extend_from_slice(&text.as_bytes()[done..]);
    out.push(b'"');
}

/// A character that does not stand in a string as it is.
#[derive(Debug, Clone, Copy)]
enum Escape {
    Short(u8),
    Number(char),
}

impl Escape {
    fn of(character: char) -> Option<Self> {
        Some(match character {
            '"' | '\\' => Self::Short(character as u8),
            '\n' => Self::Short(b'n'),
            '\r' => Self::Short(b'r'),
            '\t' => Self::Short(b't'),
            // The last two end a line in JavaScript of before 2019, and for some who read lines.
            '\0'..' ' | '\u{7f}'..'\u{a0}' | '\u{2028}' | '\u{2029}' => Self::Number(character),
            _ => return None,
        })
    }

    /// What it stands for.
    fn character(self) -> char {
        match self {
            Self::Short(b'n') => '\n',
            Self::Short(b'r') => '\r',
            Self::Short(b't') => '\t',
            Self::Short(letter) => char::from(letter),
            Self::Number(character) => character,
        }
    }

    /// How much longer it is than the character.
    fn more(self) -> usize {
        match self {
            Self::Short(_) => 1,
            Self::Number(character) => 6 - character.len_utf8(),
        }
    }
}

/// The characters of `text` that are escaped, and where they stand.
fn escaped(text: &str) -> impl Iterator<Item = (usize, Escape)> {
    text.char_indices().filter_map(|(at, character)| Some((at, Escape::of(character)?)))
}

/// A vector takes all that is written.
pub(super) fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

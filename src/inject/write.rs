//! [`Value`]s to YAML, laid out as kubectl does it.
//!
//! # Invariants
//! 1. What is written is read back equal.
//! 2. Writing what was read from here gives the same bytes.

use std::fmt::Write;

use super::value::{Map, Scalar, Style, Value};

/// `documents` as one stream.
pub(crate) fn write<'a>(documents: impl IntoIterator<Item = &'a Value>) -> String {
    let mut out = String::new();
    for document in documents {
        if !out.is_empty() {
            out.push_str("---\n");
        }
        put(&mut out, document, 0, After::Nothing);
    }
    out
}

/// What stands on the line already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// Not even its indent.
    Nothing,
    /// `key:`
    Key,
    /// `- `
    Dash,
}

/// Writes `value`, whose lines are `indent` deep, to the end of its last line.
fn put(out: &mut String, value: &Value, indent: usize, after: After) {
    let gap = if after == After::Key { " " } else { "" };
    match value {
        Value::Scalar(scalar) => {
            out.push_str(gap);
            put_scalar(out, scalar, indent);
            out.push('\n');
        }
        Value::List(list) if list.is_empty() => {
            let _ = writeln!(out, "{gap}[]");
        }
        Value::Map(map) if map.0.is_empty() => {
            let _ = writeln!(out, "{gap}{{}}");
        }
        Value::List(list) => {
            // Under a key dashes stand as deep as the key.
            let indent = if after == After::Key { indent.saturating_sub(STEP) } else { indent };
            begin(out, after);
            for (index, item) in list.iter().enumerate() {
                start(out, indent, after, index);
                out.push_str("- ");
                put(out, item, indent + STEP, After::Dash);
            }
        }
        Value::Map(Map(entries)) => {
            begin(out, after);
            for (index, (key, value)) in entries.iter().enumerate() {
                start(out, indent, after, index);
                put_key(out, key);
                out.push(':');
                put(out, value, indent + STEP, After::Key);
            }
        }
    }
}

/// Columns of a level.
const STEP: usize = 2;

fn begin(out: &mut String, after: After) {
    if after == After::Key {
        out.push('\n');
    }
}

/// The first item behind a dash stands on the dash's line.
fn start(out: &mut String, indent: usize, after: After, index: usize) {
    if !(after == After::Dash && index == 0) {
        let _ = write!(out, "{:indent$}", "");
    }
}

fn put_key(out: &mut String, key: &Scalar) {
    match key.style {
        Style::Plain => out.push_str(&key.text),
        Style::Single if is_printable(&key.text) => put_single(out, &key.text),
        Style::Single | Style::Double | Style::Block => put_double(out, &key.text),
    }
}

fn put_scalar(out: &mut String, scalar: &Scalar, indent: usize) {
    let text = &scalar.text;
    match scalar.style {
        Style::Plain => out.push_str(text),
        Style::Single if is_printable(text) => put_single(out, text),
        Style::Block if fits_block(text) => put_block(out, text, indent),
        Style::Single | Style::Double | Style::Block => put_double(out, text),
    }
}

fn put_single(out: &mut String, text: &str) {
    let _ = write!(out, "'{}'", text.replace('\'', "''"));
}

fn put_double(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_visible(c) => out.push(c),
            c => {
                let _ = match u32::from(c) {
                    code @ ..=0xff => write!(out, "\\x{code:02x}"),
                    code @ ..=0xffff => write!(out, "\\u{code:04x}"),
                    code => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push('"');
}

/// The header, and the lines but for the last line break.
fn put_block(out: &mut String, text: &str, indent: usize) {
    let body = text.trim_end_matches('\n');
    let ends = text.len() - body.len();
    out.push_str(match ends {
        0 => "|-",
        1 => "|",
        _ => "|+",
    });
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            let _ = write!(out, "{:indent$}{line}", "");
        }
    }
    out.extend(std::iter::repeat_n('\n', ends.saturating_sub(1)));
}

/// Whether every reader takes `text` for the same when it stands behind `|`: its first line tells the indent, and
/// lines of blanks alone are where readers differ.
fn fits_block(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\t', '\n'])
        && text.chars().all(|c| c == '\n' || c == '\t' || is_visible(c))
        && text.split('\n').all(|line| line.is_empty() || !line.trim_matches([' ', '\t']).is_empty())
}

/// On one line, and no escape is needed.
fn is_printable(text: &str) -> bool {
    text.chars().all(is_visible)
}

/// Printable in YAML 1.1 and 1.2 (5.1) and no line break in either; half of the rest cannot be told apart on a
/// screen.
fn is_visible(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a1}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
        && !matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
}

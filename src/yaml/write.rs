//! [`Value`]s to YAML in block style.
//!
//! # Invariants
//! 1. What is written is read back equal.
//! 2. Writing what was read from here gives the same bytes.

use std::fmt::Write;

use super::value::{Map, Scalar, Style, Value};

/// How a text is laid out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Whether a list is indented under its key, or its dashes stand below the key.
    indent_lists: bool,
    /// Whether quoted text keeps characters that are not ASCII, as long as they can be seen, or escapes all of them.
    ascii_only: bool,
}

impl Layout {
    /// As kubectl writes it.
    pub(crate) const KUBECTL: Self = Self { indent_lists: false, ascii_only: false };
    /// As a file of settings is written by hand; nothing in it can look like something else.
    pub(crate) const SETTINGS: Self = Self { indent_lists: true, ascii_only: true };
}

/// `documents` as one stream, as kubectl writes it.
pub(crate) fn write<'a>(documents: impl IntoIterator<Item = &'a Value>) -> String {
    write_as(Layout::KUBECTL, documents)
}

/// `documents` as one stream.
pub(crate) fn write_as<'a>(layout: Layout, documents: impl IntoIterator<Item = &'a Value>) -> String {
    let mut writer = Writer { layout, out: String::new() };
    for document in documents {
        if !writer.out.is_empty() {
            writer.out.push_str("---\n");
        }
        writer.value(document, 0, After::Nothing);
    }
    writer.out
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

/// Columns of a level.
const STEP: usize = 2;

struct Writer {
    layout: Layout,
    out: String,
}

impl Writer {
    /// Writes `value`, whose lines are `indent` deep, to the end of its last line.
    fn value(&mut self, value: &Value, indent: usize, after: After) {
        let gap = if after == After::Key { " " } else { "" };
        match value {
            Value::Scalar(scalar) => {
                self.out.push_str(gap);
                self.scalar(scalar, indent);
                self.out.push('\n');
            }
            Value::List(list) if list.is_empty() => {
                let _ = writeln!(self.out, "{gap}[]");
            }
            Value::Map(map) if map.0.is_empty() => {
                let _ = writeln!(self.out, "{gap}{{}}");
            }
            Value::List(list) => {
                let is_flush = after == After::Key && !self.layout.indent_lists;
                let indent = if is_flush { indent.saturating_sub(STEP) } else { indent };
                self.begin(after);
                for (index, item) in list.iter().enumerate() {
                    self.start_line(indent, after, index);
                    self.out.push_str("- ");
                    self.value(item, indent + STEP, After::Dash);
                }
            }
            Value::Map(Map(entries)) => {
                self.begin(after);
                for (index, (key, value)) in entries.iter().enumerate() {
                    self.start_line(indent, after, index);
                    self.key(key);
                    self.out.push(':');
                    self.value(value, indent + STEP, After::Key);
                }
            }
        }
    }

    fn begin(&mut self, after: After) {
        if after == After::Key {
            self.out.push('\n');
        }
    }

    /// The first item behind a dash stands on the dash's line.
    fn start_line(&mut self, indent: usize, after: After, index: usize) {
        if !(after == After::Dash && index == 0) {
            let _ = write!(self.out, "{:indent$}", "");
        }
    }

    fn key(&mut self, key: &Scalar) {
        match key.style {
            Style::Plain => self.out.push_str(&key.text),
            Style::Single if is_printable(&key.text) => self.single_quoted(&key.text),
            Style::Single | Style::Double | Style::Block => self.double_quoted(&key.text),
        }
    }

    fn scalar(&mut self, scalar: &Scalar, indent: usize) {
        let text = &scalar.text;
        match scalar.style {
            Style::Plain => self.out.push_str(text),
            Style::Single if is_printable(text) => self.single_quoted(text),
            Style::Block if fits_block(text) => self.block(text, indent),
            Style::Single | Style::Double | Style::Block => self.double_quoted(text),
        }
    }

    fn single_quoted(&mut self, text: &str) {
        let _ = write!(self.out, "'{}'", text.replace('\'', "''"));
    }

    fn double_quoted(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => self.out.extend(['\\', c]),
                ' '..='~' => self.out.push(c),
                c if self.layout.ascii_only => {
                    let _ = write!(self.out, "\\U{:08X}", u32::from(c));
                }
                '\n' => self.out.push_str("\\n"),
                '\t' => self.out.push_str("\\t"),
                '\r' => self.out.push_str("\\r"),
                c if is_visible(c) => self.out.push(c),
                c => {
                    let _ = match u32::from(c) {
                        code @ ..=0xff => write!(self.out, "\\x{code:02x}"),
                        code @ ..=0xffff => write!(self.out, "\\u{code:04x}"),
                        code => write!(self.out, "\\U{code:08x}"),
                    };
                }
            }
        }
        self.out.push('"');
    }

    /// The header, and the lines but for the last line break.
    fn block(&mut self, text: &str, indent: usize) {
        let body = text.trim_end_matches('\n');
        let line_breaks = text.len() - body.len();
        self.out.push_str(match line_breaks {
            0 => "|-",
            1 => "|",
            _ => "|+",
        });
        for line in body.split('\n') {
            self.out.push('\n');
            if !line.is_empty() {
                let _ = write!(self.out, "{:indent$}{line}", "");
            }
        }
        self.out.extend(std::iter::repeat_n('\n', line_breaks.saturating_sub(1)));
    }
}

/// Whether every reader takes `text` for the same when it stands behind `|`: its first line tells the indent, and
/// lines of blanks alone are where readers differ.
fn fits_block(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\t', '\n'])
        && text.chars().all(|c| c == '\n' || c == '\t' || is_visible(c))
        && text.split('\n').all(|line| line.is_empty() || !line.trim_matches([' ', '\t']).is_empty())
}

/// Whether `text` is one line that needs no escape.
fn is_printable(text: &str) -> bool {
    text.chars().all(is_visible)
}

/// Whether `c` is printable in YAML 1.1 and 1.2 (§5.1), no line break in either, and none of those that cannot be told
/// apart on a screen.
fn is_visible(c: char) -> bool {
    matches!(c, ' '..='~' | '\u{a1}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
        && !matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
}

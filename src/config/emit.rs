//! Settings as YAML again: block style, in the order of the structs.
//!
//! Every setting is serialized as text, `null`, a list or a map, so serde_json's serializer drives
//! this with a formatter of ours: where it would write braces, there are lines and indents.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

use super::tree::is_null;

/// `value` as a YAML document.
pub(crate) fn to_yaml<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Block::default()))?;
    bytes.push(b'\n');
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

#[derive(Default)]
struct Block {
    /// Lists and maps around the next value: how many.
    depth: usize,
    /// What has to stand before the next value.
    before: Before,
    /// A string that is being written, unescaped.
    text: String,
    is_key: bool,
    /// Whether the innermost list or map has anything in it.
    filled: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// The document itself.
    #[default]
    Nothing,
    /// `key:`, so a word goes on the same line and a list or map on the next.
    Key,
    /// `-`, so a word or the first key of a map goes on the same line.
    Dash,
}

impl Block {
    fn word<W: ?Sized + Write>(&mut self, writer: &mut W, word: &str) -> io::Result<()> {
        let gap = if self.before == Before::Nothing { "" } else { " " };
        self.before = Before::Nothing;
        write!(writer, "{gap}{word}")
    }

    fn begin(&mut self) {
        self.depth += 1;
        self.filled = false;
    }

    fn end<W: ?Sized + Write>(&mut self, writer: &mut W, empty: &str) -> io::Result<()> {
        self.depth -= 1;
        if !self.filled {
            self.word(writer, empty)?;
        }
        self.filled = true;
        Ok(())
    }

    /// Starts the line of a key or an element.
    fn line<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        match std::mem::take(&mut self.before) {
            Before::Dash if !self.filled => writer.write_all(b" ")?,
            Before::Nothing if !self.filled && self.depth == 1 => {}
            Before::Nothing | Before::Key | Before::Dash => {
                write!(writer, "\n{:indent$}", "", indent = (self.depth - 1) * 2)?;
            }
        }
        self.filled = true;
        Ok(())
    }
}

impl Formatter for Block {
    fn write_null<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.word(writer, "null")
    }

    fn begin_string<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.text.clear();
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, _writer: &mut W, text: &str) -> io::Result<()> {
        self.text.push_str(text);
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        _writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        self.text.push(match escape {
            CharEscape::Quote => '"',
            CharEscape::ReverseSolidus => '\\',
            CharEscape::Solidus => '/',
            CharEscape::Backspace => '\u{8}',
            CharEscape::FormFeed => '\u{c}',
            CharEscape::LineFeed => '\n',
            CharEscape::CarriageReturn => '\r',
            CharEscape::Tab => '\t',
            CharEscape::AsciiControl(byte) => char::from(byte),
        });
        Ok(())
    }

    fn end_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let text = std::mem::take(&mut self.text);
        let shown = if is_plain(&text) { text } else { quote(&text) };
        if self.is_key { writer.write_all(shown.as_bytes()) } else { self.word(writer, &shown) }
    }

    fn begin_array<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.begin();
        Ok(())
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, "[]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, _first: bool) -> io::Result<()> {
        self.line(writer)?;
        self.before = Before::Dash;
        writer.write_all(b"-")
    }

    fn begin_object<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.begin();
        Ok(())
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, "{}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, _first: bool) -> io::Result<()> {
        self.line(writer)?;
        self.is_key = true;
        Ok(())
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.is_key = false;
        self.before = Before::Key;
        writer.write_all(b":")
    }
}

/// Whether `text` needs no quotes in block style, for us and for any other reader of YAML.
fn is_plain(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:*{}+=,%@-".contains(&byte);
    let first = |byte: u8| byte.is_ascii_alphanumeric() || b"_./".contains(&byte);
    !is_null(text)
        && text.bytes().next().is_some_and(first)
        && text.bytes().all(inner)
        && !text.ends_with(':')
        && !(text.len() > 1 && text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// In double quotes: any character that is not visible ASCII as an escape.
fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            other => quoted.push_str(&format!("\\U{:08X}", u32::from(other))),
        }
    }
    quoted.push('"');
    quoted
}

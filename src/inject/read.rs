//! A stream of YAML documents to [`Value`]s.
//!
//! # Invariants
//! 1. Whatever the text, reading it ends, uses bounded memory and does not panic.
//! 2. Anchors and merge keys are resolved: what comes out stands for itself.
//! 3. What readers of YAML disagree about is refused: keys given twice, tags that make something else of a text.
//!
//! # Why not the reader of the configuration?
//! It sorts keys and forgets quotes, since the type of a setting says what its text means. Here nobody does.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::value::{Map, Scalar, Style, Value};

/// One document: which one of the file it is, from 1, and what it holds.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) number: usize,
    pub(crate) value: Value,
}

/// Why a text cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// Which document of the file, from 1, once that is known.
    pub(crate) document: Option<usize>,
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) what: String,
}

/// The longest manifest that is read: more than a cluster's whole set of CRDs.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Schemas in CRDs are the deepest there is, at about half of it.
const MAX_DEPTH: usize = 100;
/// Aliases multiply what they repeat: this is the size of what they may come to.
const MAX_NODES: usize = 500_000;
/// A key that is written on one line has to end within 1024 characters (YAML 1.2, 7.4.2); quotes can double it.
const MAX_KEY: usize = 500;

/// The documents of `text` that are not empty.
pub(crate) fn read(text: &str) -> Result<Vec<Document>, Unreadable> {
    if text.len() > MAX_BYTES {
        let what = format!("longer than {MAX_BYTES} bytes");
        return Err(Unreadable { document: None, line: 1, column: 1, what });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(unreadable) = old_line_break(text) {
        return Err(unreadable);
    }
    let mut reader = Reader::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| Unreadable {
            document: Some(reader.number.max(1)),
            line: error.marker().line(),
            column: error.marker().col() + 1,
            what: format!("not valid YAML: {}", error.info()),
        })?;
        if matches!(event, Event::StreamEnd) {
            break;
        }
        reader.take(event).map_err(|what| reader.unreadable(&span.start, what))?;
    }
    Ok(reader.documents)
}

/// Collects events into values, without recursion.
#[derive(Default)]
struct Reader {
    documents: Vec<Document>,
    number: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Value>,
    nodes: usize,
}

/// A list or map whose end has not been seen.
struct Open {
    anchor: usize,
    items: Items,
}

enum Items {
    List(Vec<Value>),
    Map {
        entries: Vec<(Scalar, Value)>,
        /// The key whose value comes next.
        key: Option<Scalar>,
    },
}

impl Reader {
    fn take(&mut self, event: Event<'_>) -> Result<(), String> {
        let (value, anchor) = match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => return Ok(()),
            Event::DocumentStart(_) => {
                self.number += 1;
                self.anchors.clear();
                return Ok(());
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(value) => {
                    // What is repeated counts each time; all else is counted once, as it is read.
                    self.nodes += value.size();
                    (value.clone(), 0)
                }
                None => return Err("an alias inside of what it repeats".into()),
            },
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = is_text(tag.as_deref())?;
                let style = match style {
                    // A folded text with line breaks in it is a string to everybody.
                    ScalarStyle::Plain if text.contains('\n') => Style::Block,
                    ScalarStyle::Plain if is_text => Style::Double,
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted => Style::Single,
                    ScalarStyle::DoubleQuoted => Style::Double,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                };
                let text = match style {
                    // What is left out is nothing.
                    Style::Plain if text.is_empty() => "null".to_owned(),
                    Style::Plain | Style::Single | Style::Double | Style::Block => text.into_owned(),
                };
                (Value::Scalar(Scalar { text, style }), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                return self.begin(anchor, tag.as_deref(), "seq", Items::List(Vec::new()));
            }
            Event::MappingStart(anchor, tag) => {
                let items = Items::Map { entries: Vec::new(), key: None };
                return self.begin(anchor, tag.as_deref(), "map", items);
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                None => return Ok(()),
                Some(Open { anchor, items: Items::List(list) }) => (Value::List(list), anchor),
                Some(Open { anchor, items: Items::Map { entries, .. } }) => {
                    (Value::Map(merged(entries)?), anchor)
                }
            },
        };
        self.nodes += 1;
        if anchor != 0 {
            // What is kept for aliases takes memory as well.
            self.nodes += value.size();
            self.anchors.insert(anchor, value.clone());
        }
        self.add(value)
    }

    fn begin(&mut self, anchor: usize, tag: Option<&Tag>, own: &str, items: Items) -> Result<(), String> {
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == own)
        {
            return Err(unknown_tag(tag));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        self.open.push(Open { anchor, items });
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn add(&mut self, value: Value) -> Result<(), String> {
        if self.nodes > MAX_NODES {
            return Err(format!("more than {MAX_NODES} values (aliases counted where they are used)"));
        }
        match self.open.last_mut().map(|open| &mut open.items) {
            None if value.is_null() => {}
            None => self.documents.push(Document { number: self.number, value }),
            Some(Items::List(list)) => list.push(value),
            Some(Items::Map { entries, key }) => match key.take() {
                Some(key) => entries.push((key, value)),
                None => *key = Some(as_key(value, entries)?),
            },
        }
        Ok(())
    }

    fn unreadable(&self, mark: &Marker, what: String) -> Unreadable {
        Unreadable { document: Some(self.number.max(1)), line: mark.line(), column: mark.col() + 1, what }
    }
}

/// Characters that end a line in YAML 1.1, which kubectl follows, and do not in YAML 1.2, which is read here.
fn old_line_break(text: &str) -> Option<Unreadable> {
    let (index, found) =
        text.char_indices().find(|(_, c)| matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}'))?;
    let (before, _) = text.split_at(index);
    let code = u32::from(found);
    let what = format!("the character U+{code:04X}; write it as \"\\u{code:04x}\", in double quotes");
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    // Documents are not counted before they are read: the line says enough.
    Some(Unreadable { document: None, line: before.matches('\n').count() + 1, column, what })
}

fn as_key(value: Value, earlier: &[(Scalar, Value)]) -> Result<Scalar, String> {
    if value.is_null() {
        return Err("an empty key".into());
    }
    let Value::Scalar(key) = value else {
        return Err("a list or map as a key; keys are words".into());
    };
    if earlier.iter().any(|(name, _)| name.text == key.text) {
        return Err(format!("the key {:?} is given twice", key.text));
    }
    if key.text.chars().count() > MAX_KEY {
        return Err(format!("a key of more than {MAX_KEY} characters"));
    }
    Ok(key)
}

/// Resolves `<<`: what is said in the map itself stands, and the first of several maps before the next.
fn merged(entries: Vec<(Scalar, Value)>) -> Result<Map, String> {
    let is_merge = |key: &Scalar| key.style == Style::Plain && key.text == "<<";
    let (merges, own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| is_merge(key));
    let mut map = Map(own);
    let sources = merges.into_iter().flat_map(|(_, value)| match value {
        Value::List(list) => list,
        other => vec![other],
    });
    for source in sources {
        let Value::Map(source) = source else {
            return Err("a merge key (<<) without a map behind it".into());
        };
        for (key, value) in source.0 {
            if map.get(&key.text).is_none() {
                map.0.push((key, value));
            }
        }
    }
    Ok(map)
}

/// Whether a tag says that a scalar is a string.
fn is_text(tag: Option<&Tag>) -> Result<bool, String> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Ok(true),
        Some(tag) => Err(unknown_tag(tag)),
    }
}

fn unknown_tag(tag: &Tag) -> String {
    format!("the tag {}{}; a manifest has plain strings, numbers, lists and maps", tag.handle, tag.suffix)
}

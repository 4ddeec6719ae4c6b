//! Events of the parser to trees of [`Node`]s, which YAML calls composing (1.2, §3.1).
//!
//! # Invariants
//! 1. Composing does not recurse, so nesting costs no stack.
//! 2. An alias shares the node that it repeats. What it repeats is counted each time, since whoever makes something
//!    else of the tree copies it each time.
//! 3. Whatever two readers could understand differently is an error: keys given twice, tags, lists and maps as keys.
//! 4. A merge key (`<<: *anchor`, or a list of them) stands for the keys of what it names, as far as its map does not
//!    set them itself; of several maps the first that has a key wins (YAML 1.1's merge type).

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::dialect::{Dialect, Documents, KeyLimit, Tags};
use super::node::{Content, Entry, Mark, Node, Step};
use super::value::{Scalar, Style, is_null};

/// What was read of a text.
#[derive(Debug)]
pub(crate) struct Composed {
    /// In the order of the text.
    pub(crate) documents: Vec<Document>,
    pub(crate) errors: Vec<Error>,
    /// Whether the whole text was read: without that, what is missing says nothing.
    pub(crate) is_complete: bool,
}

#[derive(Debug)]
pub(crate) struct Document {
    /// Which one of the text it is, from 1.
    pub(crate) number: usize,
    pub(crate) root: Rc<Node>,
}

/// One thing that is wrong with a text.
#[derive(Debug)]
pub(crate) struct Error {
    /// Which document, from 1; `None` for the text as a whole.
    pub(crate) document: Option<usize>,
    pub(crate) mark: Mark,
    /// The keys and indexes that lead there, as far as the error belongs to a node.
    pub(crate) path: Vec<Step>,
    pub(crate) kind: ErrorKind,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ErrorKind {
    #[error("longer than {0} bytes")]
    TooLong(usize),
    #[error("nested deeper than {0} levels")]
    TooDeep(usize),
    #[error("more than {0} values (aliases counted where they are used)")]
    TooManyNodes(usize),
    #[error("aliases repeat more than {0} bytes of text")]
    TooMuchRepeated(usize),
    #[error("there may be more: mend these first")]
    TooManyErrors,
    #[error("not valid YAML: {0}")]
    Invalid(String),
    #[error("a second YAML document; one file holds one")]
    SecondDocument,
    /// An alias of a node that is not complete, or that is no node of this text.
    #[error("an alias inside of what it repeats, or of what was refused")]
    UnknownAlias,
    #[error("the tag {0} is not supported")]
    Tag(String),
    #[error("the key {key:?} is given twice")]
    DuplicateKey { key: String, first: Mark },
    #[error("an empty key")]
    EmptyKey,
    #[error("a list or map as a key; keys are words")]
    CollectionAsKey,
    #[error("a key longer than {0}")]
    LongKey(KeyLimit),
    #[error("a second << in one map; give one a list of maps")]
    SecondMerge,
    #[error("<< takes a map, such as *anchor, or a list of them")]
    MergeOfScalar,
}

/// Reads `text`. What could be read is handed back beside the errors.
pub(crate) fn compose(text: &str, dialect: &Dialect) -> Composed {
    let mut composer = Composer {
        dialect,
        documents: Vec::new(),
        errors: Vec::new(),
        number: 0,
        open: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        repeated_bytes: 0,
    };
    let result = composer.run(text);
    let is_complete = result.is_ok();
    composer.errors.extend(result.err().map(|error| *error));
    Composed { documents: composer.documents, errors: composer.errors, is_complete }
}

struct Composer<'a> {
    dialect: &'a Dialect,
    documents: Vec<Document>,
    errors: Vec<Error>,
    /// Of the document that is being read.
    number: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    nodes: usize,
    repeated_bytes: usize,
}

/// A list or map whose end has not been seen.
struct Open {
    anchor: usize,
    mark: Mark,
    collection: Collection,
}

enum Collection {
    List(Vec<Rc<Node>>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<Entry>,
    /// Those of `entries`, and where each stands.
    seen: HashMap<String, Mark>,
    /// The key whose value comes next.
    key: Option<(Key, Mark)>,
    /// What the merge key has brought, the first map first.
    merged: Option<Vec<Rc<Node>>>,
}

enum Key {
    Named(Scalar),
    /// `<<`
    Merge,
    /// An error was reported; its value is dropped.
    Refused,
}

/// Nothing can be read behind this error.
type Fatal = Box<Error>;

impl Composer<'_> {
    fn run(&mut self, text: &str) -> Result<(), Fatal> {
        if text.len() > self.dialect.max_bytes {
            let kind = ErrorKind::TooLong(self.dialect.max_bytes);
            let mark = Mark { line: 1, column: 1 };
            return Err(Box::new(Error { document: None, mark, path: Vec::new(), kind }));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| {
                self.fatal(mark_of(error.marker()), ErrorKind::Invalid(error.info().to_owned()))
            })?;
            if matches!(event, Event::StreamEnd) {
                break;
            }
            self.on_event(event, mark_of(&span.start))?;
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event<'_>, mark: Mark) -> Result<(), Fatal> {
        let (node, anchor) = match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => return Ok(()),
            Event::DocumentStart(_) => {
                self.number += 1;
                self.anchors.clear();
                if self.number > 1 && self.dialect.documents == Documents::One {
                    return Err(self.fatal(mark, ErrorKind::SecondDocument));
                }
                return Ok(());
            }
            Event::Alias(anchor) => (self.alias(anchor, mark)?, 0),
            Event::Scalar(text, style, anchor, tag) => {
                let is_string = self.check_tag(tag.as_deref(), "str", mark);
                let style = match style {
                    // Text that was folded over several lines is a string to every reader.
                    ScalarStyle::Plain if text.contains('\n') => Style::Block,
                    ScalarStyle::Plain if is_string => Style::Double,
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted => Style::Single,
                    ScalarStyle::DoubleQuoted => Style::Double,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                };
                let scalar = Scalar { text: text.into_owned(), style };
                (Rc::new(Node::new(mark, Content::Scalar(scalar))), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq", mark);
                return self.begin(anchor, mark, Collection::List(Vec::new()));
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), "map", mark);
                return self.begin(anchor, mark, Collection::Map(OpenMap::default()));
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                None => return Ok(()),
                Some(Open { anchor, mark, collection }) => {
                    let content = match collection {
                        Collection::List(list) => Content::List(list),
                        Collection::Map(map) => Content::Map(map.into_entries()),
                    };
                    (Rc::new(Node::new(mark, content)), anchor)
                }
            },
        };
        self.nodes += 1;
        if self.nodes > self.dialect.max_nodes {
            return Err(self.fatal(mark, ErrorKind::TooManyNodes(self.dialect.max_nodes)));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.add(node);
        if self.errors.len() >= self.dialect.max_errors {
            return Err(self.fatal(mark, ErrorKind::TooManyErrors));
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, mark: Mark) -> Result<Rc<Node>, Fatal> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(self.fatal(mark, ErrorKind::UnknownAlias));
        };
        // What is repeated counts each time; all else is counted once, as it is read.
        self.nodes = self.nodes.saturating_add(node.size.nodes);
        self.repeated_bytes = self.repeated_bytes.saturating_add(node.size.bytes);
        if self.repeated_bytes > self.dialect.max_repeated_bytes {
            let kind = ErrorKind::TooMuchRepeated(self.dialect.max_repeated_bytes);
            return Err(self.fatal(mark, kind));
        }
        Ok(node)
    }

    fn begin(&mut self, anchor: usize, mark: Mark, collection: Collection) -> Result<(), Fatal> {
        if self.open.len() >= self.dialect.max_depth {
            return Err(self.fatal(mark, ErrorKind::TooDeep(self.dialect.max_depth)));
        }
        self.open.push(Open { anchor, mark, collection });
        Ok(())
    }

    /// Puts a complete node where it belongs.
    fn add(&mut self, node: Rc<Node>) {
        match self.open.last_mut().map(|open| &mut open.collection) {
            None => self.documents.push(Document { number: self.number, root: node }),
            Some(Collection::List(list)) => list.push(node),
            Some(Collection::Map(map)) => match map.key.take() {
                None => {
                    let mark = node.mark;
                    let key = map.check_key(Rc::unwrap_or_clone(node), self.dialect.key_limit);
                    let key = key.unwrap_or_else(|kind| {
                        self.report_key(mark, kind);
                        Key::Refused
                    });
                    if let Some(Open { collection: Collection::Map(map), .. }) = self.open.last_mut() {
                        map.key = Some((key, mark));
                    }
                }
                Some((Key::Named(key), mark)) => {
                    map.seen.insert(key.text.clone(), mark);
                    map.entries.push(Entry { key, mark, value: node });
                }
                Some((Key::Merge, mark)) => match maps_of(node) {
                    Some(maps) => map.merged = Some(maps),
                    None => self.report(mark, ErrorKind::MergeOfScalar),
                },
                Some((Key::Refused, _)) => {}
            },
        }
    }

    /// Reports a tag that the dialect does not have. Answers whether it says that a scalar is a string.
    fn check_tag(&mut self, tag: Option<&Tag>, own: &str, mark: Mark) -> bool {
        let Some(tag) = tag else { return false };
        let is_own = tag.is_yaml_core_schema() && tag.suffix == own;
        if self.dialect.tags == Tags::Core && is_own {
            return true;
        }
        self.report(mark, ErrorKind::Tag(format!("{}{}", tag.handle, tag.suffix)));
        false
    }

    /// A key given twice has a path of its own; any other key that is wrong belongs to its map.
    fn report_key(&mut self, mark: Mark, kind: ErrorKind) {
        let mut path = self.path();
        if let ErrorKind::DuplicateKey { key, .. } = &kind {
            path.push(Step::Key(key.clone()));
        }
        self.errors.push(Error { document: Some(self.number), mark, path, kind });
    }

    fn report(&mut self, mark: Mark, kind: ErrorKind) {
        let path = self.path();
        self.errors.push(Error { document: Some(self.number), mark, path, kind });
    }

    fn fatal(&self, mark: Mark, kind: ErrorKind) -> Fatal {
        Box::new(Error { document: Some(self.number.max(1)), mark, path: Vec::new(), kind })
    }

    /// Where the next value stands; where a key comes next, its map.
    fn path(&self) -> Vec<Step> {
        let steps = self.open.iter().filter_map(|open| match &open.collection {
            Collection::List(list) => Some(Step::Index(list.len())),
            Collection::Map(OpenMap { key: Some((Key::Named(key), _)), .. }) => {
                Some(Step::Key(key.text.clone()))
            }
            Collection::Map(_) => None,
        });
        steps.collect()
    }
}

impl OpenMap {
    fn check_key(&self, node: Node, limit: KeyLimit) -> Result<Key, ErrorKind> {
        let Content::Scalar(key) = node.content else { return Err(ErrorKind::CollectionAsKey) };
        let is_plain = key.style == Style::Plain;
        if is_plain && is_null(&key.text) {
            return Err(ErrorKind::EmptyKey);
        }
        if is_plain && key.text == "<<" {
            return if self.merged.is_none() { Ok(Key::Merge) } else { Err(ErrorKind::SecondMerge) };
        }
        if let Some(first) = self.seen.get(&key.text) {
            return Err(ErrorKind::DuplicateKey { key: key.text, first: *first });
        }
        let is_long = match limit {
            KeyLimit::Bytes(most) => key.text.len() > most,
            KeyLimit::Chars(most) => key.text.chars().count() > most,
        };
        if is_long { Err(ErrorKind::LongKey(limit)) } else { Ok(Key::Named(key)) }
    }

    /// Its own entries, then those of the merge key that it does not set itself.
    fn into_entries(self) -> Vec<Entry> {
        let Self { mut entries, seen, key: _, merged } = self;
        let mut seen: HashSet<String> = seen.into_keys().collect();
        for map in merged.into_iter().flatten() {
            let Content::Map(more) = &map.content else { continue };
            entries.extend(more.iter().filter(|entry| seen.insert(entry.key.text.clone())).cloned());
        }
        entries
    }
}

/// What a merge key stands for: a map, or each of a list of maps.
fn maps_of(node: Rc<Node>) -> Option<Vec<Rc<Node>>> {
    let is_map = |node: &Rc<Node>| matches!(node.content, Content::Map(_));
    match &node.content {
        Content::Map(_) => Some(vec![node]),
        Content::List(list) => list.iter().all(is_map).then(|| list.clone()),
        Content::Scalar(_) => None,
    }
}

fn mark_of(marker: &Marker) -> Mark {
    Mark { line: marker.line(), column: marker.col() + 1 }
}

#[cfg(test)]
mod tests;

//! YAML text to a [`Node`] that knows lines and columns.
//!
//! # Invariants
//! 1. Whatever the text, reading it ends, uses bounded memory and does not panic: size, depth, and what aliases
//!    come to, in nodes and in bytes, have limits.
//! 2. Everything a reader might take in two ways is refused: keys given twice, tags, a second document.
//! 3. A merge key (`<<: *anchor`, or a list of them) stands for the keys of what it names, as far as its map does not
//!    set them itself; of a list the first that has a key wins (YAML 1.1's merge type).
//!
//! # Not here
//! Which keys there are, and what a scalar means: that is up to the types in [`super::raw`].

use std::collections::{BTreeMap, HashMap};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};

use super::error::Problem;
use super::tree::{Entry, Kind, Node, Place, Step, is_null};

/// What was read, and what was wrong with it. Without a node nothing more can be said of the text.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) node: Option<Node>,
    pub(crate) faults: Vec<Fault>,
}

/// One thing wrong with the text.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) place: Place,
    pub(crate) path: Vec<Step>,
    pub(crate) problem: Problem,
}

/// Reads `text`; `place` says where its line and column are (counted from 1).
pub(crate) fn parse(text: &str, place: impl Fn(usize, usize) -> Place) -> Parsed {
    read(text, place, false)
}

/// As [`parse`], for the value of an environment variable: nothing at all is an empty text there and not null,
/// since it may be what an unset variable came to (`{ auth: ${AUTH} }`).
pub(crate) fn parse_value(text: &str, place: impl Fn(usize, usize) -> Place) -> Parsed {
    read(text, place, true)
}

fn read(text: &str, place: impl Fn(usize, usize) -> Place, is_value: bool) -> Parsed {
    let mut builder = Builder {
        place,
        open: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        repeated_bytes: 0,
        faults: Vec::new(),
        is_value,
    };
    let node = match builder.run(text) {
        Ok(node) => Some(node),
        Err(fault) => {
            builder.faults.push(*fault);
            None
        }
    };
    Parsed { node, faults: builder.faults }
}

/// A file may have this many bytes: hundreds of routes fit, and no limit below is reached first.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;
/// The deepest setting is 6 levels down; recursion over a tree stays far from any stack's end.
pub(crate) const MAX_DEPTH: usize = 32;
/// Aliases multiply what they repeat: this is the size of what they may come to.
const MAX_NODES: usize = 20_000;
/// And this the text in it: what is read of it is kept several times over while a configuration is checked.
const MAX_REPEATED_BYTES: usize = 4 * MAX_BYTES;
/// More than an operator reads in one go.
const MAX_FAULTS: usize = 64;

type Stop = Box<Fault>;

/// Collects parser events into nodes, without recursion.
struct Builder<F> {
    place: F,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    /// Of text that aliases have repeated.
    repeated_bytes: usize,
    faults: Vec<Fault>,
    /// Of an environment variable.
    is_value: bool,
}

/// A list or map whose end has not been seen.
struct Open {
    anchor: usize,
    place: Place,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Map {
        entries: BTreeMap<String, Entry>,
        /// The key whose value comes next.
        key: Option<(Key, Place)>,
        /// What merge keys have brought, the first one first.
        merged: Vec<BTreeMap<String, Entry>>,
    },
}

enum Key {
    Named(String),
    /// `<<`
    Merge,
    /// It has been told; its value is dropped.
    Refused,
}

impl<F: Fn(usize, usize) -> Place> Builder<F> {
    fn run(&mut self, text: &str) -> Result<Node, Stop> {
        if text.len() > MAX_BYTES {
            return Err(self.stop((self.place)(1, 1), format!("longer than {MAX_BYTES} bytes")));
        }
        let mut parser = Parser::new_from_str(text);
        let mut root: Option<Node> = None;
        let mut documents = 0;
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| self.scan_error(&error))?;
            let place = self.place_of(&span.start);
            let finished = match event {
                Event::Nothing | Event::StreamStart | Event::DocumentEnd => None,
                Event::StreamEnd => break,
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(self.stop(place, "a second YAML document; one file holds one".into()));
                    }
                    None
                }
                Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                    Some(node) => {
                        // What is repeated counts each time; all else is counted once, as it is read.
                        let (nodes, bytes) = size(&node);
                        self.nodes += nodes;
                        self.repeated_bytes += bytes;
                        if self.repeated_bytes > MAX_REPEATED_BYTES {
                            let what = format!("aliases repeat more than {MAX_REPEATED_BYTES} bytes of text");
                            return Err(self.stop(place, what));
                        }
                        Some((node, 0, None))
                    }
                    None => {
                        let what = "an alias inside of what it repeats, or of what was refused";
                        return Err(self.stop(place, what.into()));
                    }
                },
                Event::Scalar(text, style, anchor, tag) => {
                    if tag.is_some() {
                        self.tagged(place.clone());
                    }
                    let is_absent = text.is_empty() && self.is_value;
                    let kind = if style == ScalarStyle::Plain && is_null(&text) && !is_absent {
                        Kind::Null
                    } else {
                        Kind::Scalar(text.clone().into_owned())
                    };
                    Some((Node::new(kind, place), anchor, Some(text)))
                }
                Event::SequenceStart(anchor, tag) => {
                    self.begin(anchor, tag.is_some(), place, Items::List(Vec::new()))?;
                    None
                }
                Event::MappingStart(anchor, tag) => {
                    let items = Items::Map { entries: BTreeMap::new(), key: None, merged: Vec::new() };
                    self.begin(anchor, tag.is_some(), place, items)?;
                    None
                }
                Event::SequenceEnd | Event::MappingEnd => self.open.pop().map(|open| {
                    let kind = match open.items {
                        Items::List(list) => Kind::List(list),
                        Items::Map { mut entries, merged, .. } => {
                            for (key, entry) in merged.into_iter().flatten() {
                                entries.entry(key).or_insert(entry);
                            }
                            Kind::Map(entries)
                        }
                    };
                    (Node::new(kind, open.place), open.anchor, None)
                }),
            };
            let Some((node, anchor, text)) = finished else { continue };
            self.nodes += 1;
            if self.nodes > MAX_NODES {
                let what = format!("more than {MAX_NODES} values (aliases counted where they are used)");
                return Err(self.stop(node.place, what));
            }
            if anchor != 0 {
                self.anchors.insert(anchor, node.clone());
            }
            if let Some(node) = self.add(node, text.as_deref()) {
                root = Some(node);
            }
            if self.faults.len() >= MAX_FAULTS {
                let place = self.place_of(&span.start);
                return Err(self.stop(place, "there may be more: mend these first".into()));
            }
        }
        let nothing = if self.is_value { Kind::Scalar(String::new()) } else { Kind::Null };
        Ok(root.unwrap_or_else(|| Node::new(nothing, (self.place)(1, 1))))
    }

    fn begin(&mut self, anchor: usize, tagged: bool, place: Place, items: Items) -> Result<(), Stop> {
        if tagged {
            self.tagged(place.clone());
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(self.stop(place, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.open.push(Open { anchor, place, items });
        Ok(())
    }

    /// Puts a finished node where it belongs; hands back the root.
    fn add(&mut self, node: Node, text: Option<&str>) -> Option<Node> {
        let Some(open) = self.open.last_mut() else { return Some(node) };
        match &mut open.items {
            Items::List(list) => list.push(node),
            Items::Map { entries, key, merged } => match key.take() {
                None => {
                    let place = node.place.clone();
                    let refused = match (&node.kind, text) {
                        (Kind::Scalar(_), Some("<<")) if merged.is_empty() => None,
                        (Kind::Scalar(_), Some("<<")) => {
                            Some("a second << in one map; give one a list of maps")
                        }
                        (Kind::Scalar(text), _) if text.len() > 128 => Some("a key longer than 128 bytes"),
                        (Kind::Scalar(_), _) => None,
                        (Kind::Null, _) => Some("an empty key"),
                        (Kind::List(_) | Kind::Map(_), _) => Some("a list or map as a key; keys are words"),
                    };
                    let mut name = match node.kind {
                        Kind::Scalar(name) if name == "<<" => Key::Merge,
                        Kind::Scalar(name) => Key::Named(name),
                        Kind::Null | Kind::List(_) | Kind::Map(_) => Key::Refused,
                    };
                    let earlier = match &name {
                        Key::Named(name) => entries.get(name).map(|entry| (name.clone(), entry.key.clone())),
                        Key::Merge | Key::Refused => None,
                    };
                    if let Some((twice, first)) = earlier {
                        name = Key::Refused;
                        let path = self.path().into_iter().chain([Step::Key(twice)]).collect();
                        self.faults.push(Fault {
                            place: place.clone(),
                            path,
                            problem: Problem::Twice { first },
                        });
                    } else if let Some(what) = refused {
                        name = Key::Refused;
                        let path = self.path();
                        let problem = Problem::Syntax(what.into());
                        self.faults.push(Fault { place: place.clone(), path, problem });
                    }
                    if let Some(Open { items: Items::Map { key, .. }, .. }) = self.open.last_mut() {
                        *key = Some((name, place));
                    }
                }
                Some((Key::Named(name), place)) => {
                    entries.insert(name, Entry { key: place, node });
                }
                Some((Key::Merge, place)) => match maps(node) {
                    Some(maps) => merged.extend(maps),
                    None => {
                        let path = self.path();
                        let problem =
                            Problem::Syntax("<< takes a map, such as *anchor, or a list of them".into());
                        self.faults.push(Fault { place, path, problem });
                    }
                },
                Some((Key::Refused, _)) => {}
            },
        }
        None
    }

    /// Where the next value stands; where a key comes next, its map.
    fn path(&self) -> Vec<Step> {
        let steps = self.open.iter().filter_map(|open| match &open.items {
            Items::List(list) => Some(Step::Index(list.len())),
            Items::Map { key: Some((Key::Named(name), _)), .. } => Some(Step::Key(name.clone())),
            Items::Map { .. } => None,
        });
        steps.collect()
    }

    fn tagged(&mut self, place: Place) {
        let path = self.path();
        let problem = Problem::Syntax("YAML tags (!…) are not supported; the key decides the type".into());
        self.faults.push(Fault { place, path, problem });
    }

    fn place_of(&self, mark: &Marker) -> Place {
        (self.place)(mark.line(), mark.col() + 1)
    }

    fn scan_error(&self, error: &ScanError) -> Stop {
        self.stop(self.place_of(error.marker()), format!("not valid YAML: {}", error.info()))
    }

    fn stop(&self, place: Place, what: String) -> Stop {
        Box::new(Fault { place, path: Vec::new(), problem: Problem::Syntax(what) })
    }
}

/// What a merge key stands for: a map, or each of a list of maps.
fn maps(node: Node) -> Option<Vec<BTreeMap<String, Entry>>> {
    match node.kind {
        Kind::Map(map) => Some(vec![map]),
        Kind::List(list) => {
            let maps = list.into_iter().map(|node| match node.kind {
                Kind::Map(map) => Some(map),
                Kind::Null | Kind::Scalar(_) | Kind::List(_) => None,
            });
            maps.collect()
        }
        Kind::Null | Kind::Scalar(_) => None,
    }
}

/// How many values `node` comes to, and bytes of text in them.
fn size(node: &Node) -> (usize, usize) {
    let add = |(nodes, bytes), (more_nodes, more_bytes)| (nodes + more_nodes, bytes + more_bytes);
    match &node.kind {
        Kind::Null => (1, 0),
        Kind::Scalar(text) => (1, text.len()),
        Kind::List(list) => list.iter().map(size).fold((1, 0), add),
        Kind::Map(map) => {
            let entries = map.iter().map(|(key, entry)| add(size(&entry.node), (0, key.len())));
            entries.fold((1, 0), add)
        }
    }
}

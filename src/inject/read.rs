//! A stream of YAML documents to [`Value`]s, as a manifest may be written.
//!
//! # Invariants
//! 1. Anchors and merge keys are resolved: what comes out stands for itself.
//! 2. What readers of YAML disagree about is an error: keys given twice, tags that make something else of a text,
//!    characters that only some take for line breaks.
//!
//! # Not here
//! How YAML is read, and what bounds it ([`crate::yaml`]).

use std::rc::Rc;

use crate::yaml::{Composed, Dialect, Documents, Error, ErrorKind, KeyLimit, Mark, Tags, Value, compose};

/// One document: which one of the file it is, from 1, and what it holds.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) number: usize,
    pub(crate) value: Value,
}

/// Why a text cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReadError {
    /// Which document of the file, from 1, once that is known.
    pub(crate) document: Option<usize>,
    pub(crate) mark: Mark,
    pub(crate) what: String,
}

/// The longest manifest that is read: more than a cluster's whole set of CRDs.
pub(crate) const MAX_BYTES: usize = 16 * 1024 * 1024;

const DIALECT: Dialect = Dialect {
    max_bytes: MAX_BYTES,
    // Schemas in CRDs are the deepest there is, at about half of it.
    max_depth: 100,
    max_nodes: 500_000,
    max_repeated_bytes: 4 * MAX_BYTES,
    max_errors: 1,
    // A key that is written on one line has to end within 1024 characters (YAML 1.2, 7.4.2); quotes can double it.
    key_limit: KeyLimit::Chars(500),
    documents: Documents::Many,
    tags: Tags::Core,
};

/// The documents of `text` that are not empty.
pub(crate) fn read(text: &str) -> Result<Vec<Document>, ReadError> {
    // A text that is too long is refused before anything looks at all of it.
    if let Some(error) = old_line_break(text).filter(|_| text.len() <= MAX_BYTES) {
        return Err(error);
    }
    let Composed { documents, errors, is_complete: _ } = compose(text, &DIALECT);
    if let Some(Error { document, mark, path: _, kind }) = errors.into_iter().next() {
        return Err(ReadError { document, mark, what: describe(kind) });
    }
    let documents = documents.into_iter().map(|document| Document {
        number: document.number,
        value: Rc::unwrap_or_clone(document.root).into(),
    });
    Ok(documents.filter(|document| !document.value.is_null()).collect())
}

/// An error, in the words for manifests.
fn describe(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::Tag(tag) => {
            format!("the tag {tag}; a manifest has plain strings, numbers, lists and maps")
        }
        ErrorKind::SecondMerge => "the key \"<<\" is given twice".into(),
        ErrorKind::MergeOfScalar => "a merge key (<<) without a map behind it".into(),
        ErrorKind::UnknownAlias => "an alias inside of what it repeats".into(),
        ErrorKind::LongKey(limit) => format!("a key of more than {limit}"),
        other => other.to_string(),
    }
}

/// Characters that end a line in YAML 1.1, which kubectl follows, and do not in YAML 1.2, which is read here.
fn old_line_break(text: &str) -> Option<ReadError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (index, found) =
        text.char_indices().find(|(_, c)| matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}'))?;
    let (before, _) = text.split_at(index);
    let code = u32::from(found);
    let what = format!("the character U+{code:04X}; write it as \"\\u{code:04x}\", in double quotes");
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let line = before.matches('\n').count() + 1;
    // Documents are not counted before they are read: the line says enough.
    Some(ReadError { document: None, mark: Mark { line, column }, what })
}

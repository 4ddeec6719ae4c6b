//! Why a manifest is refused, and warnings where it is not.
//!
//! # Invariants
//! 1. A refusal says what was found, where, what is accepted and what to do.
//! 2. Everything that is refused is reported in one run, one thing for each object.

use std::fmt;

/// Everything that is refused; at least one thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nothing was written: {}", join(.0))]
pub struct Refusals(pub(super) Vec<Refusal>);

/// One thing that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub(super) location: Location,
    pub(super) field: String,
    pub(super) found: String,
    pub(super) accepted: String,
    pub(super) remedy: String,
}

/// Something that was left as it is, and may not be intended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub(super) location: Location,
    pub(super) what: String,
}

/// An object in a stream of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    /// The file's name.
    pub(super) file: String,
    /// Which document, from 1. None: the options, or the file as a whole.
    pub(super) document: Option<usize>,
    /// Which item of its list, from 1.
    pub(super) item: Option<usize>,
    /// `Deployment/web`
    pub(super) object: String,
}

/// What is wrong with a field, before the object is known that has it.
#[derive(Debug)]
pub(super) struct FieldError {
    pub(super) field: String,
    pub(super) found: String,
    pub(super) accepted: String,
    pub(super) remedy: String,
}

impl FieldError {
    pub(super) fn new(
        field: impl Into<String>,
        found: impl Into<String>,
        accepted: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { field: field.into(), found: found.into(), accepted: accepted.into(), remedy: remedy.into() }
    }

    /// A field with a value of another type.
    pub(super) fn mismatch(field: impl Into<String>, found: impl Into<String>, accepted: &str) -> Self {
        Self::new(field, found, accepted, "mend the manifest: kubectl apply --dry-run=server tells more")
    }

    pub(super) fn at(self, location: &Location) -> Refusal {
        let Self { field, found, accepted, remedy } = self;
        Refusal { location: location.clone(), field, found, accepted, remedy }
    }
}

impl From<Refusal> for Refusals {
    fn from(refusal: Refusal) -> Self {
        Self(vec![refusal])
    }
}

impl Location {
    pub(super) fn file(file: &str) -> Self {
        Self { file: file.to_owned(), document: None, item: None, object: String::new() }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(document) = self.document {
            write!(f, ": document {document}")?;
        }
        if let Some(item) = self.item {
            write!(f, ", item {item}")?;
        }
        if !self.object.is_empty() {
            write!(f, ", {}", self.object)?;
        }
        Ok(())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  found:    {}", self.location, self.field, self.found)?;
        write!(f, "\n  accepted: {}\n  to do:    {}", self.accepted, self.remedy)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.what)
    }
}

fn join(refusals: &[Refusal]) -> String {
    let mut joined = match refusals.len() {
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    };
    for refusal in refusals {
        joined.push_str(&format!("\n\n{refusal}"));
    }
    joined
}

//! A file that the configuration names, with its contents.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A file as it was when the configuration was read. Its contents belong to the configuration: two
/// configurations are equal only if the files they name hold the same, so that a reload sees at once
/// whether a certificate or a key has changed, and nothing reads a half-written file later.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// As it was written.
    pub path: PathBuf,
    /// What it held. May be a secret: never shown.
    pub contents: Arc<[u8]>,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({})", self.path.display())
    }
}

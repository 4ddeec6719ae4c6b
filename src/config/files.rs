//! Reads the files that a configuration names, each once: settings that name the same file get the same bytes.
//!
//! # Invariants
//! 1. Reading ends: only regular files are opened, and only so many bytes are taken.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files that were read so far.
#[derive(Default)]
pub(crate) struct FileCache(BTreeMap<PathBuf, Result<Arc<[u8]>, String>>);

/// The largest chain of certificates, key set or list of API keys that is taken.
pub(crate) const MAX_BYTES: u64 = 1024 * 1024;

impl FileCache {
    /// The contents of the file at `path`, or why it cannot be read.
    pub(crate) fn read(&mut self, path: &Path) -> Result<Arc<[u8]>, String> {
        self.0.entry(path.into()).or_insert_with(|| read(path)).clone()
    }

    /// The path of each file that was asked for.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.0.keys().cloned().collect()
    }
}

fn read(path: &Path) -> Result<Arc<[u8]>, String> {
    let unreadable = |error| format!("cannot be read: {error}");
    // Opening a pipe would wait for a writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("cannot be read: not a regular file".into());
    }
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("longer than {MAX_BYTES} bytes"));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("empty".into());
    }
    Ok(bytes.into())
}

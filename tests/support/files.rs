//! Files and folders of one test, gone with their guard. No two tests of any process share a name.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where a socket may be listened on: there is nothing yet. Short, since the path of a socket has at most 107 bytes.
pub fn socket_path() -> PathBuf {
    std::env::temp_dir().join(unique("outrigger.sock"))
}

fn unique(name: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{}-{}-{name}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst))
}

/// A file that is there as long as this lives.
pub struct TempFile(PathBuf);

impl TempFile {
    pub fn new(name: &str, text: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique(name));
        fs::write(&path, text).expect("the folder is writable");
        Self(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("the folder's path is UTF-8")
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // Nothing depends on it any more.
        let _ = fs::remove_file(&self.0);
    }
}

/// A folder that is there as long as this lives, empty at first.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique(name));
        fs::create_dir_all(&path).expect("the folder is writable");
        Self(path)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// At once: written in place, a file could be read while half of it is there.
    pub fn write(&self, name: &str, text: &str) {
        let written = self.path(&format!("{name}.new"));
        fs::write(&written, text).expect("the folder is writable");
        fs::rename(written, self.path(name)).expect("the folder is writable");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

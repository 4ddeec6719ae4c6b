//! What the tests of this folder share.

use crate::config::File;

pub(super) fn file(path: &str, contents: impl AsRef<[u8]>) -> File {
    File { path: path.into(), contents: contents.as_ref().into() }
}

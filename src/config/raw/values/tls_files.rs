//! Files of certificates and keys, which `listen.tls` and `upstream.tls` name.

use std::path::PathBuf;

use crate::config::model::File;
use crate::config::problems::Problems;
use crate::config::raw::values::scalar::Scalar;

pub(crate) fn required_file(
    key: &'static str,
    path: Option<Scalar<PathBuf>>,
    problems: &mut Problems,
) -> Option<File> {
    if path.is_none() && !problems.has(key) {
        problems.refuse(key, "nothing", "the path of a PEM file; cert_file and key_file go together");
    }
    path.map(|path| problems.file(key, &path.0))
}

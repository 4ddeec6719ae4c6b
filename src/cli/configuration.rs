//! Where commands find the configuration, and how they fail if it is wrong.

use std::path::PathBuf;

use crate::config;
use crate::server::StartError;

/// The file that holds the configuration: the one that the flag names, or else the environment.
pub(super) fn config_file(flag: Option<PathBuf>) -> Option<PathBuf> {
    let named = || std::env::var_os(config::FILE_VARIABLE).filter(|name| !name.is_empty());
    flag.or_else(|| named().map(PathBuf::from))
}

/// An error of the start. What is wrong with the configuration stays an error of the configuration, also where only the
/// server noticed it, so that the exit code is the same.
pub(super) fn start_error(error: StartError) -> anyhow::Error {
    match error {
        StartError::Config(errors) => errors.into(),
        other => other.into(),
    }
}

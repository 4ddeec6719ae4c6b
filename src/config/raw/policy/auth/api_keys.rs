//! `policy.auth.api_keys`.

use std::path::PathBuf;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::{ApiKeys, File};
use crate::config::problems::Problems;
use crate::config::raw::values::header::header_name;
use crate::config::raw::values::scalar::Scalar;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a map of settings, or null for none")]
pub(crate) struct RawApiKeys {
    /// File with a line user:sha256hex for each key
    file: Option<Scalar<PathBuf>>,
    /// Where the key is sent
    header: Scalar<String>,
}

impl Default for RawApiKeys {
    fn default() -> Self {
        Self { file: None, header: Scalar("x-api-key".into()) }
    }
}

impl RawApiKeys {
    pub(crate) fn validate(self, problems: &mut Problems) -> Option<ApiKeys> {
        let Self { file, header } = self;
        let header = header_name("header", &header.0, problems);
        let Some(Scalar(path)) = file else {
            if !problems.has("file") {
                problems.refuse(
                    "file",
                    "nothing",
                    "the path of a file with a line user:sha256hex for each key",
                );
            }
            return None;
        };
        let keys = ApiKeys { file: problems.file("file", &path), header };
        check_api_keys(&keys.file, problems);
        Some(keys)
    }
}

/// Reports which line is wrong, and never what is in it.
fn check_api_keys(file: &File, problems: &mut Problems) {
    if problems.has("file") {
        return;
    }
    let mut keys = 0;
    for (line, entry) in ApiKeys::lines(&file.contents) {
        match entry {
            Ok(_) => keys += 1,
            Err(wrong) => {
                let accepted = "lines user:sha256hex: a user in visible ASCII, and 64 hexadecimal digits; # for comments";
                problems.refuse("file", format!("line {line} of {}: {wrong}", file.path.display()), accepted);
                return;
            }
        }
    }
    if keys == 0 {
        problems.refuse(
            "file",
            format!("no key in {}", file.path.display()),
            "a line user:sha256hex for each key",
        );
    }
}

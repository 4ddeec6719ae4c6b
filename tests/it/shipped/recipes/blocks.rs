//! The fenced blocks of the documents, each with the place where it stands.

use std::fmt;
use std::path::{Path, PathBuf};

use super::shell;
use crate::support::files::TempFile;
use crate::support::tls::Authority;

/// One block.
#[derive(Debug)]
pub(super) struct Block {
    document: String,
    line: usize,
    language: String,
    pub(super) text: String,
}

/// What it is, and so what it is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A configuration: `outrigger check` takes it.
    Configuration,
    /// A file of a chart, which begins with its path: `tests/helm/snippets.rs` pastes and renders it.
    Chart,
    /// A part of a Kubernetes manifest.
    Manifest,
    /// Commands: those that are ours are parsed as they are.
    Shell,
    /// JSON, line by line.
    Json,
    /// Prose.
    Text,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} ({})", self.document, self.line, self.language)
    }
}

impl Block {
    pub(super) fn new(document: &str, line: usize, language: &str, text: &str) -> Self {
        Self { document: document.to_owned(), line, language: language.to_owned(), text: text.to_owned() }
    }

    /// What it is, or why it is nothing that is checked.
    pub(super) fn kind(&self) -> Result<Kind, String> {
        let first = self.text.lines().next().unwrap_or_default();
        match &*self.language {
            "yaml" => Ok(Kind::Configuration),
            "yml" if first.starts_with("# ") && first.contains(".yaml") => Ok(Kind::Chart),
            "yml" if ["apiVersion:", "containers:", "spec:"].iter().any(|key| first.starts_with(key)) => {
                Ok(Kind::Manifest)
            }
            "yml" => Err(
                "a `yml` block is a file of a chart and begins with its path (`# templates/…yaml`), or a \
                          part of a manifest; a configuration is `yaml`"
                    .to_owned(),
            ),
            "console" | "sh" => shell::check(&self.text).map(|()| Kind::Shell),
            "json" => self
                .text
                .lines()
                .try_for_each(|line| serde_json::from_str::<serde_json::Value>(line).map(drop))
                .or_else(|_| serde_json::from_str::<serde_json::Value>(&self.text).map(drop))
                .map(|()| Kind::Json)
                .map_err(|error| error.to_string()),
            "text" => Ok(Kind::Text),
            "" => Err("it has no language: yaml, yml, console, sh, json or text".to_owned()),
            other => {
                Err(format!("nothing checks {other}; add it to tests/recipes/blocks.rs, with its check"))
            }
        }
    }
}

pub(super) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Those that users read.
fn documents() -> Vec<String> {
    let mut found = vec!["README.md".to_owned(), "helm/outrigger/README.md".to_owned()];
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
            found.push(format!("docs/{name}"));
        }
    }
    found.sort();
    found
}

fn blocks(document: &str, text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<(usize, Block)> = None;
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(language)) => open = Some((indent, Block::new(document, number + 1, language, ""))),
            (Some(_), Some("")) => found.extend(open.take().map(|(_, block)| block)),
            (Some((indent, block)), _) => {
                block.text.push_str(line.get(*indent..).unwrap_or_default());
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{document} ends within a block");
    found
}

/// Every block of every document.
pub(super) fn all() -> Vec<Block> {
    let read = |document: &String| blocks(document, &std::fs::read_to_string(root().join(document)).unwrap());
    let found: Vec<_> = documents().iter().flat_map(read).collect();
    assert!(found.len() > 30, "only {} were found", found.len());
    found
}

/// The text of the one block of `document` with `part` in it.
pub(crate) fn one(document: &str, part: &str) -> String {
    let found = with(document, part);
    assert_eq!(found.len(), 1, "blocks of {document} with {part:?}");
    found.into_iter().next().unwrap()
}

/// The text of the first of them.
pub(super) fn first(document: &str, part: &str) -> String {
    with(document, part).into_iter().next().unwrap_or_else(|| panic!("no block of {document} has {part:?}"))
}

fn with(document: &str, part: &str) -> Vec<String> {
    let blocks = all().into_iter().filter(|block| block.document == document && block.text.contains(part));
    blocks.map(|block| block.text).collect()
}

/// The files that recipes name, in a place of the test's own.
pub(super) struct Setting(Vec<(&'static str, TempFile)>);

impl Setting {
    pub(super) fn new() -> Self {
        let identity = Authority::known().issue(&["app.internal", "127.0.0.1"], "app");
        let keys = std::fs::read_to_string(root().join("tests/config/files/api_keys")).unwrap();
        Self(vec![
            ("/etc/outrigger/tls/tls.crt", TempFile::new("tls.crt", &identity.cert)),
            ("/etc/outrigger/tls/tls.key", TempFile::new("tls.key", &identity.key)),
            ("/etc/outrigger/upstream/ca.crt", TempFile::new("ca.crt", &Authority::known().pem())),
            ("/etc/outrigger/api-keys", TempFile::new("api-keys", &keys)),
        ])
    }

    /// `text` with the paths where these files are.
    pub(super) fn put(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (path, file)| text.replace(path, file.path()))
    }

    /// Keys: `1` and `2` are ann's, `3` is bob's.
    pub(super) fn keys(&self) -> String {
        self.put("/etc/outrigger/api-keys")
    }
}

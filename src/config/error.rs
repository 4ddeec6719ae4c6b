//! What is wrong with a configuration: each problem with its location, its key and what is accepted.
//!
//! # Invariants
//! 1. All problems are reported at once, in the order of the file, then the environment, then flags.
//! 2. Neither a secret nor a whole line of the file is shown: only the one value that is wrong.
//! 3. What is shown has no control characters for a terminal in it.

use std::fmt;

use super::tree::Location;

/// Everything wrong with a configuration; at least one problem.
#[derive(Debug, Clone)]
pub struct ConfigErrors {
    list: Vec<ConfigError>,
}

/// One problem: where it is, which key, what was found and what is accepted.
#[derive(Debug, Clone)]
pub struct ConfigError {
    pub(super) location: Option<Location>,
    pub(super) key: String,
    pub(super) problem: Problem,
}

/// What can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// The text is not YAML as it is accepted here.
    #[error("  {0}")]
    Syntax(String),
    #[error("  this key is given twice; first at {first}")]
    Duplicate { first: Location },
    #[error("  unknown key{}\n  accepted: {accepted}", did_you_mean(.suggestions))]
    UnknownKey { suggestions: Vec<String>, accepted: String },
    #[error("  found:    {found}\n  accepted: {accepted}")]
    Value { found: String, accepted: String },
    /// A key of a feature that is not built.
    #[error("  not supported yet; {accepted}")]
    Unsupported { accepted: String },
    /// Something could not be read from disk.
    #[error("  {0}")]
    File(String),
    #[error("  {0}")]
    TooMany(&'static str),
}

impl ConfigErrors {
    pub(super) fn new(mut list: Vec<ConfigError>) -> Self {
        // A problem without a location belongs to no line: it comes last.
        list.sort_by(|a, b| match (&a.location, &b.location) {
            (Some(a), Some(b)) => a.cmp(b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        });
        Self { list }
    }

    /// A setting that can be read but not used, such as a certificate that does not fit its key.
    pub fn unusable(key: impl Into<String>, what: impl fmt::Display) -> Self {
        let problem = Problem::File(what.to_string());
        Self::new(vec![ConfigError { location: None, key: key.into(), problem }])
    }

    /// Each problem.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.list.iter()
    }
}

impl ConfigError {
    /// The key, as `routes[2].policy.max_frame`; empty for the file as a whole.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether the setting itself is right, and the problem is the file that it names.
    pub fn is_file_problem(&self) -> bool {
        matches!(self.problem, Problem::File(_))
    }
}

impl std::error::Error for ConfigErrors {}
impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list.len() {
            1 => f.write_str("1 problem in the configuration")?,
            count => write!(f, "{count} problems in the configuration")?,
        }
        for error in &self.list {
            write!(f, "\n\n{error}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = match (&self.location, self.key.as_str()) {
            (Some(location), "") => location.to_string(),
            (Some(location), key) => format!("{location}: {key}"),
            (None, "") => "configuration".to_owned(),
            (None, key) => key.to_owned(),
        };
        // Keys and names of files come from the outside.
        f.write_str(&escape_for_terminal(&head))?;
        self.problem.to_string().lines().try_for_each(|line| write!(f, "\n{}", escape_for_terminal(line)))
    }
}

/// The candidate that is a typing mistake away from `word`, if there is one.
pub(super) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A longer word may have more mistakes; a short one with two wrong letters is another word.
    let most = (word.chars().count() / 3).clamp(1, 3);
    let near = candidates.into_iter().map(|candidate| (edit_distance(word, candidate), candidate));
    near.filter(|(edit_distance, _)| *edit_distance <= most).min().map(|(_, candidate)| candidate)
}

/// Escapes what a terminal would act on or not show, as [`quoted`] does; everything else stays.
fn escape_for_terminal(line: &str) -> String {
    let spelled = |c: char| match c {
        '"' | '\'' | '\\' => vec![c],
        c => c.escape_debug().collect(),
    };
    line.chars().flat_map(spelled).collect()
}

/// A value that is wrong, in quotes, on one line, and cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

fn did_you_mean(suggestions: &[String]) -> String {
    let words: Vec<String> = suggestions.iter().map(|word| format!("`{word}`")).collect();
    if words.is_empty() { String::new() } else { format!("; did you mean {}?", words.join(" or ")) }
}

/// The optimal string alignment distance: letters inserted, left out, changed, or swapped with their neighbour.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 3 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &to) in b.iter().enumerate() {
            let mut best = (above[j] + usize::from(from != to)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && a[i - 1] == to {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_is_traced_to_the_word_that_was_meant() {
        for (word, meant) in [
            ("polcy", Some("policy")),
            ("heartbaet", Some("heartbeat")),
            ("Timeout", Some("timeout")),
            ("timeouts", Some("timeout")),
            ("tls", None),
            ("something", None),
            ("", None),
        ] {
            assert_eq!(closest(word, ["policy", "heartbeat", "timeout", "delay"]), meant, "{word}");
        }
    }

    #[test]
    fn what_an_error_names_leaves_a_terminal_alone() {
        let error = |name: &str, key: &str| ConfigError {
            location: Some(Location::WholeFile { name: name.into() }),
            key: key.into(),
            problem: Problem::File(format!("{name}: cannot be read")),
        };
        let told = error("größe \"a\\b\"", "it's").to_string();
        assert_eq!(told, "größe \"a\\b\": it's\n  größe \"a\\b\": cannot be read");
        let told = error("\u{1b}[2J", "a\u{202e}b\u{200b}").to_string();
        assert_eq!(told, "\\u{1b}[2J: a\\u{202e}b\\u{200b}\n  \\u{1b}[2J: cannot be read");
    }

    #[test]
    fn a_long_value_is_cut_and_stays_on_one_line() {
        let shown = quoted(&"a\n".repeat(500));
        assert!(shown.len() < 200 && !shown.contains('\n') && shown.contains('…'), "{shown}");
    }
}

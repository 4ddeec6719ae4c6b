//! Settings that select messages by their contents: JSON pointers, and rules that match.

#[cfg(test)]
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::config::error::quoted;
use crate::config::model::{Match, Pointer};
use crate::config::problems::Problems;
use crate::config::raw::values::check;
use crate::config::raw::values::list::List;
use crate::config::raw::values::scalar::{Scalar, ScalarValue};
#[cfg(test)]
use crate::config::raw::values::schema;

/// Every message is compared with each of them.
const MAX_VALUES: usize = 256;

const MAX_POINTER_LEN: usize = 1024;

const MAX_REGEX_LEN: usize = 4096;

impl ScalarValue for Pointer {
    fn accepted() -> String {
        "a JSON pointer (RFC 6901), such as /type or /data/0/id: empty, or parts that each begin with /, \
         with ~0 for ~ and ~1 for / in them (at most 1024 bytes)"
            .into()
    }

    fn read(text: &str) -> Option<Self> {
        if text.len() > MAX_POINTER_LEN {
            return None;
        }
        let mut parts = text.split('/');
        if parts.next() != Some("") {
            return None;
        }
        parts.map(unescape).collect::<Option<_>>().map(|tokens| Self { tokens })
    }

    fn write(&self) -> String {
        let escaped = self.tokens.iter().map(|token| token.replace('~', "~0").replace('/', "~1"));
        escaped.fold(String::new(), |text, token| text + "/" + &token)
    }

    #[cfg(test)]
    fn schema() -> Schema {
        // A number as a key needs the slash as well, so a YAML number is never a pointer.
        schema::pattern("^(/([^~/]|~[01])*)*$")
    }
}

fn unescape(part: &str) -> Option<String> {
    let mut token = String::with_capacity(part.len());
    let mut chars = part.chars();
    while let Some(c) = chars.next() {
        token.push(match c {
            '~' => match chars.next() {
                Some('0') => '~',
                Some('1') => '/',
                Some(_) | None => return None,
            },
            other => other,
        });
    }
    Some(token)
}

/// Which messages: `{ pointer, values }`, `{ regex }` or `{ first }`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a map with pointer and values, with regex, or with first; null for none"
)]
pub(crate) struct RawMatch {
    /// JSON pointer into messages that are JSON; one of values has to stand there
    pointer: Option<Scalar<Pointer>>,
    /// What may stand at pointer
    values: Option<List<String>>,
    /// Text messages that this matches anywhere, as Rust's regex reads it
    regex: Option<Scalar<String>>,
    /// So many messages from the start: of a log, or of what a session's client says
    first: Option<Scalar<u32>>,
}

impl RawMatch {
    pub(crate) fn validate(self, problems: &mut Problems) -> Option<Match> {
        const NAMES: [&str; 4] = ["pointer", "values", "regex", "first"];
        let Self { pointer, values, regex, first } = self;
        let by_place = pointer.is_some() || values.is_some();
        let kinds = [("pointer", by_place), ("regex", regex.is_some()), ("first", first.is_some())];
        let set: Vec<&str> = kinds.into_iter().filter_map(|(key, is_set)| is_set.then_some(key)).collect();
        match set.as_slice() {
            [_] => {}
            [] if NAMES.iter().any(|key| problems.has(key)) => return None,
            [] => {
                problems.refuse("", "nothing", "one of pointer (with values), regex and first; null is none");
                return None;
            }
            more => {
                let accepted = "one of pointer (with values), regex and first: set what is inherited and not \
                                wanted to null";
                problems.refuse("", more.join(" and "), accepted);
            }
        }
        if let Some(Scalar(regex)) = regex {
            return check_regex(&regex, problems).map(|_| Match::Regex(regex));
        }
        if let Some(count) = first {
            check::at_least_one("first", count, problems);
            return Some(Match::First(u64::from(count.0)));
        }
        let List(values) = values.unwrap_or_default();
        if (values.is_empty() || values.len() > MAX_VALUES) && !problems.has("values") {
            let accepted = format!("1 to {MAX_VALUES} of what may stand at pointer, such as [GRAFT, PRUNE]");
            problems.refuse("values", format!("{} values", values.len()), accepted);
        }
        let Some(Scalar(pointer)) = pointer else {
            if !problems.has("pointer") {
                problems.refuse("pointer", "nothing", Pointer::accepted());
            }
            return None;
        };
        Some(Match::Pointer { pointer, values: values.into_iter().map(|value| value.0).collect() })
    }

    /// As [`Self::validate`], where messages are not counted.
    pub(crate) fn validate_by_contents(self, problems: &mut Problems) -> Option<Match> {
        let first = self.first;
        let rule = self.validate(problems);
        if let Some(first) = first
            && !problems.has("")
        {
            let accepted = "pointer (with values) or regex: here messages are not counted";
            problems.refuse("first", check::shown(first), accepted);
        }
        rule
    }
}

/// The expression `regex` that stands below the key `regex`, compiled as it is when it is used.
pub(crate) fn check_regex(regex: &str, problems: &mut Problems) -> Option<regex::Regex> {
    if regex.len() > MAX_REGEX_LEN {
        let accepted = format!("a regular expression of up to {MAX_REGEX_LEN} bytes");
        problems.refuse("regex", quoted(regex), accepted);
        return None;
    }
    match Match::compile(regex) {
        Ok(compiled) => Some(compiled),
        Err(regex::Error::CompiledTooBig(_)) => {
            let accepted =
                "a regular expression with fewer or smaller repetitions: this one takes too much memory";
            problems.refuse("regex", quoted(regex), accepted);
            None
        }
        Err(error) => {
            // The last line has the message; those above draw where it is.
            let told = error.to_string();
            let what = told.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let accepted =
                "a regular expression as Rust's regex crate reads it (no look-around, no back-references)";
            problems.refuse("regex", format!("{}: {what}", quoted(regex)), accepted);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_read_part_by_part_and_written_back() {
        for (text, tokens) in [
            ("", &[][..]),
            ("/", &[""]),
            ("/type", &["type"]),
            ("/a/b/0", &["a", "b", "0"]),
            ("//a", &["", "a"]),
            ("/a~1b/~0", &["a/b", "~"]),
            ("/~01", &["~1"]),
            ("/\u{e4} b\"", &["\u{e4} b\""]),
        ] {
            let pointer = Pointer::read(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(pointer.tokens, tokens, "{text}");
            assert_eq!(pointer.write(), text);
        }
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        let long = "/a".repeat(MAX_POINTER_LEN);
        for text in ["type", "a/b", " /a", "#/a", "/~", "/~2", "/a~", "/a/~x/b", "$.type", &long] {
            assert_eq!(Pointer::read(text), None, "{text}");
        }
    }
}

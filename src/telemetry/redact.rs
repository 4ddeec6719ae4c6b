//! Shows what a client sent without its secrets.
//!
//! # Invariants
//! 1. Nothing after the first `?` or `#` is shown, and no user info of an absolute target: tokens
//!    travel there.
//! 2. What is shown has no control character, no line break and nothing else that hides or turns around what stands
//!    there ([`needs_escape`]), and at most [`MAX_PATH_CHARS`] characters ([`MAX_ORIGIN_CHARS`] of an origin).
//! 3. Showing allocates nothing.

use std::fmt::{self, Write};

/// A request target as it may be written into a log: `/ws?token=x` shows as `/ws?…`.
pub(crate) fn redact_path(target: &str) -> Redacted<'_> {
    Redacted { target, max_chars: MAX_PATH_CHARS }
}

/// What a client sent as `Origin`, as it may be written into a log or an answer. An origin has neither path nor
/// user; whoever sends them may have put a secret there.
pub(crate) fn redact_origin(origin: &str) -> Redacted<'_> {
    Redacted { target: origin, max_chars: MAX_ORIGIN_CHARS }
}

/// Shows a request target without its query; made by [`redact_path`] and [`redact_origin`]. `Debug` shows no more than
/// `Display` does.
#[derive(Clone, Copy)]
pub(crate) struct Redacted<'a> {
    target: &'a str,
    max_chars: usize,
}

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, query) = match self.target.find(['?', '#']) {
            Some(at) => self.target.split_at(at),
            None => (self.target, ""),
        };
        let (before, path) = without_user_info(path);
        for (shown, c) in before.chars().chain(path.chars()).enumerate() {
            if shown == self.max_chars {
                f.write_char('…')?;
                break;
            }
            write_escaped(f, c)?;
        }
        // The mark (a `?` or a `#`) stays, so that one sees that there was something.
        match query.chars().next() {
            Some(mark) => write!(f, "{mark}…"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a character can end a line, make a terminal do something (C0, DEL, C1), or make what is shown mean something
/// else.
pub(super) fn needs_escape(c: char) -> bool {
    c.is_control() || (!c.is_ascii() && (is_invisible(c) || c.is_whitespace()))
}

/// Writes a character, escaped as in JSON where it [`needs_escape`]: beyond the first plane as a surrogate pair.
pub(super) fn write_escaped(to: &mut impl Write, c: char) -> fmt::Result {
    if !needs_escape(c) {
        return to.write_char(c);
    }
    for unit in c.encode_utf16(&mut [0; 2]) {
        write!(to, "\\u{unit:04x}")?;
    }
    Ok(())
}

/// Text that others chose, as it may be written to a terminal, or (within a string) to JSON: what could end a line,
/// move a cursor, or turn the order of what stands around it leaves as `\u001b`.
pub(crate) fn escaped(text: &str) -> Escaped<'_> {
    Escaped(text)
}

/// Made by [`escaped`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| write_escaped(f, c))
    }
}

/// Whether a character is invisible: two names that differ in one look the same, and some set the direction of
/// what follows. Unicode's `Default_Ignorable_Code_Point` (UAX #44), interlinear annotation, and the empty Braille cell.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Splits `scheme://user:secret@host/path` into `scheme://` and `host/path`; anything else is left
/// whole. The last `@` before the path counts: a password may hold one itself.
fn without_user_info(target: &str) -> (&str, &str) {
    let Some(start) = target.find("//").filter(|at| !target[..*at].contains('/')).map(|at| at + 2) else {
        return ("", target);
    };
    let (scheme, rest) = target.split_at(start);
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rfind('@') {
        Some(at) => (scheme, &rest[at + 1..]),
        None => ("", target),
    }
}

/// Longest path shown, in characters: enough to tell one by, and a client cannot fill a disk with it.
const MAX_PATH_CHARS: usize = 512;

/// Longest origin shown, in characters: a scheme, the longest name that there is (253 bytes), and a port.
const MAX_ORIGIN_CHARS: usize = 272;

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: &[(&str, &str)] = &[
        ("/", "/"),
        ("/ws", "/ws"),
        ("/ws?token=x", "/ws?…"),
        ("/ws?", "/ws?…"),
        ("/ws?a=1?b=2#c", "/ws?…"),
        ("/ws#token=x", "/ws#…"),
        ("?token=x", "?…"),
        ("", ""),
        ("*", "*"),
        ("/a@b/c", "/a@b/c"),
        ("http://user:secret@host/ws?t=1", "http://host/ws?…"),
        ("http://user:p@ss@host", "http://host"),
        ("http://host/~user@home", "http://host/~user@home"),
        ("//user:secret@host/ws", "//host/ws"),
        ("/a//user@host", "/a//user@host"),
        ("/ws\r\nInjected: yes", "/ws\\u000d\\u000aInjected: yes"),
        ("/ws\u{1b}[31m\u{7f}\u{85}\u{2028}", "/ws\\u001b[31m\\u007f\\u0085\\u2028"),
        ("/ws\u{202e}lmth.x\u{a0}status=200\u{3000}", "/ws\\u202elmth.x\\u00a0status=200\\u3000"),
        ("/größe", "/größe"),
        ("/a\u{202e}gnp.exe\u{200b}\u{e0041}", "/a\\u202egnp.exe\\u200b\\udb40\\udc41"),
    ];

    #[test]
    fn a_target_is_shown_without_what_may_be_secret() {
        for (target, shown) in CASES {
            assert_eq!(redact_path(target).to_string(), *shown, "{target:?}");
            assert_eq!(format!("{:?}", redact_path(target)), *shown, "{target:?}, by Debug");
        }
    }

    #[test]
    fn what_acts_on_a_terminal_is_escaped_as_json_would_and_all_else_is_left() {
        let cases = [
            ("größe \"a\\b\" 🚣", "größe \"a\\b\" 🚣"),
            ("\u{1b}]0;owned\u{7}", "\\u001b]0;owned\\u0007"),
            ("a\r\n\tb\u{7f}\u{9b}2J", "a\\u000d\\u000a\\u0009b\\u007f\\u009b2J"),
            ("ann\u{202e}nimda\u{200b}", "ann\\u202enimda\\u200b"),
            ("\u{e0041}", "\\udb40\\udc41"),
            ("adm\u{fe0f}in adm\u{34f}in \u{3164}admin", "adm\\ufe0fin adm\\u034fin \\u3164admin"),
            ("a\u{a0}b\u{2800}c\u{e0101}", "a\\u00a0b\\u2800c\\udb40\\udd01"),
        ];
        for (text, shown) in cases {
            assert_eq!(escaped(text).to_string(), shown, "{text:?}");
        }
        let name = "\u{7f}\u{9b}\u{202e}\u{e0041}x";
        let json = serde_json::to_string(name).unwrap();
        let again: String = serde_json::from_str(&escaped(&json).to_string()).unwrap();
        assert_eq!(again, name, "JSON stays the JSON that it was");
    }

    #[test]
    fn a_very_long_path_is_cut_and_its_query_still_hidden() {
        let long = "/".repeat(MAX_PATH_CHARS);
        assert_eq!(redact_path(&long).to_string(), long);
        assert_eq!(redact_path(&format!("{long}/?token=x")).to_string(), format!("{long}…?…"));
    }
}

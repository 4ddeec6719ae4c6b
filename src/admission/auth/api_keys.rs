//! Keys from a list, which holds their SHA-256 only.
//!
//! # Invariants
//! 1. A key is compared with every entry, and each comparison takes the same time: how long an answer
//!    takes tells nothing about what the list holds.
//!
//! # Not here
//! Taking the header out: it passes on, since the server behind may want to know which key it was.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, header};
use sha2::{Digest, Sha256};

use super::error::AuthError;
use super::tokens;
use super::user_name::user_name;
use crate::config;
use crate::net::http::bearer;
use crate::telemetry::AuthFailure;

/// The list, made ready.
pub(super) struct ApiKeys {
    header: HeaderName,
    entries: Vec<Entry>,
}

struct Entry {
    user: Arc<str>,
    hash: [u8; 32],
}

impl ApiKeys {
    pub(super) fn new(config: &config::ApiKeys) -> Result<Self, AuthError> {
        let wrong = |line: usize, what| AuthError::ApiKeys { path: config.file.path.clone(), line, what };
        let header = HeaderName::from_bytes(config.header.as_bytes())
            .map_err(|_| AuthError::Header("api_keys.header"))?;
        let text =
            std::str::from_utf8(&config.file.contents).map_err(|_| wrong(1, "it is not text (UTF-8)"))?;
        let mut entries: Vec<Entry> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (user, hash) =
                line.rsplit_once(':').ok_or_else(|| wrong(number, "there is no colon in it"))?;
            let user = user_name(user)
                .ok_or_else(|| wrong(number, "the user is not 1 to 256 visible ASCII characters"))?;
            let hash = unhex(hash).ok_or_else(|| wrong(number, "the hash is not 64 hexadecimal digits"))?;
            if entries.iter().any(|entry| entry.hash == hash) {
                return Err(wrong(number, "the same hash stands in an earlier line"));
            }
            entries.push(Entry { user, hash });
        }
        if entries.is_empty() {
            return Err(wrong(1, "there is no key in it"));
        }
        Ok(Self { header, entries })
    }

    /// Whose key these headers hold.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<Arc<str>, AuthFailure> {
        let shown = tokens::in_header(headers, &self.header)?;
        let mut key = shown.as_bytes();
        if self.header == header::AUTHORIZATION {
            key = bearer(key).unwrap_or(key);
        }
        let hash: [u8; 32] = Sha256::digest(key).into();
        let mut found = None;
        // To the end, whatever was found: no early exit.
        for entry in &self.entries {
            if is_equal(&entry.hash, &hash) {
                found = Some(&entry.user);
            }
        }
        found.cloned().ok_or(AuthFailure::ApiKey)
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({} keys)", self.entries.len())
    }
}

/// In a time that does not depend on where they differ.
fn is_equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let differing = a.iter().zip(b).fold(0, |seen, (a, b)| seen | (a ^ b));
    std::hint::black_box(differing) == 0
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::admission::auth::testing::file;

    fn hash(key: &str) -> String {
        Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn list(text: &str, header: &str) -> Result<ApiKeys, AuthError> {
        ApiKeys::new(&config::ApiKeys { file: file("keys.txt", text), header: header.into() })
    }

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_key_is_found_wherever_it_stands_and_nothing_else_is() {
        let text = format!(
            "# who may come\n\nann:{}\nbob:{}\r\n  urn:x:carol:{}  \n",
            hash("key-a"),
            hash("key-b").to_uppercase(),
            hash("key-c")
        );
        let keys = list(&text, "x-api-key").unwrap();
        let long = "x".repeat(tokens::MAX_TOKEN + 1);
        let cases: &[(&[&str], Result<&str, AuthFailure>)] = &[
            (&["key-a"], Ok("ann")),
            (&["key-b"], Ok("bob")),
            (&["key-c"], Ok("urn:x:carol")),
            (&["key-a", "key-a"], Ok("ann")),
            (&["key-a", "key-b"], Err(AuthFailure::Ambiguous)),
            (&["key-A"], Err(AuthFailure::ApiKey)),
            (&["key-"], Err(AuthFailure::ApiKey)),
            (&[&hash("key-a")], Err(AuthFailure::ApiKey)),
            (&[&long], Err(AuthFailure::Malformed)),
            (&[""], Err(AuthFailure::Missing)),
            (&[], Err(AuthFailure::Missing)),
        ];
        for (values, expected) in cases {
            let found = keys.check(&headers("x-api-key", values));
            assert_eq!(found.as_deref(), expected.as_ref().copied(), "{values:?}");
        }
        assert_eq!(format!("{keys:?}"), "ApiKeys(3 keys)");
    }

    #[test]
    fn authorization_may_say_bearer() {
        let keys = list(&format!("ann:{}", hash("key-a")), "authorization").unwrap();
        for value in ["key-a", "Bearer key-a", "bearer  key-a"] {
            assert_eq!(&*keys.check(&headers("authorization", &[value])).unwrap(), "ann", "{value}");
        }
    }

    #[test]
    fn a_bad_line_is_told_with_its_number() {
        let good = format!("ann:{}\n", hash("key-a"));
        let cases = [
            (String::new(), 1, "no key"),
            ("# none\n".into(), 1, "no key"),
            (format!("{good}bob"), 2, "colon"),
            (format!("{good}bob:abc"), 2, "64"),
            (format!("{good}bob:{}", "g".repeat(64)), 2, "64"),
            (format!("{good}:{}", hash("b")), 2, "user"),
            (format!("{good}b b:{}", hash("b")), 2, "user"),
            (format!("{good}b\u{e4}:{}", hash("b")), 2, "user"),
            (format!("{good}{}:{}", "x".repeat(257), hash("b")), 2, "user"),
            (format!("{good}bob:{}", hash("key-a")), 2, "same"),
        ];
        for (text, line, word) in cases {
            let error = list(&text, "x-api-key").unwrap_err().to_string();
            assert!(error.contains("keys.txt") && error.contains(word), "{error}");
            assert!(error.contains(&format!("line {line}")), "{error}");
            assert!(!error.contains(&hash("key-a")), "{error}");
        }
        assert!(list(&good, "x api key").is_err());
    }
}

//! A string that cannot be printed.

use std::fmt;

/// A credential from the configuration. `Debug` and `Display` show `***`; comparing takes
/// [`Secret::matches`], whose time does not depend on where two strings differ.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps what was read.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The text itself. For one caller only: a client that has to send its own credential
    /// ([`crate::admin::client`]). Whatever checks or shows one has no business here.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `offered` is this secret. Time depends on the lengths only.
    pub fn matches(&self, offered: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differing = own.iter().zip(offered).fold(0, |acc, (a, b)| acc | (a ^ b));
        own.len() == offered.len() && std::hint::black_box(differing) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_and_matches_only_itself() {
        let secret = Secret::new("hunter2".into());
        assert_eq!(format!("{secret:?} {secret}"), "*** ***");
        assert!(secret.matches(b"hunter2"));
        for wrong in ["", "hunter", "hunter3", "hunter22"] {
            assert!(!secret.matches(wrong.as_bytes()), "{wrong}");
        }
    }
}

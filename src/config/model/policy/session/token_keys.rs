//! The file of keys that sign tickets, line by line.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::config::model::File;

/// Shorter keys could be found by trying.
const MIN_BYTES: usize = 32;

/// Longer ones are hashed anyway.
const MAX_BYTES: usize = 1024;

/// A forged ticket is held against each of them.
const MAX_KEYS: usize = 8;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Keys that sign the tickets of sessions: the first one signs, each of them verifies, so that a key can be
/// exchanged while tickets of the one before are in use.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKeys {
    path: PathBuf,
    /// Never empty, and none is shorter than [`MIN_BYTES`].
    keys: Vec<Box<[u8]>>,
}

impl TokenKeys {
    /// What a line may be, for messages.
    pub(in crate::config) const ACCEPTED: &str =
        "1 to 8 lines, each a key of 32 to 1024 bytes in base64 (openssl rand -base64 32); # for comments";

    /// Reads the keys of `file`.
    ///
    /// # Errors
    /// What is wrong and in which line, without anything of what is in it.
    pub(in crate::config) fn read(file: &File) -> Result<Self, String> {
        let mut keys = Vec::new();
        for (index, line) in file.contents.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).enumerate() {
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let at = |wrong: &str| format!("line {} of {}: {wrong}", index + 1, file.path.display());
            let key = BASE64.decode(line).map_err(|_| at("no base64"))?;
            if !(MIN_BYTES..=MAX_BYTES).contains(&key.len()) {
                return Err(at(&format!("a key of {} bytes", key.len())));
            }
            keys.push(key.into_boxed_slice());
        }
        match keys.len() {
            0 => Err(format!("no key in {}", file.path.display())),
            1..=MAX_KEYS => Ok(Self { path: file.path.clone(), keys }),
            more => Err(format!("{more} keys in {}", file.path.display())),
        }
    }

    /// The one that signs.
    pub fn signing(&self) -> &[u8] {
        self.keys.first().map_or(&[], |key| key)
    }

    /// Those that verify, the one that signs first.
    pub fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().map(|key| &**key)
    }

    /// As a file would have them.
    #[cfg(test)]
    pub(crate) fn of(contents: &str) -> Result<Self, String> {
        Self::read(&File { path: "keys".into(), contents: contents.as_bytes().into() })
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKeys({})", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_line_by_line_and_the_first_one_signs() {
        let (first, second) = (BASE64.encode([0xfb; 32]), BASE64.encode([7; 40]));
        let unpadded = second.trim_end_matches('=');
        let keys = TokenKeys::of(&format!("# new\r\n {first}\r\n\n# before\n{unpadded}")).unwrap();
        assert_eq!(keys.signing(), [0xfb; 32]);
        assert_eq!(keys.all().collect::<Vec<_>>(), [&[0xfb; 32][..], &[7; 40]]);
    }

    #[test]
    fn hexadecimal_digits_are_base64_and_need_as_many_bytes() {
        let digits = "0123456789abcdef".repeat(4);
        assert_eq!(TokenKeys::of(&digits).unwrap().signing().len(), 48);
        assert!(TokenKeys::of(&digits[..32]).is_err());
    }

    #[test]
    fn a_wrong_line_is_told_by_its_number_and_never_shown() {
        let good = BASE64.encode([1; 32]);
        for (contents, told) in [
            (format!("{good}\n\nsecret!secret"), "line 3 of keys: no base64"),
            (format!("# {good}\n{}", BASE64.encode([1; 31])), "line 2 of keys: a key of 31 bytes"),
            (BASE64.encode([1; 1025]), "line 1 of keys: a key of 1025 bytes"),
            (format!("# {good}\n"), "no key in keys"),
            (format!("{good}\n").repeat(9), "9 keys in keys"),
        ] {
            assert_eq!(TokenKeys::of(&contents), Err(told.to_owned()));
        }
        let keys = TokenKeys::of(&good).unwrap();
        assert_eq!(format!("{keys:?}"), "TokenKeys(keys)");
    }
}

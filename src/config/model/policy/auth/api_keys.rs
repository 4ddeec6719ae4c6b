//! The file of API keys, line by line.

use crate::config::model::policy::auth::ApiKeys;

/// A user, and the SHA-256 of a key of theirs.
pub type ApiKey<'a> = (&'a str, [u8; 32]);

/// It goes into a header and into lines of the log.
const MAX_USER_LEN: usize = 256;

impl ApiKeys {
    /// Every key of the file. A user may have several.
    pub fn keys(&self) -> impl Iterator<Item = ApiKey<'_>> {
        Self::lines(&self.file.contents).filter_map(|(_, entry)| entry.ok())
    }

    /// The lines of `contents` that are neither blank nor a comment, counted from 1; for those that are
    /// wrong, why. Whatever is wrong in a checked configuration was told.
    pub(in crate::config) fn lines(
        contents: &[u8],
    ) -> impl Iterator<Item = (usize, Result<ApiKey<'_>, &'static str>)> {
        let lines = contents.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).enumerate();
        lines
            .filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#"))
            .map(|(index, line)| (index + 1, read(line)))
    }
}

fn read(line: &[u8]) -> Result<ApiKey<'_>, &'static str> {
    let line = std::str::from_utf8(line).map_err(|_| "not ASCII")?;
    let (user, digest) = line.rsplit_once(':').ok_or("no colon")?;
    if user.is_empty() || user.len() > MAX_USER_LEN || !user.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a user that is not 1 to 256 visible ASCII characters");
    }
    hex(digest.as_bytes()).map(|digest| (user, digest)).ok_or("no SHA-256 after the colon")
}

fn hex(digits: &[u8]) -> Option<[u8; 32]> {
    let (pairs, rest) = digits.as_chunks::<2>();
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = u8::try_from(high? * 16 + low?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_line_by_line() {
        let digest = "0123456789abcdefABCDEF0123456789abcdef0123456789abcdef0123456789";
        let text = format!("# who\r\n\n ann:{digest}\r\nteam:bob@example.com:{digest}");
        let read: Vec<_> = ApiKeys::lines(text.as_bytes()).collect();
        let mut expected = [0; 32];
        for (index, byte) in expected.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digest[2 * index..2 * index + 2], 16).unwrap();
        }
        assert_eq!(read, [(3, Ok(("ann", expected))), (4, Ok(("team:bob@example.com", expected)))]);
    }

    #[test]
    fn a_wrong_line_is_told_by_its_number() {
        let digest = "00".repeat(32);
        for (line, why) in [
            ("ann".to_owned(), "no colon"),
            (format!(":{digest}"), "a user"),
            (format!("a b:{digest}"), "a user"),
            (format!("{}:{digest}", "a".repeat(257)), "a user"),
            (format!("\u{e4}:{digest}"), "a user"),
            ("ann:".into(), "no SHA-256"),
            (format!("ann:{digest}0"), "no SHA-256"),
            (format!("ann:{}", &digest[1..]), "no SHA-256"),
            (format!("ann:{}g", &digest[1..]), "no SHA-256"),
        ] {
            let text = format!("\n{line}\n");
            let read: Vec<_> = ApiKeys::lines(text.as_bytes()).collect();
            let [(2, Err(told))] = read.as_slice() else { panic!("{line}: {read:?}") };
            assert!(told.starts_with(why), "{line}: {told}");
        }
    }
}

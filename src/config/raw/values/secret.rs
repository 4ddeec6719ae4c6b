//! Secrets as scalars.

#[cfg(test)]
use schemars::Schema;

use crate::config::Secret;
use crate::config::raw::values::scalar::Readable;
#[cfg(test)]
use crate::config::raw::values::schema;

impl Readable for Secret {
    const SECRET: bool = true;

    fn accepted() -> String {
        "visible ASCII characters without spaces, as they go into a header; null is none".into()
    }

    fn read(text: &str) -> Option<Self> {
        let fit = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        (fit && !is_a_slip(text)).then(|| Self::new(text.to_owned()))
    }

    fn write(&self) -> String {
        "***".into()
    }

    #[cfg(test)]
    fn schema() -> Schema {
        let mut secret = schema::text();
        secret.insert("pattern".into(), "^[!-~]+$".into());
        secret
    }
}

/// Whether it is what somebody writes who means no token, or forgets to fill one in: anybody could guess it. Files of
/// variables keep quotes (`TOKEN=""`), and templates that nobody filled in their names.
fn is_a_slip(text: &str) -> bool {
    let bare = text.trim_matches(['"', '\'']);
    let is_name = |open: &str, close: &str| bare.starts_with(open) && bare.ends_with(close);
    bare.is_empty()
        || ["null", "off", "false", "none", "~"].iter().any(|word| bare.eq_ignore_ascii_case(word))
        || is_name("${", "}")
        || is_name("{{", "}}")
}

//! Secrets as scalars.

#[cfg(test)]
use schemars::Schema;

use crate::config::Secret;
use crate::config::raw::values::scalar::ScalarValue;
#[cfg(test)]
use crate::config::raw::values::schema;

impl ScalarValue for Secret {
    const SECRET: bool = true;

    fn accepted() -> String {
        "visible ASCII characters without spaces, as they go into a header; null is none".into()
    }

    fn read(text: &str) -> Option<Self> {
        let fit = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        (fit && !is_placeholder(text)).then(|| Self::new(text.to_owned()))
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

/// Whether `text` stands for no token, or for one that was not filled in, and so could be guessed. Files of variables
/// keep quotes (`TOKEN=""`), and templates that were not filled in keep the names of their variables.
fn is_placeholder(text: &str) -> bool {
    let bare = text.trim_matches(['"', '\'']);
    let is_name = |open: &str, close: &str| bare.starts_with(open) && bare.ends_with(close);
    bare.is_empty()
        || ["null", "off", "false", "none", "~"].iter().any(|word| bare.eq_ignore_ascii_case(word))
        || is_name("${", "}")
        || is_name("{{", "}}")
}

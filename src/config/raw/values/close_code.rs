//! Close codes as scalars.

use std::ops::RangeInclusive;

#[cfg(test)]
use schemars::Schema;

use crate::config::raw::values::scalar::{ScalarValue, digits};
#[cfg(test)]
use crate::config::raw::values::schema;

/// A close code an endpoint may send (RFC 6455 §7.4): 1004, 1005, 1006 and 1015 never go over the
/// wire, 1016 to 2999 are not assigned, and 4999 is the last one there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CloseCode(pub(crate) u16);

impl ScalarValue for CloseCode {
    fn accepted() -> String {
        "a close code: 1000 to 1014 without 1004, 1005 and 1006, or 3000 to 4999".into()
    }

    fn read(text: &str) -> Option<Self> {
        let code = digits(text)?.parse().ok()?;
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(Self(code))
    }

    fn write(&self) -> String {
        self.0.to_string()
    }

    #[cfg(test)]
    fn schema() -> Schema {
        let mut code = schema::whole(1000..=4999, "^0*(100[0-37-9]|101[0-4]|[34][0-9]{3})$");
        code.insert("not".into(), serde_json::json!({ "enum": [1004, 1005, 1006] }));
        code
    }
}

/// Codes of a server's Close: one, or all from one to another. 1005 stands for a Close without a code (RFC 6455
/// §7.1.5); a server that says a code which nobody may say is held against it as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CloseCodes(pub(crate) RangeInclusive<u16>);

impl ScalarValue for CloseCodes {
    fn accepted() -> String {
        "a close code from 1000 to 4999, or a range of them, such as 1008 or 3000-4999; 1005 is a Close without one"
            .into()
    }

    #[cfg(test)]
    fn schema() -> Schema {
        schema::whole(1000..=4999, "^[0-9]+( *- *[0-9]+)?$")
    }

    fn read(text: &str) -> Option<Self> {
        let code = |text: &str| -> Option<u16> {
            let code = digits(text)?.parse().ok()?;
            (1000..=4999).contains(&code).then_some(code)
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (code(first.trim_end())?, code(last.trim_start())?),
            None => (code(text)?, code(text)?),
        };
        (first <= last).then_some(Self(first..=last))
    }

    fn write(&self) -> String {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    }
}

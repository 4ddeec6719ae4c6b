//! Fields of an object, and how errors name them.

use super::refusal::FieldError;
use crate::yaml::{Map, Value};

/// The map under these keys, made where there is none.
pub(super) fn map_at<'a>(
    object: &'a mut Value,
    path: &[&str],
    prefix: &str,
) -> Result<&'a mut Map, FieldError> {
    let mismatch = |found: String| FieldError::mismatch(prefix, found, "a map");
    let mut map = match object {
        Value::Map(map) => map,
        other => return Err(mismatch(other.describe())),
    };
    for key in path {
        map = map.map_mut(key).map_err(mismatch)?;
    }
    Ok(map)
}

/// A field of the pod template.
pub(super) fn field(prefix: &str, rest: &str) -> String {
    if prefix.is_empty() { rest.to_owned() } else { format!("{prefix}.{rest}") }
}

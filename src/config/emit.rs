//! Settings as YAML again, in the order of the structs.

use std::rc::Rc;

use serde::Serialize;

use crate::yaml::{
    Composed, Dialect, Documents, KeyLimit, Layout, Map, Scalar, Style, Tags, Value, compose, is_null,
    write_as,
};

/// Bounds nothing: what is read is our own text.
const OWN_TEXT: Dialect = Dialect {
    max_bytes: usize::MAX,
    max_depth: usize::MAX,
    max_nodes: usize::MAX,
    max_repeated_bytes: usize::MAX,
    max_errors: 1,
    key_limit: KeyLimit::Bytes(usize::MAX),
    documents: Documents::One,
    tags: Tags::None,
};

/// `value` as a YAML document, without what may be a secret in it.
pub(crate) fn to_yaml<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    // JSON is YAML too, and serde writes it in the order of the structs.
    let json = serde_json::to_string(value)?;
    let Composed { mut documents, errors, is_complete: _ } = compose(&json, &OWN_TEXT);
    if let Some(error) = errors.first() {
        return Err(serde::ser::Error::custom(&error.kind));
    }
    let root = documents.pop().map(|document| Value::from(Rc::unwrap_or_clone(document.root)));
    let mut root = root.map_or_else(|| Value::Map(Map::default()), restyled);
    hide_queries(&mut root);
    Ok(write_as(Layout::SETTINGS, [&root]))
}

/// Hides the queries of URLs that are asked for a decision or for keys, wherever a policy stands: a token may be in them.
fn hide_queries(value: &mut Value) {
    match value {
        Value::Scalar(_) => {}
        Value::List(list) => list.iter_mut().for_each(hide_queries),
        Value::Map(map) => {
            if let Some(Value::Map(auth)) = map.get_mut("auth") {
                for (section, key) in [("forward", "url"), ("jwt", "jwks_url")] {
                    let Some(Value::Map(section)) = auth.get_mut(section) else { continue };
                    let Some(Value::Scalar(url)) = section.get_mut(key) else { continue };
                    if let Some(at) = url.text.find(['?', '#']) {
                        url.text.replace_range(at + 1.., "***");
                        url.style = Style::Double;
                    }
                }
            }
            map.0.iter_mut().for_each(|(_, value)| hide_queries(value));
        }
    }
}

/// Without quotes where none are needed.
fn restyled(value: Value) -> Value {
    match value {
        Value::Scalar(scalar) => Value::Scalar(restyled_scalar(scalar)),
        Value::List(list) => Value::List(list.into_iter().map(restyled).collect()),
        Value::Map(Map(entries)) => {
            let entries = entries.into_iter().map(|(key, value)| (restyled_scalar(key), restyled(value)));
            Value::Map(Map(entries.collect()))
        }
    }
}

fn restyled_scalar(Scalar { text, style }: Scalar) -> Scalar {
    // What JSON writes without quotes is null, a number or a boolean.
    let style = if style == Style::Plain || is_plain(&text) { Style::Plain } else { Style::Double };
    Scalar { text, style }
}

/// Whether `text` needs no quotes in block style, for us and for any other reader of YAML.
fn is_plain(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:*{}+=,%@-".contains(&byte);
    let first = |byte: u8| byte.is_ascii_alphanumeric() || b"_./".contains(&byte);
    !is_null(text)
        && text.bytes().next().is_some_and(first)
        && text.bytes().all(inner)
        && !text.ends_with(':')
        && !(text.len() > 1 && text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()))
}

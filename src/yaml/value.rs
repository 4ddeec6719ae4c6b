//! YAML values as they were written: maps in their order, scalars with their text and their quotes.
//!
//! # Invariants
//! 1. A scalar is never turned into a number or a boolean and back. What was plain is written plain, with the same
//!    characters, and what was quoted is written quoted: so it means the same to every reader, whatever that reader
//!    takes `yes`, `012` or `1e3` for.
//! 2. The keys of a map differ.

/// Any value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A word.
    Scalar(Scalar),
    /// A list.
    List(Vec<Value>),
    /// A map, in the order of the text.
    Map(Map),
}

/// A word, and whether it was quoted.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) style: Style,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Without quotes: a number, a boolean, null, or a word that is none of these.
    Plain,
    /// `'…'`
    Single,
    /// `"…"`
    Double,
    /// `|`
    Block,
}

/// Keys and values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Map(pub(crate) Vec<(Scalar, Value)>);

/// The same to every reader: the kind of quotes makes no difference.
impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        let is_plain = |scalar: &Self| scalar.style == Style::Plain;
        self.text == other.text && is_plain(self) == is_plain(other)
    }
}

impl Eq for Scalar {}

impl Scalar {
    /// A string, in quotes where a reader could take it for something else.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        let style = match text.contains('\n') {
            true => Style::Block,
            false if is_clearly_text(&text) => Style::Plain,
            false => Style::Double,
        };
        Self { text, style }
    }

    /// Without quotes, whatever it is.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), style: Style::Plain }
    }

    fn is_null(&self) -> bool {
        self.style == Style::Plain && is_null(&self.text)
    }
}

impl Value {
    /// A string.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Scalar(Scalar::text(text))
    }

    /// A number.
    pub(crate) fn number(number: u64) -> Self {
        Self::Scalar(Scalar::plain(number.to_string()))
    }

    /// A boolean.
    pub(crate) fn boolean(value: bool) -> Self {
        Self::Scalar(Scalar::plain(value.to_string()))
    }

    /// A list of strings.
    pub(crate) fn texts<const N: usize>(texts: [&str; N]) -> Self {
        Self::List(texts.map(Self::text).into())
    }

    /// A map of these.
    pub(crate) fn map<const N: usize>(entries: [(&str, Value); N]) -> Self {
        Self::Map(Map(entries.map(|(key, value)| (Scalar::text(key), value)).into()))
    }

    /// Nothing is said.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Scalar(scalar) if scalar.is_null())
    }

    /// What is under these keys, if there is something.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Value> {
        let found = path.iter().try_fold(self, |value, key| value.as_map()?.get(key))?;
        (!found.is_null()).then_some(found)
    }

    /// The text of the scalar under these keys.
    pub(crate) fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.as_text()
    }

    /// The list under these keys; none where there is no list.
    pub(crate) fn list_at(&self, path: &[&str]) -> &[Value] {
        match self.at(path) {
            Some(Self::List(list)) => list,
            _ => &[],
        }
    }

    /// A number that is a port.
    pub(crate) fn port_at(&self, path: &[&str]) -> Option<u16> {
        self.text_at(path)?.parse().ok()
    }

    /// Whether it is `true` there.
    pub(crate) fn is_true_at(&self, path: &[&str]) -> bool {
        self.text_at(path).is_some_and(|text| matches!(text, "true" | "True" | "TRUE"))
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Scalar(scalar) if !scalar.is_null() => Some(&scalar.text),
            Self::Scalar(_) | Self::List(_) | Self::Map(_) => None,
        }
    }

    pub(crate) fn as_map(&self) -> Option<&Map> {
        match self {
            Self::Map(map) => Some(map),
            Self::Scalar(_) | Self::List(_) => None,
        }
    }

    /// What it is, for an error.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Scalar(scalar) if scalar.is_null() => "nothing".into(),
            Self::Scalar(scalar) => {
                let mut shown: String = scalar.text.chars().take(60).collect();
                if shown.len() < scalar.text.len() {
                    shown.push('…');
                }
                format!("{shown:?}")
            }
            Self::List(_) => "a list".into(),
            Self::Map(_) => "a map".into(),
        }
    }
}

impl Map {
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name.text == key).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.0.iter_mut().find(|(name, _)| name.text == key).map(|(_, value)| value)
    }

    /// In place of what is there, else behind everything.
    pub(crate) fn set(&mut self, key: &str, value: Value) {
        match self.get_mut(key) {
            Some(place) => *place = value,
            None => self.0.push((Scalar::text(key), value)),
        }
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Value> {
        let index = self.0.iter().position(|(name, _)| name.text == key)?;
        Some(self.0.remove(index).1)
    }

    /// The map under `key`, made where there is nothing. Hands back what is there in its place.
    pub(crate) fn map_mut(&mut self, key: &str) -> Result<&mut Map, String> {
        if self.get(key).is_none_or(Value::is_null) {
            self.set(key, Value::Map(Map::default()));
        }
        match self.get_mut(key) {
            Some(Value::Map(map)) => Ok(map),
            other => Err(other.map_or_else(String::new, |value| value.describe())),
        }
    }

    /// The list under `key`, made where there is nothing. Hands back what is there in its place.
    pub(crate) fn list_mut(&mut self, key: &str) -> Result<&mut Vec<Value>, String> {
        if self.get(key).is_none_or(Value::is_null) {
            self.set(key, Value::List(Vec::new()));
        }
        match self.get_mut(key) {
            Some(Value::List(list)) => Ok(list),
            other => Err(other.map_or_else(String::new, |value| value.describe())),
        }
    }
}

/// Whether no reader, old or new, takes it for anything but a string.
fn is_clearly_text(text: &str) -> bool {
    // What YAML 1.1 has besides numbers; kubectl follows it.
    const WORDS: [&str; 11] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'/')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_./:@-".contains(&byte))
        && !text.ends_with(':')
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Whether a plain scalar of this text is null.
pub(crate) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

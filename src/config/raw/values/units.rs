//! Durations, sizes, rates and shares.
//!
//! Sizes are binary only (`KiB`, `MiB`, `GiB`): `KB` means 1000 to one reader and 1024 to another.

use std::time::Duration;

#[cfg(test)]
use schemars::{Schema, json_schema};

use crate::config::raw::values::scalar::{ScalarValue, digits};
#[cfg(test)]
use crate::config::raw::values::schema;

/// Smaller than this, hyper has no buffer to read a head into; a larger head is an attack.
pub(crate) const HEADER_BYTES: std::ops::RangeInclusive<u64> = 8 * 1024..=1024 * 1024;

/// `250ms`, `30s`, `10m`, `1h`, or `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// A [`Span`] where zero and `null` mean off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanOrOff(pub(crate) Option<Duration>);

/// `64KiB`, `1MiB`, or a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

/// [`Bytes`] where zero and `null` mean no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BytesOrOff(pub(crate) Option<u64>);

/// A number where zero and `null` mean no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CountOrOff(pub(crate) Option<u32>);

/// `100/s`, `600/m`, `10/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PerTime {
    pub(crate) count: u32,
    pub(crate) unit: Unit,
}

/// A share: above 0, at most 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio(pub(crate) f64);

/// A factor of growth, at least 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Factor(pub(crate) f64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Second,
    Minute,
    Hour,
}

impl Span {
    pub(crate) const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

impl PerTime {
    pub(crate) fn per_second(self) -> f64 {
        let seconds = match self.unit {
            Unit::Second => 1.0,
            Unit::Minute => 60.0,
            Unit::Hour => 3600.0,
        };
        f64::from(self.count) / seconds
    }
}

/// Milliseconds in each unit, the largest first.
const SPANS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Adding a year to any instant is safe; more is a mistake.
const MAX_SPAN: Duration = Duration::from_secs(366 * 24 * 3600);

/// Bytes in each unit, the largest first; no unit is bytes.
const SIZES: [(&str, u64); 5] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1), ("B", 1)];

/// Larger than any buffer or message; the sum of two does not overflow.
pub(crate) const MAX_SIZE: u64 = 1 << 40;

impl ScalarValue for Span {
    fn accepted() -> String {
        "a duration: a whole number and ms, s, m or h, such as 250ms or 30s (at most 366 days)".into()
    }

    fn read(text: &str) -> Option<Self> {
        let (number, unit) = split(text)?;
        let millis = match (number, unit) {
            (0, "") => 0,
            (number, unit) => number.checked_mul(scale(&SPANS, unit)?)?,
        };
        let span = Duration::from_millis(millis);
        (span <= MAX_SPAN).then_some(Self(span))
    }

    fn write(&self) -> String {
        match u64::try_from(self.0.as_millis()) {
            Ok(0) => "0s".into(),
            Ok(millis) => shortest(&SPANS, millis),
            // Longer than `MAX_SPAN`, which no value is.
            Err(_) => format!("{}s", self.0.as_secs()),
        }
    }

    #[cfg(test)]
    fn schema() -> Schema {
        schema::any_of(&[schema::pattern("^(0+|[0-9]+(ms|s|m|h))$"), json_schema!({ "const": 0 })])
    }
}

impl ScalarValue for SpanOrOff {
    fn accepted() -> String {
        format!("{}; 0s or null for off", Span::accepted())
    }

    fn read(text: &str) -> Option<Self> {
        Span::read(text).map(|span| Self((!span.0.is_zero()).then_some(span.0)))
    }

    fn write(&self) -> String {
        Span(self.0.unwrap_or_default()).write()
    }

    fn null() -> Option<Self> {
        Some(Self(None))
    }

    #[cfg(test)]
    fn schema() -> Schema {
        Span::schema()
    }
}

impl ScalarValue for Bytes {
    fn accepted() -> String {
        "a size: a whole number of bytes, or one with KiB, MiB or GiB, such as 64KiB (at most 1024GiB)".into()
    }

    fn read(text: &str) -> Option<Self> {
        let (number, unit) = split(text)?;
        let bytes = number.checked_mul(scale(&SIZES, unit)?)?;
        (bytes <= MAX_SIZE).then_some(Self(bytes))
    }

    fn write(&self) -> String {
        shortest(&SIZES, self.0)
    }

    #[cfg(test)]
    fn schema() -> Schema {
        schema::whole(0..=MAX_SIZE, "^[0-9]+(B|KiB|MiB|GiB)?$")
    }
}

impl ScalarValue for BytesOrOff {
    fn accepted() -> String {
        format!("{}; 0 or null for no limit", Bytes::accepted())
    }

    fn read(text: &str) -> Option<Self> {
        Bytes::read(text).map(|bytes| Self((bytes.0 != 0).then_some(bytes.0)))
    }

    fn write(&self) -> String {
        Bytes(self.0.unwrap_or(0)).write()
    }

    fn null() -> Option<Self> {
        Some(Self(None))
    }

    #[cfg(test)]
    fn schema() -> Schema {
        Bytes::schema()
    }
}

impl ScalarValue for CountOrOff {
    fn accepted() -> String {
        format!("{}; 0 or null for no limit", u32::accepted())
    }

    fn read(text: &str) -> Option<Self> {
        u32::read(text).map(|count| Self((count != 0).then_some(count)))
    }

    fn write(&self) -> String {
        self.0.unwrap_or(0).to_string()
    }

    fn null() -> Option<Self> {
        Some(Self(None))
    }

    #[cfg(test)]
    fn schema() -> Schema {
        u32::schema()
    }
}

impl ScalarValue for PerTime {
    fn accepted() -> String {
        "a rate above 0: a whole number and /s, /m or /h, such as 100/s".into()
    }

    fn read(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let count = u32::read(count).filter(|count| *count > 0)?;
        let unit = match unit {
            "s" => Unit::Second,
            "m" => Unit::Minute,
            "h" => Unit::Hour,
            _ => return None,
        };
        Some(Self { count, unit })
    }

    fn write(&self) -> String {
        let unit = match self.unit {
            Unit::Second => "s",
            Unit::Minute => "m",
            Unit::Hour => "h",
        };
        format!("{}/{unit}", self.count)
    }

    #[cfg(test)]
    fn schema() -> Schema {
        schema::pattern("^0*[1-9][0-9]*/[smh]$")
    }
}

impl ScalarValue for Ratio {
    fn accepted() -> String {
        "a share above 0 and at most 1, such as 0.5".into()
    }

    fn read(text: &str) -> Option<Self> {
        decimal(text).filter(|share| *share > 0.0 && *share <= 1.0).map(Self)
    }

    fn write(&self) -> String {
        write_decimal(self.0)
    }

    #[cfg(test)]
    fn schema() -> Schema {
        json_schema!({
            "type": ["number", "string"],
            "exclusiveMinimum": 0,
            "maximum": 1,
            "pattern": r"^(0*1(\.0+)?|0+\.0*[1-9][0-9]*)$",
        })
    }
}

impl ScalarValue for Factor {
    fn accepted() -> String {
        "a number from 1 to 100, such as 2.0".into()
    }

    fn read(text: &str) -> Option<Self> {
        decimal(text).filter(|factor| (1.0..=100.0).contains(factor)).map(Self)
    }

    fn write(&self) -> String {
        write_decimal(self.0)
    }

    #[cfg(test)]
    fn schema() -> Schema {
        json_schema!({
            "type": ["number", "string"],
            "minimum": 1,
            "maximum": 100,
            "pattern": r"^[0-9]+(\.[0-9]+)?$",
        })
    }
}

/// Digits, and perhaps a point and more digits: `parse` would accept `1e3` and `inf` too.
fn decimal(text: &str) -> Option<f64> {
    let (whole, rest) = text.split_once('.').map_or((text, None), |(whole, rest)| (whole, Some(rest)));
    digits(whole)?;
    rest.map_or(Some(""), digits)?;
    text.parse().ok()
}

/// Writes a number without an exponent.
fn write_decimal(number: f64) -> String {
    if number.fract() == 0.0 { format!("{number:.1}") } else { number.to_string() }
}

/// The number at the start of a text, and the rest.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((digits(number)?.parse().ok()?, unit))
}

fn scale(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale)
}

/// Writes `amount` in the largest unit that divides it.
fn shortest(units: &[(&str, u64)], amount: u64) -> String {
    let fit = units.iter().find(|(_, scale)| amount != 0 && amount.is_multiple_of(*scale));
    fit.map_or_else(|| amount.to_string(), |(unit, scale)| format!("{}{unit}", amount / scale))
}

#[cfg(test)]
mod tests;

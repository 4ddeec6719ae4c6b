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
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_unit_and_written_in_the_largest_that_fits() {
        for (text, millis, written) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("250ms", 250, "250ms"),
            ("1500ms", 1500, "1500ms"),
            ("30s", 30_000, "30s"),
            ("90s", 90_000, "90s"),
            ("120s", 120_000, "2m"),
            ("24h", 86_400_000, "24h"),
            ("8784h", 366 * 86_400_000, "8784h"),
        ] {
            let span = Span::read(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(
                (span, span.write().as_str()),
                (Span(Duration::from_millis(millis)), written),
                "{text}"
            );
            assert_eq!(Span::read(written), Some(span), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "+1s",
            "1.5s",
            "1 s",
            " 1s",
            "1s ",
            "1S",
            "1d",
            "1m30s",
            "٣s",
            "8785h",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(Span::read(text), None, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_read_and_written_back() {
        for (text, bytes, written) in [
            ("0", 0, "0"),
            ("1", 1, "1"),
            ("1000", 1000, "1000"),
            ("12B", 12, "12"),
            ("2048B", 2048, "2KiB"),
            ("1024", 1024, "1KiB"),
            ("64KiB", 65_536, "64KiB"),
            ("1536KiB", 1_572_864, "1536KiB"),
            ("1MiB", 1 << 20, "1MiB"),
            ("1024GiB", 1 << 40, "1024GiB"),
        ] {
            let size = Bytes::read(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((size, size.write().as_str()), (Bytes(bytes), written), "{text}");
            assert_eq!(Bytes::read(written), Some(size), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "KiB", "1KB", "1kib", "1M", "-1", "1.5MiB", "1 KiB", "1025GiB", "99999999999GiB"] {
            assert_eq!(Bytes::read(text), None, "{text:?}");
        }
    }

    #[test]
    fn rates_are_read_per_second_minute_and_hour() {
        for (text, per_second) in [("100/s", 100.0), ("600/m", 10.0), ("3600/h", 1.0), ("1/h", 1.0 / 3600.0)]
        {
            let rate = PerTime::read(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((rate.per_second(), rate.write().as_str()), (per_second, text));
        }
        for text in ["", "10", "0/s", "/s", "10/", "10/d", "-1/s", "1.5/s", "10 / s", "4294967296/s"] {
            assert_eq!(PerTime::read(text), None, "{text:?}");
        }
    }

    #[test]
    fn shares_and_factors_are_read_in_their_range_and_written_back() {
        for (text, share, written) in
            [("1", 1.0, "1.0"), ("0.5", 0.5, "0.5"), ("0.50", 0.5, "0.5"), ("0.00001", 0.00001, "0.00001")]
        {
            let ratio = Ratio::read(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((ratio.0, ratio.write().as_str()), (share, written));
            assert_eq!(Ratio::read(written), Some(ratio));
        }
        for text in ["", "0", "0.0", "1.01", "-0.5", "+0.5", ".5", "1.", "5e-1", "NaN", "inf", "50%", "0.5.5"]
        {
            assert_eq!(Ratio::read(text), None, "{text}");
        }
        assert_eq!((Factor::read("1"), Factor::read("2.5")), (Some(Factor(1.0)), Some(Factor(2.5))));
        assert_eq!((Factor::read("100.0"), Factor(2.0).write()), (Some(Factor(100.0)), "2.0".into()));
        for text in ["0", "0.99", "100.1", "1e2", "inf", "x"] {
            assert_eq!(Factor::read(text), None, "{text}");
        }
    }

    #[test]
    fn zero_and_null_are_off_where_a_setting_says_so() {
        assert_eq!(
            (SpanOrOff::read("0s"), SpanOrOff::null()),
            (Some(SpanOrOff(None)), Some(SpanOrOff(None)))
        );
        assert_eq!(
            (BytesOrOff::read("0"), BytesOrOff::null()),
            (Some(BytesOrOff(None)), Some(BytesOrOff(None)))
        );
        assert_eq!(
            (CountOrOff::read("0"), CountOrOff::null()),
            (Some(CountOrOff(None)), Some(CountOrOff(None)))
        );
        assert_eq!((Span::null(), Bytes::null()), (None, None));
    }
}

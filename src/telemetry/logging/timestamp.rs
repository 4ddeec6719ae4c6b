//! The time of a log line: `2026-01-01T00:00:00.000000Z` (RFC 3339, UTC).
//!
//! # Why not the formatter of `tracing_subscriber`?
//! It goes through `std::fmt` for each part. The text is the same; times that have no four-digit year after 1969 are left to it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime as AnyTime};

/// The clock of log lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let text = SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(timestamp);
        match text.as_ref().and_then(|text| std::str::from_utf8(text).ok()) {
            Some(text) => writer.write_str(text),
            None => AnyTime.format_time(writer),
        }
    }
}

/// The text of a time after 1970 began; `None` if its year has more than four digits.
fn timestamp(since_epoch: Duration) -> Option<[u8; 27]> {
    const SECONDS_PER_DAY: u64 = 24 * 60 * 60;
    let seconds = since_epoch.as_secs();
    let (year, month, day) = date(seconds / SECONDS_PER_DAY);
    if year > 9999 {
        return None;
    }
    let second = seconds % SECONDS_PER_DAY;
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    put(&mut text[0..4], year);
    put(&mut text[5..7], month);
    put(&mut text[8..10], day);
    put(&mut text[11..13], second / 3600);
    put(&mut text[14..16], second / 60 % 60);
    put(&mut text[17..19], second % 60);
    put(&mut text[20..26], since_epoch.subsec_micros().into());
    Some(text)
}

/// Puts the digits of `number`, padded with zeros.
fn put(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of the Gregorian calendar, so many days after 1 January 1970. Years are counted from March, so
/// that the day which only some of them have is the last one.
fn date(days_since_1970: u64) -> (u64, u64, u64) {
    /// From 1 March of the year 0.
    const DAYS_TO_1970: u64 = 719_468;
    const FOUR_CENTURIES: u64 = 146_097;
    const CENTURY: u64 = 36_524;
    const FOUR_YEARS: u64 = 1461;
    let days = days_since_1970 + DAYS_TO_1970;
    let (eras, day) = (days / FOUR_CENTURIES, days % FOUR_CENTURIES);
    // The last century of four, and the last year of four, have a day more: it belongs to them, not to a fifth.
    let century = (day / CENTURY).min(3);
    let day = day - century * CENTURY;
    let (fours, day) = (day / FOUR_YEARS, day % FOUR_YEARS);
    let year = (day / 365).min(3);
    let day = day - year * 365;
    // Five months, from March or August, have 153 days: 31, 30, 31, 30, 31.
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let year = eras * 400 + century * 100 + fours * 4 + year;
    if month < 10 { (year, month + 3, day_of_month) } else { (year + 1, month - 9, day_of_month) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seconds: u64, micros: u32) -> Option<String> {
        timestamp(Duration::new(seconds, micros * 1000)).map(|text| String::from_utf8(text.to_vec()).unwrap())
    }

    #[test]
    fn a_time_is_written_as_rfc_3339_has_it() {
        for (seconds, micros, expected) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, 999_999, "2000-02-28T23:59:59.999999Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000001Z"),
            (1_767_225_600, 120_000, "2026-01-01T00:00:00.120000Z"),
            (253_402_300_799, 999_999, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(text(seconds, micros).as_deref(), Some(expected));
        }
        assert_eq!(text(253_402_300_800, 0), None, "the year 10000");
        assert_eq!(text(u64::MAX, 0), None);
    }

    #[test]
    fn each_day_of_eight_centuries_follows_the_one_before() {
        let is_leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..800 * 366 {
            assert_eq!(date(days), (year, month, day), "{days}");
            let length = match month {
                2 => 28 + u64::from(is_leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (month, day) = if day == length { (month + 1, 1) } else { (month, day + 1) };
            if month == 13 {
                (year, month) = (year + 1, 1);
            }
        }
    }

    #[test]
    fn the_clock_tells_what_that_of_tracing_tells() {
        let of = |clock: &dyn FormatTime| {
            let mut text = String::new();
            clock.format_time(&mut Writer::new(&mut text)).unwrap();
            text
        };
        for _ in 0..1000 {
            let (before, ours, after) = (of(&AnyTime), of(&Clock), of(&AnyTime));
            assert!(before <= ours && ours <= after && ours.len() == before.len(), "{before} {ours} {after}");
        }
    }
}

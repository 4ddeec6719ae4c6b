//! The date of a cookie, read as leniently as browsers do (RFC 6265 §5.1.1): servers write it in many ways. Pure.

/// Seconds since 1970; `None`: it is no date.
pub(super) fn parse(text: &[u8]) -> Option<i64> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(|byte| is_delimiter(*byte)).filter(|token| !token.is_empty()) {
        // The first token that can be one of them is it.
        if let (None, Some(found)) = (time, time_of(token)) {
            time = Some(found);
        } else if let (None, Some((found, _))) = (day, digits(token, 1, 2)) {
            day = Some(found);
        } else if let (None, Some(found)) = (month, month_of(token)) {
            month = Some(found);
        } else if let (None, Some((found, _))) = (year, digits(token, 2, 4)) {
            year = Some(found);
        }
    }
    let year = match year? {
        year @ 70..=99 => year + 1900,
        year @ 0..=69 => year + 2000,
        year => year,
    };
    let (day, month, time) = (day?, month?, time?);
    ((1..=31).contains(&day) && year >= 1601).then(|| days(year, month, day) * 86_400 + time)
}

fn is_delimiter(byte: u8) -> bool {
    matches!(byte, 0x09 | 0x20..=0x2f | 0x3b..=0x40 | 0x5b..=0x60 | 0x7b..=0x7e)
}

/// The number at the front of `token`, and what follows it: `least` to `most` digits, and then no further one.
fn digits(token: &[u8], least: usize, most: usize) -> Option<(i64, &[u8])> {
    let len = token.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number =
        token[..len].iter().fold(0_i64, |number, digit| number.wrapping_mul(10) + i64::from(digit - b'0'));
    (least..=most).contains(&len).then_some((number, &token[len..]))
}

/// The seconds of a day, of `hh:mm:ss`.
fn time_of(token: &[u8]) -> Option<i64> {
    let (hour, rest) = digits(token, 1, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(b":")?, 1, 2)?;
    let (second, _) = digits(rest.strip_prefix(b":")?, 1, 2)?;
    (hour < 24 && minute < 60 && second < 60).then_some((hour * 60 + minute) * 60 + second)
}

/// 1 to 12.
fn month_of(token: &[u8]) -> Option<i64> {
    const NAMES: &[u8; 36] = b"janfebmaraprmayjunjulaugsepoctnovdec";
    let name = token.get(..3)?;
    (1..).zip(NAMES.chunks(3)).find(|(_, month)| month.eq_ignore_ascii_case(name)).map(|(number, _)| number)
}

/// Days from 1970 to a day of the Gregorian calendar. A day that its month does not have is one of the next month.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin with March here: the day of a leap year is then the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    // 719,468 days from the March of the year 0 to 1970.
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn dates_are_read_as_servers_write_them() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 01-Jan-1970 00:00:01 GMT", Some(1)),
            ("Thu, 01-Jan-70 00:00:00 GMT", Some(0)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Wed, 09 Jun 2021 10:18:14 GMT", Some(1_623_233_894)),
            ("Tue, 29 Feb 2000 12:00:00 GMT", Some(951_825_600)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", Some(-1)),
            ("1 january 69 0:0:0", Some(3_124_224_000)),
            ("12:30:45x 2 FEBruary 1999zz", Some(917_958_645)),
            // No date at all.
            ("", None),
            ("0", None),
            ("never", None),
            ("Thu, 01 Jan 1970", None),
            ("Thu, 01 1970 00:00:00 GMT", None),
            ("Jan 1970 00:00:00", None),
            ("01 Jan 00:00:00 GMT", None),
            ("00 Jan 1970 00:00:00", None),
            ("32 Jan 1970 00:00:00", None),
            ("01 Jan 1600 00:00:00", None),
            ("01 Jan 19700 00:00:00", None),
            ("01 Jan 1970 24:00:00", None),
            ("01 Jan 1970 00:60:00", None),
            ("01 Jan 1970 00:00:60", None),
            ("01 Jan 1970 00:00", None),
            ("01 Jan 99999999999999999999999 00:00:00", None),
            ("01 Jän 1970 00:00:00", None),
        ] {
            assert_eq!(parse(text.as_bytes()), seconds, "{text}");
        }
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let mut last = parse(b"31 Dec 1600 00:00:00").or(parse(b"1 Jan 1601 00:00:00")).unwrap() - 86_400;
        for year in 1601..2500 {
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let february = if is_leap { 29 } else { 28 };
            let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
            for (name, len) in names.into_iter().zip(months) {
                for day in 1..=len {
                    let date = parse(format!("{day} {name} {year} 00:00:00").as_bytes()).unwrap();
                    assert_eq!(date, last + 86_400, "{day} {name} {year}");
                    last = date;
                }
            }
        }
    }
}

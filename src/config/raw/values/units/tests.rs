//! How durations, sizes, rates and shares are read and written.

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
        assert_eq!((span, span.write().as_str()), (Span(Duration::from_millis(millis)), written), "{text}");
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
    for (text, per_second) in [("100/s", 100.0), ("600/m", 10.0), ("3600/h", 1.0), ("1/h", 1.0 / 3600.0)] {
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
    for text in ["", "0", "0.0", "1.01", "-0.5", "+0.5", ".5", "1.", "5e-1", "NaN", "inf", "50%", "0.5.5"] {
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
    assert_eq!((SpanOrOff::read("0s"), SpanOrOff::null()), (Some(SpanOrOff(None)), Some(SpanOrOff(None))));
    assert_eq!((BytesOrOff::read("0"), BytesOrOff::null()), (Some(BytesOrOff(None)), Some(BytesOrOff(None))));
    assert_eq!((CountOrOff::read("0"), CountOrOff::null()), (Some(CountOrOff(None)), Some(CountOrOff(None))));
    assert_eq!((Span::null(), Bytes::null()), (None, None));
}

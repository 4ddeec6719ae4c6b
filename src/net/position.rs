//! What a client says it has had of a log, in a request: `NUMBER` or `EPOCH.NUMBER`. Pure.
//!
//! # Not here
//! What a log makes of it ([`crate::broadcast`], [`crate::session`]).

use super::own_protocols::{read_epoch, read_number};

/// What a client has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// Everything up to this number of the log that is there.
    Number(u64),
    /// Everything up to this number of the log with this epoch.
    Of { epoch: u64, sequence: u64 },
    /// It says so in a way that cannot be read.
    Unknown,
}

impl Position {
    /// `None`: `text` is neither.
    pub(crate) fn read(text: &str) -> Option<Self> {
        match text.split_once('.') {
            None => read_number(text.as_bytes()).map(Self::Number),
            Some((epoch, number)) => {
                let (epoch, sequence) = (read_epoch(epoch.as_bytes())?, read_number(number.as_bytes())?);
                Some(Self::Of { epoch, sequence })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_of_the_log_that_is_there_unless_it_says_which() {
        for (text, expected) in [
            ("0", Some(Position::Number(0))),
            ("41", Some(Position::Number(41))),
            ("9007199254740991", Some(Position::Number((1 << 53) - 1))),
            ("00000000000000ff.7", Some(Position::Of { epoch: 255, sequence: 7 })),
            ("ffffffffffffffff.0", Some(Position::Of { epoch: u64::MAX, sequence: 0 })),
            ("", None),
            (".", None),
            ("-1", None),
            ("+1", None),
            ("01", None),
            ("1.5", None),
            ("1e3", None),
            ("9007199254740992", None),
            ("18446744073709551616", None),
            ("ff.7", None),
            ("00000000000000FF.7", None),
            ("00000000000000ff.", None),
            ("00000000000000ff.-7", None),
            ("00000000000000ff.7.7", None),
            ("\u{663}", None),
            (" 7", None),
        ] {
            assert_eq!(Position::read(text), expected, "{text:?}");
        }
    }
}

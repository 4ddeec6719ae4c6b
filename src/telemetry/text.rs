//! Pieces of log lines that each connection has some of, without the machinery of `std::fmt`.

/// A number as it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decimal {
    /// The digits stand at the end.
    digits: [u8; Self::MAX],
    from: usize,
}

impl Decimal {
    /// The digits of `u64::MAX`.
    const MAX: usize = 20;

    pub(super) fn of(mut number: u64) -> Self {
        let mut decimal = Self { digits: [b'0'; Self::MAX], from: Self::MAX };
        while number > 0 || decimal.from == Self::MAX {
            decimal.from -= 1;
            decimal.digits[decimal.from] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        decimal
    }

    pub(super) fn as_str(&self) -> &str {
        // Digits are text.
        std::str::from_utf8(&self.digits[self.from..]).unwrap_or_default()
    }
}

/// Whether this holds for each byte. It is asked of eight at once, which the compiler makes a few instructions of: a loop that
/// may stop at each byte takes six for each.
pub(super) fn all_bytes(bytes: &[u8], holds: impl Fn(u8) -> bool) -> bool {
    let (eights, rest) = bytes.as_chunks::<8>();
    eights.iter().all(|eight| eight.iter().fold(true, |all, byte| all & holds(*byte)))
        && rest.iter().all(|byte| holds(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_smallest_and_the_largest_number_have_their_digits() {
        for number in [0, 1, 9, 10, 99, 100, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            assert_eq!(Decimal::of(number).as_str(), number.to_string());
        }
    }

    #[test]
    fn one_byte_is_found_wherever_it_stands() {
        for length in 0..40 {
            assert!(all_bytes(&vec![b'a'; length], |byte| byte == b'a'), "{length}");
            for at in 0..length {
                let mut bytes = vec![b'a'; length];
                bytes[at] = b'b';
                assert!(!all_bytes(&bytes, |byte| byte == b'a'), "{at} of {length}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_number_has_the_digits_that_std_gives_it(number: u64, shift in 0..64_u32) {
            let number = number >> shift;
            let decimal = Decimal::of(number);
            prop_assert_eq!(decimal.as_str(), number.to_string());
        }
    }
}

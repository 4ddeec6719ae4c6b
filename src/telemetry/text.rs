//! Pieces of log lines that each connection has some of, without the machinery of `std::fmt`.

use std::net::Ipv4Addr;

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
/// may stop at each byte takes six for each. Of what is left, the last eight or four are asked once more.
pub(crate) fn all_bytes(bytes: &[u8], holds: impl Fn(u8) -> bool) -> bool {
    // Arrays, so that how many they are is known when this is compiled.
    fn every<const N: usize>(chunk: &[u8; N], holds: &impl Fn(u8) -> bool) -> bool {
        chunk.iter().fold(true, |all, byte| all & holds(*byte))
    }
    if let Some(last) = bytes.last_chunk::<8>() {
        let (eights, _) = bytes.as_chunks::<8>();
        return eights.iter().all(|eight| every(eight, &holds)) && every(last, &holds);
    }
    match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(first), Some(last)) => every(first, &holds) & every(last, &holds),
        _ => bytes.iter().all(|byte| holds(*byte)),
    }
}

/// An address of IPv4 as it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DottedQuad {
    text: [u8; Self::MAX],
    length: usize,
}

impl DottedQuad {
    /// `255.255.255.255`
    const MAX: usize = 15;

    pub(crate) fn of(ip: Ipv4Addr) -> Self {
        let mut quad = Self { text: [b'.'; Self::MAX], length: 0 };
        for (at, octet) in ip.octets().into_iter().enumerate() {
            quad.length += usize::from(at > 0);
            if octet >= 100 {
                quad.push(octet / 100);
            }
            if octet >= 10 {
                quad.push(octet / 10 % 10);
            }
            quad.push(octet % 10);
        }
        quad
    }

    fn push(&mut self, digit: u8) {
        if let Some(place) = self.text.get_mut(self.length) {
            *place = b'0' + digit;
            self.length += 1;
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        // Digits and dots are text.
        self.text.get(..self.length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }
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
        fn an_address_is_written_as_std_writes_it(bits: u32) {
            let ip = Ipv4Addr::from_bits(bits);
            let quad = DottedQuad::of(ip);
            prop_assert_eq!(quad.as_str(), ip.to_string());
        }

        #[test]
        fn a_number_has_the_digits_that_std_gives_it(number: u64, shift in 0..64_u32) {
            let number = number >> shift;
            let decimal = Decimal::of(number);
            prop_assert_eq!(decimal.as_str(), number.to_string());
        }
    }
}

//! Close codes (RFC 6455 §7.4) and the bounded set of names that metrics give them.

/// A close code as it stood on the wire, or `NONE` for a Close frame without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// A Close frame with an empty body (RFC 6455 §7.1.5 calls it 1005; it is never sent).
    pub const NONE: Self = Self(1005);
    /// The endpoint is going away.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// The payload of a message is not of its type.
    pub const INVALID_DATA: Self = Self(1007);
    /// A frame or message above its limit.
    pub const TOO_LARGE: Self = Self(1009);

    /// The code in the payload of a Close frame. A single byte is no code; whether it is an error is for
    /// the receiver to say.
    pub fn from_payload(payload: &[u8]) -> Self {
        match payload {
            [high, low, ..] => Self(u16::from_be_bytes([*high, *low])),
            _ => Self::NONE,
        }
    }

    /// What a Close with this code is answered with: the same, unless it may not stand in a Close frame
    /// (RFC 6455 §7.4).
    pub fn answer(self) -> Self {
        match self.0 {
            1000..=1003 | 1005 | 1007..=1014 | 3000..=4999 => self,
            _ => Self::PROTOCOL_ERROR,
        }
    }
}

/// The label value of a code: since clients choose codes, the set has to be bounded.
pub(crate) fn code_label(code: CloseCode) -> &'static str {
    match code.0 {
        1000 => "1000",
        1001 => "1001",
        1002 => "1002",
        1003 => "1003",
        1005 => "none",
        1007 => "1007",
        1008 => "1008",
        1009 => "1009",
        1010 => "1010",
        1011 => "1011",
        1012 => "1012",
        1013 => "1013",
        1014 => "1014",
        3000..=3999 => "3xxx",
        4000..=4999 => "4xxx",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_says_its_code() {
        let cases: [(&[u8], u16, &str); 6] = [
            (b"", 1005, "none"),
            (&[3], 1005, "none"),
            (&[3, 0xe8], 1000, "1000"),
            (&[3, 0xf4, b'x'], 1012, "1012"),
            (&[0x0f, 0xa1], 4001, "4xxx"),
            (&[0, 7], 7, "other"),
        ];
        for (payload, code, label) in cases {
            let found = CloseCode::from_payload(payload);
            assert_eq!((found.0, code_label(found)), (code, label), "{payload:?}");
        }
    }

    #[test]
    fn a_close_is_answered_with_its_code_unless_that_may_not_be_sent() {
        let cases = [(1000, 1000), (1005, 1005), (1006, 1002), (1015, 1002), (1004, 1002), (999, 1002)];
        for (sent, reply) in cases.into_iter().chain([(1014, 1014), (3000, 3000), (4999, 4999), (5000, 1002)])
        {
            assert_eq!(CloseCode(sent).answer().0, reply, "{sent}");
        }
    }
}

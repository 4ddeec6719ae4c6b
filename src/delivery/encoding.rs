//! How a client's messages stand on the wire. Pure.

use super::events::{DataForm, stream};
use crate::frame::Header;

/// How a client is sent messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As frames (RFC 6455).
    Frames,
    /// As frames, compressed where that is smaller (RFC 7692).
    DeflatedFrames,
    /// As events of an event stream.
    Events(DataForm),
}

impl Encoding {
    pub(super) fn of_frames(has_deflate: bool) -> Self {
        if has_deflate { Self::DeflatedFrames } else { Self::Frames }
    }

    pub(super) fn has_deflate(self) -> bool {
        self == Self::DeflatedFrames
    }

    /// The last place in `pieces` between two of them that is not behind `at`, and the first one that is not in front of it.
    /// `None` where there are no whole ones.
    pub(super) fn edges(self, pieces: &[u8], at: usize) -> Option<(usize, usize)> {
        let mut edge = 0;
        while edge < at {
            let end = edge + self.first_len(&pieces[edge..])?;
            if at < end {
                return Some((edge, end));
            }
            edge = end;
        }
        Some((edge, edge))
    }

    /// The length of the first piece: a frame, or an event with the empty line behind it, and all in front of it that is none.
    fn first_len(self, pieces: &[u8]) -> Option<usize> {
        match self {
            Self::Frames | Self::DeflatedFrames => {
                let header = Header::parse(pieces).ok()??;
                Some(header.size + header.payload as usize)
            }
            Self::Events(_) => {
                let end = pieces.windows(stream::END.len()).position(|end| end == stream::END)?;
                Some(end + stream::END.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_around_a_place_are_those_of_the_piece_that_it_is_in() {
        let frames = [&b"\x81\x03one"[..], b"\x82\x00", b"\x81\x02zz"].concat();
        let events = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nretry: 1\n\n:\n\nid: 3\ndata: {}\n\n";
        let deflated = Encoding::DeflatedFrames;
        let cases: [(Encoding, &[u8], &[usize]); 3] = [
            (Encoding::Frames, &frames, &[0, 5, 7, 11]),
            (deflated, &frames, &[0, 5, 7, 11]),
            (Encoding::Events(DataForm::Text), events, &[0, 35, 38, events.len()]),
        ];
        for (encoding, pieces, edges) in cases {
            for at in 0..=pieces.len() {
                let before = edges.iter().copied().filter(|&edge| edge <= at).max().unwrap();
                let after = edges.iter().copied().find(|&edge| edge >= at).unwrap();
                assert_eq!(encoding.edges(pieces, at), Some((before, after)), "{encoding:?} {at}");
            }
        }
        assert_eq!(Encoding::Events(DataForm::Value).edges(b"HTTP/1.1 200 OK\r\n\r\n", 3), None);
    }
}

//! What clients hold of the memory for what waits for them, and what it would free to cut them. Pure.
//!
//! What a socket has begun to take is a piece that all who stand there share: it is free when the last of them has let
//! go. So the unit is not a client but a *holding*: a piece and everybody who has it, or what one client has for
//! itself. A holding *weighs* what is freed for each client that has to go for it: of a piece of 1 MiB that a hundred
//! clients have, 10 KiB. The heaviest holding goes first, all of its clients one after the other, so that no client is
//! cut for nothing.
//!
//! Most holdings are one batch and differ by chance, so a weight is rounded to a power of two, and among those of the
//! same weight the one goes first whose clients have taken nothing for longest: it is not the one who is well and waits
//! for one round trip that goes for those who stand still.
//!
//! # Not here
//! Whose holding is the heaviest in the process ([`super::holders`]); cutting ([`super::shard`]).

use std::cmp::Reverse;
use std::collections::HashMap;

use tokio::time::Instant;

/// What one client holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    /// Which client.
    pub(super) index: u32,
    /// The piece that it has begun to take: where it lies, and how long it is.
    pub(super) piece: Option<(usize, usize)>,
    /// Bytes that it has for itself.
    pub(super) alone: usize,
    /// When it took something last, as far as it stands still.
    pub(super) since: Instant,
}

impl Held {
    /// All that is free at the most when it goes.
    pub(super) fn bytes(&self) -> usize {
        self.alone.saturating_add(self.piece.map_or(0, |(_, bytes)| bytes))
    }
}

/// What it frees to cut somebody: the greater, the sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Weight {
    /// Bits of the number of bytes.
    magnitude: u32,
    /// Since when nothing was taken; `None`: it is not known, and may be long.
    since: Reverse<Option<Instant>>,
}

impl Weight {
    fn new(bytes: usize, since: Option<Instant>) -> Self {
        Self { magnitude: usize::BITS - bytes.leading_zeros(), since: Reverse(since) }
    }

    /// The greatest that a holding of at most `bytes` may have.
    pub(super) fn at_most(bytes: usize) -> Self {
        Self::new(bytes, None)
    }
}

/// A piece with everybody who has it, or what one client has for itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Holding {
    pub(super) weight: Weight,
    /// Who has to go.
    pub(super) clients: Vec<u32>,
}

/// What is held there; the heaviest comes last.
pub(super) fn holdings(held: impl Iterator<Item = Held>) -> Vec<Holding> {
    let mut groups: Vec<(usize, Instant, Vec<u32>)> = Vec::new();
    let mut places = HashMap::new();
    for client in held.filter(|client| client.bytes() > 0) {
        let known = client.piece.and_then(|(piece, _)| places.get(&piece).copied());
        match known.and_then(|place: usize| groups.get_mut(place)) {
            Some((bytes, since, clients)) => {
                *bytes = bytes.saturating_add(client.alone);
                *since = client.since.max(*since);
                clients.push(client.index);
            }
            None => {
                if let Some((piece, _)) = client.piece {
                    places.insert(piece, groups.len());
                }
                groups.push((client.bytes(), client.since, vec![client.index]));
            }
        }
    }
    let weigh = |(bytes, since, clients): (usize, Instant, Vec<u32>)| Holding {
        weight: Weight::new(bytes / clients.len(), Some(since)),
        clients,
    };
    let mut holdings: Vec<_> = groups.into_iter().map(weigh).collect();
    holdings.sort_by_key(|holding| holding.weight);
    holdings
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_freed_for_each_client_counts_and_then_who_has_stood_still_for_longest() {
        let now = Instant::now();
        let ago = |seconds| now - Duration::from_secs(seconds);
        let held = |index, piece, alone, since| Held { index, piece, alone, since };
        // A piece of 40,000 bytes for four, one of 30,000 for one, 20,000 for one alone who moves, 25,000 for one
        // who does not, nothing.
        let clients = [
            held(0, Some((100, 40_000)), 0, ago(90)),
            held(1, Some((200, 30_000)), 0, ago(5)),
            held(2, Some((100, 40_000)), 0, ago(80)),
            held(3, None, 20_000, ago(0)),
            held(4, Some((100, 40_000)), 0, ago(70)),
            held(5, None, 25_000, ago(60)),
            held(6, None, 0, ago(1000)),
            held(7, Some((100, 40_000)), 0, ago(60)),
        ];
        let order: Vec<_> =
            holdings(clients.into_iter()).into_iter().rev().map(|holding| holding.clients).collect();
        assert_eq!(order, [vec![5], vec![1], vec![3], vec![0, 2, 4, 7]]);
    }

    #[test]
    fn a_bound_on_a_weight_is_none_that_a_part_of_it_could_exceed() {
        let now = Instant::now();
        for bytes in [1, 2, 3, 4095, 4096, 4097, 1 << 40] {
            let most = Weight::at_most(bytes);
            let one = Held { index: 0, piece: Some((1, bytes)), alone: 0, since: now };
            for clients in [1, 2, 3] {
                let holdings = holdings((0..clients).map(|index| Held { index, ..one }));
                assert_eq!(holdings.len(), 1);
                assert!(holdings[0].weight < most, "{bytes} for {clients}");
            }
            assert!(Weight::at_most(bytes / 2) < most || bytes == 1);
        }
    }
}

//! What clients hold of the memory for what waits for them, and what it would free to evict them. Pure.
//!
//! What a socket has begun to take is a piece that all clients at the same place share: it is free when the last of them
//! has dropped it. So the unit is not a client but a *holding*: a piece and all clients that have it, or what one client
//! has for itself. A holding *weighs* what is freed for each client that has to be evicted for it: 10 KiB for a piece of
//! 1 MiB that a hundred clients have. The heaviest holding is evicted first, all of its clients one after the other, so
//! that no client is evicted for nothing.
//!
//! Most holdings are one batch and differ by chance. So a weight is rounded to a power of two, and among those of the same
//! weight the first is the one whose clients have taken nothing for longest: a client that is well and waits for one round
//! trip is not evicted instead of one that takes nothing.
//!
//! # Not here
//! Whose holding is the heaviest in the process ([`super::ClientMemory`]); evicting ([`crate::delivery::shard`]).

use std::cmp::Reverse;
use std::collections::HashMap;

use tokio::time::Instant;

/// What one client holds.
#[derive(Debug, Clone, Copy)]
pub(in crate::delivery) struct Usage {
    /// The client's index in its shard.
    pub(in crate::delivery) index: u32,
    /// The piece that its socket has begun to take: the address and the length.
    pub(in crate::delivery) piece: Option<(usize, usize)>,
    /// Bytes that the client has for itself.
    pub(in crate::delivery) alone: usize,
    /// When it took something last, if it has stopped.
    pub(in crate::delivery) since: Instant,
}

impl Usage {
    /// The most that is freed when the client is evicted.
    pub(in crate::delivery) fn bytes(&self) -> usize {
        self.alone.saturating_add(self.piece.map_or(0, |(_, bytes)| bytes))
    }
}

/// What it frees to evict a client: the greatest is evicted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::delivery) struct Weight {
    /// The length of the number of bytes, in bits.
    magnitude: u32,
    /// Since when nothing was taken; `None`: that is not known and may be long ago.
    since: Reverse<Option<Instant>>,
}

impl Weight {
    fn new(bytes: usize, since: Option<Instant>) -> Self {
        Self { magnitude: usize::BITS - bytes.leading_zeros(), since: Reverse(since) }
    }

    /// The greatest weight that a holding of at most `bytes` may have.
    pub(in crate::delivery) fn at_most(bytes: usize) -> Self {
        Self::new(bytes, None)
    }
}

/// A piece with all clients that have it, or what one client has for itself.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::delivery) struct Holding {
    pub(in crate::delivery) weight: Weight,
    /// The clients that have to be evicted.
    pub(in crate::delivery) clients: Vec<u32>,
}

/// All holdings there are, the heaviest last.
pub(in crate::delivery) fn holdings(usage: impl Iterator<Item = Usage>) -> Vec<Holding> {
    let mut groups: Vec<(usize, Instant, Vec<u32>)> = Vec::new();
    let mut places = HashMap::new();
    for client in usage.filter(|client| client.bytes() > 0) {
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
        let held = |index, piece, alone, since| Usage { index, piece, alone, since };
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
            let one = Usage { index: 0, piece: Some((1, bytes)), alone: 0, since: now };
            for clients in [1, 2, 3] {
                let holdings = holdings((0..clients).map(|index| Usage { index, ..one }));
                assert_eq!(holdings.len(), 1);
                assert!(holdings[0].weight < most, "{bytes} for {clients}");
            }
            assert!(Weight::at_most(bytes / 2) < most || bytes == 1);
        }
    }
}

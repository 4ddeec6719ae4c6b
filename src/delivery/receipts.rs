//! How far a client was sent its log, and how far it has acknowledged that. Pure.

/// A place in what a client is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The newest sequence number of the log.
    pub(super) sequence: u64,
    /// Messages, whatever their numbers.
    pub(super) messages: u64,
}

/// What a client has acknowledged.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    acknowledged: Position,
}

impl Receipts {
    /// The client says that it has got as far as `position`. `sent`: how far it was sent, which is all that it can have
    /// taken. Answers how many messages that acknowledges that no receipt before did.
    pub(super) fn on_receipt(&mut self, position: Position, sent: Position) -> u64 {
        let acknowledged = &mut self.acknowledged;
        let new = position.messages.min(sent.messages).saturating_sub(acknowledged.messages);
        acknowledged.messages += new;
        acknowledged.sequence = position.sequence.min(sent.sequence).max(acknowledged.sequence);
        new
    }

    /// How far the client has acknowledged what it was sent.
    pub(super) fn acknowledged(&self) -> Position {
        self.acknowledged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_only_move_on_and_never_past_what_was_sent() {
        let at = |sequence, messages| Position { sequence, messages };
        let mut receipts = Receipts::default();
        let sent = at(110, 10);
        // What the client says, how much of that is new, and where that leaves it.
        for (said, new, acknowledged) in [
            (at(105, 5), 5, at(105, 5)),
            (at(105, 5), 0, at(105, 5)),
            (at(103, 3), 0, at(105, 5)),
            (at(u64::MAX, u64::MAX), 5, sent),
            (at(0, 0), 0, sent),
        ] {
            assert_eq!((receipts.on_receipt(said, sent), receipts.acknowledged()), (new, acknowledged));
        }
    }
}

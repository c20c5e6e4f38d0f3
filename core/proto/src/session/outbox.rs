use std::collections::VecDeque;

use bytes::Bytes;
use bytestring::ByteString;

use super::snapshot::StoredOutbox;
use crate::{
    Message, Position,
    compact::{OptionalPosition, Rare},
};

/// What a message in the outbox counts in addition to its payload: its entry and the allocator's share.
pub const MESSAGE_OVERHEAD: usize = 48;

/// The messages that some client may still need, by position: `base..head`.
///
/// Texts and binaries are kept apart: a type that could be both takes a quarter more memory, and most sessions
/// send only texts.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Outbox {
    texts: VecDeque<ByteString>,
    /// With their positions; all others are texts. Never empty.
    binaries: Rare<VecDeque<(Position, Bytes)>>,
    base: Position,
    bytes: usize,
    /// Messages before this one may leave; without a durable outbox always the head.
    committed: Position,
    /// The largest position that any client has acknowledged, gone clients included.
    acknowledged: Position,
    /// What a client that starts fresh starts with. Never before `base`.
    checkpoint: OptionalPosition,
    /// The base after the last message that was let go although a client may miss it.
    overflowed: Position,
}

impl Outbox {
    pub(super) fn stored(&self) -> StoredOutbox {
        StoredOutbox::new(
            self.base,
            self.acknowledged,
            self.checkpoint(),
            self.overflowed,
            self.iter(),
        )
    }

    /// Everything that was stored is committed.
    pub(super) fn restored(stored: StoredOutbox) -> Self {
        let mut outbox = Self {
            base: stored.base,
            committed: stored.base,
            acknowledged: stored.acknowledged,
            overflowed: stored.overflowed,
            ..Self::default()
        };
        if let Some(checkpoint) = stored.checkpoint {
            outbox.mark_checkpoint(checkpoint);
        }
        for message in stored.into_messages() {
            outbox.push(message);
        }
        outbox.commit(outbox.head());
        outbox
    }

    pub(super) fn base(&self) -> Position {
        self.base
    }

    pub(super) fn head(&self) -> Position {
        self.base.advanced_by(self.len() as u64)
    }

    pub(super) fn committed(&self) -> Position {
        self.committed
    }

    pub(super) fn checkpoint(&self) -> Option<Position> {
        self.checkpoint.get()
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len() + self.binaries.get().map_or(0, VecDeque::len)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether the oldest message that is there follows ones that overflowed.
    pub(super) fn last_loss_was_overflow(&self) -> bool {
        self.overflowed == self.base && self.base > Position::ZERO
    }

    /// Returns where a client that holds nothing starts.
    pub(super) fn fresh_start(&self) -> Position {
        // Not a checkpoint that is not committed: after a crash its position does not exist.
        let checkpoint = self.checkpoint().filter(|checkpoint| *checkpoint < self.committed);
        checkpoint.unwrap_or(self.acknowledged).max(self.base)
    }

    /// Returns the message at `position`, if it is there and may leave.
    pub(super) fn sendable(&self, position: Position) -> Option<Message> {
        if position >= self.committed || position < self.base {
            return None;
        }
        self.get(position)
    }

    /// Returns the message at `position`, if it is there.
    pub(super) fn get(&self, position: Position) -> Option<Message> {
        let mut at = usize::try_from(position.since(self.base)).ok()?;
        if let Some(binaries) = self.binaries.get() {
            let before = binaries.partition_point(|(of, _)| *of < position);
            if let Some((_, bytes)) = binaries.get(before).filter(|(of, _)| *of == position) {
                return Some(Message::Binary(bytes.clone()));
            }
            at -= before;
        }
        self.texts.get(at).cloned().map(Message::Text)
    }

    fn iter(&self) -> impl Iterator<Item = Message> {
        (0..self.len() as u64).filter_map(|at| self.get(self.base.advanced_by(at)))
    }

    pub(super) fn push(&mut self, message: Message) -> Position {
        let position = self.head();
        self.bytes += cost(&message);
        match message {
            Message::Text(text) => push(&mut self.texts, text),
            Message::Binary(bytes) => {
                push(self.binaries.get_or_default(), (position, bytes));
            }
        }
        position
    }

    pub(super) fn mark_checkpoint(&mut self, position: Position) {
        self.checkpoint = OptionalPosition::some(position);
    }

    pub(super) fn void_checkpoint(&mut self) {
        self.checkpoint = OptionalPosition::NONE;
    }

    pub(super) fn acknowledge(&mut self, position: Position) {
        self.acknowledged = self.acknowledged.max(position);
    }

    /// Lets everything before `position` leave.
    pub(super) fn commit(&mut self, position: Position) {
        self.committed = self.committed.max(position);
    }

    /// Forgets everything before `position`; returns whether that was anything.
    pub(super) fn forget(&mut self, position: Position) -> bool {
        let mut forgot = false;
        while self.base < position && self.pop() {
            forgot = true;
        }
        forgot
    }

    /// Lets the oldest message go although a client may miss it.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let dropped = self.pop();
        if dropped {
            self.overflowed = self.base;
        }
        dropped
    }

    /// Gives memory back that a burst has left behind.
    pub(super) fn shrink(&mut self) {
        if self.texts.is_empty() {
            self.texts = VecDeque::new();
        }
    }

    fn pop(&mut self) -> bool {
        let Some(message) = self.pop_message() else {
            return false;
        };
        self.bytes -= cost(&message);
        self.base = self.base.advanced_by(1);
        self.committed = self.committed.max(self.base);
        if self.checkpoint().is_some_and(|checkpoint| checkpoint < self.base) {
            self.checkpoint = OptionalPosition::NONE;
        }
        true
    }

    fn pop_message(&mut self) -> Option<Message> {
        let base = self.base;
        if let Some(binaries) = self.binaries.get_mut()
            && binaries.front().is_some_and(|(of, _)| *of == base)
            && let Some((_, bytes)) = binaries.pop_front()
        {
            self.binaries.drop_if(VecDeque::is_empty);
            return Some(Message::Binary(bytes));
        }
        self.texts.pop_front().map(Message::Text)
    }
}

/// Grows by a quarter instead of doubling: a suspended session's buffer is mostly idle memory.
fn push<M>(queue: &mut VecDeque<M>, message: M) {
    if queue.len() == queue.capacity() {
        queue.reserve_exact((queue.len() / 4).max(4));
    }
    queue.push_back(message);
}

pub(super) fn cost(message: &Message) -> usize {
    message.len() + MESSAGE_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(position: u64, binary: bool) -> Message {
        let text = position.to_string();
        if binary { Message::Binary(text.into()) } else { Message::Text(text.into()) }
    }

    #[test]
    fn texts_and_binaries_keep_their_places() {
        for pattern in ["tttttt", "bbbbbb", "tbtbtb", "bbtttb", "tttbbt"] {
            let mut outbox = Outbox::default();
            let expected: Vec<_> =
                (0..).zip(pattern.bytes()).map(|(at, kind)| message(at, kind == b'b')).collect();
            for message in &expected {
                outbox.push(message.clone());
            }
            for forgotten in 0..=expected.len() {
                outbox.forget(Position::new(forgotten as u64));
                let left: Vec<_> = outbox.iter().collect();
                assert_eq!(left, expected[forgotten..], "{pattern}, without {forgotten}");
                assert_eq!(outbox.bytes(), left.iter().map(cost).sum::<usize>());
            }
            assert_eq!(outbox.head(), Position::new(6));
            assert!(outbox.binaries.get().is_none(), "no box is left behind");
        }
    }
}

use std::collections::VecDeque;

use super::snapshot::StoredOutbox;
use crate::{Message, Position};

/// What a message in the outbox counts beside its payload: its entry and the allocator's share.
pub const MESSAGE_OVERHEAD: usize = 48;

/// The messages that some client may still need, by position: `base..head`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Outbox {
    messages: VecDeque<Message>,
    base: Position,
    bytes: usize,
    /// Messages before this one may leave; without a durable outbox always the head.
    committed: Position,
    /// The largest position that any client has acknowledged, also one that is gone by now.
    acknowledged: Position,
    /// What a client that starts fresh starts with. Never before `base`.
    checkpoint: Option<Position>,
    /// Where the outbox last let messages go that nobody had acknowledged: all before this.
    overflowed: Position,
}

impl Outbox {
    pub(super) fn stored(&self) -> StoredOutbox {
        StoredOutbox::new(
            self.base,
            self.acknowledged,
            self.checkpoint,
            self.overflowed,
            self.messages.iter().cloned(),
        )
    }

    /// Everything that was stored is committed.
    pub(super) fn restored(stored: StoredOutbox) -> Self {
        let mut outbox = Self {
            base: stored.base,
            committed: stored.base,
            acknowledged: stored.acknowledged,
            checkpoint: stored.checkpoint,
            overflowed: stored.overflowed,
            ..Self::default()
        };
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
        self.base.advanced_by(self.messages.len() as u64)
    }

    pub(super) fn committed(&self) -> Position {
        self.committed
    }

    pub(super) fn checkpoint(&self) -> Option<Position> {
        self.checkpoint
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether the oldest message that is there follows ones that overflowed.
    pub(super) fn last_loss_was_overflow(&self) -> bool {
        self.overflowed == self.base && self.base > Position::ZERO
    }

    /// Returns where a client starts that holds nothing.
    pub(super) fn fresh_start(&self) -> Position {
        // Not one that is not committed: after a crash there is no such position.
        let checkpoint = self.checkpoint.filter(|checkpoint| *checkpoint < self.committed);
        checkpoint.unwrap_or(self.acknowledged).max(self.base)
    }

    /// Returns the message at `position`, if it is there and may leave.
    pub(super) fn sendable(&self, position: Position) -> Option<&Message> {
        if position >= self.committed || position < self.base {
            return None;
        }
        self.messages.get(usize::try_from(position.since(self.base)).ok()?)
    }

    pub(super) fn push(&mut self, message: Message) -> Position {
        let position = self.head();
        self.bytes += cost(&message);
        // Grown by a quarter instead of doubled: a suspended session's buffer is mostly idle memory.
        if self.messages.len() == self.messages.capacity() {
            let more = (self.messages.len() / 4).max(4);
            self.messages.reserve_exact(more);
        }
        self.messages.push_back(message);
        position
    }

    pub(super) fn mark_checkpoint(&mut self, position: Position) {
        self.checkpoint = Some(position);
    }

    pub(super) fn void_checkpoint(&mut self) {
        self.checkpoint = None;
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

    /// Lets the oldest message go although somebody may miss it.
    pub(super) fn drop_oldest(&mut self) -> bool {
        let dropped = self.pop();
        if dropped {
            self.overflowed = self.base;
        }
        dropped
    }

    /// Gives memory back that a burst has left behind.
    pub(super) fn shrink(&mut self) {
        if self.messages.is_empty() {
            self.messages = VecDeque::new();
        }
    }

    fn pop(&mut self) -> bool {
        let Some(message) = self.messages.pop_front() else {
            return false;
        };
        self.bytes -= cost(&message);
        self.base = self.base.advanced_by(1);
        self.committed = self.committed.max(self.base);
        if self.checkpoint.is_some_and(|checkpoint| checkpoint < self.base) {
            self.checkpoint = None;
        }
        true
    }
}

pub(super) fn cost(message: &Message) -> usize {
    message.len() + MESSAGE_OVERHEAD
}

//! What is kept of messages that no client needs any more.
//!
//! The outbox holds what a client that matters needs, and what a checkpoint keeps while there is room. All bounds of the
//! outbox, and all that a full one does, are about that alone. What the outbox lets go of comes here, if the
//! [`Retention`] says so. So there are two marks: what is needed (the outbox's base), and what is there (this history's
//! start). Nothing here ever makes a sender wait.
//!
//! A client that the outbox was not kept for, and that comes back with a cursor, is given back what it has missed: from
//! its cursor on the messages go back to the outbox, as far as they fit its bounds. From then on the client needs them,
//! and they are like any others.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    outbox::{self, cost},
    snapshot::StoredMessage,
    sparse::Terms,
};
use crate::{Message, Position};

/// Which messages are kept after each client that matters has acknowledged them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Retain {
    /// None.
    #[default]
    Nothing,
    /// The newest, as many as the bounds allow.
    Newest,
    /// The last checkpoint and what was sent after it. Before the first checkpoint, and once the checkpoint was cleared:
    /// none.
    SinceCheckpoint,
}

/// What a session keeps after each client that matters has acknowledged it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Retention {
    /// Which messages.
    pub retain: Retain,
    /// The most messages.
    pub messages: usize,
    /// The most bytes of these, [`MESSAGE_OVERHEAD`](super::MESSAGE_OVERHEAD) for each included.
    pub bytes: usize,
    /// Whether a snapshot with the outbox has these messages, too.
    pub stored: bool,
}

impl Default for Retention {
    fn default() -> Self {
        Self { retain: Retain::Nothing, messages: 1024, bytes: 1 << 20, stored: false }
    }
}

impl Retention {
    pub(super) fn is_off(&self) -> bool {
        self.retain == Retain::Nothing
    }
}

/// Messages that were for all clients and for good, and that the outbox has let go of.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct History {
    /// In order, all before the outbox's base. Positions between them are nobody's any more.
    messages: VecDeque<(Position, Message)>,
    bytes: usize,
    /// From here on nothing is missing that was for all clients and for good. Never after the outbox's base.
    start: Position,
    /// Before this, messages have left that are not kept: they were for one client alone, or for a while only. A client
    /// that the outbox was not kept for may miss one of them.
    incomplete: Position,
    /// The last checkpoint that was not cleared. It may have left, and it may still be in the outbox.
    checkpoint: Option<Position>,
}

impl History {
    /// Nothing is missing from `start` on, where the outbox begins.
    pub(super) fn new(start: Position) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            start,
            incomplete: Position::ZERO,
            checkpoint: None,
        }
    }

    /// As [`Self::new`], and this checkpoint is in the outbox.
    pub(super) fn of_checkpoint(checkpoint: Position, start: Position) -> Self {
        Self { checkpoint: Some(checkpoint), ..Self::new(start) }
    }

    /// Takes the next message that the outbox lets go of.
    pub(super) fn take(
        &mut self,
        position: Position,
        message: Message,
        terms: Option<&Terms>,
        retention: &Retention,
    ) {
        if terms.is_some_and(|terms| terms.to.is_some() || terms.until.is_some()) {
            self.note_incomplete(position.advanced_by(1));
            return;
        }
        let keeps = match retention.retain {
            Retain::Nothing => false,
            Retain::Newest => true,
            Retain::SinceCheckpoint => self.checkpoint.is_some_and(|from| from <= position),
        };
        if !keeps {
            self.forget_all(position.advanced_by(1));
            return;
        }
        self.bytes += cost(&message);
        outbox::push(&mut self.messages, (position, message));
        self.keep_within(retention);
    }

    fn keep_within(&mut self, retention: &Retention) {
        while (self.messages.len() > retention.messages || self.bytes > retention.bytes)
            && let Some((position, message)) = self.messages.pop_front()
        {
            self.bytes -= cost(&message);
            self.start = position.advanced_by(1);
        }
    }

    fn forget_all(&mut self, start: Position) {
        self.messages = VecDeque::new();
        self.bytes = 0;
        self.start = start;
    }

    /// Before this, messages have left that are not kept here, and that perhaps not each client had that they were for.
    pub(super) fn note_incomplete(&mut self, before: Position) {
        self.incomplete = self.incomplete.max(before);
    }

    /// A checkpoint was sent, or the last one was cleared; `base`: the outbox's.
    pub(super) fn set_checkpoint(
        &mut self,
        checkpoint: Option<Position>,
        base: Position,
        retention: &Retention,
    ) {
        self.checkpoint = checkpoint;
        if retention.retain == Retain::SinceCheckpoint {
            self.forget_all(base);
        }
    }

    pub(super) fn checkpoint(&self) -> Option<Position> {
        self.checkpoint
    }

    pub(super) fn start(&self) -> Position {
        self.start
    }

    /// Returns from where on a client misses nothing that wants everything from `wanted` on, as far as it fits into this
    /// room; `base`: the outbox's.
    pub(super) fn reach(
        &self,
        wanted: Position,
        (mut messages, mut bytes): (usize, usize),
        base: Position,
    ) -> Position {
        let lowest = wanted.max(self.start).max(self.incomplete).min(base);
        let mut reached = base;
        let newest_first = self.messages.iter().rev();
        for (position, message) in newest_first.take_while(|(position, _)| *position >= lowest) {
            if messages == 0 || bytes < cost(message) {
                return reached;
            }
            messages -= 1;
            bytes -= cost(message);
            reached = *position;
        }
        lowest
    }

    /// Returns the messages from `from` on, which go back to the outbox.
    pub(super) fn give_back(&mut self, from: Position) -> VecDeque<(Position, Message)> {
        let back = self.messages.split_off(self.first_from(from));
        self.bytes -= back.iter().map(|(_, message)| cost(message)).sum::<usize>();
        back
    }

    fn first_from(&self, position: Position) -> usize {
        self.messages.partition_point(|(at, _)| *at < position)
    }

    /// Returns the position of the first message from `from` on.
    pub(super) fn first(&self, from: Position) -> Option<Position> {
        self.messages.get(self.first_from(from)).map(|(position, _)| *position)
    }

    pub(super) fn get(&self, position: Position) -> Option<&Message> {
        let at = self.messages.binary_search_by_key(&position, |(at, _)| *at).ok()?;
        self.messages.get(at).map(|(_, message)| message)
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn stored(&self) -> StoredHistory {
        let messages = self.messages.iter();
        StoredHistory {
            start: self.start,
            incomplete: self.incomplete,
            checkpoint: self.checkpoint,
            messages: messages.map(|(at, message)| (*at, message.clone().into())).collect(),
        }
    }

    pub(super) fn restored(stored: StoredHistory, retention: &Retention) -> Self {
        let mut history = Self::new(stored.start);
        history.incomplete = stored.incomplete;
        history.checkpoint = stored.checkpoint;
        for (position, message) in stored.messages {
            history.take(position, message.into(), None, retention);
        }
        history
    }
}

/// What a record has of a history.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct StoredHistory {
    start: Position,
    incomplete: Position,
    checkpoint: Option<Position>,
    messages: Vec<(Position, StoredMessage)>,
}

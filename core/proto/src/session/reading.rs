//! Readers that ask: what there is from a place on, at once.
//!
//! Such a reader keeps its place itself, as an [`Offset`](crate::wire::Offset). It is told what may leave, and what is gone:
//! never a part as the whole.

use super::{
    Epoch, FinalCounts, Session,
    lives::{self, Earlier, Lineage},
};
use crate::{Message, Position, wire::LifeTag};

/// From where on something is read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ReadFrom {
    /// The last checkpoint, which stands for what was before. Without one: the first message of all.
    Start,
    /// What may not leave yet, and what is sent from now on.
    Now,
    /// A place that a reader was told.
    Place {
        /// The life in which it was told.
        life: LifeTag,
        /// The position of the next message that is wanted.
        position: Position,
    },
}

/// What was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    /// Where it begins.
    pub from: Position,
    /// The messages that were for all clients, with their positions.
    pub messages: Vec<(Position, Message)>,
    /// Where what follows begins.
    pub next: Position,
    /// There is nothing more that may leave now.
    pub is_up_to_date: bool,
    /// The session has ended, and nothing follows `next`.
    pub has_ended: bool,
}

/// Why nothing was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotRead {
    /// What was asked for is not there any more, or never was.
    Gone {
        /// From here on all is there.
        earliest: Position,
    },
    /// The start is a checkpoint that may not leave yet.
    Unsettled,
    /// The session stands still, and may be on its way out.
    Frozen,
}

/// What there is of a session to be read.
struct There<'a> {
    epoch: Epoch,
    earlier: &'a [Earlier],
    /// From here on nothing is missing.
    kept_from: Position,
    checkpoint: Option<Position>,
    /// Messages before this one may leave.
    end: Position,
}

impl There<'_> {
    fn begin(&self, from: ReadFrom) -> Result<Position, NotRead> {
        let gone = NotRead::Gone { earliest: self.kept_from };
        let start = match from {
            ReadFrom::Now => return Ok(self.end),
            ReadFrom::Start => match self.checkpoint {
                Some(checkpoint) if checkpoint >= self.end => return Err(NotRead::Unsettled),
                Some(checkpoint) => checkpoint,
                None => Position::ZERO,
            },
            ReadFrom::Place { life, position } => {
                let lineage =
                    lives::lineage_of_tag(self.epoch, self.earlier, self.end, life, position);
                if lineage != Lineage::Honoured {
                    return Err(gone);
                }
                position
            }
        };
        if start < self.kept_from { Err(gone) } else { Ok(start) }
    }
}

impl<I: Clone> Session<I> {
    /// Returns the tag of the present life, for what readers are told.
    pub fn life_tag(&self) -> LifeTag {
        self.epoch().life().tag()
    }

    /// Reads what may leave from a place on: at least one message if there is one, and as many as fit into `room` bytes.
    ///
    /// # Errors
    ///
    /// Returns why nothing is read.
    pub fn read(&self, from: ReadFrom, room: usize) -> Result<Reading, NotRead> {
        if self.frozen {
            return Err(NotRead::Frozen);
        }
        let outbox = &self.outbox;
        let there = There {
            epoch: self.epoch(),
            earlier: self.earlier_lives(),
            kept_from: outbox.kept_from(),
            checkpoint: outbox.last_checkpoint(),
            end: outbox.committed(),
        };
        let begin = there.begin(from)?;
        let (messages, rest) = gather(begin, room, |at| outbox.next_for_all(at));
        let is_up_to_date = rest.is_none();
        let next = rest.unwrap_or_else(|| begin.max(there.end));
        let has_ended = is_up_to_date && self.is_end_committed() && next >= outbox.head();
        Ok(Reading { from: begin, messages, next, is_up_to_date, has_ended })
    }
}

/// Takes messages while there is room; returns them, and where the rest begins, if there is a rest.
fn gather(
    from: Position,
    room: usize,
    mut next_from: impl FnMut(Position) -> Option<(Position, Message)>,
) -> (Vec<(Position, Message)>, Option<Position>) {
    let (mut messages, mut taken, mut at) = (Vec::new(), 0, from);
    while let Some((position, message)) = next_from(at) {
        taken += message.len();
        if taken > room && !messages.is_empty() {
            return (messages, Some(at));
        }
        at = position.advanced_by(1);
        messages.push((position, message));
    }
    (messages, None)
}

impl FinalCounts {
    /// Returns the tag of the session's last life.
    pub fn life_tag(&self) -> LifeTag {
        self.epoch.life().tag()
    }

    /// Reads what is left of a session that has ended: where it ended. Its messages are gone.
    ///
    /// # Errors
    ///
    /// Returns that what was asked for is gone, if that was before the end.
    pub fn read(&self, from: ReadFrom) -> Result<Reading, NotRead> {
        let end = self.head.unwrap_or_default();
        let there = There {
            epoch: self.epoch,
            earlier: &self.earlier,
            kept_from: end,
            checkpoint: None,
            end,
        };
        // What was said by a process that has died is not known.
        if self.head.is_none() && from != ReadFrom::Now {
            return Err(NotRead::Gone { earliest: end });
        }
        let from = there.begin(from)?;
        let messages = Vec::new();
        Ok(Reading { from, messages, next: end, is_up_to_date: true, has_ended: true })
    }
}

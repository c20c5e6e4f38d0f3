//! Which lives of a session the present outbox goes on from: whose cursors are honoured.
//!
//! A session that is rebuilt begins another life, with another epoch. If its outbox was whole, the history goes
//! on: whatever a client had in an earlier life is here, at the same positions, up to where that life's outbox
//! ended in the record. Above that end the earlier life may have gone on unseen (the process went on after
//! somebody else had the record, or the record is older than what was told), and what it said there is not known.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::{Epoch, Session, epoch::LifeNumber};
use crate::{Position, WireId, wire::LifeTag};

/// The number of earlier lives that are kept, the newest of those that a hello has named. Of the older ones, only
/// those are kept that a remembered client may hold a cursor of.
const REMEMBERED: usize = 16;

/// A life that is over. The present life goes on from its history up to `end`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct Earlier {
    life: LifeNumber,
    end: Position,
}

/// A session's present life, and the earlier ones that its history goes on from. Most sessions have none of these.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lives<'a> {
    epoch: Epoch,
    /// Oldest first. A hello has named each.
    earlier: &'a [Earlier],
}

/// Whether clients know the present epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Naming {
    /// A hello has named it, or is about to.
    named: bool,
    /// A durable snapshot says so.
    saved: bool,
}

/// One of a session's [`Lives`]. Two bytes in each client, where its number takes eight.
///
/// Among the lives of one machine nothing moves: the earlier ones are there from the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct KnownLife(
    /// One higher than its index.
    NonZeroU16,
);

/// How a cursor stands to the present history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lineage {
    /// All before its position is in this history.
    Honoured,
    /// It is of the present life, which has not come so far.
    AboveHead,
    /// It is of another life of this session. What that life said up to the position is not known any more.
    Broken,
    /// It was never this session's.
    Foreign,
}

impl<I> Session<I> {
    pub(super) fn lives(&self) -> Lives<'_> {
        Lives { epoch: self.epoch, earlier: self.earlier_lives() }
    }

    /// Returns the lives whose history this one's outbox goes on from, oldest first.
    pub(super) fn earlier_lives(&self) -> &[Earlier] {
        self.rare.get().map_or(&[], |rare| &rare.earlier_lives)
    }

    /// Goes on from a life of which the record has the whole outbox, up to `end`. Remembered clients may hold cursors of
    /// the lives in `held`.
    pub(super) fn go_on(
        &mut self,
        earlier: &[Earlier],
        before: Epoch,
        named: bool,
        end: Position,
        held: &[LifeNumber],
    ) {
        let last = named.then_some(Earlier { life: before.life(), end });
        let lives: Vec<_> = earlier.iter().copied().chain(last).collect();
        let old = lives.len().saturating_sub(REMEMBERED);
        self.note_rare(|rare| {
            for (at, life) in lives.into_iter().enumerate() {
                if at >= old || held.contains(&life.life) {
                    rare.earlier_lives.push(life);
                }
            }
        });
    }
}

impl Lives<'_> {
    /// Returns the life as one of these; `None` if it is not among them.
    pub(super) fn known(self, life: LifeNumber) -> Option<KnownLife> {
        if life == self.epoch.life() {
            return Some(KnownLife::PRESENT);
        }
        let at = self.earlier.iter().position(|earlier| earlier.life == life)?;
        KnownLife::PRESENT.0.checked_add(u16::try_from(at + 1).ok()?).map(KnownLife)
    }

    /// Whether it is another life of this session than the present one.
    pub(super) fn is_earlier(self, epoch: &WireId) -> bool {
        self.epoch.life_in(epoch).is_some_and(|life| life != self.epoch.life())
    }

    pub(super) fn lineage(self, epoch: &WireId, received: Position, head: Position) -> Lineage {
        lineage(self.epoch, self.earlier, Some(head), epoch, received)
    }
}

impl KnownLife {
    pub(super) const PRESENT: Self = Self(NonZeroU16::MIN);

    /// Returns where it stands among the lives: see [`life_at`].
    pub(super) fn index(self) -> u32 {
        u32::from(self.0.get()) - 1
    }
}

impl Naming {
    pub(super) fn is_named(self) -> bool {
        self.named
    }

    pub(super) fn is_saved(self) -> bool {
        self.saved
    }

    /// A hello is going to name the present epoch.
    pub(super) fn name(&mut self) {
        self.named = true;
    }

    /// A durable snapshot says whether a hello has named the present epoch.
    pub(super) fn note_saved(&mut self, named: bool) {
        self.saved |= named;
    }
}

/// Returns the life at an index: 0 is the present one, then come the earlier ones.
pub(super) fn life_at(present: Epoch, earlier: &[Earlier], at: u32) -> Option<LifeNumber> {
    match at.checked_sub(1) {
        None => Some(present.life()),
        Some(at) => earlier.get(usize::try_from(at).ok()?).map(|earlier| earlier.life),
    }
}

/// Tells how a cursor stands to the history of `present`, which ends at `head`; `None`: it is not known where.
pub(super) fn lineage(
    present: Epoch,
    earlier: &[Earlier],
    head: Option<Position>,
    epoch: &WireId,
    received: Position,
) -> Lineage {
    let Some(life) = present.life_in(epoch) else {
        return Lineage::Foreign;
    };
    of_life(present, earlier, head, received, |known| known == life)
}

/// The same for a life of which only its tag is known.
pub(super) fn lineage_of_tag(
    present: Epoch,
    earlier: &[Earlier],
    head: Position,
    life: LifeTag,
    received: Position,
) -> Lineage {
    of_life(present, earlier, Some(head), received, |known| known.tag() == life)
}

fn of_life(
    present: Epoch,
    earlier: &[Earlier],
    head: Option<Position>,
    received: Position,
    is_it: impl Fn(LifeNumber) -> bool,
) -> Lineage {
    if is_it(present.life()) {
        return match head {
            Some(head) if received <= head => Lineage::Honoured,
            Some(_) => Lineage::AboveHead,
            None => Lineage::Broken,
        };
    }
    match earlier.iter().find(|earlier| is_it(earlier.life)) {
        Some(earlier) if received <= earlier.end => Lineage::Honoured,
        Some(_) | None => Lineage::Broken,
    }
}

//! How the outbox gets room: what it forgets, who stops mattering, what a full one does.

use std::collections::VecDeque;

use bytestring::ByteString;

use super::{NotSent, Overflow, PlainAck, Session, sparse::Freed};
use crate::{Moment, Position, compact::Rare, wire::OutcomeStatus};

impl<I: Clone> Session<I> {
    /// Makes the outbox have room for a message of this cost, as far as the rules allow.
    pub(super) fn make_room(&mut self, cost: usize, now: Moment) -> Result<(), NotSent> {
        self.make_room_replacing(cost, None, now)
    }

    /// As [`Self::make_room`], where the message takes the place of something.
    pub(super) fn make_room_replacing(
        &mut self,
        cost: usize,
        slot: Option<&str>,
        now: Moment,
    ) -> Result<(), NotSent> {
        if self.fits_replacing(cost, slot) {
            return Ok(());
        }
        self.expire_messages(now);
        // What only a checkpoint keeps goes first.
        if self.outbox.checkpoint().is_some() {
            self.outbox.void_checkpoint();
            self.trim();
        }
        let kept = self.clients.kept_when_full(self.rules.heartbeat, now);
        while !self.fits_replacing(cost, slot)
            && let Some(stopped) = self.clients.stop_longest_gone(&kept.clients)
        {
            self.let_go_of_own(stopped);
            self.trim();
        }
        if !self.fits_replacing(cost, slot) {
            self.forget_passed_plain(cost, slot);
        }
        if self.rules.overflow == Overflow::DropOldest {
            // What is not committed never leaves: nobody may be told a position that a restart takes back.
            while !self.fits_replacing(cost, slot) && !self.is_all_uncommitted() {
                self.note_passed();
                self.outbox.drop_oldest(&self.rules.retention);
                // A client that had not been sent the message is told the gap.
                self.wake.transports = true;
            }
        }
        if self.fits_replacing(cost, slot) {
            return Ok(());
        }
        if self.is_all_since_boundary() {
            return Err(NotSent::Uncommitted);
        }
        if self.returns_by() != kept.until {
            self.note_rare(|rare| rare.returns_by = kept.until);
            // The transports' timers are now others.
            self.wake.transports = true;
        }
        match self.rules.overflow {
            Overflow::Close if !self.clients.any_attached() => {
                self.end(OutcomeStatus::Overflow, now);
                Err(NotSent::Ended)
            }
            Overflow::Close => {
                self.note_rare(|rare| _ = rare.overflow_since.get_or_insert(now));
                // The transports' timers now include the overflow's.
                self.wake.transports = true;
                Err(NotSent::Full)
            }
            Overflow::Backpressure | Overflow::DropOldest => Err(NotSent::Full),
        }
    }

    /// Output of messages that are handled is on its way to the store by itself. What was sent since waits for the
    /// handler, so the handler must not wait for it.
    fn is_all_since_boundary(&self) -> bool {
        self.rules.durable_outbox
            && self.is_message_in_hand()
            && self.outbox.oldest() >= self.boundary()
    }

    pub(super) fn is_all_uncommitted(&self) -> bool {
        self.rules.durable_outbox && self.outbox.committed() <= self.outbox.oldest()
    }

    /// Any message is let in when it fits or the box is empty.
    pub(super) fn fits(&self, cost: usize) -> bool {
        self.fits_replacing(cost, None)
    }

    /// As [`Self::fits`], for the next message of a slot: the one before it, if it is still there, leaves at once.
    fn fits_replacing(&self, cost: usize, slot: Option<&str>) -> bool {
        let freed = slot.map_or(Freed::default(), |slot| {
            self.outbox.gives_way(slot, self.replaced_at_once_from())
        });
        let bounds = &self.rules.bounds;
        let messages = self.outbox.len() - freed.messages;
        messages == 0
            || (messages < bounds.outbox_messages
                && self.outbox.bytes() - freed.bytes + cost <= bounds.outbox_bytes)
    }

    /// Without soft acknowledgements the outbox is a ring for plain clients: what was written to them
    /// leaves, oldest first, as far as it must. With a margin, what was confirmed does: a margin that fills
    /// the outbox would be kept for ever.
    fn forget_passed_plain(&mut self, cost: usize, slot: Option<&str>) {
        while !self.fits_replacing(cost, slot) {
            let base = self.outbox.oldest();
            let mut moved = false;
            for client in self.clients.iter_mut() {
                let passed = if client.is_passed_when_written(self.rules.plain_ack) {
                    client.written
                } else if self.rules.plain_ack == PlainAck::Trust {
                    continue;
                } else {
                    let own = self
                        .transports
                        .iter()
                        .filter(|t| t.is_attached() && t.client == client.uid);
                    own.map(|t| t.confirmed).max().unwrap_or_default()
                };
                if client.who.name.is_plain() && client.acked <= base && passed > base {
                    client.acked = base.advanced_by(1);
                    moved = true;
                }
            }
            if !moved || !self.trim() {
                return;
            }
        }
    }

    /// Forgets what every client that matters has acknowledged and no checkpoint keeps.
    pub(super) fn trim(&mut self) -> bool {
        let needed = self.smallest_needed();
        let forgot = needed.is_some_and(|needed| self.outbox.forget(needed, &self.rules.retention));
        self.note_forgot(forgot)
    }

    /// As [`Self::trim`], and returns what leaves, if it is much: to free it takes longer than to let a client go on.
    pub(super) fn trim_apart(&mut self) -> Rare<VecDeque<ByteString>> {
        let needed = self.smallest_needed();
        let retention = &self.rules.retention;
        let apart = needed.map(|needed| self.outbox.forget_apart(needed, retention));
        let apart = apart.unwrap_or_default();
        self.note_forgot(apart.get().is_some());
        self.trim();
        apart
    }

    /// Returns up to where the outbox may forget; `None` while no client matters.
    fn smallest_needed(&mut self) -> Option<Position> {
        self.note_passed();
        let outbox = &self.outbox;
        let matter = self.clients.iter().filter(|client| client.matters());
        let needed = matter.map(|client| outbox.needed_by(client.uid, client.acked)).min()?;
        Some(self.outbox.checkpoint().map_or(needed, |checkpoint| checkpoint.min(needed)))
    }

    pub(super) fn note_forgot(&mut self, forgot: bool) -> bool {
        if forgot {
            // A send that still finds no room says so again.
            self.forget_overflow();
        }
        self.wake.room |= forgot && self.usage.waits_for_room();
        forgot
    }

    /// Under `Overflow::Close`: when the session ends because nobody makes room.
    pub(super) fn overflow_deadline(&self) -> Option<Moment> {
        // Until then no attached client has to make the room.
        let since = self.overflow_since().filter(|_| self.returns_by().is_none())?;
        let progress = self.attached().map(|t| t.last_progress).max()?;
        Some(since.max(progress) + self.rules.heartbeat)
    }

    /// A newer run for which a full outbox was kept has not come back: it stops mattering when a send asks for room
    /// again.
    pub(super) fn note_no_return(&mut self, now: Moment) {
        if self.returns_by().is_some_and(|until| until <= now) {
            self.drop_rare(|rare| rare.returns_by = None);
            // A send that still finds no room says so again.
            self.forget_overflow();
            self.wake.room |= self.usage.waits_for_room();
        }
    }

    pub(super) fn end_if_overflowed(&mut self, now: Moment) {
        // A session that is frozen has been told so before: its overflow no longer matters.
        if !self.frozen && self.overflow_deadline().is_some_and(|deadline| deadline <= now) {
            self.end(OutcomeStatus::Overflow, now);
        }
    }
}

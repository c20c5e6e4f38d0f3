//! What the application sends: into the outbox, or not yet.

use super::{MESSAGE_OVERHEAD, Overflow, Session, outbox, sparse::Terms};
use crate::{Message, Moment, Position};

/// Why a message was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotSent {
    /// There is no room now.
    Full,
    /// The outbox is not kept for the client that it is for, or not any more.
    Gone,
    /// The session has ended.
    Ended,
    /// The message is over the limit of one message, in bytes.
    TooLarge(usize),
    /// What was sent since the message in hand was handed over fills the outbox alone: it is not committed before
    /// that is handed back, so waiting would not help.
    Uncommitted,
}

/// A message that was not taken, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unsent {
    /// The message.
    pub message: Message,
    /// Why it was not taken.
    pub why: NotSent,
}

impl<I: Clone> Session<I> {
    /// Appends a message to the outbox.
    ///
    /// # Errors
    ///
    /// Returns the message, and why it was not taken.
    pub fn send(&mut self, message: Message, now: Moment) -> Result<Position, Unsent> {
        let message = match self.send_fitting(message) {
            Ok(position) => return Ok(position),
            Err(message) => message,
        };
        self.send_on(message, Terms::default(), now)
    }

    /// Appends a message that is for one client alone, takes the place of an older one, or is worth something for a
    /// while only.
    ///
    /// # Errors
    ///
    /// As [`Self::send`]; [`NotSent::Gone`] if the outbox is not kept for its client.
    pub fn send_on(
        &mut self,
        message: Message,
        terms: Terms,
        now: Moment,
    ) -> Result<Position, Unsent> {
        match self.room_for(&message, &terms, now) {
            Ok(()) => Ok(self.append_on(message, terms)),
            Err(why) => Err(Unsent { message, why }),
        }
    }

    fn room_for(&mut self, message: &Message, terms: &Terms, now: Moment) -> Result<(), NotSent> {
        self.may_send(message, terms)?;
        if self.frozen {
            return Err(NotSent::Full);
        }
        let room = self.make_room_replacing(outbox::cost(message), terms.slot.as_deref(), now);
        // A full outbox may have been the end of what is kept for its client.
        self.may_send(message, terms).and(room)
    }

    /// Whether this message may be sent once there is room for it.
    fn may_send(&self, message: &Message, terms: &Terms) -> Result<(), NotSent> {
        let limit = self.rules.bounds.message;
        if self.usage.ended.is_some() {
            Err(NotSent::Ended)
        } else if message.len() > limit {
            Err(NotSent::TooLarge(limit))
        } else if terms.to.is_some_and(|to| !self.is_there(&to)) {
            Err(NotSent::Gone)
        } else {
            Ok(())
        }
    }

    /// As [`Self::send`], but only if nothing has to be done for it. Then the caller need not read the clock, which is
    /// a good part of what a message costs. This is the case for most messages.
    ///
    /// # Errors
    ///
    /// Returns the message if [`Self::send`] must take it.
    pub fn send_fitting(&mut self, message: Message) -> Result<Position, Message> {
        let takes = self.usage.ended.is_none() && !self.frozen;
        let is_allowed = message.len() <= self.rules.bounds.message;
        if takes && is_allowed && self.fits(outbox::cost(&message)) {
            Ok(self.append(message))
        } else {
            Err(message)
        }
    }

    /// Appends a message that makes everything before it obsolete for a client that starts fresh.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub fn send_checkpoint(&mut self, message: Message, now: Moment) -> Result<Position, Unsent> {
        let position = self.send(message, now)?;
        self.outbox.mark_checkpoint(position, &self.rules.retention);
        self.note_checkpoint(position);
        self.trim();
        Ok(position)
    }

    /// What the last checkpoint says is over: no client starts with it any more, and what was kept for it alone leaves.
    pub fn clear_checkpoint(&mut self) {
        self.note_cleared();
        self.outbox.clear_checkpoint(&self.rules.retention);
        self.trim();
    }

    /// Makes room for a message whose size is not known yet.
    ///
    /// # Errors
    ///
    /// Returns why a message would not be taken.
    pub fn reserve(&mut self, now: Moment) -> Result<(), NotSent> {
        if self.usage.ended.is_some() {
            Err(NotSent::Ended)
        } else if self.frozen {
            Err(NotSent::Full)
        } else {
            self.make_room(MESSAGE_OVERHEAD, now)
        }
    }

    /// Appends a message for which [`Self::reserve`] has just made room: this one message may go over
    /// the limit of the outbox's bytes.
    ///
    /// # Errors
    ///
    /// Returns the message if the session has ended, the message is over its own limit, or the outbox is not kept for
    /// its client.
    pub fn send_reserved(
        &mut self,
        message: Message,
        terms: Terms,
        now: Moment,
    ) -> Result<Position, Unsent> {
        if let Err(why) = self.may_send(&message, &terms) {
            return Err(Unsent { message, why });
        }
        // Whatever room there is: the message is let in, unless the search for room has ended the session.
        let _ = self.make_room(outbox::cost(&message), now);
        if let Err(why) = self.may_send(&message, &terms) {
            return Err(Unsent { message, why });
        }
        Ok(self.append_on(message, terms))
    }

    /// Returns whether a message that is sent now would have to wait. For a caller that asks before it has the message: so
    /// this drops no message and does not end the session, where [`Self::send`] would do so to take the message.
    pub fn would_wait(&mut self, now: Moment) -> bool {
        if self.usage.ended.is_some() {
            return false;
        }
        if self.frozen {
            return true;
        }
        let takes = match self.rules.overflow {
            Overflow::Close => !self.clients.any_attached(),
            Overflow::DropOldest => !self.is_all_uncommitted(),
            Overflow::Backpressure => false,
        };
        !takes && self.make_room(MESSAGE_OVERHEAD, now) == Err(NotSent::Full)
    }

    /// A send waits for room. The caller calls [`Self::send_goes_on`] once for each call of this.
    pub fn send_waits(&mut self, now: Moment) {
        self.usage.send_waits(self.clients.any_attached(), now);
        self.resolve_standoff(now);
    }

    /// A send no longer waits: it got room, or gave up.
    pub fn send_goes_on(&mut self) {
        self.usage.send_goes_on();
    }

    fn append_on(&mut self, message: Message, terms: Terms) -> Position {
        if terms.is_ordinary() {
            return self.append(message);
        }
        let unseen = self.replaced_at_once_from();
        let position = self.outbox.push_with(message, terms, unseen);
        // It may be shorter than what it has replaced.
        self.wake.room |= self.usage.waits_for_room();
        self.appended(position)
    }

    /// From where on messages can be replaced at once. Elsewhere a crash might bring a message back that the newer one
    /// has replaced, and not the newer one: no snapshot may know of the one and not of the other.
    pub(super) fn replaced_at_once_from(&self) -> Option<Position> {
        if !self.rules.durable_outbox {
            return Some(Position::ZERO);
        }
        // No snapshot is taken while a message is in hand.
        self.is_message_in_hand().then(|| self.boundary())
    }

    fn append(&mut self, message: Message) -> Position {
        let position = self.outbox.push(message);
        self.appended(position)
    }

    fn appended(&mut self, position: Position) -> Position {
        self.forget_overflow();
        if !self.rules.durable_outbox {
            self.outbox.commit(self.outbox.head());
            self.wake.transports = true;
        }
        position
    }
}

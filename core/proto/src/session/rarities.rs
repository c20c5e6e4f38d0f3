//! What most sessions do not have, most of the time: one box, and one word in the session without it.

use super::{
    Session, client::ClientUid, damping::Damping, deliver::Delivered, identity::Moved,
    lives::Earlier, observers::Observer, poison::Court,
};
use crate::{Message, Moment, Position, compact::Few, wire::Close};

/// What most sessions do not have. See [`compact`](crate::compact).
///
/// A session with a store keeps the box from its first snapshot on, so no message of it costs an allocation.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Rarities<I> {
    /// The message in hand, where a record may have to name it.
    pub(super) kept: Option<Message>,
    /// The head when the message in hand was handed over: nothing behind it is committed before that is handed back;
    /// matters only where the outbox is durable. Zero without a message in hand.
    pub(super) boundary: Position,
    /// The clients up to this one are in a durable snapshot; matters only where the outbox is.
    pub(super) saved_clients: Option<ClientUid>,
    /// Since when a send finds the outbox full, under `Overflow::Close`.
    pub(super) overflow_since: Option<Moment>,
    /// Until when a full outbox is kept for a newer run that may come back.
    pub(super) returns_by: Option<Moment>,
    pub(super) damping: Option<Box<Damping>>,
    /// How the application closes the transports at the end; `None`: 1000.
    pub(super) farewell: Option<Box<Close>>,
    /// Identities that were changed lately, oldest first.
    pub(super) moved: Few<Moved>,
    pub(super) court: Court<I>,
    /// The lives whose history this one's outbox goes on from, oldest first. A hello has named each.
    pub(super) earlier_lives: Few<Earlier>,
    /// What came without a transport and with a key, the newest last.
    pub(super) delivered: Few<Delivered>,
    /// Readers that are no clients.
    pub(super) observers: Few<Observer>,
    /// Urgent messages are in hand.
    pub(super) urgent_in_hand: bool,
    /// A client has messages that were taken early.
    pub(super) has_early: bool,
}

impl<I> Rarities<I> {
    const NONE: Self = Self {
        kept: None,
        boundary: Position::ZERO,
        saved_clients: None,
        overflow_since: None,
        returns_by: None,
        damping: None,
        farewell: None,
        moved: Few::new(),
        court: Court::new(),
        earlier_lives: Few::new(),
        delivered: Few::new(),
        observers: Few::new(),
        urgent_in_hand: false,
        has_early: false,
    };

    fn is_empty(&self) -> bool {
        let Self {
            kept,
            boundary,
            saved_clients,
            overflow_since,
            returns_by,
            damping,
            farewell,
            moved,
            court,
            earlier_lives,
            delivered,
            observers,
            urgent_in_hand,
            has_early,
        } = self;
        // First what a session with a store has.
        saved_clients.is_none()
            && kept.is_none()
            && *boundary == Position::ZERO
            && overflow_since.is_none()
            && returns_by.is_none()
            && damping.is_none()
            && farewell.is_none()
            && moved.is_empty()
            && court.is_empty()
            && earlier_lives.is_empty()
            && delivered.is_empty()
            && observers.is_empty()
            && !urgent_in_hand
            && !has_early
    }
}

impl<I> Default for Rarities<I> {
    fn default() -> Self {
        Self::NONE
    }
}

impl<I> Session<I> {
    /// Notes something that most sessions do not have.
    pub(super) fn note_rare<R>(&mut self, note: impl FnOnce(&mut Rarities<I>) -> R) -> R {
        let noted = note(self.rare.get_or_default());
        self.rare.drop_if(Rarities::is_empty);
        noted
    }

    /// Takes back something that most sessions do not have: without anything of the kind there is nothing to do.
    pub(super) fn drop_rare(&mut self, take_back: impl FnOnce(&mut Rarities<I>)) {
        if let Some(rare) = self.rare.get_mut() {
            take_back(rare);
            self.rare.drop_if(Rarities::is_empty);
        }
    }

    pub(super) fn boundary(&self) -> Position {
        self.rare.get().map_or(Position::ZERO, |rare| rare.boundary)
    }

    pub(super) fn saved_clients(&self) -> Option<ClientUid> {
        self.rare.get()?.saved_clients
    }

    /// The clients up to this one are in a durable snapshot.
    pub(super) fn note_saved_clients(&mut self, newest: Option<ClientUid>) {
        if newest > self.saved_clients() {
            self.note_rare(|rare| rare.saved_clients = newest);
        }
    }

    pub(super) fn overflow_since(&self) -> Option<Moment> {
        self.rare.get()?.overflow_since
    }

    /// The outbox is not full, or that is to be found out anew.
    pub(super) fn forget_overflow(&mut self) {
        self.drop_rare(|rare| rare.overflow_since = None);
    }

    pub(super) fn returns_by(&self) -> Option<Moment> {
        self.rare.get()?.returns_by
    }

    pub(super) fn moved(&self) -> &[Moved] {
        self.rare.get().map_or(&[], |rare| &rare.moved)
    }

    pub(super) fn delivered(&self) -> &[Delivered] {
        self.rare.get().map_or(&[], |rare| &rare.delivered)
    }

    /// Returns what is known of messages that kill the process; `None` if nothing is.
    pub(super) fn court(&self) -> Option<&Court<I>> {
        self.rare.get().map(|rare| &rare.court)
    }

    pub(super) fn note_court<R>(&mut self, note: impl FnOnce(&mut Court<I>) -> R) -> R {
        self.note_rare(|rare| note(&mut rare.court))
    }
}

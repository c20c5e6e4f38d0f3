//! Messages that the handler takes before their turn.
//!
//! The handler [looks](Session::look_ahead) at what waits in the inbox, each message once, and may take it: that message is
//! *urgent*. The rules:
//!
//! * An urgent message that was taken leaves the inbox, and never comes again. One that was looked at and left comes in its turn.
//! * Acknowledgements count. So a message that was taken early counts as taken once all messages of its client before it are:
//!   no message is acknowledged that the handler has not taken. Until then its number is kept with the client.
//! * It fills its place in the inbox until it counts, so what is kept of early messages has the inbox's bounds.
//! * It is in hand, as any message, until the handler hands back what it has: with the message in hand if there is one, or when the
//!   handler next asks for anything. So a snapshot has all of its effect or none.
//! * A snapshot keeps the numbers of early messages. After a crash their client sends them again, and they are passed over. What was
//!   taken early after the newest snapshot is taken again, as any message.
//! * No message is taken early that is on trial after a crash, nor any while a trial is under way: a message that kills the
//!   process counts against itself alone.

use super::{
    Event, Session,
    client::{Client, ClientUid},
    usage::Handler,
};
use crate::{Message, Moment};

/// Numbers of one client's messages that were taken before earlier ones, in order, as ranges that do not touch: from, and up to.
///
/// Between two ranges is a message that waits in the inbox. So there are few.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Early(Vec<(u64, u64)>);

impl Early {
    pub(super) fn restored(ranges: Vec<(u64, u64)>) -> Self {
        Self(ranges)
    }

    pub(super) fn ranges(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// How many messages are taken, without a hole, if all before `taken` are.
    pub(super) fn taken_through(&self, taken: u64) -> u64 {
        self.0.first().filter(|(from, _)| *from <= taken).map_or(taken, |(_, to)| taken.max(*to))
    }

    pub(super) fn has(&self, number: u64) -> bool {
        self.0.iter().any(|(from, to)| (*from..*to).contains(&number))
    }

    pub(super) fn insert(&mut self, number: u64) {
        let at = self.0.partition_point(|(_, to)| *to < number);
        match self.0.get_mut(at) {
            Some((_, to)) if *to == number => *to += 1,
            Some((from, _)) if *from == number + 1 => *from = number,
            _ => self.0.insert(at, (number, number + 1)),
        }
        if let Some(&(from, to)) = self.0.get(at + 1)
            && from == self.0[at].1
        {
            // The hole between them is gone.
            self.0[at].1 = to;
            self.0.remove(at + 1);
        }
    }

    /// All before `taken` count as taken.
    pub(super) fn forget_before(&mut self, taken: u64) {
        self.0.retain_mut(|(from, to)| {
            *from = taken.max(*from);
            from < to
        });
    }

    /// The number of a message that waits behind `before` others of its client.
    pub(super) fn number(&self, taken: u64, before: u64) -> u64 {
        let mut number = taken;
        let mut left = before;
        for &(from, to) in &self.0 {
            let waiting = from.saturating_sub(number);
            if left < waiting {
                break;
            }
            left -= waiting;
            number = to.max(number);
        }
        number + left
    }
}

impl<I> Client<I> {
    /// How many of its messages are taken without a hole, those that were taken early included.
    pub(super) fn taken_through(&self) -> u64 {
        // A restored session knows of early messages that are still to come again.
        self.early().map_or(self.taken, |early| early.taken_through(self.taken).min(self.received))
    }

    /// Whether the message with this number was taken early, and does not count yet.
    pub(super) fn is_early(&self, number: u64) -> bool {
        self.early().is_some_and(|early| early.has(number))
    }

    /// Early messages count as far as there is no hole. Not while a message of it is in hand.
    fn count_early(&mut self) {
        if self.early().is_some() {
            self.taken = self.taken_through();
            let taken = self.taken;
            self.note_rare(|rare| rare.early.forget_before(taken));
        }
    }

    /// It begins anew, and counts on: no message of it comes again.
    pub(super) fn forget_early(&mut self) {
        if self.early().is_some() {
            let received = self.received;
            self.note_rare(|rare| {
                rare.early.0.retain_mut(|(from, to)| {
                    *to = received.min(*to);
                    from < to
                });
            });
        }
    }
}

impl<I: Clone> Session<I> {
    /// Returns the next message of the inbox that the handler has not looked at; `None` if there is none. If the message is urgent,
    /// the caller [takes](Self::take_looked_at) it before it looks on.
    pub fn look_ahead(&mut self) -> Option<Message> {
        if self.usage.ended.is_some() || self.frozen || self.is_trial_under_way() {
            return None;
        }
        let clients = &self.clients;
        self.inbox.look(|uid| clients.get(uid).is_some_and(|client| !client.may_be_tried()))
    }

    /// Takes the message that was looked at last, before its turn. `None` if it must come in its turn after all.
    pub fn take_looked_at(&mut self, now: Moment) -> Option<Event<I>> {
        if self.usage.ended.is_some() || self.frozen {
            self.inbox.look_again();
            return None;
        }
        let (uid, before, event) = self.inbox.take_looked_at()?;
        let Event::Message { message, .. } = &event else {
            return None;
        };
        let bytes = message.len();
        if let Some(client) = self.clients.get_mut(uid) {
            let taken = client.taken;
            client.note_rare(|rare| rare.early.insert(rare.early.number(taken, before)));
            client.inbox_bytes -= bytes;
        }
        let boundary = if self.in_hand.is_none() { self.outbox.head() } else { self.boundary() };
        let durable = self.rules.durable_outbox;
        self.note_rare(|rare| {
            (rare.urgent_in_hand, rare.has_early) = (true, true);
            if durable {
                rare.boundary = boundary;
            }
        });
        self.usage.set_handler(Handler::Working, now);
        let paused = self.attached().any(super::Transport::is_paused);
        self.wake.transports |= paused;
        self.note_taken();
        self.note_acknowledgeable(uid, bytes, now);
        Some(event)
    }

    /// A message has come again that was taken early and is handled, in an earlier life.
    pub(super) fn comes_again(&mut self, uid: ClientUid, now: Moment) {
        if !self.is_message_in_hand() {
            self.count_early();
        }
        self.note_acknowledgeable(uid, 0, now);
        // It is acknowledged when the next snapshot counts it, and perhaps nothing else asks for one.
        self.wake.save |= self.rules.durable_inbox;
    }

    /// Whether urgent messages are in hand, and no other: asking for the next urgent one hands them back.
    pub fn has_only_urgent_in_hand(&self) -> bool {
        self.in_hand.is_none() && self.is_urgent_in_hand()
    }

    pub(super) fn is_urgent_in_hand(&self) -> bool {
        self.rare.get().is_some_and(|rare| rare.urgent_in_hand)
    }

    /// Nothing is in hand now: early messages count as far as they can.
    pub(super) fn count_early(&mut self) {
        if !self.rare.get().is_some_and(|rare| rare.has_early) {
            return;
        }
        for client in self.clients.iter_mut() {
            client.count_early();
        }
        let left = self.clients.iter().any(|client| client.early().is_some());
        self.drop_rare(|rare| (rare.urgent_in_hand, rare.has_early) = (false, left));
    }
}

//! Messages that are not for all clients, or may be replaced: what is kept where some leave before others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytestring::ByteString;
use serde::{Deserialize, Serialize};

use super::{
    ClientName, IdentityTag,
    client::ClientUid,
    outbox::{self, cost},
};
use crate::{Message, Moment, Position};

/// The client that a message is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Addressee(pub(super) Which);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Which {
    /// By its name, which it keeps if others push it out and it comes back.
    Client(ClientName),
    /// A plain transport that is a client of its own.
    Transport(ClientUid),
}

/// What makes a message more than one that every client gets, sooner or later.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Terms {
    /// The one client that it is for; `None`: it is for all.
    pub to: Option<Addressee>,
    /// It takes the place of the message of this slot that was sent before.
    pub slot: Option<ByteString>,
    /// A client that has not been sent it by then does not get it any more.
    pub until: Option<Moment>,
}

impl Terms {
    /// Returns whether there are none: it is a message like any other.
    pub fn is_ordinary(&self) -> bool {
        self.to.is_none() && self.slot.is_none() && self.until.is_none()
    }
}

/// A client, as it is compared with whom messages are for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipient {
    pub(super) name: ClientName,
    pub(super) uid: Option<ClientUid>,
}

impl Addressee {
    pub(super) fn is(&self, recipient: Recipient) -> bool {
        match self.0 {
            Which::Client(name) => name == recipient.name,
            Which::Transport(uid) => Some(uid) == recipient.uid,
        }
    }
}

/// What has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Freed {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Freed {
    fn add(&mut self, message: Option<Message>) {
        if let Some(message) = message {
            self.messages += 1;
            self.bytes += cost(&message);
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Entry {
    position: Position,
    message: Message,
    terms: Option<Box<Terms>>,
}

impl Entry {
    fn to(&self) -> Option<&Addressee> {
        self.terms.as_ref().and_then(|terms| terms.to.as_ref())
    }

    fn is_for(&self, recipient: Recipient) -> bool {
        self.to().is_none_or(|to| to.is(recipient))
    }

    fn is_own(&self, recipient: Recipient) -> bool {
        self.to().is_some_and(|to| to.is(recipient))
    }
}

/// A message that is to leave when a newer one may leave.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Replaced {
    by: Position,
    position: Position,
}

/// Messages with their positions. A position that is not there is no client's any more.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Sparse {
    /// By position.
    entries: VecDeque<Entry>,
    head: Position,
    /// The newest message of each slot, as long as it is there.
    slots: BTreeMap<ByteString, Position>,
    /// Until the newer one is committed, a crash would bring the older one back, and not the newer one. In the order
    /// of the newer ones.
    replaced: VecDeque<Replaced>,
    /// When the time of a message is over.
    deadlines: BTreeSet<(Moment, Position)>,
    /// Where the clients are that need less than they have not acknowledged.
    past: BTreeMap<ClientUid, Position>,
    /// Messages before this one that were for one client alone have left with that client's record.
    lost: Position,
    /// Messages for one client alone have left, each before this: that client had it, or could not have it any more.
    own_left: BTreeMap<ClientUid, Position>,
    /// Of these, those that no client has had.
    let_go: BTreeMap<ClientUid, Position>,
}

impl Sparse {
    pub(super) fn new(base: Position) -> Self {
        Self {
            entries: VecDeque::new(),
            head: base,
            slots: BTreeMap::new(),
            replaced: VecDeque::new(),
            deadlines: BTreeSet::new(),
            past: BTreeMap::new(),
            lost: Position::ZERO,
            own_left: BTreeMap::new(),
            let_go: BTreeMap::new(),
        }
    }

    /// Whether it holds nothing that matters.
    pub(super) fn is_over(&self) -> bool {
        self.entries.is_empty() && self.past.is_empty()
    }

    pub(super) fn head(&self) -> Position {
        self.head
    }

    pub(super) fn oldest(&self) -> Position {
        self.entries.front().map_or(self.head, |entry| entry.position)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.entries.iter().map(|entry| &entry.message)
    }

    fn index(&self, position: Position) -> Option<usize> {
        self.entries.binary_search_by_key(&position, |entry| entry.position).ok()
    }

    /// The index of the first message from `position` on.
    fn first_from(&self, position: Position) -> usize {
        self.entries.partition_point(|entry| entry.position < position)
    }

    pub(super) fn get(&self, position: Position) -> Option<&Message> {
        self.index(position).map(|at| &self.entries[at].message)
    }

    pub(super) fn is_for(&self, position: Position, recipient: Recipient) -> bool {
        self.index(position).is_some_and(|at| self.entries[at].is_for(recipient))
    }

    pub(super) fn next_for(
        &self,
        from: Position,
        recipient: Recipient,
        committed: Position,
    ) -> Position {
        let from_there = self.entries.iter().skip(self.first_from(from));
        let next = from_there
            .take_while(|entry| entry.position < committed)
            .find(|entry| entry.is_for(recipient));
        next.map_or(committed.max(from), |entry| entry.position)
    }

    pub(super) fn count_for(&self, from: Position, recipient: Recipient) -> u64 {
        let from_there = self.entries.iter().skip(self.first_from(from));
        from_there.filter(|entry| entry.is_for(recipient)).count() as u64
    }

    pub(super) fn push(&mut self, message: Message, terms: Option<Box<Terms>>) {
        let position = self.head;
        outbox::push(&mut self.entries, Entry { position, message, terms });
        self.head = position.advanced_by(1);
    }

    pub(super) fn push_with(
        &mut self,
        message: Message,
        terms: Terms,
        unseen: Option<Position>,
    ) -> Freed {
        let position = self.head;
        let mut freed = Freed::default();
        if let Some(until) = terms.until {
            self.deadlines.insert((until, position));
        }
        if let Some(slot) = &terms.slot
            && let Some(old) = self.slots.insert(slot.clone(), position)
        {
            if unseen.is_some_and(|unseen| old >= unseen) {
                freed.add(self.remove(old));
            } else {
                self.replaced.push_back(Replaced { by: position, position: old });
            }
        }
        let terms = (!terms.is_ordinary()).then(|| Box::new(terms));
        self.push(message, terms);
        freed
    }

    pub(super) fn gives_way(&self, slot: &str, unseen: Option<Position>) -> Freed {
        let old = self.slots.get(slot).filter(|old| unseen.is_some_and(|unseen| **old >= unseen));
        let mut freed = Freed::default();
        freed.add(old.and_then(|old| self.get(*old)).cloned());
        freed
    }

    pub(super) fn remove(&mut self, position: Position) -> Option<Message> {
        let at = self.index(position)?;
        let entry = self.entries.remove(at)?;
        self.forget_terms(&entry);
        Some(entry.message)
    }

    fn forget_terms(&mut self, entry: &Entry) {
        let Some(terms) = &entry.terms else {
            return;
        };
        if let Some(until) = terms.until {
            self.deadlines.remove(&(until, entry.position));
        }
        if let Some(slot) = &terms.slot
            && self.slots.get(slot) == Some(&entry.position)
        {
            self.slots.remove(slot);
        }
    }

    /// Forgets everything before `position`; `gone` takes each message.
    pub(super) fn forget(
        &mut self,
        position: Position,
        mut gone: impl FnMut(Position, Message, Option<&Terms>),
    ) -> Freed {
        let mut freed = Freed::default();
        while self.entries.front().is_some_and(|entry| entry.position < position)
            && let Some(entry) = self.entries.pop_front()
        {
            self.forget_terms(&entry);
            freed.messages += 1;
            freed.bytes += cost(&entry.message);
            gone(entry.position, entry.message, entry.terms.as_deref());
        }
        freed
    }

    /// Messages before the oldest one are needed again, which were for all and for good.
    pub(super) fn take_back(&mut self, messages: VecDeque<(Position, Message)>) {
        self.entries.reserve_exact(messages.len());
        for (position, message) in messages.into_iter().rev() {
            self.entries.push_front(Entry { position, message, terms: None });
        }
    }

    /// Whether the message at a position, if there is one, is for all clients.
    pub(super) fn is_for_all(&self, position: Position) -> bool {
        self.index(position).is_none_or(|at| self.entries[at].to().is_none())
    }

    /// Returns the next message from `from` on that is for all clients.
    pub(super) fn next_for_all(&self, from: Position) -> Option<(Position, &Message)> {
        let mut from_there = self.entries.iter().skip(self.first_from(from));
        let next = from_there.find(|entry| entry.to().is_none())?;
        Some((next.position, &next.message))
    }

    /// Returns before which position messages have left that were for one client alone, whichever.
    pub(super) fn alone_left(&self) -> Position {
        self.own_left.values().copied().max().unwrap_or_default().max(self.lost)
    }

    pub(super) fn commit(&mut self, committed: Position) -> Freed {
        let mut freed = Freed::default();
        while let Some(&Replaced { by, position }) = self.replaced.front()
            && by < committed
        {
            self.replaced.pop_front();
            freed.add(self.remove(position));
        }
        freed
    }

    pub(super) fn expire(&mut self, now: Moment) -> Freed {
        let mut freed = Freed::default();
        while let Some(&(until, position)) = self.deadlines.first()
            && until <= now
        {
            self.deadlines.pop_first();
            freed.add(self.remove(position));
        }
        freed
    }

    pub(super) fn next_expiry(&self) -> Option<Moment> {
        self.deadlines.first().map(|(until, _)| *until)
    }

    pub(super) fn past(&self, uid: ClientUid) -> Option<Position> {
        self.past.get(&uid).copied()
    }

    pub(super) fn set_past(&mut self, uid: ClientUid, past: Option<Position>) {
        match past {
            Some(past) => self.past.insert(uid, past),
            None => self.past.remove(&uid),
        };
    }

    pub(super) fn take_own(
        &mut self,
        recipient: Recipient,
        from: Position,
        position: Position,
    ) -> Freed {
        let (first, end) = (self.first_from(from), self.first_from(position));
        let mut freed = Freed::default();
        let own = self.own(recipient, first, end);
        self.note_own_left(recipient, &own);
        for position in own {
            freed.add(self.remove(position));
        }
        freed
    }

    /// Lets go of what is for a client alone, before `end`.
    pub(super) fn let_go_of(
        &mut self,
        recipient: Recipient,
        end: Position,
    ) -> Vec<(Position, usize)> {
        let own = self.own(recipient, 0, self.first_from(end));
        self.note_own_left(recipient, &own);
        if let (Some(uid), Some(last)) = (recipient.uid, own.last()) {
            self.let_go.insert(uid, last.advanced_by(1));
        }
        let gone = own.into_iter().filter_map(|at| Some((at, self.remove(at)?.len())));
        gone.collect()
    }

    /// The positions of what is for a client alone, between two indices.
    fn own(&self, recipient: Recipient, first: usize, end: usize) -> Vec<Position> {
        let entries = self.entries.iter().take(end).skip(first);
        entries.filter(|entry| entry.is_own(recipient)).map(|entry| entry.position).collect()
    }

    fn note_own_left(&mut self, recipient: Recipient, own: &[Position]) {
        if let (Some(uid), Some(last)) = (recipient.uid, own.last()) {
            self.set_own_left(uid, last.advanced_by(1));
        }
    }

    /// Messages before this one that were for this client alone have left.
    ///
    /// From a record: it does not say whether the client has had them.
    pub(super) fn restore_own_left(&mut self, uid: ClientUid, before: Position) {
        if before > Position::ZERO {
            self.set_own_left(uid, before);
            self.let_go.insert(uid, before);
        }
    }

    fn set_own_left(&mut self, uid: ClientUid, before: Position) {
        if before > self.own_left(uid) {
            self.own_left.insert(uid, before);
        }
    }

    pub(super) fn own_left(&self, uid: ClientUid) -> Position {
        self.own_left.get(&uid).copied().unwrap_or_default()
    }

    /// The client with this record is forgotten. What was let go of its own it misses when it comes back.
    pub(super) fn forget_client(&mut self, uid: ClientUid) {
        self.past.remove(&uid);
        self.own_left.remove(&uid);
        let let_go = self.let_go.remove(&uid).unwrap_or_default();
        self.lost = self.lost.max(let_go);
    }

    pub(super) fn lost(&self) -> Position {
        self.lost
    }

    pub(super) fn change_identity(&mut self, old: IdentityTag, new: IdentityTag) {
        for entry in &mut self.entries {
            if let Some(terms) = &mut entry.terms
                && let Some(Addressee(Which::Client(name))) = &mut terms.to
                && name.identity == old
            {
                name.identity = new;
            }
        }
    }

    /// What a snapshot keeps: not what leaves when that is durable, nor what is for a transport.
    fn kept(&self) -> impl Iterator<Item = &Entry> {
        let replaced: BTreeSet<_> = self.replaced.iter().map(|it| it.position).collect();
        let is_for_transport =
            |entry: &Entry| matches!(entry.to(), Some(Addressee(Which::Transport(_))));
        self.entries
            .iter()
            .filter(move |entry| !replaced.contains(&entry.position) && !is_for_transport(entry))
    }

    pub(super) fn storable(&self) -> impl Iterator<Item = &Message> {
        self.kept().map(|entry| &entry.message)
    }

    /// Returns what is to be stored in addition to the messages; times as ages of the session.
    pub(super) fn stored(&self, age_at: impl Fn(Moment) -> u64) -> StoredSparse {
        let terms = self.kept().map(|entry| {
            let terms = entry.terms.as_deref();
            StoredTerms {
                position: entry.position,
                to: entry.to().and_then(|to| match to.0 {
                    Which::Client(name) => Some(name),
                    Which::Transport(_) => None,
                }),
                slot: terms.and_then(|terms| terms.slot.as_ref()).map(ToString::to_string),
                until: terms.and_then(|terms| terms.until).map(&age_at),
            }
        });
        StoredSparse { head: self.head, lost: self.lost, terms: terms.collect() }
    }

    pub(super) fn restored(
        stored: StoredSparse,
        messages: impl Iterator<Item = Message>,
        moment_at: impl Fn(u64) -> Moment,
    ) -> Self {
        let mut sparse = Self::new(Position::ZERO);
        for (of, message) in stored.terms.into_iter().zip(messages) {
            sparse.head = of.position;
            let terms = Terms {
                to: of.to.map(|name| Addressee(Which::Client(name))),
                slot: of.slot.map(ByteString::from),
                until: of.until.map(&moment_at),
            };
            sparse.push_with(message, terms, None);
        }
        sparse.head = stored.head;
        sparse.lost = stored.lost;
        sparse
    }
}

/// What a record has of a sparse outbox in addition to the messages.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct StoredSparse {
    pub(super) head: Position,
    lost: Position,
    /// One for each message.
    terms: Vec<StoredTerms>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct StoredTerms {
    position: Position,
    to: Option<ClientName>,
    slot: Option<String>,
    /// The age of the session, in microseconds.
    until: Option<u64>,
}

//! The machine's part of a snapshot, and a session rebuilt from one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use bytestring::ByteString;
use serde::{Deserialize, Serialize};

use super::{
    Access, ClientName, DeliveryKey, Epoch, IdentityTag, Rules, Session,
    client::{Client, ClientUid, Presence, Standing, Takeover, Who},
    history::StoredHistory,
    lives::{self, Earlier, KnownLife},
    outbox::Outbox,
    poison::{Court, Poison, Suspect},
    sparse::StoredSparse,
    urgent::Early,
};
use crate::{AttachmentNumber, GapReason, Message, Moment, Position, WireId};

/// After a history that may have gone on unseen, attachment numbers skip this many numbers: a number that was told
/// must not be told again.
const UNSEEN_ATTACHMENTS: u64 = 1 << 20;

/// What a snapshot keeps of a session, taken at a boundary: no message is in hand.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub(super) epoch: Epoch,
    /// A hello has named the epoch.
    named: bool,
    /// The lives whose history this one's outbox goes on from.
    pub(super) earlier: Vec<Earlier>,
    /// Nothing has left that is not in the outbox: it is whole, also if the history has gone on since.
    exact: bool,
    pub(super) attachment: AttachmentNumber,
    pub(super) pushed_out: bool,
    /// Longest gone first, attached ones last.
    pub(super) clients: Vec<StoredClient>,
    pub(super) outbox: Option<StoredOutbox>,
    /// Messages of plain clients that were in hand when the process died.
    pub(super) plain_suspects: Vec<Suspect>,
    /// A message has been dropped, and none has been handled since.
    pub(super) dropped_last: bool,
    /// The number of crashes in a row before this life.
    pub(super) crashes: u8,
    /// What came without a transport and with a key, and is handled; the newest last.
    pub(super) delivered: Vec<DeliveryKey>,
}

impl Snapshot {
    /// Returns whether this is an epoch of the session, of whichever of its lives.
    pub fn knows_epoch(&self, epoch: &WireId) -> bool {
        self.epoch.life_in(epoch).is_some()
    }

    /// Returns the outbox, if it holds all that has left: the session has said nothing since (`clean`), or the
    /// life that wrote it put everything into the record before it left. How the session is kept now says
    /// nothing of that.
    pub(super) fn whole_outbox(&self, clean: bool) -> Option<&StoredOutbox> {
        self.outbox.as_ref().filter(|_| clean || self.exact)
    }

    /// Returns whether a client of this identity is remembered.
    pub fn knows_identity(&self, identity: IdentityTag) -> bool {
        self.identities().any(|known| known == identity)
    }

    /// Returns the identity of each client that is remembered.
    pub fn identities(&self) -> impl Iterator<Item = IdentityTag> {
        self.clients.iter().map(|client| client.name.identity)
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct StoredClient {
    pub(super) name: ClientName,
    access: Access,
    /// How many of its messages are handled.
    pub(super) handled: u64,
    /// The numbers of those that are handled, and not all before them are.
    early: Vec<(u64, u64)>,
    counts_unknown: bool,
    /// Which of the session's lives, see [`life_at`](super::lives::life_at): random numbers would double it.
    shown: Option<u32>,
    held: Option<u32>,
    acked: Position,
    /// Where it needs something next: all before is acknowledged, or not for it.
    needed: Position,
    /// Before this, messages have left that were for it alone.
    own_left: Option<Position>,
    heard: AttachmentNumber,
    newest: AttachmentNumber,
    /// Why it stopped mattering, if it did.
    stopped: Option<GapReason>,
    /// Why it last did: perhaps it has not been told.
    stopped_by: GapReason,
    takeover: Takeover,
    /// Its message that was in hand when the process died.
    pub(super) suspect: Option<Suspect>,
    /// The numbers of its messages that were dropped.
    pub(super) dropped: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct StoredOutbox {
    pub(super) base: Position,
    pub(super) acknowledged: Position,
    pub(super) checkpoint: Option<Position>,
    pub(super) overflowed: Position,
    pub(super) messages: Vec<StoredMessage>,
    /// What tells the messages apart, where some have left before others.
    pub(super) sparse: Option<StoredSparse>,
    /// What no client needs any more, if that is stored.
    pub(super) history: Option<StoredHistory>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) enum StoredMessage {
    Text(String),
    Binary(Bytes),
}

impl From<Message> for StoredMessage {
    fn from(message: Message) -> Self {
        match message {
            Message::Text(text) => Self::Text(text.to_string()),
            Message::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

impl From<StoredMessage> for Message {
    fn from(stored: StoredMessage) -> Self {
        match stored {
            StoredMessage::Text(text) => Self::Text(ByteString::from(text)),
            StoredMessage::Binary(bytes) => Self::Binary(bytes),
        }
    }
}

/// What a snapshot covers: to be given back once it is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Covered {
    head: Position,
    named: bool,
    handled: Vec<(ClientUid, u64)>,
    ticket: u32,
}

/// Clients of which a durable snapshot does not know yet, or whose hello is the first of this life, to be
/// written into it at once: that hello waits for this, and the next boundary may be far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Newcomers {
    clients: Vec<StoredClient>,
    attachment: AttachmentNumber,
    newest: Option<ClientUid>,
}

impl Snapshot {
    /// Adds clients that have come since, and that a hello names the epoch.
    pub fn admit(&mut self, newcomers: &Newcomers) {
        self.named = true;
        let Newcomers { clients, attachment, .. } = newcomers;
        // One that was pushed out meanwhile and came back counts from 0 again.
        self.clients.retain(|known| {
            known.name.is_plain() || clients.iter().all(|new| new.name != known.name)
        });
        self.clients.extend(clients.iter().cloned());
        self.attachment = self.attachment.max(*attachment);
    }
}

impl<I: Clone> Session<I> {
    /// Takes a snapshot; with the outbox if it is durable or `whole` asks for it.
    ///
    /// Messages that wait in the inbox are not in it: their clients keep them until they are acknowledged.
    ///
    /// # Panics
    ///
    /// Panics if a message is in hand: its effect might be half in.
    pub fn snapshot(&self, whole: bool) -> (Snapshot, Covered) {
        assert!(!self.is_message_in_hand(), "a snapshot is taken at a boundary");
        let mut clients: Vec<_> = self.clients.iter().collect();
        clients.sort_by_key(|client| match client.presence {
            Presence::Gone { order, .. } => order.get(),
            Presence::Attached => u64::MAX,
        });
        let snapshot = Snapshot {
            epoch: self.epoch(),
            named: self.naming.is_named(),
            earlier: self.earlier_lives().to_vec(),
            exact: self.rules.durable_outbox,
            attachment: self.last_attachment,
            pushed_out: self.pushed_out,
            clients: clients.into_iter().map(|client| self.stored_client(client)).collect(),
            outbox: (whole || self.rules.durable_outbox).then(|| self.stored_outbox()),
            plain_suspects: self.plain_suspects().to_vec(),
            dropped_last: self.court().is_some_and(|court| court.dropped_last),
            crashes: self.court().map_or(0, Court::crashes),
            delivered: self.handled_keys().collect(),
        };
        let handled = self.clients.iter().map(|client| (client.uid, client.handled())).collect();
        let named = self.naming.is_named();
        let ticket = self.court().map_or(0, Court::ticket);
        (snapshot, Covered { head: self.outbox.head(), named, handled, ticket })
    }

    /// A snapshot is durable: what it covers may be acknowledged, and may leave.
    pub fn handle_committed(&mut self, covered: &Covered, now: Moment) {
        self.outbox.commit(covered.head);
        self.naming.note_saved(covered.named);
        self.note_saved_clients(covered.handled.iter().map(|(uid, _)| *uid).max());
        for &(uid, handled) in &covered.handled {
            if let Some(client) = self.clients.get_mut(uid)
                && client.committed < handled
            {
                client.committed = handled;
                self.note_acknowledgeable(uid, 0, now);
            }
        }
        self.note_recorded(covered.ticket);
        if self.outbox.is_sparse() {
            // Clients may be past what they could not be past before, and what waited for this may leave.
            self.let_go_of_unneeded();
            self.trim();
        }
        self.wake.transports = true;
        self.wake.room |= self.usage.waits_for_room();
    }

    /// Returns the clients whose first hello [waits](Self::waits_for_commit), if there are any.
    pub fn newcomers(&self) -> Option<Newcomers> {
        if !self.rules.durable_outbox {
            return None;
        }
        let saved = self.saved_clients();
        let clients: Vec<_> =
            self.clients.iter().filter(|client| Some(client.uid) > saved).collect();
        let newest = clients.iter().map(|client| client.uid).max();
        let names = self.naming.is_named() && !self.naming.is_saved();
        (newest.is_some() || names).then(|| Newcomers {
            clients: clients.into_iter().map(|client| self.stored_client(client)).collect(),
            attachment: self.last_attachment,
            newest,
        })
    }

    /// The durable snapshot now [has](Snapshot::admit) these clients.
    pub fn handle_admitted(&mut self, newcomers: &Newcomers) {
        self.note_saved_clients(newcomers.newest);
        self.naming.note_saved(true);
        self.wake.transports = true;
    }

    /// The outcome is durable, and all that led to it: its clients may be told.
    pub fn handle_outcome_committed(&mut self, now: Moment) {
        self.end_committed = true;
        let (head, handled) = (
            self.outbox.head(),
            self.clients.iter().map(|client| (client.uid, client.handled())).collect(),
        );
        let ticket = self.court().map_or(0, Court::ticket);
        self.handle_committed(&Covered { head, named: true, handled, ticket }, now);
    }

    /// Rebuilds a session that is `age` old, for another life: `life` is random bytes. Its clients are gone;
    /// `info` says what the application is told about each.
    ///
    /// If the snapshot holds the whole outbox (`clean`: the session has said nothing since; or the life that wrote
    /// it was exact), the history goes on, and cursors of the lives before are honoured as far as it is theirs.
    /// Otherwise another history begins, empty.
    pub fn restore(
        rules: Arc<Rules>,
        snapshot: Snapshot,
        clean: bool,
        life: u64,
        age: Duration,
        now: Moment,
        mut info: impl FnMut(ClientName) -> I,
    ) -> Self {
        let mut session = Self::new(rules, snapshot.epoch.reborn(life), now);
        session.note_court(|court| *court = Court::restored(clean, &snapshot));
        session.remember_keys(&snapshot.delivered);
        session.usage.has_lived(age);
        let end = snapshot.whole_outbox(clean).map(StoredOutbox::head);
        let unseen = if clean { 0 } else { UNSEEN_ATTACHMENTS };
        session.last_attachment =
            AttachmentNumber::new(snapshot.attachment.get().saturating_add(unseen));
        session.pushed_out = snapshot.pushed_out;
        let life = |at| lives::life_at(snapshot.epoch, &snapshot.earlier, at);
        if let Some(end) = end {
            let clients = snapshot.clients.iter();
            let held: Vec<_> = clients.flat_map(|it| [it.shown, it.held]).flatten().collect();
            let held: Vec<_> = held.into_iter().filter_map(life).collect();
            session.go_on(&snapshot.earlier, snapshot.epoch, snapshot.named, end, &held);
        }
        let mut needed = Vec::new();
        let trials = session.trials();
        for stored in snapshot.clients {
            let name = stored.name;
            let acked = if end.is_some() { stored.acked } else { Position::ZERO };
            let uid = session.clients.insert(Who { name, info: info(name) }, acked);
            needed.push((uid, acked, stored.needed, stored.own_left));
            session.clients.set_attached(uid, stored.newest, stored.access);
            session.clients.set_gone(uid, now);
            let known = |at: Option<u32>| session.lives().known(life(at?)?);
            let (shown, held) = (known(stored.shown), known(stored.held));
            if !stored.early.is_empty() {
                session.note_rare(|rare| rare.has_early = true);
            }
            if let Some(client) = session.clients.get_mut(uid) {
                stored.fill(client);
                (client.shown, client.held) = (shown, held);
                client.trials = trials;
            }
            session.note_saved_clients(Some(uid));
        }
        if let (Some(_), Some(outbox)) = (end, snapshot.outbox) {
            let usage = &session.usage;
            let retention = &session.rules.retention;
            let moment_at = |age| usage.moment_of(age).max(now);
            session.outbox = Outbox::restored(outbox, moment_at, retention);
            for (uid, acked, needed, own_left) in needed {
                session.outbox.set_needed(uid, acked, needed);
                session.outbox.restore_own_left(uid, own_left.unwrap_or_default());
            }
        }
        session
    }
}

impl<I: Clone> Session<I> {
    fn stored_outbox(&self) -> StoredOutbox {
        let age_at = |until| self.usage.age_in_micros(until);
        self.outbox.stored(age_at, &self.rules.retention)
    }

    pub(super) fn stored_client(&self, client: &Client<I>) -> StoredClient {
        StoredClient {
            name: client.who.name,
            access: client.access,
            handled: client.handled(),
            // A plain client does not count.
            early: client
                .early()
                .filter(|_| !client.who.name.is_plain())
                .map_or_else(Vec::new, |early| early.ranges().to_vec()),
            counts_unknown: client.counts_unknown,
            shown: client.shown.map(KnownLife::index),
            held: client.held.map(KnownLife::index),
            acked: client.acked,
            needed: self.needed_by(client),
            own_left: Some(self.outbox.own_left(client.uid)).filter(|left| *left > Position::ZERO),
            heard: client.heard,
            newest: client.newest,
            stopped: match client.standing {
                Standing::Matters => None,
                Standing::Stopped(reason) => Some(reason),
            },
            stopped_by: client.stopped_by,
            takeover: client.takeover,
            suspect: client.poison().and_then(|poison| poison.suspect),
            dropped: client.dropped().to_vec(),
        }
    }

    /// As the last snapshot would have had it: what has been handled since is not in there.
    pub(super) fn committed_client(&self, client: &Client<I>) -> StoredClient {
        StoredClient { handled: client.committed, early: Vec::new(), ..self.stored_client(client) }
    }
}

impl StoredClient {
    /// Returns from which cursor on it misses nothing that is for it, if the outbox ends at `head`.
    pub(super) fn whole_from(&self, head: Position) -> Position {
        if self.needed >= head { self.acked.max(self.own_left.unwrap_or_default()) } else { head }
    }

    /// Whether both are of one client.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.name == other.name
    }

    fn fill<I>(&self, client: &mut Client<I>) {
        client.received = self.handled;
        client.taken = self.handled;
        client.committed = self.handled;
        client.counts_unknown = self.counts_unknown;
        client.heard = self.heard;
        client.takeover = self.takeover;
        client.stopped_by = self.stopped_by;
        if self.suspect.is_some() || !self.dropped.is_empty() {
            let poison = Poison { suspect: self.suspect, dropped: self.dropped.clone() };
            client.note_rare(|rare| rare.poison = poison);
        }
        if !self.early.is_empty() {
            let early = Early::restored(self.early.clone());
            client.note_rare(|rare| rare.early = early);
        }
        client.standing = self.stopped.map_or(Standing::Matters, Standing::Stopped);
    }
}

impl StoredOutbox {
    pub(super) fn head(&self) -> Position {
        match &self.sparse {
            Some(sparse) => sparse.head,
            None => self.base.advanced_by(self.messages.len() as u64),
        }
    }

    pub(super) fn into_parts(self) -> (impl Iterator<Item = Message>, Option<StoredSparse>) {
        (self.messages.into_iter().map(Message::from), self.sparse)
    }
}

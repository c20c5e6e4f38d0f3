use std::{fmt, num::NonZeroU64};

use serde::{Deserialize, Serialize};

use super::{
    Bounds, Pace, PlainAck, inbox::FreshStart, lives::KnownLife, plain::Trouble, poison::Poison,
    urgent::Early,
};
use crate::{AttachmentNumber, ClientId, GapReason, Moment, Position, compact::Rare};

/// Names a client for as long as the session lives; never given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct ClientUid(NonZeroU64);

/// An identity as the rules know it: 16 bytes that they compare and never read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdentityTag([u8; 16]);

impl IdentityTag {
    /// Makes a tag of an identity's bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the identity's bytes.
    pub const fn bytes(&self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Debug for IdentityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Who a client is: an identity, and which of its clients. Under a shared key different identities meet in one
/// session. The same client id under another identity is another client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ClientName {
    /// Whose it is.
    pub identity: IdentityTag,
    /// Which of that identity's clients.
    pub kind: ClientKind,
}

/// Which of an identity's clients one is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ClientKind {
    /// All plain transports of an identity together; under [`Attach::Share`](super::Attach::Share) one plain
    /// transport.
    Plain,
    /// A page or program that names itself.
    Named(ClientId),
    /// One plain transport that may only read, whatever the attach policy.
    PlainWatcher,
}

/// What a client may do on an attachment. A client that may only read is a *watcher*: it takes nobody's place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// It may read and write.
    #[default]
    Full,
    /// It may read: a data message of it closes its transport.
    ReadOnly,
}

impl ClientName {
    /// Names a plain client of this identity.
    pub const fn plain(identity: IdentityTag) -> Self {
        Self { identity, kind: ClientKind::Plain }
    }

    /// Names the client of this identity that has given itself this id.
    pub const fn named(identity: IdentityTag, id: ClientId) -> Self {
        Self { identity, kind: ClientKind::Named(id) }
    }

    /// Names a plain client of this identity that may only read.
    pub const fn plain_watcher(identity: IdentityTag) -> Self {
        Self { identity, kind: ClientKind::PlainWatcher }
    }

    /// Returns whether it is a plain client.
    pub fn is_plain(&self) -> bool {
        matches!(self.kind, ClientKind::Plain | ClientKind::PlainWatcher)
    }

    /// Whether this is the same client id under another identity.
    pub(super) fn is_elsewhere(&self, other: &Self) -> bool {
        self.kind == other.kind && self.identity != other.identity && !self.is_plain()
    }

    /// How a transport with this access is known. A plain watcher must not be taken for the identity's plain client.
    pub(super) fn with(self, access: Access) -> Self {
        match (self.kind, access) {
            (ClientKind::Plain, Access::ReadOnly) => Self::plain_watcher(self.identity),
            (ClientKind::Plain | ClientKind::PlainWatcher | ClientKind::Named(_), _) => self,
        }
    }
}

/// A client, and what the application is told about it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Who<I> {
    /// Its name.
    pub name: ClientName,
    /// What came with its newest attachment.
    pub info: I,
}

/// Whether a client has a transport.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Presence {
    Attached,
    Gone {
        /// The session's order counter when it went. The smallest one has been gone longest.
        order: NonZeroU64,
        /// When it went; in a restored session: when the session was restored.
        since: Moment,
    },
}

/// Whether the outbox is kept for a client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Standing {
    Matters,
    /// It stopped mattering; what it misses when it comes back has this cause.
    Stopped(GapReason),
}

/// Whether a client knows that another one has taken the session over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) enum Takeover {
    /// No other client has, since its newest attachment.
    None,
    /// It has not answered a 4100 yet: its cursor supersedes no other client.
    Untold,
    /// It has answered the 4100: its next offer is what its user wants.
    Told,
}

/// What a session knows of one client, for as long as the session lives or until others push it out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Client<I> {
    pub(super) uid: ClientUid,
    pub(super) who: Who<I>,
    /// What it may do on its newest attachment.
    pub(super) access: Access,
    pub(super) presence: Presence,
    pub(super) standing: Standing,
    /// Why it last stopped mattering: the hello that told it may not have arrived.
    pub(super) stopped_by: GapReason,
    pub(super) takeover: Takeover,
    /// The handler is told of it with the next attach: otherwise it would think that the client has its view.
    pub(super) untold_start: Option<FreshStart>,
    /// Its newest attachment.
    pub(super) newest: AttachmentNumber,
    /// The first attachment of its present line: of the plain page that came without saying where it is (plain).
    pub(super) line: AttachmentNumber,
    /// Its newest transport reads events, and confirms nothing (plain).
    pub(super) reads_events: bool,
    /// It was told `received: null` and has sent no frame since: every offer of it gets `null` again.
    pub(super) counts_unknown: bool,
    /// The life whose epoch its newest hello has named; `None` for a plain one.
    pub(super) shown: Option<KnownLife>,
    /// The life whose epoch it is known to have: it has offered that, or answered a hello that named it.
    pub(super) held: Option<KnownLife>,
    /// The number of its next messages that may be what has killed the process.
    pub(super) trials: u16,
    /// Everything before this is acknowledged, or cannot be had any more.
    pub(super) acked: Position,
    /// Everything before this was written to its newest transport.
    pub(super) written: Position,
    /// The newest attachment on which a frame of it has arrived.
    pub(super) heard: AttachmentNumber,
    /// Its data messages: accepted ≥ taken by the handler ≥ [handled](Self::handled) ≥ committed.
    pub(super) received: u64,
    pub(super) taken: u64,
    pub(super) committed: u64,
    /// The newest of those that were taken is in the handler's hand.
    pub(super) in_hand: bool,
    /// Payload bytes of its messages that wait in the inbox.
    pub(super) inbox_bytes: usize,
    rare: Rare<ClientRarities>,
}

/// What most clients do not have. See [`compact`](crate::compact).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct ClientRarities {
    /// What it had trouble with (plain).
    pub(super) trouble: Trouble,
    /// What is known of its messages that have killed the process.
    pub(super) poison: Poison,
    /// When it would have sent its last message if it had kept an even pace.
    pub(super) paced: Option<Moment>,
    /// Its messages that were taken before their turn, and do not count yet.
    pub(super) early: Early,
}

impl<I> Client<I> {
    /// Returns what it had trouble with, if anything (plain).
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.rare.get().map(|rare| &rare.trouble)
    }

    /// Returns what is known of its messages that have killed the process, if anything is.
    pub(super) fn poison(&self) -> Option<&Poison> {
        self.rare.get().map(|rare| &rare.poison)
    }

    /// Notes something that most clients do not have, or takes it back.
    pub(super) fn note_rare<R>(&mut self, note: impl FnOnce(&mut ClientRarities) -> R) -> R {
        let noted = note(self.rare.get_or_default());
        self.rare.drop_if(|rare| *rare == ClientRarities::default());
        noted
    }

    /// Counts a message that comes now, if the pace allows it; otherwise says when the message may come.
    ///
    /// This is the generic cell rate algorithm (ITU-T I.371): one moment stands for the whole bucket.
    pub(super) fn keep_pace(&mut self, pace: Pace, now: Moment) -> Result<(), Moment> {
        let even = self.rare.get().and_then(|rare| rare.paced).unwrap_or(now).max(now);
        let ahead = pace.interval() * (pace.burst.get() - 1);
        if even.since(now) > ahead {
            return Err(now + even.since(now).saturating_sub(ahead));
        }
        self.note_rare(|rare| rare.paced = Some(even + pace.interval()));
        Ok(())
    }

    /// Returns its messages that were taken early and do not count yet, if there are any.
    pub(super) fn early(&self) -> Option<&Early> {
        self.rare.get().map(|rare| &rare.early).filter(|early| !early.ranges().is_empty())
    }

    #[cfg(test)]
    pub(super) fn has_rarities(&self) -> bool {
        self.rare.get().is_some()
    }

    /// How many of its messages are handled: what is in hand is not.
    pub(super) fn handled(&self) -> u64 {
        self.taken - u64::from(self.in_hand)
    }

    pub(super) fn matters(&self) -> bool {
        self.standing == Standing::Matters
    }

    pub(super) fn is_attached(&self) -> bool {
        matches!(self.presence, Presence::Attached)
    }

    /// Whether it may only read.
    pub(super) fn is_watcher(&self) -> bool {
        self.access == Access::ReadOnly
    }

    /// Whether the outbox may let go of what was written to it: it confirms nothing.
    pub(super) fn is_passed_when_written(&self, plain_ack: PlainAck) -> bool {
        self.who.name.is_plain() && (self.reads_events || plain_ack == PlainAck::Off)
    }

    /// Messages of it that wait in the inbox, and those that were taken before one of these.
    pub(super) fn waiting(&self) -> u64 {
        self.received - self.taken_through()
    }

    /// Messages of it that would be lost if the session forgot it: in the inbox or in hand.
    pub(super) fn has_unhandled(&self) -> bool {
        self.received > self.handled()
    }

    fn gone_order(&self) -> Option<NonZeroU64> {
        match self.presence {
            Presence::Gone { order, .. } => Some(order),
            Presence::Attached => None,
        }
    }

    /// Since when it is gone.
    pub(super) fn gone_since(&self) -> Option<Moment> {
        match self.presence {
            Presence::Gone { since, .. } => Some(since),
            Presence::Attached => None,
        }
    }
}

/// What a session knows of its clients.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Clients<I> {
    /// By uid: a shared session may have a thousand.
    known: Vec<Client<I>>,
    next_uid: NonZeroU64,
    /// Counts attaches and detaches, to tell which client has been gone longest.
    order: NonZeroU64,
    /// The client that was attached last, watchers apart.
    last_attached: Option<ClientUid>,
}

impl<I> Clients<I> {
    pub(super) const fn new() -> Self {
        Self {
            known: Vec::new(),
            next_uid: NonZeroU64::MIN,
            order: NonZeroU64::MIN,
            last_attached: None,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Client<I>> {
        self.known.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client<I>> {
        self.known.iter_mut()
    }

    pub(super) fn get(&self, uid: ClientUid) -> Option<&Client<I>> {
        self.index(uid).map(|at| &self.known[at])
    }

    pub(super) fn get_mut(&mut self, uid: ClientUid) -> Option<&mut Client<I>> {
        self.index(uid).map(|at| &mut self.known[at])
    }

    fn index(&self, uid: ClientUid) -> Option<usize> {
        self.known.binary_search_by_key(&uid, |client| client.uid).ok()
    }

    pub(super) fn named(&self, name: ClientName) -> Option<&Client<I>> {
        self.known.iter().find(|client| client.who.name == name)
    }

    /// Adds a client that is about to attach.
    pub(super) fn insert(&mut self, who: Who<I>, start: Position) -> ClientUid {
        let uid = ClientUid(self.next_uid);
        self.next_uid = self.next_uid.saturating_add(1);
        self.known.reserve_exact(1);
        self.known.push(Client {
            uid,
            who,
            access: Access::Full,
            presence: Presence::Gone { order: self.order, since: Moment::ZERO },
            standing: Standing::Matters,
            stopped_by: GapReason::Evicted,
            takeover: Takeover::None,
            untold_start: None,
            newest: AttachmentNumber::default(),
            line: AttachmentNumber::default(),
            reads_events: false,
            counts_unknown: false,
            shown: None,
            held: None,
            trials: 0,
            acked: start,
            written: start,
            heard: AttachmentNumber::default(),
            received: 0,
            taken: 0,
            committed: 0,
            in_hand: false,
            inbox_bytes: 0,
            rare: Rare::none(),
        });
        uid
    }

    pub(super) fn remove(&mut self, uid: ClientUid) {
        if let Some(at) = self.index(uid) {
            self.known.remove(at);
        }
    }

    pub(super) fn set_attached(
        &mut self,
        uid: ClientUid,
        number: AttachmentNumber,
        access: Access,
    ) {
        match access {
            Access::Full => self.last_attached = Some(uid),
            Access::ReadOnly if self.last_attached == Some(uid) => self.last_attached = None,
            Access::ReadOnly => {}
        }
        if let Some(client) = self.get_mut(uid) {
            client.presence = Presence::Attached;
            if let Standing::Stopped(reason) = client.standing {
                client.stopped_by = reason;
            }
            client.standing = Standing::Matters;
            // A watcher takes nothing back, so it still owes the answer to its 4100 before it does.
            if access == Access::Full {
                client.takeover = Takeover::None;
            }
            client.access = access;
            client.newest = number;
        }
    }

    pub(super) fn set_gone(&mut self, uid: ClientUid, now: Moment) {
        self.order = self.order.saturating_add(1);
        let order = self.order;
        if let Some(client) = self.get_mut(uid) {
            client.presence = Presence::Gone { order, since: now };
        }
    }

    pub(super) fn any_attached(&self) -> bool {
        self.known.iter().any(Client::is_attached)
    }

    /// Returns which client was attached last, watchers apart.
    pub(super) fn last_attached(&self) -> Option<ClientUid> {
        self.last_attached
    }

    /// Returns when a client went last, of those that are gone, watchers apart.
    pub(super) fn last_left(&self) -> Option<Moment> {
        let writers = self.known.iter().filter(|client| !client.is_watcher());
        writers.filter_map(Client::gone_since).max()
    }

    /// Of the clients that still matter and are not in `kept`, makes the one that has been gone longest stop
    /// mattering. Returns which, if there was one.
    pub(super) fn stop_longest_gone(&mut self, kept: &[ClientUid]) -> Option<ClientUid> {
        let longest = self
            .known
            .iter_mut()
            .filter(|client| client.matters() && !kept.contains(&client.uid))
            .filter_map(|client| Some((client.gone_order()?, client)))
            .min_by_key(|(order, _)| *order);
        let (_, client) = longest?;
        client.standing = Standing::Stopped(GapReason::Overflow);
        Some(client.uid)
    }

    /// Pushes out clients, as far as it can, so that one more of this identity can be remembered. Returns which.
    ///
    /// A watcher does not push out the last writer.
    pub(super) fn push_out_for(
        &mut self,
        identity: IdentityTag,
        access: Access,
        bounds: &Bounds,
    ) -> Vec<(ClientUid, ClientName)> {
        let mut gone = Vec::new();
        let others = bounds.clients.saturating_sub(1);
        self.push_out(others, access, |client| client.who.name.identity == identity, &mut gone);
        let others = bounds.shared_clients.saturating_sub(1);
        self.push_out(others, access, |_| true, &mut gone);
        gone
    }

    /// Pushes out the longest gone of these until at most `keep` are left, but never one with messages in the
    /// inbox or in hand.
    fn push_out(
        &mut self,
        keep: usize,
        access: Access,
        of: impl Fn(&Client<I>) -> bool,
        gone: &mut Vec<(ClientUid, ClientName)>,
    ) {
        let writers = self.known.iter().filter(|client| of(client) && !client.is_watcher());
        // One that is attached stays by itself.
        let last_writer = writers
            .max_by_key(|client| (client.is_attached(), client.gone_order()))
            .map(|client| client.uid);
        let is_kept = |client: &Client<I>| {
            client.has_unhandled()
                || (access == Access::ReadOnly && Some(client.uid) == last_writer)
        };
        while self.known.iter().filter(|client| of(client)).count() > keep {
            let longest = self
                .known
                .iter()
                .filter(|client| of(client) && !is_kept(client))
                .filter_map(|client| Some((client.gone_order()?, client.uid, client.who.name)))
                .min_by_key(|(order, ..)| *order);
            let Some((_, uid, name)) = longest else {
                return;
            };
            self.remove(uid);
            gone.push((uid, name));
        }
    }
}

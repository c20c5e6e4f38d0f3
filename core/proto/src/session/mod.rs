//! The session machine: outbox, inbox, clients, attachments and expiry of one session.
//!
//! Arguments come in one order, here and in [`client`](crate::client): which transport, what, and the time last; then the
//! buffer that is filled, if there is one.
//!
//! [`Session`] is driven by its methods, of four kinds: getters; `handle_*` (what happened); verbs (what the
//! application wants: [`send`](Session::send), [`attach`](Session::attach), …); `poll_*` (what the caller must do).
//! After any of the middle two the caller asks [`take_wake`](Session::take_wake) what to wake. Suggested reading
//! order: [`Rules`], `outbox`, `client`, `attach`, `transport`, `life`.

mod attach;
mod audience;
mod client;
mod damping;
mod deliver;
mod end;
mod epoch;
mod final_counts;
mod history;
mod identity;
mod inbox;
mod lives;
mod observers;
mod outbox;
mod plain;
mod poison;
mod rarities;
mod reading;
mod receive;
mod replay;
mod report;
mod room;
mod rules;
mod runs;
mod send;
mod skips;
mod snapshot;
mod sparse;
#[cfg(test)]
mod tests;
mod transmit;
mod transport;
mod urgent;
mod usage;

use std::{borrow::Cow, sync::Arc, time::Duration};

pub use self::{
    attach::{Arrival, Attached, Claim, Refusal, SessionOrigin},
    audience::{Attendee, Receipt},
    client::{Access, ClientKind, ClientName, IdentityTag, Who},
    deliver::{Delivery, DeliveryKey, DeliveryProgress, Undelivered},
    epoch::Epoch,
    final_counts::FinalCounts,
    history::{Retain, Retention},
    identity::MOVED_RETRY,
    inbox::Event,
    observers::{NotObserved, Observation, ObserveFrom, Observed},
    outbox::MESSAGE_OVERHEAD,
    plain::Undeliverable,
    poison::InHand,
    reading::{NotRead, ReadFrom, Reading},
    receive::{Incoming, Reception},
    report::Carrier,
    rules::{Attach, Bounds, CatchUp, Overflow, Pace, PlainAck, Rules},
    send::{NotSent, Unsent},
    snapshot::{Covered, Newcomers, Snapshot},
    sparse::{Addressee, Terms},
    transmit::Budget,
    transport::Frame,
    usage::{Expiry, GuardId},
};
use self::{
    client::{Client, ClientUid, Clients},
    inbox::Inbox,
    lives::Naming,
    outbox::Outbox,
    rarities::Rarities,
    transport::Transport,
    usage::{Handler, Usage},
};
use crate::{
    AttachmentNumber, Message, Moment, Position, WireId,
    compact::{Few, Rare},
    wire::OutcomeStatus,
};

/// What to wake after a step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[must_use = "somebody may wait for this"]
pub struct Wake {
    /// The handler: something waits in the inbox, or the session has ended.
    pub handler: bool,
    /// Sends that wait for room in the outbox.
    pub room: bool,
    /// The transports: there is something to write, or the inbox has room again.
    pub transports: bool,
    /// An operator: plain transports have begun to supersede each other in a circle.
    pub circle: bool,
    /// The saver: the handler waits for the next commit.
    pub save: bool,
    /// The caller that gives turns: [`Session::waits_for_turn`].
    pub trial: bool,
    /// An operator: a message has been dropped that has killed the process again and again.
    pub dropped: bool,
}

/// Where a session is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// A transport is attached.
    Running,
    /// No transport is attached.
    Suspended,
    /// It has an outcome.
    Completed,
}

/// One session. `I` is what the application is told about a client; it is cloned per message.
///
/// Laid out as written: what a request touches comes first and lies together. See [`compact`](crate::compact).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct Session<I> {
    usage: Usage,
    wake: Wake,
    /// The outcome is durable; matters only where the inbox is.
    end_committed: bool,
    /// Freezes at the next boundary.
    freezes: bool,
    frozen: bool,
    /// Whether any client that counts was ever pushed out; if not, an unknown client has sent nothing.
    pushed_out: bool,
    naming: Naming,
    /// Whose message the handler has in hand.
    in_hand: Option<ClientUid>,
    rare: Rare<Rarities<I>>,
    rules: Arc<Rules>,
    /// Attached ones and ones whose turn is over but whose socket is still there.
    transports: Few<Transport>,
    last_attachment: AttachmentNumber,
    inbox: Inbox<I>,
    clients: Clients<I>,
    outbox: Outbox,
    epoch: Epoch,
}

impl<I: Clone> Session<I> {
    /// Creates a session without attached clients.
    pub fn new(rules: Arc<Rules>, epoch: Epoch, now: Moment) -> Self {
        Self {
            rules,
            epoch,
            usage: Usage::new(now),
            outbox: Outbox::default(),
            inbox: Inbox::new(),
            clients: Clients::new(),
            transports: Few::new(),
            last_attachment: AttachmentNumber::default(),
            in_hand: None,
            rare: Rare::none(),
            end_committed: false,
            freezes: false,
            frozen: false,
            pushed_out: false,
            naming: Naming::default(),
            wake: Wake::default(),
        }
    }

    /// Returns whether this is an epoch of the session, of whichever of its lives.
    pub fn knows_epoch(&self, epoch: &WireId) -> bool {
        self.epoch().life_in(epoch).is_some()
    }

    /// A hello is going to name the epoch: the next snapshot says so.
    ///
    /// If the outbox is durable, no hello leaves before a snapshot that says so is durable. If a snapshot that
    /// is put anyway says so, the first client need not wait.
    pub fn expect_hello(&mut self) {
        self.naming.name();
    }

    /// Returns whether a hello has named the epoch, or is about to.
    pub fn names_epoch(&self) -> bool {
        self.naming.is_named()
    }

    /// Returns whether something that the handler has sent cannot leave before the next commit.
    pub fn has_uncommitted_output(&self) -> bool {
        self.rules.durable_outbox && self.outbox.committed() < self.outbox.head()
    }

    /// Returns what the last steps have to wake, once.
    pub fn take_wake(&mut self) -> Wake {
        std::mem::take(&mut self.wake)
    }

    // The application's verbs.

    /// The handler starts; returns whether it may: not twice, and not after the end.
    pub fn start_handler(&mut self, now: Moment) -> bool {
        let may = self.usage.handler() == Handler::Absent && self.usage.ended.is_none();
        if may {
            self.usage.set_handler(Handler::Working, now);
        }
        may
    }

    /// Hands the handler what comes next, or notes that it waits.
    ///
    /// Asking hands back the message in hand: that message is handled.
    pub fn poll_receive(&mut self, now: Moment) -> Option<Event<I>> {
        self.hand_back();
        if self.usage.ended.is_some() || self.frozen {
            return None;
        }
        if self.rules.durable_inbox && !self.is_next_ready(now) {
            if self.usage.ended.is_none() {
                self.usage.set_handler(Handler::Waiting, now);
            }
            return None;
        }
        let Some((uid, event)) = self.inbox.pop() else {
            if self.transports.is_empty() {
                // Nothing more comes for a while: a suspended session should hold little memory.
                self.inbox.clear();
            }
            self.usage.set_handler(Handler::Waiting, now);
            return None;
        };
        // A transport that waits with a frame for room in the inbox: there may be some now, and how long it may
        // wait depends on whether the handler works.
        let paused = self.attached().any(Transport::is_paused);
        self.wake.transports |= paused;
        let Event::Message { message, .. } = &event else {
            // Only a message in hand is work.
            self.usage.set_handler(Handler::Waiting, now);
            return Some(event);
        };
        self.usage.set_handler(Handler::Working, now);
        self.in_hand = Some(uid);
        if self.rules.durable_inbox || self.rules.durable_outbox {
            let kept = self.rules.durable_inbox.then(|| message.clone());
            let boundary = self.outbox.head();
            self.note_rare(|rare| (rare.kept, rare.boundary) = (kept, boundary));
        }
        let bytes = message.len();
        if let Some(client) = self.clients.get_mut(uid) {
            client.taken += 1;
            client.in_hand = true;
            client.inbox_bytes -= bytes;
        }
        self.note_taken();
        self.note_acknowledgeable(uid, bytes, now);
        Some(event)
    }

    /// The message in hand is handled, and urgent ones with it; without any this changes nothing.
    pub fn hand_back(&mut self) {
        if let Some(uid) = self.in_hand {
            if let Some(client) = self.clients.get_mut(uid) {
                client.in_hand = false;
            }
            self.note_handled(uid);
            self.in_hand = None;
        }
        self.drop_rare(|rare| (rare.kept, rare.boundary) = (None, Position::ZERO));
        self.count_early();
        self.frozen |= self.freezes;
    }

    /// Holds off expiry until [`Self::release_guard`], at the longest until `deadline`.
    ///
    /// Returns `None` when as many guards are held as the bounds allow.
    pub fn guard(
        &mut self,
        why: impl Into<Cow<'static, str>>,
        deadline: Option<Moment>,
        now: Moment,
    ) -> Option<GuardId> {
        self.usage.guard(why.into(), deadline, self.rules.bounds.guards, now)
    }

    /// Sets or moves a guard's deadline. A guard that has ended stays so.
    pub fn set_guard_deadline(&mut self, id: GuardId, deadline: Moment, now: Moment) {
        self.usage.set_guard_deadline(id, deadline, now);
    }

    /// Ends a guard; a second call changes nothing.
    pub fn release_guard(&mut self, id: GuardId, now: Moment) {
        self.usage.release_guard(id, now);
    }

    /// A task that the session owns has started: it is work.
    pub fn task_started(&mut self) {
        self.usage.task_started();
    }

    /// A task that the session owns has ended.
    pub fn task_ended(&mut self, now: Moment) {
        self.usage.task_ended(now);
    }

    /// An upgrade is under way: until [`Self::release_hold`] it counts as a transport.
    pub fn hold(&mut self) {
        self.usage.hold();
    }

    /// The upgrade has become a transport or failed.
    pub fn release_hold(&mut self, now: Moment) {
        self.usage.release_hold(now);
    }

    /// A request has extracted the session: counts as activity.
    pub fn touch(&mut self, now: Moment) {
        self.usage.touch(now);
    }

    /// A request that has extracted the session still works on it, or did until now: it is in use, but it
    /// still counts as unattended.
    pub fn stay(&mut self, now: Moment) {
        self.usage.stay(now);
    }

    /// Decides whether the session's time is up, and if not, when to ask again at the latest.
    ///
    /// # Errors
    ///
    /// Returns why its time is up.
    pub fn check_expiry(&mut self, now: Moment) -> Result<Moment, Expiry> {
        let attached = self.clients.any_attached();
        self.expire_messages(now);
        self.end_if_overflowed(now);
        self.usage.check(&self.rules, self.rules.unused_lifetime, attached, now)
    }

    /// As [`check_expiry`](Self::check_expiry), for a session [into which nothing was put](Self::is_untouched) and
    /// to which no browser has come back: it is kept for `unproven_lifetime`, if that is shorter.
    ///
    /// # Errors
    ///
    /// Returns why its time is up.
    pub fn check_blank_expiry(&mut self, now: Moment) -> Result<Moment, Expiry> {
        let attached = self.clients.any_attached();
        self.expire_messages(now);
        self.end_if_overflowed(now);
        let lifetime = self.rules.unused_lifetime.min(self.rules.unproven_lifetime);
        self.usage.check(&self.rules, lifetime, attached, now)
    }

    // Getters.

    /// Returns the rules.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Returns the epoch of the present life.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Returns where the session is in its life.
    pub fn phase(&self) -> Phase {
        if self.usage.ended.is_some() {
            Phase::Completed
        } else if self.clients.any_attached() {
            Phase::Running
        } else {
            Phase::Suspended
        }
    }

    /// Returns how the session has ended, if it has.
    pub fn ended(&self) -> Option<OutcomeStatus> {
        self.usage.ended
    }

    /// Returns whether the session has ended and its outcome is as durable as it must be.
    pub fn is_end_committed(&self) -> bool {
        self.usage.ended.is_some() && (self.end_committed || !self.rules.durable_inbox)
    }

    /// Returns how long ago the session was created.
    pub fn age(&self, now: Moment) -> Duration {
        self.usage.age(now)
    }

    /// Returns the number of the newest attachment; 0 before the first.
    pub fn newest_attachment(&self) -> AttachmentNumber {
        self.last_attachment
    }

    /// Returns how many transports are attached.
    pub fn transports(&self) -> usize {
        self.attached().count()
    }

    /// Returns the clients whose attach the handler has still to be told.
    pub fn untold_attaches(&self) -> impl Iterator<Item = &Who<I>> {
        self.inbox.attaches()
    }

    /// Returns the clients that are remembered, attached ones included, and what the application is told of each.
    pub fn clients(&self) -> impl Iterator<Item = &Who<I>> {
        self.clients.iter().map(|client| &client.who)
    }

    /// Returns whether a client of this identity is remembered.
    pub fn knows_identity(&self, identity: IdentityTag) -> bool {
        self.clients().any(|who| who.name.identity == identity)
    }

    /// Returns whether any socket is still there, also one whose turn is over.
    pub fn has_sockets(&self) -> bool {
        !self.transports.is_empty()
    }

    /// Returns whether the handler has been started.
    pub fn has_handler(&self) -> bool {
        self.usage.handler() != Handler::Absent
    }

    /// Returns whether the handler runs and does not wait for what comes next: it has not come to ask for it
    /// since it was started or handed a message, whether or not it has handed that back.
    pub fn is_at_work(&self) -> bool {
        self.usage.handler() == Handler::Working && self.usage.ended.is_none()
    }

    /// Returns whether a message is in the handler's hand.
    pub fn is_message_in_hand(&self) -> bool {
        self.in_hand.is_some() || self.is_urgent_in_hand()
    }

    /// Returns whether the session is frozen.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Whether it takes no further message: it [is frozen](Self::is_frozen), or will be at the next boundary.
    pub fn is_freezing(&self) -> bool {
        self.freezes || self.frozen
    }

    /// Returns the reasons of the guards that are held.
    pub fn guard_reasons(&self, now: Moment) -> impl Iterator<Item = &str> {
        self.usage.guard_reasons(now)
    }

    /// Returns the position of the next message.
    pub fn head(&self) -> Position {
        self.outbox.head()
    }

    /// Returns whether no transport was ever attached and no message ever sent.
    pub fn is_untouched(&self) -> bool {
        self.last_attachment == AttachmentNumber::default() && self.outbox.head().get() == 0
    }

    /// Returns how many messages the outbox keeps.
    pub fn outbox_messages(&self) -> usize {
        self.outbox.len()
    }

    /// Returns how many bytes the outbox keeps, overhead included.
    pub fn outbox_bytes(&self) -> usize {
        self.outbox.bytes()
    }

    /// Returns how many messages are kept that no client needs.
    pub fn history_messages(&self) -> usize {
        self.outbox.history_size().0
    }

    /// Returns how many bytes these are, overhead included.
    pub fn history_bytes(&self) -> usize {
        self.outbox.history_size().1
    }

    /// Returns the position before which no client needs a message, and no checkpoint keeps one for fresh clients. The
    /// outbox's bounds are about what follows.
    pub fn needed_from(&self) -> Position {
        self.outbox.base()
    }

    /// Returns the position from which on nothing is missing that was sent to all clients and for good.
    pub fn kept_from(&self) -> Position {
        self.outbox.kept_from()
    }

    /// Returns the message at a position, if it is there, is for all clients, and may leave: under a durable outbox it
    /// is committed.
    pub fn kept(&self, position: Position) -> Option<Message> {
        self.outbox.kept(position)
    }

    /// Returns how many messages wait for the handler.
    pub fn inbox_messages(&self) -> usize {
        self.inbox.messages()
    }

    // Private.

    /// How many of the client's messages it may forget.
    fn inbound_ack(&self, client: &Client<I>) -> u64 {
        if self.rules.durable_inbox { client.committed } else { client.taken_through() }
    }

    fn note_acknowledgeable(&mut self, uid: ClientUid, bytes: usize, now: Moment) {
        let Some(total) = self.clients.get(uid).map(|client| self.inbound_ack(client)) else {
            return;
        };
        let window = (self.rules.bounds.inbox_messages as u64, self.rules.bounds.inbox_bytes);
        for t in self.transports.iter_mut().filter(|t| t.client == uid && t.is_attached()) {
            self.wake.transports |= t.note_taken(total, bytes, window, now);
        }
    }
}

//! Messages that kill the process: after three deaths with the same message in hand the *message* ends, not the
//! session.
//!
//! A message is known by its client, its number and its digest: the number alone may be another message's after a
//! fresh offer. A plain client's message has no number that its client knows, so there the digest says it alone.
//!
//! After a crash, each client's next messages are on trial. A message on trial is handed over only when the record
//! names it as *suspect* with one death more. If the process dies, that death has been counted; if the message is
//! handled, the record is cleared before another one is handed over. So a message counts against itself alone. What
//! is at work for long without a trial is named in the record by the saver ([`Session::in_hand`],
//! [`Snapshot::accuse`]).

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Event, Session, Snapshot,
    client::{Client, ClientUid},
    snapshot::StoredClient,
};
use crate::{Message, Moment, compact::Rare, wire::OutcomeStatus};

/// The number of deaths of the process with a message in hand at which the message ends.
const DEATHS: u32 = 3;
/// The number of ended messages whose numbers are kept with their client: the newest.
const KEPT: usize = 16;
/// The number of suspects of plain clients that are kept: the newest.
const PLAIN_SUSPECTS: usize = 16;
/// The number of messages of each client that are on trial after the first crash. The message that was in hand may
/// come behind others that were handled and not committed, or that its user sends first. So each further crash
/// multiplies the number by this. A record is written before and after each trial.
const TRIALS: u16 = 4;
/// At most this many crashes in a row are counted. 256 messages are then on trial: as many as the default window lets
/// a client send again.
const MAX_CRASHES: u8 = 4;

/// Tells one message from another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Digest([u8; 16]);

impl Digest {
    fn of(message: &Message) -> Self {
        let kind = match message {
            Message::Text(_) => b't',
            Message::Binary(_) => b'b',
        };
        let hash = Sha256::new_with_prefix([kind]).chain_update(message.as_bytes()).finalize();
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash[..16]);
        Self(digest)
    }
}

/// A message that was in hand when the process died.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct Suspect {
    /// How many of its client's messages had been taken before it.
    number: u64,
    digest: Digest,
    /// While it is in hand, the death that may come is counted already.
    deaths: u32,
}

impl Suspect {
    /// One death fewer; `None` if there was no other.
    fn acquitted(self) -> Option<Self> {
        (self.deaths > 1).then_some(Self { deaths: self.deaths - 1, ..self })
    }
}

/// What is known of one client's messages that have killed the process.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Poison {
    pub(super) suspect: Option<Suspect>,
    /// The numbers of messages that have ended, oldest first.
    pub(super) dropped: Vec<u64>,
}

/// Where the trial of the next message is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Trial {
    /// None is under way.
    None,
    /// One more death would be the message's last: it waits to be tried alone.
    Waiting,
    /// The record that names the message is on its way to the disk; nothing is handed over before.
    Recording,
    /// It is there.
    Recorded,
    /// The message is in hand.
    Trying,
    /// It is handled, and that is on its way to the disk: a crash before would count against it.
    Clearing,
    /// It has been dropped, and that is on its way to the disk.
    Dropping,
}

/// What a session knows of messages that kill the process.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Court<I> {
    pub(super) trial: Trial,
    /// Counts the changes that a snapshot must show before the handler goes on.
    ticket: u32,
    /// The number of crashes in a row. It becomes 0 when as many messages of one client are handled as are on trial.
    crashes: u8,
    /// A message has been dropped, and none has been handled since.
    pub(super) dropped_last: bool,
    files: Rare<Files<I>>,
}

/// What most courts do not have.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Files<I> {
    /// Messages of plain clients.
    plain: Vec<Suspect>,
    /// What the handler is told once it is durable.
    dropped: Option<(ClientUid, Event<I>)>,
}

/// The message in hand, as a record names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InHand {
    client: StoredClient,
    suspect: Suspect,
}

impl<I> Court<I> {
    pub(super) const fn new() -> Self {
        Self { trial: Trial::None, ticket: 0, crashes: 0, dropped_last: false, files: Rare::none() }
    }

    /// As the record has it.
    pub(super) fn restored(clean: bool, snapshot: &Snapshot) -> Self {
        let plain = snapshot.plain_suspects.clone();
        let crashes = if clean { 0 } else { snapshot.crashes.saturating_add(1).min(MAX_CRASHES) };
        let files =
            if plain.is_empty() { Rare::none() } else { Rare::new(Files { plain, dropped: None }) };
        Self { crashes, dropped_last: snapshot.dropped_last, files, ..Self::new() }
    }

    pub(super) fn crashes(&self) -> u8 {
        self.crashes
    }

    fn plain(&self) -> &[Suspect] {
        self.files.get().map_or(&[], |files| &files.plain)
    }

    /// Whether it is as it was at the beginning.
    pub(super) fn is_empty(&self) -> bool {
        let Self { trial, ticket, crashes, dropped_last, files } = self;
        let begun = *trial != Trial::None || *ticket > 0 || *crashes > 0 || *dropped_last;
        !begun && files.get().is_none()
    }

    /// Which change a snapshot that is taken now shows.
    pub(super) fn ticket(&self) -> u32 {
        self.ticket
    }

    fn enter(&mut self, trial: Trial) {
        self.trial = trial;
        self.ticket = self.ticket.wrapping_add(1);
    }

    fn tidy(&mut self) {
        self.files.drop_if(Files::is_empty);
    }
}

impl<I> Files<I> {
    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.dropped.is_none()
    }
}

impl<I> Default for Files<I> {
    fn default() -> Self {
        Self { plain: Vec::new(), dropped: None }
    }
}

/// Notes a suspect of plain clients, or what is known of it now.
fn note_plain(plain: &mut Vec<Suspect>, digest: Digest, suspect: Option<Suspect>) {
    plain.retain(|known| known.digest != digest);
    plain.extend(suspect);
    if plain.len() > PLAIN_SUSPECTS {
        plain.remove(0);
    }
}

impl<I: Clone> Session<I> {
    fn trial(&self) -> Trial {
        self.court().map_or(Trial::None, |court| court.trial)
    }

    /// Whether the next message is being tried, or waits for that.
    pub(super) fn is_trial_under_way(&self) -> bool {
        self.trial() != Trial::None
    }

    fn set_trial(&mut self, trial: Trial) {
        self.note_court(|court| court.trial = trial);
    }

    /// Returns the messages of plain clients that were in hand when the process died.
    pub(super) fn plain_suspects(&self) -> &[Suspect] {
        self.court().map_or(&[], Court::plain)
    }

    /// How many messages of a client that comes now are on trial.
    pub(super) fn trials(&self) -> u16 {
        let crashes = self.court().map_or(0, Court::crashes);
        let crashes = if self.plain_suspects().is_empty() { crashes } else { crashes.max(1) };
        if crashes == 0 { 0 } else { TRIALS.saturating_pow(crashes.into()) }
    }

    /// Returns whether what comes next may be handed over now; if not, the handler is woken when it may.
    ///
    /// A message that has killed the process often enough is dropped here.
    pub(super) fn is_next_ready(&mut self, now: Moment) -> bool {
        let Some((uid, message)) = self.inbox.front_message() else {
            return true;
        };
        match self.trial() {
            Trial::None => {}
            Trial::Recorded => {
                self.set_trial(Trial::Trying);
                return true;
            }
            Trial::Trying => return true,
            Trial::Waiting | Trial::Recording | Trial::Clearing | Trial::Dropping => return false,
        }
        let Some(client) = self.clients.get(uid) else {
            return true;
        };
        if !client.may_be_tried() {
            return true;
        }
        let (number, digest) = (client.taken, Digest::of(message));
        let plain = client.who.name.is_plain();
        let known = if plain {
            self.plain_suspects().iter().find(|known| known.digest == digest)
        } else {
            client.poison().and_then(|poison| poison.suspect.as_ref())
        };
        let deaths = match known {
            Some(known) if plain || (known.number, known.digest) == (number, digest) => {
                known.deaths
            }
            // Another message is suspect, and it is still to come.
            Some(known) if known.number > number => return true,
            Some(_) | None => 0,
        };
        if deaths >= DEATHS {
            self.drop_next(now);
            return false;
        }
        if deaths + 1 >= DEATHS {
            self.set_trial(Trial::Waiting);
            self.wake.trial = true;
            return false;
        }
        self.accuse_next(uid, Suspect { number, digest, deaths: deaths + 1 });
        false
    }

    /// Whether the next message [waits](super::Wake::trial) to be tried alone.
    ///
    /// A crash does not say whose message it was. So what is suspect in several sessions is tried one by one when it
    /// comes to the last trial.
    pub fn waits_for_turn(&self) -> bool {
        self.trial() == Trial::Waiting
    }

    /// Whether a message may come that would [wait](Self::waits_for_turn).
    pub fn may_wait_for_turn(&self) -> bool {
        let named = self.clients.iter().filter_map(|client| client.poison()?.suspect);
        named
            .chain(self.plain_suspects().iter().copied())
            .any(|suspect| suspect.deaths + 1 >= DEATHS)
    }

    /// Whether the trial that waited, or a later one, is still under way.
    pub fn is_on_trial(&self) -> bool {
        match self.trial() {
            Trial::None | Trial::Waiting | Trial::Dropping => false,
            Trial::Recording | Trial::Recorded | Trial::Trying | Trial::Clearing => true,
        }
    }

    /// The message that [waits](Self::waits_for_turn) is tried now.
    pub fn grant_turn(&mut self) {
        if self.trial() != Trial::Waiting {
            return;
        }
        self.set_trial(Trial::None);
        if let Some((uid, message)) = self.inbox.front_message()
            && let Some(client) = self.clients.get(uid)
        {
            let (number, digest) = (client.taken, Digest::of(message));
            self.accuse_next(uid, Suspect { number, digest, deaths: DEATHS });
        }
    }

    /// The record names the message that comes next before it is handed over.
    fn accuse_next(&mut self, uid: ClientUid, suspect: Suspect) {
        self.note_suspect(uid, suspect.digest, Some(suspect));
        self.note_court(|court| court.enter(Trial::Recording));
        self.wake.save = true;
    }

    fn note_suspect(&mut self, uid: ClientUid, digest: Digest, suspect: Option<Suspect>) {
        let Some(client) = self.clients.get_mut(uid) else {
            return;
        };
        if client.who.name.is_plain() {
            self.note_court(|court| {
                note_plain(&mut court.files.get_or_default().plain, digest, suspect);
                court.tidy();
            });
        } else if suspect.is_some() || client.poison().is_some() {
            client.note_rare(|rare| rare.poison.suspect = suspect);
        }
    }

    /// The next message has killed the process often enough.
    fn drop_next(&mut self, now: Moment) {
        let Some((uid, Event::Message { message, from })) = self.inbox.pop() else {
            return;
        };
        self.note_suspect(uid, Digest::of(&message), None);
        let Some(client) = self.clients.get_mut(uid) else {
            return;
        };
        let number = client.taken;
        client.taken += 1;
        client.inbox_bytes -= message.len();
        if !client.who.name.is_plain() {
            client.note_rare(|rare| {
                let dropped = &mut rare.poison.dropped;
                dropped.push(number);
                if dropped.len() > KEPT {
                    dropped.remove(0);
                }
            });
        }
        self.note_acknowledgeable(uid, message.len(), now);
        let paused = self.attached().any(super::Transport::is_paused);
        self.wake.transports |= paused;
        self.wake.save = true;
        self.wake.dropped = true;
        self.note_court(|court| court.enter(Trial::Dropping));
        if self.note_court(|court| std::mem::replace(&mut court.dropped_last, true)) {
            // A state that kills on every message would go on like this for ever.
            self.end(OutcomeStatus::Failed, now);
            return;
        }
        let told = (uid, Event::Dropped { number, from });
        self.note_court(|court| court.files.get_or_default().dropped = Some(told));
    }

    /// A message has been handled.
    pub(super) fn note_handled(&mut self, uid: ClientUid) {
        self.drop_rare(|rare| rare.court.dropped_last = false);
        let trying = self.trial() == Trial::Trying;
        let Some(client) = self.clients.get_mut(uid) else {
            return;
        };
        if !client.may_be_tried() {
            return;
        }
        let was_last = client.trials == 1;
        client.trials = client.trials.saturating_sub(1);
        let handled = client.handled();
        let passed = client.poison().and_then(|poison| poison.suspect);
        let passed = passed.filter(|suspect| suspect.number < handled);
        if was_last {
            // It was none of those that could be sent again.
            self.drop_rare(|rare| rare.court.crashes = 0);
        }
        let message = self.rare.get().and_then(|rare| rare.kept.clone());
        if let Some(suspect) = passed {
            self.note_suspect(uid, suspect.digest, None);
        }
        if !trying {
            return;
        }
        if let Some(message) = message {
            self.note_suspect(uid, Digest::of(&message), None);
        }
        self.note_court(|court| court.enter(Trial::Clearing));
        self.wake.save = true;
    }

    /// The session stops before the message that was to be tried was handed over: its death does not count.
    pub(super) fn stop_trial(&mut self) {
        match self.trial() {
            Trial::Waiting => self.set_trial(Trial::None),
            Trial::Recording | Trial::Recorded => {
                self.set_trial(Trial::None);
                let Some((uid, message)) = self.inbox.front_message() else {
                    return;
                };
                let digest = Digest::of(message);
                let known = self.suspect_of(uid, digest).and_then(Suspect::acquitted);
                self.note_suspect(uid, digest, known);
            }
            Trial::None | Trial::Trying | Trial::Clearing | Trial::Dropping => {}
        }
    }

    fn suspect_of(&self, uid: ClientUid, digest: Digest) -> Option<Suspect> {
        let client = self.clients.get(uid)?;
        if client.who.name.is_plain() {
            self.plain_suspects().iter().find(|known| known.digest == digest).copied()
        } else {
            client.poison()?.suspect.filter(|known| known.digest == digest)
        }
    }

    /// A snapshot is durable that was taken at this ticket.
    pub(super) fn note_recorded(&mut self, ticket: u32) {
        if ticket != self.court().map_or(0, Court::ticket) {
            return;
        }
        match self.trial() {
            Trial::Recording => self.set_trial(Trial::Recorded),
            Trial::Clearing => self.set_trial(Trial::None),
            Trial::Dropping => {
                self.set_trial(Trial::None);
                let told = self.note_court(|court| {
                    let told = court.files.get_mut().and_then(|files| files.dropped.take());
                    court.tidy();
                    told
                });
                if let Some((uid, event)) = told
                    && self.usage.ended.is_none()
                {
                    self.inbox.push_front(uid, event);
                }
            }
            Trial::None | Trial::Waiting | Trial::Recorded | Trial::Trying => return,
        }
        self.wake.handler = true;
    }

    /// Returns the message in hand, so that the record can [name](Snapshot::accuse) it: should the process die with
    /// it, that counts. `None` without one, and if the record names it already.
    pub fn in_hand(&self) -> Option<InHand> {
        if self.trial() == Trial::Trying { None } else { self.named_in_hand() }
    }

    /// Returns the message in hand, so that the record can [clear](Snapshot::acquit) it: it is cut off, and not by
    /// its own doing.
    pub fn cut_in_hand(&self) -> Option<InHand> {
        self.named_in_hand()
    }

    fn named_in_hand(&self) -> Option<InHand> {
        let client = self.clients.get(self.in_hand?)?;
        let digest = Digest::of(self.rare.get()?.kept.as_ref()?);
        let suspect = Suspect { number: client.taken - 1, digest, deaths: 1 };
        Some(InHand { client: self.committed_client(client), suspect })
    }
}

impl Snapshot {
    /// Names the message that is in hand now as one that may kill the process.
    pub fn accuse(&mut self, in_hand: &InHand) {
        let InHand { client, suspect } = in_hand;
        if client.name.is_plain() {
            note_plain(&mut self.plain_suspects, suspect.digest, Some(*suspect));
            return;
        }
        if self.clients.iter().all(|known| !known.is_same(client)) {
            self.clients.push(client.clone());
        }
        for known in self.clients.iter_mut().filter(|known| known.is_same(client)) {
            known.suspect = Some(*suspect);
        }
    }

    /// Takes back that the message in hand has killed the process.
    pub fn acquit(&mut self, in_hand: &InHand) {
        let InHand { client, suspect: of } = in_hand;
        let acquitted = |known: Suspect| known.acquitted();
        if client.name.is_plain() {
            let known = self.plain_suspects.iter().find(|known| known.digest == of.digest).copied();
            note_plain(&mut self.plain_suspects, of.digest, known.and_then(acquitted));
            return;
        }
        for known in self.clients.iter_mut().filter(|known| known.is_same(client)) {
            known.suspect = match known.suspect {
                Some(suspect) if (suspect.number, suspect.digest) == (of.number, of.digest) => {
                    suspect.acquitted()
                }
                other => other,
            };
        }
    }
}

impl<I> Client<I> {
    pub(super) fn may_be_tried(&self) -> bool {
        self.trials > 0 || self.poison().is_some_and(|poison| poison.suspect.is_some())
    }

    /// The numbers of its messages that have been dropped, oldest first.
    pub(super) fn dropped(&self) -> &[u64] {
        self.poison().map_or(&[], |poison| &poison.dropped)
    }
}

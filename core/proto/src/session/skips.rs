//! Which clients are past messages that they have not had: those for another client alone, and those that were
//! replaced.
//!
//! A client is told with `skip`. A message for one client is kept for that client alone.

use super::{
    Addressee, CatchUp, ClientName, Session,
    client::{Client, ClientUid},
    sparse::{Recipient, Which},
    transport::{Frame, Transport},
};
use crate::{Moment, Position, wire::ServerControl};

impl<I> Client<I> {
    pub(super) fn recipient(&self) -> Recipient {
        Recipient { name: self.who.name, uid: Some(self.uid) }
    }
}

impl Transport {
    /// The position from which on it has still to be sent what is for its client. What lies between this and `sent`
    /// is not for its client.
    pub(super) fn next(&self) -> Position {
        self.sent.max(self.passed)
    }

    /// Tells the client that it is past what is not for it, if there is any of that.
    pub(super) fn push_skip(&mut self, out: &mut Vec<Frame>) {
        let next = self.next();
        if next > self.sent {
            self.sent = next;
            let skip = ServerControl { skip: Some(next), ..ServerControl::default() };
            self.push_control(&skip, out);
        }
    }
}

impl<I: Clone> Session<I> {
    /// Finds the client that messages can be sent to alone; `is_own` tells a plain transport that is a client of its
    /// own by what the application was told of it.
    ///
    /// A client can be sent to while the outbox is kept for it: not if it is unknown, was pushed out or taken over
    /// from, or has been away while the outbox was full.
    pub fn addressee(&self, name: ClientName, is_own: impl Fn(&I) -> bool) -> Option<Addressee> {
        let name = ClientName { identity: self.identity_now(name.identity), ..name };
        let alone = self.is_lone_plain(name);
        let mut known = self.clients.iter().filter(|client| client.who.name == name);
        let to = if alone {
            Which::Transport(known.find(|client| is_own(&client.who.info))?.uid)
        } else {
            Which::Client(known.next()?.who.name)
        };
        Some(Addressee(to)).filter(|to| self.is_there(to))
    }

    /// Whether the outbox is kept for this client.
    pub(super) fn is_there(&self, to: &Addressee) -> bool {
        let client = match to.0 {
            Which::Client(name) => self.clients.named(name),
            Which::Transport(uid) => self.clients.get(uid).filter(|client| client.is_attached()),
        };
        client.is_some_and(Client::matters)
    }

    /// Moves each client, and each transport, behind what is not for it. To be called before the outbox forgets
    /// anything: afterwards it cannot be told any more from what is missing.
    pub(super) fn note_passed(&mut self) {
        if !self.outbox.is_sparse() {
            return;
        }
        for client in self.clients.iter() {
            self.outbox.note_passed(client.recipient(), client.uid, client.acked);
        }
        let base = self.outbox.base();
        for t in self.transports.iter_mut().filter(|t| t.is_attached() && t.next() >= base) {
            if let Some(client) = self.clients.get(t.client) {
                t.passed = self.outbox.next_for(t.next(), client.recipient());
            }
        }
    }

    /// Tells the client of a transport that it is past what is not for it, if there is any of that.
    pub(super) fn push_skip(&mut self, at: usize, out: &mut Vec<Frame>) {
        let t = &mut self.transports[at];
        if self.outbox.is_sparse()
            && t.next() >= self.outbox.base()
            && let Some(client) = self.clients.get(t.client)
        {
            t.passed = self.outbox.next_for(t.next(), client.recipient());
        }
        t.push_skip(out);
    }

    /// Messages for clients alone that do not matter any more leave. A resumable client is told of a gap when it
    /// comes back; for a plain one the handler is told.
    pub(super) fn let_go_of_unneeded(&mut self) {
        if !self.outbox.is_sparse() {
            return;
        }
        let stopped = self.clients.iter().filter(|client| !client.matters());
        for uid in stopped.map(|client| client.uid).collect::<Vec<_>>() {
            self.let_go_of_own(uid);
        }
    }

    /// What is for this client alone leaves.
    pub(super) fn let_go_of_own(&mut self, uid: ClientUid) {
        if !self.outbox.is_sparse() {
            return;
        }
        let Some(client) = self.clients.get_mut(uid) else {
            return;
        };
        let gone = self.outbox.let_go_of(client.recipient());
        let Some(&(last, _)) = gone.last() else {
            return;
        };
        self.wake.room |= self.usage.waits_for_room();
        if !client.who.name.is_plain() {
            // It cannot have what comes before, in order, any more.
            client.acked = client.acked.max(last.advanced_by(1));
            return;
        }
        let who = client.who.clone();
        if self.usage.ended.is_none() {
            for (position, bytes) in gone {
                self.inbox.push_undeliverable(uid, who.clone(), position, bytes);
            }
            self.wake.handler = true;
        }
    }

    /// These records of clients are going to be forgotten, and with them what is for these clients alone.
    pub(super) fn let_go_of_forgotten(&mut self, forgotten: &[(ClientUid, ClientName)]) {
        for &(uid, name) in forgotten {
            self.outbox.let_go_of(Recipient { name, uid: Some(uid) });
            self.outbox.forget_client(uid);
            // A plain client is never told how many of its messages were accepted.
            self.pushed_out |= !name.is_plain();
        }
    }

    /// Messages whose time is over leave.
    pub(super) fn expire_messages(&mut self, now: Moment) {
        if self.outbox.expire(now) {
            self.trim();
            self.wake.room |= self.usage.waits_for_room();
        }
    }

    /// When room becomes free because the time of a message is over, if anybody waits for that.
    pub(super) fn room_by_expiry(&self) -> Option<Moment> {
        self.outbox.next_expiry().filter(|_| self.usage.waits_for_room() && !self.frozen)
    }

    /// Returns from where on a client needs messages: what is before it has acknowledged, or that is not for it.
    pub(super) fn needed_by(&self, client: &Client<I>) -> Position {
        let needed = self.outbox.needed_by(client.uid, client.acked);
        let is_whole = needed >= self.outbox.base();
        if is_whole { self.outbox.next_for(needed, client.recipient()) } else { needed }
    }

    /// Returns where a client goes on that offers a position of this history, and whether it misses anything before.
    pub(super) fn goes_on_at(
        &self,
        uid: Option<ClientUid>,
        received: Position,
    ) -> (Position, bool) {
        let base = self.outbox.base();
        let client = uid.and_then(|uid| self.clients.get(uid));
        // What was for it alone has left with its acknowledgement, or with its record.
        let own_left = client.map(|client| self.outbox.own_left(client.uid)).unwrap_or_default();
        // Perhaps it was pushed out, and this record is that of an older offer that came late.
        let is_sure = client.is_some_and(|client| !client.counts_unknown);
        let lost = if is_sure { own_left } else { own_left.max(self.outbox.lost()) };
        // From here on nothing is missing. An offer that arrives late may be below. It must not raise what counts as
        // acknowledged: the next cursor would be below that.
        let past = client.filter(|client| self.is_past_all_that_left(client));
        let whole = past.map_or(base, |client| client.acked.min(base));
        let whole = whole.min(self.outbox.reach(received, &self.rules.bounds)).max(lost);
        (received.max(whole), received < whole)
    }

    /// Whether a client needs nothing before the oldest message: it has all before the position that it has
    /// acknowledged, and what follows there is not for it.
    pub(super) fn is_past_all_that_left(&self, client: &Client<I>) -> bool {
        self.outbox.needed_by(client.uid, client.acked) >= self.outbox.base()
    }

    /// Returns where a client starts that is so far behind that the last checkpoint is enough for it.
    pub(super) fn catch_up(&self, recipient: Recipient, from: Position) -> Option<Position> {
        let CatchUp::FromCheckpoint { after } = self.rules.catch_up else {
            return None;
        };
        let checkpoint =
            self.outbox.committed_checkpoint().filter(|checkpoint| *checkpoint > from)?;
        (self.outbox.count_for(from, recipient) > after).then_some(checkpoint)
    }

    /// Returns how many messages there are for a client from `from` on.
    pub(super) fn behind(&self, uid: ClientUid, from: Position) -> u64 {
        let client = self.clients.get(uid);
        client.map_or(0, |client| self.outbox.count_for(from, client.recipient()))
    }

    /// A client that has come acknowledges all before this, or cannot have it any more.
    pub(super) fn set_acknowledged(&mut self, uid: ClientUid, acked: Position) {
        let Some(client) = self.clients.get_mut(uid) else {
            return;
        };
        client.acked = acked;
        let base = self.outbox.base();
        let forgot = self.outbox.take_own(client.recipient(), base, acked);
        self.note_forgot(forgot);
        // What is not there any more it does not need.
        if self.outbox.is_sparse() {
            self.outbox.set_needed(uid, acked, base);
        }
    }
}

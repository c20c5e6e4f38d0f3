//! Replay: from which position on a client that attaches is sent messages.
//!
//! A transport is written the outbox from a position on, in order (`transmit`). To replay is to begin before the head: a
//! client with a cursor begins where its cursor says, so that it is sent again what it has missed and nothing that it
//! has. What the outbox does not keep any more is told as a gap.

use super::{
    Access, Claim, ClientName, PlainAck, Session, SessionOrigin,
    client::{Client, ClientUid, Standing, Who},
    lives::Lineage,
    sparse::Recipient,
};
use crate::{
    Gap, GapReason, Position, WireId,
    wire::{EventId, Status},
};

/// Where a client starts.
pub(super) struct Start {
    /// The position of the first message that it is sent.
    pub(super) from: Position,
    /// What counts as acknowledged: a plain client may be sent more than it needs.
    acked: Position,
    /// What it is told of the session.
    pub(super) status: Status,
    /// How many of its messages were accepted, if the session knows.
    pub(super) received: Option<u64>,
    /// What can no longer be replayed.
    pub(super) gap: Option<Gap>,
}

impl<I: Clone> Session<I> {
    /// Finds or makes what is known of the client, and decides from which position on it is sent messages.
    pub(super) fn find_start(
        &mut self,
        who: Who<I>,
        access: Access,
        claim: &Claim,
        origin: SessionOrigin,
    ) -> (ClientUid, Start) {
        let name = who.name;
        let mut uid =
            if self.is_lone_plain(name) { None } else { self.clients.named(name).map(|c| c.uid) };
        let start = match claim {
            Claim::Plain => {
                uid = uid.or(self.gone_plain_client(name));
                self.plain_start(uid, name, origin, self.rules.plain_ack)
            }
            // What was written to a reader of events is there until room is needed: see `room`.
            Claim::PlainAt(None) => {
                uid = uid.or(self.gone_plain_client(name));
                self.plain_start(uid, name, origin, PlainAck::Off)
            }
            Claim::PlainAt(Some(at)) => {
                uid = uid.or(self.gone_plain_client(name));
                self.event_start(uid, *at, name, origin)
            }
            Claim::Fresh => self.fresh_start(uid, origin, None),
            Claim::Lost { received } => self.fresh_start(
                uid,
                origin,
                Some(Gap { from: *received, to: None, reason: GapReason::Expired }),
            ),
            Claim::Cursor { epoch, received, .. } => match self.lineage(epoch, *received) {
                Lineage::Honoured => self.replay_from(uid, name, epoch, *received),
                // A cursor above the head is not admitted.
                lineage @ (Lineage::Broken | Lineage::Foreign | Lineage::AboveHead) => {
                    let gap = Gap { from: *received, to: None, reason: GapReason::Restarted };
                    let mut start = self.fresh_start(uid, origin, Some(gap));
                    start.status =
                        if lineage == Lineage::Foreign { Status::Reused } else { Status::Restored };
                    if uid.is_none() && self.perhaps_counted(name) {
                        start.received = None;
                    }
                    start
                }
            },
        };
        // What it has missed is needed again, if it is still there.
        self.outbox.take_back(start.from);
        // It may be one that was pushed out and whose first offer arrives late: until a frame has shown
        // that it counts from 0, a cursor of it does not.
        let perhaps_forgotten = uid.is_none() && self.pushed_out;
        let uid = uid.unwrap_or_else(|| {
            let forgotten = self.clients.push_out_for(name.identity, access, &self.rules.bounds);
            self.let_go_of_forgotten(&forgotten);
            let trials = self.trials();
            let uid = self.clients.insert(who, start.acked);
            if let Some(client) = self.clients.get_mut(uid) {
                client.trials = trials;
            }
            if matches!(claim, Claim::Cursor { .. }) {
                // Perhaps it was pushed out. Its next cursor, too, may miss what was for it alone.
                self.outbox.restore_own_left(uid, self.outbox.lost());
            }
            uid
        });
        self.set_acknowledged(uid, start.acked);
        let life = match claim {
            Claim::Cursor { epoch, .. } => self.epoch.life_in(epoch),
            Claim::Lost { .. } | Claim::Fresh | Claim::Plain | Claim::PlainAt(_) => None,
        };
        let held = life.map(|life| self.lives().known(life));
        if let Some(client) = self.clients.get_mut(uid) {
            if matches!(claim, Claim::Fresh) {
                client.forget_early();
            }
            client.written = start.from;
            // This hello may be lost: then the same cursor comes again, and is told the same reason.
            if let Some(Gap { to: Some(_), reason, .. }) = start.gap {
                client.stopped_by = reason;
            }
            client.counts_unknown = start.received.is_none() || perhaps_forgotten;
            client.held = held.unwrap_or(client.held);
        }
        self.outbox.acknowledge(match claim {
            // The cursor of an offer is an acknowledgement.
            Claim::Cursor { epoch, received, .. }
            | Claim::PlainAt(Some(EventId { epoch, position: received, .. }))
                if self.lineage(epoch, *received) == Lineage::Honoured =>
            {
                *received
            }
            Claim::Cursor { .. }
            | Claim::Lost { .. }
            | Claim::Fresh
            | Claim::Plain
            | Claim::PlainAt(_) => Position::ZERO,
        });
        (uid, start)
    }

    /// Where a plain client starts, which cannot say what it has.
    fn plain_start(
        &self,
        uid: Option<ClientUid>,
        name: ClientName,
        origin: SessionOrigin,
        plain_ack: PlainAck,
    ) -> Start {
        // Under `Share` the session does not know which gone plain client of this identity has come back. So the
        // client starts where the one that has confirmed least would start.
        let least = self.gone_plain(name).map(|(acked, _)| acked).min();
        let own = least.or_else(|| uid.and_then(|uid| self.clients.get(uid)).map(|c| c.acked));
        let from = match own {
            Some(acked) => {
                let from = acked.min(self.outbox.checkpoint().unwrap_or(acked));
                let there = from.max(self.outbox.reach(from, &self.rules.bounds));
                // It cannot be told that it is past what is not for it.
                self.outbox.first_kept(there)
            }
            None if plain_ack == PlainAck::Off => self.outbox.base(),
            None => self.outbox.fresh_start(),
        };
        Start {
            from,
            acked: own.unwrap_or(from),
            status: if own.is_some() { Status::Resumed } else { origin.status() },
            received: None,
            gap: None,
        }
    }

    /// Where a reader of events goes on, which says what it wants next.
    fn event_start(
        &self,
        uid: Option<ClientUid>,
        at: EventId,
        name: ClientName,
        origin: SessionOrigin,
    ) -> Start {
        let lineage = self.lineage(&at.epoch, at.position);
        if lineage == Lineage::Honoured {
            let start = self.replay_from(uid, name, &at.epoch, at.position);
            let mut start = Start { status: Status::Resumed, received: None, ..start };
            let known = uid.and_then(|uid| self.clients.get(uid));
            // What was written to it has made way.
            if let (Some(gap), true) = (&mut start.gap, known.is_some_and(Client::matters))
                && gap.reason != GapReason::Checkpoint
            {
                gap.reason = GapReason::Overflow;
            }
            return start;
        }
        // Another history: it gets all that is left of this one. Its `id` names no session: a foreign epoch is of one that
        // is gone.
        let is_gone = lineage == Lineage::Foreign;
        let reason = if is_gone { GapReason::Expired } else { GapReason::Restarted };
        let gap = Gap { from: at.position, to: None, reason };
        let start = self.plain_start(uid, name, origin, PlainAck::Off);
        let status = if start.status == Status::Resumed { origin.status() } else { start.status };
        Start { status, gap: Some(gap), ..start }
    }

    /// Where each plain transport is a client of its own, a new one becomes the client of its identity's gone one
    /// with the most, so that no other finds less than it needs.
    fn gone_plain_client(&self, name: ClientName) -> Option<ClientUid> {
        self.gone_plain(name).max().map(|(_, uid)| uid)
    }

    pub(super) fn gone_plain(
        &self,
        name: ClientName,
    ) -> impl Iterator<Item = (Position, ClientUid)> {
        let lone = self.is_lone_plain(name);
        self.clients
            .iter()
            .filter(move |client| lone && client.who.name == name && !client.is_attached())
            .map(|client| (client.acked, client.uid))
    }

    /// Where a client starts that holds nothing of this history.
    fn fresh_start(
        &self,
        uid: Option<ClientUid>,
        origin: SessionOrigin,
        gap: Option<Gap>,
    ) -> Start {
        let from = self.outbox.fresh_start();
        // An upgrade that its client gave up on may arrive late: until it has acknowledged where it
        // starts, what it had not confirmed before is kept.
        let confirmed = uid.and_then(|uid| self.clients.get(uid)).map(|client| {
            if self.is_past_all_that_left(client) {
                client.acked
            } else {
                client.acked.max(self.outbox.base())
            }
        });
        Start {
            from,
            acked: confirmed.map_or(from, |confirmed| confirmed.min(from)),
            status: origin.status(),
            received: self.counted(uid),
            gap,
        }
    }

    /// Where a client goes on that has everything before `received`: what it has missed is sent again from there on,
    /// as far as the outbox keeps it.
    fn replay_from(
        &self,
        uid: Option<ClientUid>,
        name: ClientName,
        epoch: &WireId,
        received: Position,
    ) -> Start {
        let (from, is_missing) = self.goes_on_at(uid, received);
        let checkpoint = self.catch_up(Recipient { name, uid }, from);
        let from = checkpoint.unwrap_or(from);
        let received_count = match uid {
            None if self.perhaps_counted(name) => None,
            _ => self.counted(uid),
        };
        let forgotten = received_count.is_none();
        let reason = match uid.and_then(|uid| self.clients.get(uid)) {
            _ if checkpoint.is_some() => GapReason::Checkpoint,
            None if forgotten => GapReason::Evicted,
            _ if self.outbox.last_loss_was_overflow() => GapReason::Overflow,
            Some(Client { standing: Standing::Stopped(reason), .. }) => *reason,
            Some(client) => client.stopped_by,
            // No client was pushed out: the session was rebuilt from a record that is older than this client's.
            None if self.lives().is_earlier(epoch) => GapReason::Restarted,
            None => GapReason::Evicted,
        };
        Start {
            from,
            acked: from,
            status: if forgotten { Status::Reused } else { Status::Resumed },
            received: received_count,
            gap: (is_missing || checkpoint.is_some()).then_some(Gap {
                from: received,
                to: Some(from),
                reason,
            }),
        }
    }

    /// Whether messages of a client may have been accepted although no client of this name is known: it was pushed out,
    /// or it had another identity and has lost that cookie.
    ///
    /// One that is gone and of which nothing was accepted does not count: what it sends again was not there before. One
    /// that is attached does: its messages may still be under way.
    fn perhaps_counted(&self, name: ClientName) -> bool {
        let sends = |of: &Client<I>| of.is_attached() && !of.is_watcher();
        let counts = |of: &Client<I>| of.received > 0 || of.early().is_some() || sends(of);
        self.pushed_out
            || self.clients.iter().any(|of| of.who.name.is_elsewhere(&name) && counts(of))
    }

    /// Returns how many of the client's messages were accepted, if the session knows.
    fn counted(&self, uid: Option<ClientUid>) -> Option<u64> {
        match uid.and_then(|uid| self.clients.get(uid)) {
            Some(client) => (!client.counts_unknown).then_some(client.received),
            None => Some(0),
        }
    }

    /// How a cursor of this session stands to what the session has.
    pub(super) fn lineage(&self, epoch: &WireId, received: Position) -> Lineage {
        self.lives().lineage(epoch, received, self.outbox.head())
    }
}

//! What is left of a session that has ended and is gone.

use serde::{Deserialize, Serialize};

use super::{
    Claim, ClientName, Epoch, Frame, Refusal, Rules, Session, Snapshot,
    lives::{self, Earlier, Lineage},
    snapshot::StoredOutbox,
};
use crate::{
    AttachmentNumber, Gap, GapReason, Position, WireId,
    wire::{Close, Done, Hello, OutcomeStatus, ProtocolError, ServerControl, Status, VERSION},
};

/// The counts of an ended session, so that a client that comes back after its outbox is gone is told the
/// truth.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FinalCounts {
    pub(super) epoch: Epoch,
    /// The lives whose history this one's outbox has gone on from.
    pub(super) earlier: Vec<Earlier>,
    /// Where the outbox ended; `None`: the process died, and what it had said is not known.
    pub(super) head: Option<Position>,
    attachment: AttachmentNumber,
    clients: Vec<Counts>,
    pushed_out: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Counts {
    client: ClientName,
    received: u64,
    taken: u64,
    /// With a cursor from here on it misses nothing, but perhaps what was not for it.
    whole_from: Position,
    /// The numbers of its messages that were dropped.
    dropped: Vec<u64>,
}

impl<I: Clone> Session<I> {
    /// Returns what stays of the session after its end.
    pub fn final_counts(&self) -> FinalCounts {
        let named = self.clients.iter().filter(|client| !client.who.name.is_plain());
        let head = self.outbox.head();
        let counts = named.map(|client| Counts {
            client: client.who.name,
            received: client.received,
            taken: client.taken,
            whole_from: self.stored_client(client).whole_from(head),
            dropped: client.dropped().to_vec(),
        });
        FinalCounts {
            epoch: self.epoch(),
            earlier: self.earlier_lives().to_vec(),
            head: Some(head),
            attachment: self.last_attachment,
            clients: counts.collect(),
            pushed_out: self.pushed_out,
        }
    }
}

impl Snapshot {
    /// Returns what stays of a session that is only a snapshot; `clean`: it has said nothing since.
    pub fn final_counts(&self, clean: bool) -> FinalCounts {
        let head = self.whole_outbox(clean).map(StoredOutbox::head);
        FinalCounts {
            epoch: self.epoch,
            earlier: if head.is_some() { self.earlier.clone() } else { Vec::new() },
            head,
            attachment: self.attachment,
            clients: self
                .clients
                .iter()
                .filter(|client| !client.name.is_plain())
                .map(|client| Counts {
                    client: client.name,
                    received: client.handled,
                    taken: client.handled,
                    whole_from: client.whole_from(head.unwrap_or_default()),
                    dropped: client.dropped.clone(),
                })
                .collect(),
            pushed_out: self.pushed_out,
        }
    }
}

impl FinalCounts {
    /// Returns whether this is an epoch of the session, of whichever of its lives.
    pub fn knows_epoch(&self, epoch: &WireId) -> bool {
        self.epoch.life_in(epoch).is_some()
    }

    /// Returns all that a client that comes back with a cursor of this session is told.
    ///
    /// # Errors
    ///
    /// Returns a [`Refusal`] if the cursor is above the head of its own epoch.
    pub fn farewell(
        &self,
        client: ClientName,
        session: &WireId,
        claim: &Claim,
        status: OutcomeStatus,
        rules: &Rules,
    ) -> Result<Vec<Frame>, Refusal> {
        let Claim::Cursor { epoch, received, .. } = claim else {
            return Err(Refusal { close: Close::DONE, retry: None });
        };
        let lineage = lives::lineage(self.epoch, &self.earlier, self.head, epoch, *received);
        if received.get() > crate::MAX_INTEGER || lineage == Lineage::AboveHead {
            let close = Close::breach(ProtocolError::CursorAboveHead);
            return Err(Refusal { close, retry: None });
        }
        let counts = self.clients.iter().find(|counts| counts.client == client);
        let honoured = lineage == Lineage::Honoured;
        let head = self.head.unwrap_or_default();
        let whole_from = counts.map_or(head, |counts| counts.whole_from);
        let missing = !honoured || *received < whole_from;
        let had_another_identity = || {
            let of_its_id = self.clients.iter().filter(|of| of.client.is_elsewhere(&client));
            of_its_id.map(|of| of.received).any(|received| received > 0)
        };
        let unknown = if self.pushed_out || had_another_identity() { None } else { Some(0) };
        let hello = Hello {
            v: VERSION,
            session: *session,
            epoch: self.epoch.token(),
            attachment: self.attachment.next(),
            status: Status::Resumed,
            from: if missing { head } else { *received },
            received: counts.map_or(unknown, |counts| Some(counts.received)),
            gap: missing.then_some(Gap {
                from: *received,
                // The end of another history says nothing about this one.
                to: honoured.then_some(head),
                reason: GapReason::Expired,
            }),
            heartbeat_ms: super::attach::millis(rules.heartbeat),
            lifetime_ms: super::attach::millis(rules.unused_lifetime),
            window: super::attach::window(rules),
            limit: Some(super::attach::limit(rules)),
            ping: true,
            absent_ms: None,
            hold_ms: None,
        };
        let done = Done { status, received: counts.map_or(0, |counts| counts.taken) };
        let hello = ServerControl { hello: Some(hello), ..ServerControl::default() };
        let dropped = counts.iter().flat_map(|counts| &counts.dropped);
        let dropped = dropped
            .map(|&number| ServerControl { dropped: Some(number), ..ServerControl::default() });
        let done = ServerControl { done: Some(done), ..ServerControl::default() };
        let skip = (!missing && *received < head)
            .then(|| ServerControl { skip: Some(head), ..ServerControl::default() });
        let controls = [hello].into_iter().chain(skip).chain(dropped).chain([done]);
        let frames = controls.map(|control| Frame::Control(control.encode()));
        Ok(frames.chain([Frame::Close(Close::DONE)]).collect())
    }
}

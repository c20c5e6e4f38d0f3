//! Offers that reach the server.

use session_resume_proto::{
    AttachmentNumber, WireId,
    session::{Access, Arrival, Claim, ClientName, Frame, SessionOrigin},
    wire::{Close, CloseKind, Offer, OutcomeStatus},
};

use super::{LINGER, World};
use crate::{
    direction::{Down, Up},
    link::{STRANGER, ServerEnd},
    scenario::Scenario,
    server::{Leaving, Live},
};

impl World {
    pub(super) fn arrive(&mut self, at: usize) {
        let now = self.now;
        if self.server.starts.is_some() {
            self.links[at].server_end = ServerEnd::Gone;
            self.links[at].down.push(now, Down::Refused);
            return;
        }
        let offer = self.links[at].offer.clone();
        let link = &self.links[at];
        if let Offer::Resume { cursor, .. } = &offer
            && let Some((id, record)) =
                self.server.ended.iter().find(|(id, _)| *id == cursor.session)
        {
            let claim = claim(&offer, Some(*id));
            let rules = &self.scenario.rules;
            let farewell = record.farewell(link.name, id, &claim, OutcomeStatus::Overflow, rules);
            return self.refuse(at, farewell.expect("the cursor is its own"), None);
        }
        let name = self.links[at].name;
        if self.moved.contains(&name.identity) {
            return self.arrive_moved(at, &offer);
        }
        let ended = |live: &Live| live.machine.ended().is_some();
        let leaves = self.server.leaving == Some(Leaving::Freezing);
        if leaves || self.server.live.as_ref().is_some_and(ended) {
            // The last words of the session, or its last put, are still under way: a client that arrives now
            // waits for the session to be gone.
            let later = now + self.rng.millis(50..100);
            return self.links[at].up.put_back(later, Up::Offer);
        }
        let names = &self.names;
        let name = |name| names.get(&name).copied().unwrap_or(STRANGER);
        let origin = self.server.session(
            &self.scenario,
            &mut self.ledger,
            self.programs.len(),
            name,
            &mut self.rng,
            now,
        );
        self.check_what_left(origin);
        let nonce = self.rng.bytes();
        let Some(live) = &mut self.server.live else {
            return;
        };
        live.touch();
        let link = &mut self.links[at];
        let is_watcher =
            self.programs.iter().any(|of| of.watches && u32::try_from(of.index) == Ok(link.info));
        let arrival = Arrival {
            client: link.name,
            access: if is_watcher { Access::ReadOnly } else { Access::Full },
            info: link.info,
            origin,
            claim: claim(&offer, Some(live.id)),
            nonce,
        };
        let seen = live.machine.newest_attachment();
        let told = self.server.drain.is_some().then_some(Close::RESTARTING);
        let id = live.id;
        let is_whole = live.is_whole(&self.scenario, &arrival.claim);
        let attached = match told {
            Some(close) => Err(close),
            None => match live.machine.attach(arrival, &id, now) {
                Ok(attached) => {
                    assert!(attached.gap.is_none() || !is_whole, "{:?}", attached.gap);
                    Ok(attached.number)
                }
                Err(refusal) => Err(refusal.close),
            },
        };
        match attached {
            Ok(number) => {
                link.server_end = ServerEnd::Turn(number);
                link.pump = true;
                link.timer_from = now;
                let let_go = &self.ledger.streams[live.stream].let_go;
                link.let_go = let_go.get(&link.info).copied().unwrap_or(0);
                // Under `Takeover` others are not kept for any more.
                live.note_let_go(&mut self.ledger);
                // It may be gone again at the same moment.
                self.note_who_is_away();
            }
            Err(close) => {
                if link.program.is_some() {
                    assert_ne!(close.kind(), CloseKind::ProtocolError, "{offer}");
                }
                let superseded = (close == Close::SUPERSEDED).then_some((link.name, seen));
                self.refuse(at, vec![Frame::Close(close)], superseded);
            }
        }
    }

    /// A client comes under an identity that no program has any more. It waits, or gets another session.
    fn arrive_moved(&mut self, at: usize, offer: &Offer) {
        let identity = self.links[at].name.identity;
        let refused = self.server.live.as_ref().and_then(|live| {
            let claim = claim(offer, Some(live.id));
            live.machine.check_moved(identity, &claim, self.now).err()
        });
        if let Some(refusal) = refused {
            return self.refuse(at, vec![Frame::Close(refusal.close)], None);
        }
        self.links[at].server_end = ServerEnd::Gone;
        self.links[at].down.push(self.now, Down::Refused);
    }

    pub(super) fn refuse(
        &mut self,
        at: usize,
        frames: Vec<Frame>,
        superseded: Option<(ClientName, AttachmentNumber)>,
    ) {
        let due = self.now + Scenario::delay(&mut self.rng);
        self.links[at].server_end = ServerEnd::Refused(superseded);
        self.links[at].lingers = Some(self.now + LINGER);
        for frame in frames {
            self.links[at].send_down(due, Down::Frame(frame));
        }
    }

    /// Checks that nothing has left the server that a crash could take back. A store that goes back in time may
    /// take something back, and so may `State`.
    pub(super) fn check_what_left(&self, origin: SessionOrigin) {
        let Some(live) = self.server.live.as_ref().filter(|_| origin == SessionOrigin::Restored)
        else {
            return;
        };
        if !self.scenario.rules.durable_outbox || self.server.has_gone_back() {
            return;
        }
        for program in &self.programs {
            if let Some(place) = program.place {
                assert!(
                    self.ledger.agree(place.stream, live.stream, place.expects),
                    "{} has {place:?} of what was not committed",
                    program.index
                );
            }
        }
    }
}

fn claim(offer: &Offer, session: Option<WireId>) -> Claim {
    match offer {
        Offer::Plain => Claim::Plain,
        Offer::PlainAt(at) => Claim::PlainAt(*at),
        Offer::Fresh { .. } => Claim::Fresh,
        Offer::Resume { cursor, attachment, .. } if Some(cursor.session) == session => {
            Claim::Cursor {
                epoch: cursor.epoch,
                received: cursor.received,
                attachment: *attachment,
            }
        }
        Offer::Resume { cursor, .. } => Claim::Lost { received: cursor.received },
    }
}

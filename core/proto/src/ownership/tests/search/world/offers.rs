//! Offers, hops and hellos.

use super::{Done, LATER, NOW, World};
use crate::ownership::{
    Asks, Event, Fault, Hop, Via, Visit,
    tests::search::{
        case::{Case, Plant},
        client::{Down, HopStage, Stage, Transport},
    },
};

impl World {
    pub(super) fn connect(&mut self, at: usize, case: &Case) -> Done {
        let client = &self.client;
        let cursor = client.has.then_some((client.epoch, client.got.len));
        self.transports[0] = Some(Transport::to(at, cursor));
        self.arrive(at, 0, Via::Client, case)
    }

    pub(super) fn arrive(&mut self, at: usize, which: usize, via: Via, case: &Case) -> Done {
        if case.plants(Plant::RefuseFirst)
            && let Some(session) = &self.nodes[at].session
            && let Some((epoch, position)) = self.transports[which].as_ref().unwrap().cursor
            && epoch == session.epoch
            && position > session.outbox.len
        {
            return Err("P3: a client is refused for a cursor of its own session".into());
        }
        let visit = Visit(which as u64);
        self.event(at, Event::Arrived { visit, asks: Asks::Upgrade, via }, NOW, case)
    }

    pub(super) fn hop_arrives(&mut self, which: usize, case: &Case) -> Done {
        let transport = self.transports[which].as_mut().expect("it is there");
        let HopStage::Sent { to, names } = transport.hop else {
            unreachable!("it is on its way");
        };
        transport.hop = HopStage::There { to };
        self.arrive(to, which, Via::Hop { to: names }, case)
    }

    pub(super) fn hop_lost(&mut self, which: usize, case: &Case) -> Done {
        let transport = self.transports[which].as_mut().expect("it is there");
        if let HopStage::There { to } = transport.hop {
            self.forget(to, which, case)?;
        }
        self.transport(Visit(which as u64)).hop = HopStage::Lost;
        Ok(())
    }

    /// The node in between learns what became of its hop.
    pub(super) fn hop_told(&mut self, which: usize, case: &Case) -> Done {
        let transport = self.transports[which].as_mut().expect("it is there");
        let via = transport.via;
        let visit = Visit(which as u64);
        let (is, next) = match transport.hop {
            HopStage::Misdirected => (Hop::Misdirected, HopStage::No),
            HopStage::Lost => (Hop::Unreachable, HopStage::No),
            HopStage::Answered { to } => (Hop::Answered, HopStage::Copies { to }),
            HopStage::Ended => {
                transport.silent = case.plants(Plant::Retarget);
                transport.at = None;
                if case.machine_fault() == Some(Fault::Rehello) {
                    transport.stage = Stage::Offered;
                }
                (Hop::Ended, HopStage::No)
            }
            HopStage::No
            | HopStage::Sent { .. }
            | HopStage::There { .. }
            | HopStage::Copies { .. } => {
                unreachable!("no news")
            }
        };
        transport.hop = next;
        // The second time a lease is over: then the owner is asked to hand over.
        let now =
            if case.no_hops && self.nodes[via].ownership.knows_unreachable() { LATER } else { NOW };
        self.event(via, Event::Hop { visit, is }, now, case)
    }

    pub(super) fn hello(&mut self, at: usize, case: &Case) -> Done {
        let (which, permit) = self.nodes[at].serves.remove(0);
        let standing = self.nodes[at].standing();
        if self.nodes[at].ownership.permits(permit, standing) {
            self.attach(at, which, case)
        } else {
            let transport = self.transports[which].as_ref().expect("it is there");
            let via = match (transport.via == at, standing.incarnation) {
                (true, _) => Via::Client,
                (false, Some(to)) => Via::Hop { to },
                (false, None) => {
                    self.transport(Visit(which as u64)).hop = HopStage::Misdirected;
                    return Ok(());
                }
            };
            self.arrive(at, which, via, case)
        }
    }

    pub(super) fn attach(&mut self, at: usize, which: usize, case: &Case) -> Done {
        let mut session = self.nodes[at].session.ok_or("a hello of no session")?;
        if let Some(old) = session.at
            && old != which
        {
            if old == 1 {
                self.forget_old();
            } else {
                self.close(old);
            }
        }
        let client = self.client;
        let transport = self.transports[which].as_mut().expect("it is there");
        let (mut resumed, mut from, mut fine) = (false, 0, true);
        match transport.cursor {
            Some((epoch, position)) if epoch == session.epoch => {
                let head = session.outbox.len;
                if position > head {
                    return Err(format!(
                        "P3: the cursor {position} is above the head {head} of its epoch"
                    ));
                }
                (resumed, from) = (true, position);
                if which == 0 {
                    let known = usize::from(from);
                    fine = client.got.as_slice()[..known] == session.outbox.as_slice()[..known];
                }
            }
            Some(_) if case.exact && !self.lost => {
                return Err("P3: under Exact, and its epoch is gone".into());
            }
            Some(_) | None => {}
        }
        session.at = Some(which);
        session.sent = from;
        session.acked = 0;
        transport.stage = Stage::Open;
        transport.at = Some(at);
        if transport.via != at {
            transport.hop = HopStage::Answered { to: at };
        }
        if std::mem::take(&mut transport.silent) {
            session.sent = client.got.len.min(session.outbox.len);
            self.nodes[at].session = Some(session);
            return Ok(());
        }
        transport.up.clear();
        transport.down.clear();
        self.nodes[at].session = Some(session);
        self.check_owner(at, "hello", case)?;
        let hello =
            Down::Hello { resumed, fine, epoch: session.epoch, from, received: session.taken };
        self.down(which, hello);
        Ok(())
    }
}

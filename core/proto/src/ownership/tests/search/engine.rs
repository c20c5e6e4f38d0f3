//! The engine: one record, a lease per node, and what each call does there.

use super::{
    case::{Case, Plant, Replicated},
    session::Snap,
    world::{NODES, node_of},
};
use crate::ownership::{
    Answer, Call, Claimed, Fence, Incarnation, LeaseCommand, Looked, Over, OwnerIs, Put, Refused,
    Renewed, Then,
    record::{Head, Mark, Verdict},
};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Record {
    pub(super) head: Head,
    pub(super) snap: Snap,
    /// The generation of the last put, as a record under the id would have it.
    put_by: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Engine {
    pub(super) record: Record,
    pub(super) leases: [Option<Incarnation>; NODES],
    /// The owner is asked to hand over.
    pub(super) wanted: bool,
}

/// What a call brings back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Reply {
    pub(super) answer: Answer,
    /// The bytes, with what was claimed.
    pub(super) snap: Option<Snap>,
}

/// Whether a write is on the replica before its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    Nothing,
    Some,
    Turn,
    Release,
}

impl Engine {
    pub(super) fn new(owner: Incarnation, snap: Snap) -> Self {
        let record = Record { head: Head::first(1, owner), snap, put_by: 1 };
        Self { record, leases: [None; NODES], wanted: false }
    }

    pub(super) fn fence(&self) -> Fence {
        self.record.head.fence
    }

    pub(super) fn has_ended(&self) -> bool {
        self.record.head.mark == Mark::Ended
    }

    fn is_alive(&self, incarnation: Incarnation) -> bool {
        self.leases[node_of(incarnation)] == Some(incarnation)
    }

    /// Does what is asked.
    pub(super) fn apply(
        &mut self,
        call: Call,
        snap: Option<Snap>,
        sender: Incarnation,
        case: &Case,
    ) -> Result<(Reply, Wrote), String> {
        let record = self.record;
        let head = Some(record.head);
        let (answer, wrote) = match call {
            Call::Look { by } => self.look(by, case),
            Call::Find { owner } => {
                let alive = self.is_alive(owner) && !case.plants(Plant::EqualGeneration);
                let answer = if alive {
                    Answer::Owner(OwnerIs::Alive)
                } else if self.is_alive(sender) {
                    Answer::Owner(OwnerIs::Gone)
                } else {
                    Answer::Unknown
                };
                (answer, Wrote::Nothing)
            }
            Call::Claim { over, by } => {
                let mut verdict = Head::claim(head, over, by, 2);
                if let Over::Session(from) = over {
                    let found = Head { fence: from, ..record.head };
                    let fits = record.head.fence.generation <= from.generation + 1;
                    if case.plants(Plant::EqualGeneration) && fits {
                        verdict = Head::claim(Some(found), over, by, 2);
                    } else if case.plants(Plant::ClaimEnded) && record.head.fence == from {
                        let found = Head { mark: Mark::Open, ..found };
                        verdict = Head::claim(Some(found), over, by, 2);
                    }
                }
                self.claimed(verdict, case)
            }
            Call::Reclaim { from, by } => {
                let behind = record.head.fence.is_before(from);
                let verdict = if behind && case.plants(Plant::RefuseBehind) {
                    Verdict::Refuse(Refused::Stale)
                } else {
                    Head::reclaim(head, from, by)
                };
                self.claimed(verdict, case)
            }
            Call::Recreate { from, by } => self.claimed(Head::recreate(head, from, by), case),
            Call::Confirm { fence } => {
                let mut verdict = Head::confirm(head, fence);
                if case.plants(Plant::EqualGeneration)
                    && record.head.fence.generation <= fence.generation
                {
                    verdict = Verdict::Keep(());
                }
                if case.plants(Plant::RefuseBehind) && verdict == Verdict::Refuse(Refused::Behind) {
                    verdict = Verdict::Refuse(Refused::Stale);
                }
                (self.write(verdict), Wrote::Nothing)
            }
            Call::Put(put) => self.put(put, snap.expect("a put brings bytes"), case)?,
            Call::Release { fence, committed } => {
                let committed = if case.plants(Plant::BlindRelease) { 0 } else { committed };
                let verdict = Head::release(head, fence, committed);
                let wrote = match verdict {
                    Verdict::Write(..) => Wrote::Release,
                    Verdict::Keep(()) | Verdict::Refuse(_) => Wrote::Nothing,
                };
                (self.write(verdict), wrote)
            }
            Call::Want { owner } => {
                let wrote = self.is_alive(owner) && !self.wanted;
                self.wanted |= wrote;
                (Answer::Done, if wrote { Wrote::Some } else { Wrote::Nothing })
            }
        };
        let snap = match answer {
            Answer::Claimed(_) | Answer::Looked(Looked::Claimed(_)) => Some(record.snap),
            _ => None,
        };
        Ok((Reply { answer, snap }, wrote))
    }

    fn look(&mut self, by: Incarnation, case: &Case) -> (Answer, Wrote) {
        let head = self.record.head;
        match Head::look(Some(head), by) {
            Verdict::Write(mut next, looked) => {
                if case.plants(Plant::CleanStays) {
                    next.mark = head.mark;
                }
                self.record.head = next;
                (Answer::Looked(looked), Wrote::Turn)
            }
            Verdict::Keep(looked) => (Answer::Looked(looked), Wrote::Nothing),
            Verdict::Refuse(refused) => (Answer::Refused(refused), Wrote::Nothing),
        }
    }

    fn claimed(&mut self, verdict: Verdict<Claimed>, case: &Case) -> (Answer, Wrote) {
        match verdict {
            Verdict::Write(mut head, claimed) => {
                if case.plants(Plant::CleanStays) {
                    head.mark = self.record.head.mark;
                }
                self.record.head = head;
                (Answer::Claimed(claimed), Wrote::Turn)
            }
            Verdict::Keep(claimed) => (Answer::Claimed(claimed), Wrote::Nothing),
            Verdict::Refuse(refused) => (Answer::Refused(refused), Wrote::Nothing),
        }
    }

    fn put(&mut self, put: Put, snap: Snap, case: &Case) -> Result<(Answer, Wrote), String> {
        let stored = self.record.head;
        let verdict = self.judge_put(put, case)?;
        let answer = match verdict {
            Verdict::Write(head, ()) => {
                if snap.taken < self.record.snap.taken {
                    let (new, old) = (snap.taken, self.record.snap.taken);
                    return Err(format!("P1: a put takes back effects: {new} over {old}"));
                }
                let put_by = head.fence.generation;
                self.record = Record { head, snap, put_by };
                if stored.fence.owner != head.fence.owner {
                    self.wanted = false;
                }
                Answer::Done
            }
            Verdict::Keep(()) => Answer::Done,
            Verdict::Refuse(refused) => Answer::Refused(refused),
        };
        let wrote = match (verdict, put.then) {
            (Verdict::Write(..), Then::Keep) => Wrote::Some,
            (Verdict::Write(..), Then::Release | Then::End) => Wrote::Release,
            (Verdict::Keep(()) | Verdict::Refuse(_), _) => Wrote::Nothing,
        };
        Ok((answer, wrote))
    }

    fn judge_put(&self, put: Put, case: &Case) -> Result<Verdict, String> {
        let Put { fence, version, then } = put;
        let stored = self.record.head;
        let right = Head::put(Some(stored), fence, version, then);
        // What the put would be over a record of its own owner that is one write behind.
        let fits =
            || Head::put(Some(Head { fence, version: 0, mark: Mark::Open }), fence, version, then);
        let behind = stored.fence.is_before(fence);
        Ok(match case.plant {
            Some(Plant::NoFence) => fits(),
            Some(Plant::EqualGeneration) if stored.fence.generation <= fence.generation => fits(),
            Some(Plant::NoVersion) if stored.fence == fence => fits(),
            Some(Plant::RefuseBehind) if behind => Verdict::Refuse(Refused::Stale),
            Some(Plant::OutcomeUnderId) if then == Then::End => {
                if fence.generation < self.record.put_by {
                    Verdict::Refuse(Refused::Stale)
                } else if stored.fence == fence {
                    right
                } else {
                    return Err("P4: an outcome of a node that is not the owner is recorded".into());
                }
            }
            _ => right,
        })
    }

    fn write(&mut self, verdict: Verdict) -> Answer {
        match verdict {
            Verdict::Write(head, ()) => {
                self.record.head = head;
                Answer::Done
            }
            Verdict::Keep(()) => Answer::Done,
            Verdict::Refuse(refused) => Answer::Refused(refused),
        }
    }

    /// Does what a lease asks.
    pub(super) fn apply_lease(
        &mut self,
        command: LeaseCommand,
        case: &Case,
    ) -> (LeaseReply, Wrote) {
        match command {
            LeaseCommand::Renew(incarnation) if self.is_alive(incarnation) => {
                let owned = self.fence().owner == Some(incarnation);
                let wanted = self.wanted && owned;
                if wanted {
                    self.wanted = false;
                }
                (LeaseReply::Renewed(Renewed::Held { run: 0 }, wanted), Wrote::Nothing)
            }
            LeaseCommand::Renew(incarnation) if case.plants(Plant::RenewAfter) => {
                self.leases[node_of(incarnation)] = Some(incarnation);
                (LeaseReply::Renewed(Renewed::Held { run: 0 }, false), Wrote::Some)
            }
            LeaseCommand::Renew(_) => (LeaseReply::Renewed(Renewed::Gone, false), Wrote::Nothing),
            LeaseCommand::Enlist { incarnation, .. } => {
                self.leases[node_of(incarnation)] = Some(incarnation);
                (LeaseReply::Enlisted, Wrote::Turn)
            }
            LeaseCommand::Draw
            | LeaseCommand::Reconnect
            | LeaseCommand::PutAgain
            | LeaseCommand::Retire(_) => unreachable!("not for the engine"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum LeaseReply {
    /// With whether a session here is wanted elsewhere.
    Renewed(Renewed, bool),
    Enlisted,
    Unknown,
}

impl Wrote {
    /// What the replica has after a write, of which the answer is on its way.
    pub(super) fn replicate(
        self,
        before: Engine,
        after: Engine,
        replica: Engine,
        case: &Case,
    ) -> Engine {
        let waits = match (case.replicated, self) {
            (_, Self::Nothing) => return replica,
            (Replicated::Everything, _)
            | (Replicated::Turns, Self::Turn | Self::Release)
            | (Replicated::Claims, Self::Turn) => true,
            (Replicated::Nothing | Replicated::Turns | Replicated::Claims, _) => false,
        };
        if waits || case.budget.failovers == 0 {
            after
        } else if case.deep {
            replica
        } else {
            before
        }
    }
}

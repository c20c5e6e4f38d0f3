//! What the engine decides at one record. Every call is one of these functions, applied atomically under one key.
//!
//! A backend that runs its own code at the record calls them; one with scripts repeats them there.

use super::{Claimed, Fence, Found, Incarnation, Looked, Over, Refused, Then};

/// What stands before the opaque bytes of a record: all that decides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Head {
    /// Who may write it.
    pub fence: Fence,
    /// The number of its last write.
    pub version: u64,
    /// What it says of what follows.
    pub mark: Mark,
}

/// What a record says of what follows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mark {
    /// More may follow.
    Open,
    /// Nothing follows until it is claimed. A claim takes this mark off.
    Clean,
    /// The session has ended: this is its final record.
    Ended,
}

/// What becomes of a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use]
pub enum Verdict<T = ()> {
    /// It is written, with this head; the answer.
    Write(Head, T),
    /// Nothing changes, and the answer is as if it were written now: it has happened already, or a later write of its owner
    /// has taken its place.
    Keep(T),
    /// Nothing changes.
    Refuse(Refused),
}

impl Head {
    /// Returns the head of a new line's first record.
    pub const fn first(line: u128, by: Incarnation) -> Self {
        Self { fence: Fence::first(line, by), version: 1, mark: Mark::Open }
    }

    /// Judges a look by `by`, which has no session under this key in memory.
    ///
    /// What `by` owns already, by a claim whose answer was lost, is claimed again: a write that is still on its way under the
    /// earlier claim must not count for the session that is built now.
    pub fn look(stored: Option<Self>, by: Incarnation) -> Verdict<Looked> {
        let Some(stored) = stored else {
            return Verdict::Keep(Looked::Absent);
        };
        match (stored.mark, stored.fence.owner) {
            (Mark::Ended, _) => Verdict::Keep(Looked::Ended(stored.fence)),
            (Mark::Open | Mark::Clean, Some(owner)) if owner != by => {
                Verdict::Keep(Looked::Theirs(stored.fence))
            }
            (Mark::Open | Mark::Clean, _) => {
                let head = stored.claimed(stored.fence.taken_by(by));
                Verdict::Write(head, Looked::Claimed(stored.answer(head)))
            }
        }
    }

    /// Judges a claim by `by` over exactly what it has found. Over nothing, and over a final record, a new line begins:
    /// `line`.
    pub fn claim(
        stored: Option<Self>,
        over: Over,
        by: Incarnation,
        line: u128,
    ) -> Verdict<Claimed> {
        let first = Self::first(line, by);
        let Some(stored) = stored else {
            return match over {
                Over::Nothing => Verdict::Write(first, first.answers(Found::New)),
                Over::Session(_) | Over::Final(_) => Verdict::Refuse(Refused::Missing),
            };
        };
        let head = match over {
            Over::Nothing | Over::Final(_) => first,
            Over::Session(from) => stored.claimed(from.taken_by(by)),
        };
        if stored.fence == head.fence && stored.mark == Mark::Open {
            // It has happened.
            return Verdict::Keep(stored.answers(Found::Open));
        }
        match (over, stored.mark) {
            (Over::Session(from), Mark::Open | Mark::Clean) if stored.fence == from => {
                Verdict::Write(head, stored.answer(head))
            }
            (Over::Final(from), Mark::Ended) if stored.fence == from => {
                Verdict::Write(head, head.answers(Found::New))
            }
            (Over::Nothing | Over::Session(_) | Over::Final(_), _) => {
                Verdict::Refuse(Refused::Stale)
            }
        }
    }

    /// Judges a claim by `by` of what an earlier life of the same node has in memory under `from`.
    ///
    /// It fits, too, if the record is behind: the engine has lost the claim of that life, and nobody has claimed since.
    pub fn reclaim(stored: Option<Self>, from: Fence, by: Incarnation) -> Verdict<Claimed> {
        let Some(stored) = stored else {
            return Verdict::Refuse(Refused::Missing);
        };
        let ours = from.taken_by(by);
        if stored.fence == ours && stored.mark == Mark::Open {
            return Verdict::Keep(stored.answers(Found::Open));
        }
        let fits = stored.fence == from || stored.fence.is_before(from);
        if !fits || stored.mark == Mark::Ended {
            return Verdict::Refuse(Refused::Stale);
        }
        let head = stored.claimed(ours);
        Verdict::Write(head, head.answers(Found::Open))
    }

    /// Judges the making of a record again, by `by`, which has under `from` in memory what the engine has lost with everything
    /// else. The first one wins, unless it comes from an earlier claim of the line.
    pub fn recreate(stored: Option<Self>, from: Fence, by: Incarnation) -> Verdict<Claimed> {
        if stored.is_some() {
            return Self::reclaim(stored, from, by);
        }
        let head = Self { fence: from.taken_by(by), version: 1, mark: Mark::Open };
        Verdict::Write(head, head.answers(Found::Open))
    }

    /// Judges a put of write number `version` under `fence`.
    ///
    /// It fits over the owner's earlier writes, and over a record that is behind: the engine has lost the claim, and the put
    /// heals that. It never makes a record.
    pub fn put(stored: Option<Self>, fence: Fence, version: u64, then: Then) -> Verdict {
        let Some(stored) = stored else {
            return Verdict::Refuse(Refused::Missing);
        };
        let same = (stored.fence.line, stored.fence.generation, stored.version);
        if same == (fence.line, fence.generation, version) {
            // The owner does not matter: this repeats a release or an end whose answer was lost.
            return Verdict::Keep(());
        }
        if stored.fence == fence && stored.mark != Mark::Ended {
            if version < stored.version {
                return Verdict::Keep(());
            }
        } else if !stored.fence.is_before(fence) {
            return Verdict::Refuse(Refused::Stale);
        }
        let (fence, mark) = match then {
            Then::Keep => (fence, Mark::Open),
            Then::Release => (fence.released(), Mark::Clean),
            Then::End => (fence, Mark::Ended),
        };
        Verdict::Write(Self { fence, version, mark }, ())
    }

    /// Judges the release of a record as it stands, by an owner that last knew its write number `committed` to be there.
    pub fn release(stored: Option<Self>, fence: Fence, committed: u64) -> Verdict {
        let Some(stored) = stored else {
            return Verdict::Refuse(Refused::Missing);
        };
        if stored.fence == fence && stored.mark != Mark::Ended {
            if stored.version < committed {
                return Verdict::Refuse(Refused::Behind);
            }
            let head = Self { fence: fence.released(), mark: Mark::Open, ..stored };
            Verdict::Write(head, ())
        } else if stored.fence == fence.released() {
            Verdict::Keep(())
        } else if stored.fence.is_before(fence) {
            Verdict::Refuse(Refused::Behind)
        } else {
            Verdict::Refuse(Refused::Stale)
        }
    }

    /// Judges whether `fence` is still the record's.
    pub fn confirm(stored: Option<Self>, fence: Fence) -> Verdict {
        match stored {
            None => Verdict::Refuse(Refused::Missing),
            Some(stored) if stored.fence == fence => Verdict::Keep(()),
            Some(stored) if stored.fence.is_before(fence) => Verdict::Refuse(Refused::Behind),
            Some(_) => Verdict::Refuse(Refused::Stale),
        }
    }

    const fn claimed(self, fence: Fence) -> Self {
        Self { fence, version: self.version, mark: Mark::Open }
    }

    /// What the claimer of `self` is told, which has left `head`. A record that the claimer owned already is
    /// never told as clean.
    fn answer(self, head: Self) -> Claimed {
        let clean = self.mark == Mark::Clean && self.fence.owner != head.fence.owner;
        head.answers(if clean { Found::Clean } else { Found::Open })
    }

    const fn answers(self, found: Found) -> Claimed {
        Claimed { fence: self.fence, version: self.version, found }
    }
}

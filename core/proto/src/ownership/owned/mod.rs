//! What a node does for a session that it owns: confirm, put, freeze, reclaim, let go.

mod advance;
mod answers;
mod events;

use super::{Claimed, Fence, Put, Stand, Standing, Then};
use crate::Moment;

/// A session that this node owns, as far as it knows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Owned {
    fence: Fence,
    /// The number of the last write that was begun.
    version: u64,
    /// The number of the last write that is known to be there.
    committed: u64,
    /// How often the engine had lost everything before the last write that is known to be there.
    losses: u64,
    hold: Hold,
    course: Course,
    confirm: Confirm,
    /// When the transports of a session that is silent for want of a lease are told to come back; `None`: it is not, or
    /// they were.
    close_at: Option<Moment>,
}

/// How the node holds the session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Hold {
    /// Under the node's present incarnation, as far as it knows.
    Held,
    /// The lease may have run out.
    Lapsed,
    /// The node has a new incarnation, which is not the owner yet.
    Reclaiming(Ask),
    /// The engine has lost the record.
    Recreating(Ask),
}

/// Where a call is that is made until it is answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Ask {
    From(Moment),
    Out,
}

/// Where the session is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Course {
    /// It is being made of its record.
    Building,
    /// It goes on here.
    Serving,
    /// It is to leave, and freezes at the next boundary.
    Freezing(Leave),
    /// It is frozen, and is put clean.
    Leaving(Leave, Clean),
    /// It stays, but its record may be clean, by the put of this number: silent until a later put has succeeded.
    Thawing { clean: u64 },
    /// It is let go of as it is stored.
    Releasing(Leave, Ask),
    /// It cannot be built, and is let go of as it is stored.
    Breaking(Ask),
    /// It is over; its final record is on its way, by the put of the number `end`. If its record may be clean it is silent.
    Ending { clean: Option<u64>, end: Option<u64> },
}

/// Whether a record that says "nothing follows" may be there: the number of the last put that says so.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Clean {
    Not,
    /// It was to stay since that put, so the next one has another number.
    Before(u64),
    /// The put is on its way.
    Out(u64),
    /// Its end is not known.
    Unknown(u64),
}

/// Why a session is to leave its node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Leave {
    /// The node drains.
    Drain,
    /// Another node wants it.
    HandOver,
    /// Nobody has used it for a while.
    Memory,
}

/// Whether the record is being confirmed for the visits that wait.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Confirm {
    From(Moment),
    Out,
    /// The record is behind: first it is put again.
    AfterPut,
}

impl Ask {
    /// It is made as soon as it may be.
    const DUE: Self = Self::From(Moment::ZERO);

    fn is_due(self, now: Moment) -> bool {
        matches!(self, Self::From(from) if from <= now)
    }

    /// When it is made again; it was answered nothing.
    fn after(self) -> Option<Moment> {
        match self {
            Self::From(Moment::ZERO) | Self::Out => None,
            Self::From(from) => Some(from),
        }
    }
}

impl Confirm {
    const FREE: Self = Self::From(Moment::ZERO);
}

impl Course {
    /// Whether the session speaks, if its node may.
    const fn speaks(self) -> bool {
        match self {
            Self::Serving | Self::Freezing(_) | Self::Ending { clean: None, .. } => true,
            Self::Building
            | Self::Leaving(..)
            | Self::Thawing { .. }
            | Self::Releasing(..)
            | Self::Breaking(_)
            | Self::Ending { clean: Some(_), .. } => false,
        }
    }

    /// The number of a put that may have made the record clean.
    const fn clean(self) -> Option<u64> {
        match self {
            Self::Leaving(_, Clean::Before(clean) | Clean::Out(clean) | Clean::Unknown(clean))
            | Self::Thawing { clean } => Some(clean),
            Self::Ending { clean, .. } => clean,
            Self::Building
            | Self::Serving
            | Self::Freezing(_)
            | Self::Leaving(_, Clean::Not)
            | Self::Releasing(..)
            | Self::Breaking(_) => None,
        }
    }

    /// A claim has taken the mark off the record, and an earlier put cannot bring it back.
    const fn claimed(self) -> Self {
        match self {
            Self::Leaving(why, _) => Self::Leaving(why, Clean::Not),
            Self::Thawing { .. } => Self::Serving,
            Self::Ending { .. } => Self::Ending { clean: None, end: None },
            Self::Releasing(why, _) => Self::Releasing(why, Ask::DUE),
            Self::Breaking(_) => Self::Breaking(Ask::DUE),
            Self::Building | Self::Serving | Self::Freezing(_) => self,
        }
    }
}

impl Owned {
    pub(super) const fn new(claimed: Claimed, losses: u64) -> Self {
        let Claimed { fence, version, found: _ } = claimed;
        Self {
            fence,
            version,
            committed: version,
            losses,
            hold: Hold::Held,
            course: Course::Building,
            confirm: Confirm::FREE,
            close_at: None,
        }
    }

    pub(super) const fn fence(&self) -> Fence {
        self.fence
    }

    pub(super) const fn stand(&self) -> Stand {
        match (self.hold, self.course) {
            (_, Course::Ending { .. }) => Stand::Ending,
            (Hold::Held, Course::Serving | Course::Freezing(_)) => Stand::Serving,
            (
                Hold::Held | Hold::Lapsed | Hold::Reclaiming(_) | Hold::Recreating(_),
                Course::Building
                | Course::Serving
                | Course::Freezing(_)
                | Course::Leaving(..)
                | Course::Thawing { .. }
                | Course::Releasing(..)
                | Course::Breaking(_),
            ) => Stand::Frozen,
        }
    }

    pub(super) fn due(&self) -> Option<Moment> {
        let hold = match self.hold {
            Hold::Reclaiming(ask) | Hold::Recreating(ask) => ask.after(),
            Hold::Held | Hold::Lapsed => None,
        };
        let course = match self.course {
            Course::Releasing(_, ask) | Course::Breaking(ask) => ask.after(),
            Course::Building
            | Course::Serving
            | Course::Freezing(_)
            | Course::Leaving(..)
            | Course::Thawing { .. }
            | Course::Ending { .. } => None,
        };
        let confirm = match self.confirm {
            Confirm::From(Moment::ZERO) | Confirm::Out | Confirm::AfterPut => None,
            Confirm::From(from) => Some(from),
        };
        [hold, course, confirm, self.close_at].into_iter().flatten().min()
    }

    /// What has waited long enough waits for no moment any more, but perhaps for a lease.
    fn forget_waits(&mut self, now: Moment) {
        let asks = [
            match &mut self.hold {
                Hold::Reclaiming(ask) | Hold::Recreating(ask) => Some(ask),
                Hold::Held | Hold::Lapsed => None,
            },
            match &mut self.course {
                Course::Releasing(_, ask) | Course::Breaking(ask) => Some(ask),
                Course::Building
                | Course::Serving
                | Course::Freezing(_)
                | Course::Leaving(..)
                | Course::Thawing { .. }
                | Course::Ending { .. } => None,
            },
        ];
        for ask in asks.into_iter().flatten().filter(|ask| ask.is_due(now)) {
            *ask = Ask::DUE;
        }
        if matches!(self.confirm, Confirm::From(from) if from <= now) {
            self.confirm = Confirm::FREE;
        }
    }

    pub(super) fn may_speak(&self, standing: Standing) -> bool {
        self.course.speaks() && self.is_held(standing)
    }

    /// Whether the node's present incarnation is the owner, and may act.
    fn is_held(&self, standing: Standing) -> bool {
        self.hold == Hold::Held && standing.holder().is_some_and(|by| self.fence.owner == Some(by))
    }

    pub(super) fn begin_put(&mut self, standing: Standing) -> Option<Put> {
        if !self.is_held(standing) {
            return None;
        }
        let next = self.version + 1;
        let (version, then) = match &mut self.course {
            Course::Serving | Course::Freezing(_) | Course::Thawing { .. } => (next, Then::Keep),
            // A release or an end is repeated under its number. If it has happened, the answer says so.
            Course::Leaving(_, clean) => {
                let version = match *clean {
                    Clean::Not | Clean::Before(_) => next,
                    Clean::Unknown(version) => version,
                    Clean::Out(_) => return None,
                };
                *clean = Clean::Out(version);
                (version, Then::Release)
            }
            Course::Ending { end, .. } => (*end.get_or_insert(next), Then::End),
            Course::Building | Course::Releasing(..) | Course::Breaking(_) => return None,
        };
        self.version = self.version.max(version);
        Some(Put { fence: self.fence, version, then })
    }
}

#[cfg(test)]
impl Owned {
    /// Whatever waits waits until then.
    pub(super) fn wait_until(&mut self, later: Moment) {
        let wait = |ask: &mut Ask| {
            if ask.after().is_some() {
                *ask = Ask::From(later);
            }
        };
        if let Hold::Reclaiming(ask) | Hold::Recreating(ask) = &mut self.hold {
            wait(ask);
        }
        if let Course::Releasing(_, ask) | Course::Breaking(ask) = &mut self.course {
            wait(ask);
        }
        if let Confirm::From(from) = &mut self.confirm
            && *from != Moment::ZERO
        {
            *from = later;
        }
        if let Some(at) = &mut self.close_at {
            *at = later;
        }
    }

    pub(super) fn may_have_put_clean(&self) -> bool {
        matches!(self.course, Course::Leaving(_, Clean::Out(_) | Clean::Unknown(_)))
    }
}

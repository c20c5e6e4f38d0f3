//! What a node does for a session that it owns: confirm, put, freeze, reclaim, let go.

use super::{
    Answer, Asks, Call, Claimed, Command, Dropped, Event, Fence, Ownership, Permit, Put, Refusal,
    Refused, Stand, Standing, State, Then, planted, seek::RETRY, visit::Stage,
};
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
    /// It is over; its final record is on its way. If its record may be clean it is silent.
    Ending { clean: Option<u64> },
}

/// Whether a record that says "nothing follows" may be there: the number of the last put that says so.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Clean {
    Not,
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

/// Whether the record is being confirmed for those who came.
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
            Self::Serving | Self::Freezing(_) | Self::Ending { clean: None } => true,
            Self::Building
            | Self::Leaving(..)
            | Self::Thawing { .. }
            | Self::Releasing(..)
            | Self::Breaking(_)
            | Self::Ending { clean: Some(_) } => false,
        }
    }

    /// The number of a put that may have made the record clean.
    const fn clean(self) -> Option<u64> {
        match self {
            Self::Leaving(_, Clean::Out(clean) | Clean::Unknown(clean))
            | Self::Thawing { clean } => Some(clean),
            Self::Ending { clean } => clean,
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
            Self::Ending { .. } => Self::Ending { clean: None },
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
        let version = self.version + 1;
        let then = match &mut self.course {
            Course::Serving | Course::Freezing(_) | Course::Thawing { .. } => Then::Keep,
            Course::Leaving(_, clean @ (Clean::Not | Clean::Unknown(_))) => {
                *clean = Clean::Out(version);
                Then::Release
            }
            Course::Ending { .. } => Then::End,
            Course::Leaving(_, Clean::Out(_))
            | Course::Building
            | Course::Releasing(..)
            | Course::Breaking(_) => return None,
        };
        self.version = version;
        Some(Put { fence: self.fence, version, then })
    }
}

/// What the answer to an owner's call means for its ownership.
enum Turn {
    Stays,
    Drop(Dropped),
}

impl Ownership {
    pub(super) fn own_event(&mut self, event: Event, standing: Standing) {
        let State::Owned(owned) = &mut self.state else {
            return;
        };
        match (event, owned.course) {
            (Event::Built, Course::Building) => {
                owned.course = Course::Serving;
                if standing.drains {
                    owned.course = Course::Freezing(Leave::Drain);
                    self.commands.push_back(Command::Freeze);
                }
                if owned.hold == Hold::Held {
                    self.serve_asked(standing);
                } else {
                    self.visits.ask_again();
                    self.commands.push_back(Command::Silence);
                }
            }
            (Event::CannotBuild, Course::Building) => {
                owned.course = Course::Breaking(Ask::DUE);
                for guest in self.visits.take(|guest| guest.is_open()) {
                    let why = Refusal::Broken;
                    self.commands.push_back(Command::Refuse { visit: guest.visit, why });
                }
            }
            (Event::Leave(why), Course::Serving | Course::Freezing(_)) => {
                owned.course = Course::Freezing(why);
                self.commands.push_back(Command::Freeze);
            }
            (Event::Leave(why), Course::Thawing { clean }) => {
                owned.course = Course::Leaving(why, Clean::Unknown(clean));
                self.commands.push_back(Command::Save);
            }
            (Event::AtBoundary, Course::Freezing(why)) => {
                owned.course = Course::Leaving(why, Clean::Not);
                self.commands.push_back(Command::Save);
            }
            (Event::Stay, Course::Freezing(_) | Course::Leaving(_, Clean::Not)) => {
                owned.course = Course::Serving;
                if owned.hold == Hold::Held {
                    self.commands.push_back(Command::Thaw);
                }
            }
            (Event::Stay, Course::Leaving(_, Clean::Out(clean) | Clean::Unknown(clean))) => {
                owned.course = Course::Thawing { clean };
                self.commands.push_back(Command::Save);
            }
            (
                Event::Overdue,
                Course::Serving
                | Course::Freezing(_)
                | Course::Leaving(..)
                | Course::Thawing { .. },
            ) => {
                if owned.may_speak(standing) {
                    self.commands.push_back(Command::Silence);
                }
                let why = match owned.course {
                    Course::Freezing(why) | Course::Leaving(why, _) => why,
                    _ => Leave::Drain,
                };
                owned.course = Course::Releasing(why, Ask::DUE);
            }
            (
                Event::Finished,
                Course::Serving
                | Course::Freezing(_)
                | Course::Leaving(..)
                | Course::Thawing { .. },
            ) => {
                owned.course = Course::Ending { clean: owned.course.clean() };
                self.commands.push_back(Command::Save);
            }
            (Event::Resumed, _) if !planted!(self, NoReput) => {
                self.commands.push_back(Command::Save);
            }
            _ => {}
        }
    }

    pub(super) fn own_answered(
        &mut self,
        call: Call,
        answer: Answer,
        standing: Standing,
        now: Moment,
    ) {
        let State::Owned(owned) = &mut self.state else {
            return;
        };
        let turn = match call {
            Call::Confirm { fence } if fence == owned.fence => {
                self.confirmed(answer, standing, now)
            }
            Call::Put(put) if put.fence == owned.fence => self.put_answered(put, answer, standing),
            Call::Reclaim { from, .. } | Call::Recreate { from, .. } if from == owned.fence => {
                self.reclaimed(answer, standing, now)
            }
            Call::Release { fence, .. } if fence == owned.fence => {
                self.release_answered(answer, now)
            }
            Call::Confirm { .. }
            | Call::Put(_)
            | Call::Reclaim { .. }
            | Call::Recreate { .. }
            | Call::Release { .. }
            | Call::Look { .. }
            | Call::Find { .. }
            | Call::Claim { .. }
            | Call::Want { .. } => Turn::Stays,
        };
        match turn {
            Turn::Stays => {}
            Turn::Drop(why) => {
                self.state = State::Idle;
                self.visits.ask_again();
                self.commands.push_back(Command::Drop(why));
            }
        }
    }

    fn confirmed(&mut self, answer: Answer, standing: Standing, now: Moment) -> Turn {
        let State::Owned(owned) = &mut self.state else {
            return Turn::Stays;
        };
        if owned.confirm != Confirm::Out {
            return Turn::Stays;
        }
        owned.confirm = Confirm::FREE;
        match answer {
            Answer::Done => {
                self.serve_asked(standing);
                return Turn::Stays;
            }
            Answer::Refused(Refused::Behind) => {
                owned.confirm = Confirm::AfterPut;
                self.commands.push_back(Command::Save);
            }
            Answer::Refused(refused @ (Refused::Stale | Refused::Missing)) => {
                let turn = self.not_ours(refused, standing);
                self.visits.ask_again();
                return turn;
            }
            Answer::Refused(Refused::Full)
            | Answer::Unknown
            | Answer::Looked(_)
            | Answer::Owner(_)
            | Answer::Claimed(_) => owned.confirm = Confirm::From(now + RETRY),
        }
        self.visits.ask_again();
        Turn::Stays
    }

    /// The record is another owner's, or not there, says the engine.
    fn not_ours(&mut self, refused: Refused, standing: Standing) -> Turn {
        let State::Owned(owned) = &mut self.state else {
            return Turn::Stays;
        };
        match owned.hold {
            // The answer may be about our own reclaim, which has overtaken the call: that tells.
            Hold::Reclaiming(_) | Hold::Recreating(_) if !planted!(self, StaleDuringReclaim) => {
                Turn::Stays
            }
            Hold::Held | Hold::Lapsed | Hold::Reclaiming(_) | Hold::Recreating(_) => {
                if refused == Refused::Missing && standing.losses > owned.losses {
                    let spoke = owned.course.speaks() && owned.hold == Hold::Held;
                    owned.hold = Hold::Recreating(Ask::DUE);
                    if spoke {
                        self.commands.push_back(Command::Silence);
                    }
                    return Turn::Stays;
                }
                Turn::Drop(Dropped::Lost)
            }
        }
    }

    fn put_answered(&mut self, put: Put, answer: Answer, standing: Standing) -> Turn {
        let State::Owned(owned) = &mut self.state else {
            return Turn::Stays;
        };
        match answer {
            Answer::Done => {
                owned.committed = owned.committed.max(put.version);
                owned.losses = standing.losses;
                if owned.confirm == Confirm::AfterPut {
                    owned.confirm = Confirm::FREE;
                }
                match put.then {
                    Then::Release => return Turn::Drop(Dropped::Released),
                    Then::End => return Turn::Drop(Dropped::Ended),
                    Then::Keep => {}
                }
                if let Course::Thawing { clean } = owned.course
                    && put.version > clean
                {
                    owned.course = Course::Serving;
                    if owned.hold == Hold::Held {
                        self.commands.push_back(Command::Thaw);
                    }
                }
            }
            Answer::Refused(refused @ (Refused::Stale | Refused::Missing)) => {
                return self.not_ours(refused, standing);
            }
            Answer::Refused(Refused::Full | Refused::Behind)
            | Answer::Unknown
            | Answer::Looked(_)
            | Answer::Owner(_)
            | Answer::Claimed(_) => {
                if let Course::Leaving(_, clean) = &mut owned.course
                    && *clean == Clean::Out(put.version)
                {
                    *clean = Clean::Unknown(put.version);
                    if planted!(self, ThawAtOnce) {
                        owned.course = Course::Serving;
                        self.commands.push_back(Command::Thaw);
                    }
                }
                self.commands.push_back(Command::Save);
            }
        }
        Turn::Stays
    }

    fn reclaimed(&mut self, answer: Answer, standing: Standing, now: Moment) -> Turn {
        let State::Owned(owned) = &mut self.state else {
            return Turn::Stays;
        };
        let (Hold::Reclaiming(ask) | Hold::Recreating(ask)) = &mut owned.hold else {
            return Turn::Stays;
        };
        match answer {
            Answer::Claimed(claimed) => {
                owned.fence = claimed.fence;
                owned.version = owned.version.max(claimed.version);
                owned.losses = standing.losses;
                owned.confirm = Confirm::FREE;
                owned.course = owned.course.claimed();
                // A confirmation under the old fence will be ignored.
                self.visits.ask_again();
                self.held_again();
            }
            Answer::Refused(Refused::Missing) if standing.losses > owned.losses => {
                owned.hold = Hold::Recreating(Ask::DUE);
            }
            Answer::Refused(Refused::Stale | Refused::Behind | Refused::Missing) => {
                return Turn::Drop(Dropped::Lost);
            }
            Answer::Refused(Refused::Full)
            | Answer::Unknown
            | Answer::Done
            | Answer::Looked(_)
            | Answer::Owner(_) => *ask = Ask::From(now + RETRY),
        }
        Turn::Stays
    }

    fn release_answered(&mut self, answer: Answer, now: Moment) -> Turn {
        let State::Owned(owned) = &mut self.state else {
            return Turn::Stays;
        };
        let reclaims = matches!(owned.hold, Hold::Reclaiming(_) | Hold::Recreating(_));
        let (dropped, ask) = match &mut owned.course {
            Course::Releasing(_, ask) => (Dropped::Released, ask),
            Course::Breaking(ask) => (Dropped::Broken, ask),
            Course::Building
            | Course::Serving
            | Course::Freezing(_)
            | Course::Leaving(..)
            | Course::Thawing { .. }
            | Course::Ending { .. } => return Turn::Stays,
        };
        match answer {
            Answer::Done => Turn::Drop(dropped),
            Answer::Refused(_) if reclaims => {
                *ask = Ask::DUE;
                Turn::Stays
            }
            Answer::Refused(Refused::Behind) => {
                let Course::Releasing(why, _) = owned.course else {
                    return Turn::Drop(dropped);
                };
                // What the engine has lost is here alone: it goes on, and is put at its next boundary.
                owned.course = Course::Freezing(why);
                self.commands.extend([Command::Thaw, Command::Freeze, Command::Save]);
                Turn::Stays
            }
            Answer::Refused(Refused::Stale | Refused::Missing) => Turn::Drop(Dropped::Lost),
            Answer::Refused(Refused::Full)
            | Answer::Unknown
            | Answer::Looked(_)
            | Answer::Owner(_)
            | Answer::Claimed(_) => {
                *ask = Ask::From(now + RETRY);
                Turn::Stays
            }
        }
    }

    /// The node owns the session under its present incarnation again.
    fn held_again(&mut self) {
        let State::Owned(owned) = &mut self.state else {
            return;
        };
        owned.hold = Hold::Held;
        owned.close_at = None;
        match owned.course {
            Course::Serving | Course::Ending { clean: None } => {
                self.commands.push_back(Command::Thaw);
            }
            Course::Freezing(_) => {
                self.commands.extend([Command::Thaw, Command::Freeze]);
            }
            Course::Building
            | Course::Leaving(..)
            | Course::Thawing { .. }
            | Course::Releasing(..)
            | Course::Breaking(_)
            | Course::Ending { clean: Some(_) } => {}
        }
        if owned.course != Course::Building {
            self.commands.push_back(Command::Save);
        }
    }

    /// Answers those for whom a call was made after they came.
    fn serve_asked(&mut self, standing: Standing) {
        let State::Owned(owned) = &self.state else {
            return;
        };
        if owned.may_speak(standing) || planted!(self, LateHello) {
            self.serve(Stage::Asked);
        } else {
            self.visits.ask_again();
        }
    }

    fn serve(&mut self, stage: Stage) {
        let Some(fence) = self.fence() else {
            return;
        };
        for guest in self.visits.take(|guest| guest.stage == stage) {
            let permit = Permit { fence };
            self.commands.push_back(Command::Serve { visit: guest.visit, permit });
        }
    }

    pub(super) fn advance_owned(&mut self, standing: Standing, now: Moment) {
        self.advance_hold(standing, now);
        let State::Owned(owned) = &mut self.state else {
            return;
        };
        if owned.close_at.is_some_and(|at| at <= now) {
            owned.close_at = None;
            self.commands.push_back(Command::CloseTransports);
        }
        if let Some(by) = standing.holder() {
            let from = owned.fence;
            let call = match &mut owned.hold {
                Hold::Reclaiming(ask) if ask.is_due(now) => {
                    *ask = Ask::Out;
                    Some(Call::Reclaim { from, by })
                }
                Hold::Recreating(ask) if ask.is_due(now) => {
                    *ask = Ask::Out;
                    Some(Call::Recreate { from, by })
                }
                Hold::Held | Hold::Lapsed | Hold::Reclaiming(_) | Hold::Recreating(_) => None,
            };
            self.commands.extend(call.map(Command::Call));
        }
        self.advance_course(standing, now);
    }

    fn advance_hold(&mut self, standing: Standing, now: Moment) {
        let State::Owned(owned) = &mut self.state else {
            return;
        };
        let is_owner = standing.holder().map(|by| owned.fence.owner == Some(by));
        match (owned.hold, is_owner) {
            (Hold::Held, Some(true))
            | (Hold::Lapsed, None)
            | (Hold::Reclaiming(_) | Hold::Recreating(_), _) => {}
            (Hold::Held, None | Some(false)) => {
                owned.hold =
                    if is_owner.is_none() { Hold::Lapsed } else { Hold::Reclaiming(Ask::DUE) };
                owned.close_at = Some(now + self.rules.lease);
                if owned.course.speaks() {
                    self.commands.push_back(Command::Silence);
                }
            }
            (Hold::Lapsed, Some(true)) => self.held_again(),
            (Hold::Lapsed, Some(false)) => owned.hold = Hold::Reclaiming(Ask::DUE),
        }
    }

    fn advance_course(&mut self, standing: Standing, now: Moment) {
        let State::Owned(owned) = &mut self.state else {
            return;
        };
        if !owned.is_held(standing) {
            return;
        }
        if let Course::Releasing(_, ask) | Course::Breaking(ask) = &mut owned.course
            && ask.is_due(now)
        {
            *ask = Ask::Out;
            let call = Call::Release { fence: owned.fence, committed: owned.committed };
            return self.call(call);
        }
        if !owned.course.speaks() {
            return;
        }
        let fence = owned.fence;
        let needs_none = planted!(self, NoConfirm);
        for guest in self.visits.take(|guest| {
            guest.stage == Stage::Waiting && (guest.asks != Asks::Upgrade || needs_none)
        }) {
            let permit = Permit { fence };
            self.commands.push_back(Command::Serve { visit: guest.visit, permit });
        }
        if self.visits.any_waits()
            && let Confirm::From(from) = owned.confirm
            && from <= now
        {
            owned.confirm = Confirm::Out;
            self.visits.ask();
            self.call(Call::Confirm { fence });
        }
    }
}

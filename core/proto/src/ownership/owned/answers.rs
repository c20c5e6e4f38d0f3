//! What the engine's answers mean for a session that the node owns.

use super::{Ask, Clean, Confirm, Course, Hold};
use crate::{
    Moment,
    ownership::{
        Answer, Call, Command, Dropped, Ownership, Put, Refused, Standing, State, Then, planted,
        seek::RETRY,
    },
};

/// What the answer to an owner's call means for its ownership.
enum Turn {
    Stays,
    Drop(Dropped),
}

impl Ownership {
    pub(in crate::ownership) fn own_answered(
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
            Call::Put(put) if put.fence == owned.fence => {
                self.put_answered(put, answer, standing, now)
            }
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
                let turn = self.not_ours(refused, standing, now);
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
    fn not_ours(&mut self, refused: Refused, standing: Standing, now: Moment) -> Turn {
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
                    owned.close_at = Some(now + self.rules.lease);
                    if spoke {
                        self.commands.push_back(Command::Silence);
                    }
                    return Turn::Stays;
                }
                Turn::Drop(Dropped::Lost)
            }
        }
    }

    fn put_answered(&mut self, put: Put, answer: Answer, standing: Standing, now: Moment) -> Turn {
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
                return self.not_ours(refused, standing, now);
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
}

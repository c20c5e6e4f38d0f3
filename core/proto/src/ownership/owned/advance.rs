//! What a node does for a session that it owns as soon as it may: hold it, ask for it, answer the visits that wait.

use super::{Ask, Confirm, Course, Hold};
use crate::{
    Moment,
    ownership::{Asks, Call, Command, Ownership, Permit, Standing, State, planted, visit::Stage},
};

impl Ownership {
    /// The node owns the session under its present incarnation again.
    pub(super) fn held_again(&mut self) {
        let State::Owned(owned) = &mut self.state else {
            return;
        };
        owned.hold = Hold::Held;
        owned.close_at = None;
        match owned.course {
            Course::Serving | Course::Ending { clean: None, .. } => {
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
            | Course::Ending { clean: Some(_), .. } => {}
        }
        if owned.course != Course::Building {
            self.commands.push_back(Command::Save);
        }
    }

    /// Answers those for whom a call was made after they came.
    pub(super) fn serve_asked(&mut self, standing: Standing) {
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

    pub(in crate::ownership) fn advance_owned(&mut self, standing: Standing, now: Moment) {
        self.advance_hold(standing, now);
        let State::Owned(owned) = &mut self.state else {
            return;
        };
        owned.forget_waits(now);
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

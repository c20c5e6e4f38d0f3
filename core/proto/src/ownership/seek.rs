//! What a node does for visits that come while the session is not in its memory.

use std::time::Duration;

use super::{
    Answer, Asks, Call, Claimed, Command, Elsewhere, Fence, Hop, Incarnation, Looked, Over,
    OwnerIs, Ownership, Refusal, Refused, Standing, State, Via, Visit,
    owned::Owned,
    planted,
    visit::{Guest, Stage},
};
use crate::Moment;

/// The wait before the same is asked again.
pub(super) const RETRY: Duration = Duration::from_millis(250);

/// The waits before a look after a node that was taken for the owner has said that it is not; then every second.
const MISDIRECTED: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(250), Duration::from_secs(1)];

/// What is being asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Seek {
    /// Whose it is.
    Looking,
    /// Whether its owner is gone.
    Judging { theirs: Fence, owner: Incarnation },
    /// It is being claimed.
    Claiming,
    /// Nothing: it is looked again then.
    Pausing { until: Moment },
}

/// An owner that lives, as the engine says, and is not reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Unreachable {
    owner: Incarnation,
    since: Moment,
    forgotten: Moment,
}

impl Seek {
    pub(super) const fn due(&self) -> Option<Moment> {
        match self {
            Self::Pausing { until } => Some(*until),
            Self::Looking | Self::Judging { .. } | Self::Claiming => None,
        }
    }
}

impl Unreachable {
    pub(super) const fn due(&self) -> Moment {
        self.forgotten
    }
}

impl Ownership {
    pub(super) fn arrived(
        &mut self,
        visit: Visit,
        asks: Asks,
        via: Via,
        standing: Standing,
        now: Moment,
    ) {
        if let Via::Hop { to } = via
            && standing.incarnation != Some(to)
        {
            let owner = self.fence().and_then(|fence| fence.owner);
            return self.commands.push_back(Command::Misdirected { visit, owner });
        }
        self.visits.push(Guest {
            visit,
            asks,
            via,
            until: now + self.rules.patience(),
            misdirected: 0,
            stage: Stage::Waiting,
        });
    }

    /// The final record is not for this visit: a new line may take its place.
    pub(super) fn anew(&mut self, visit: Visit, over: Fence, standing: Standing) {
        let Some(guest) = self.visits.get_mut(visit) else {
            return;
        };
        if guest.stage != Stage::Told {
            return;
        }
        guest.stage = Stage::Waiting;
        if self.state == State::Idle
            && guest.begins()
            && let Some(by) = claimer(standing)
        {
            self.claim(Over::Final(over), by);
        }
    }

    pub(super) fn hop(&mut self, visit: Visit, is: Hop, now: Moment) {
        let Some(guest) = self.visits.get_mut(visit) else {
            return;
        };
        match (guest.stage, is) {
            (Stage::Hopping(to), Hop::Answered) => {
                guest.stage = Stage::Relayed(to);
                if self.unreachable.is_some_and(|unreachable| unreachable.owner == to) {
                    self.unreachable = None;
                }
            }
            (Stage::Hopping(_), Hop::Misdirected) => {
                let last = MISDIRECTED.len() - 1;
                let wait = MISDIRECTED[usize::from(guest.misdirected).min(last)];
                guest.misdirected = guest.misdirected.saturating_add(1);
                guest.stage = Stage::Waiting;
                self.pause(now + wait);
            }
            (Stage::Hopping(to), Hop::Unreachable | Hop::Ended) => {
                guest.stage = Stage::Waiting;
                self.not_reached(visit, to, now);
            }
            (Stage::Relayed(_), Hop::Ended | Hop::Unreachable) => {
                if planted!(self, Rehello) {
                    guest.stage = Stage::Waiting;
                    return;
                }
                self.visits.remove(visit);
                self.commands.push_back(Command::Cut(visit));
            }
            (Stage::Waiting | Stage::Asked | Stage::Told, _)
            | (Stage::Relayed(_), Hop::Answered | Hop::Misdirected) => {}
        }
    }

    /// The owner lives, says the engine, and is not reached. It may have died: then its lease ends soon, and those who came
    /// wait for that. If it is still there after a lease, it is asked to hand over, and they are sent elsewhere.
    fn not_reached(&mut self, visit: Visit, to: Incarnation, now: Moment) {
        let since = match self.unreachable {
            Some(unreachable) if unreachable.owner == to => unreachable.since,
            _ => now,
        };
        let forgotten = now + self.rules.lease * 2;
        self.unreachable = Some(Unreachable { owner: to, since, forgotten });
        if now.since(since) < self.rules.lease {
            return self.pause(now + RETRY);
        }
        self.call(Call::Want { owner: to });
        self.visits.remove(visit);
        self.commands.push_back(Command::Refuse { visit, why: Refusal::TryAgain });
    }

    pub(super) fn answered(&mut self, call: Call, answer: Answer, standing: Standing, now: Moment) {
        match (call, &self.state) {
            (Call::Look { .. }, State::Seeking(Seek::Looking)) => {
                self.looked(answer, standing, now);
            }
            (Call::Find { owner }, State::Seeking(Seek::Judging { theirs, owner: asked }))
                if owner == *asked =>
            {
                self.found(answer, *theirs, owner, standing, now);
            }
            (Call::Claim { .. }, State::Seeking(Seek::Claiming)) => {
                self.claim_answered(answer, standing, now);
            }
            (_, State::Owned(_)) => self.own_answered(call, answer, standing, now),
            (Call::Want { .. }, _) | (_, State::Idle | State::Seeking(_)) => {}
        }
    }

    fn looked(&mut self, answer: Answer, standing: Standing, now: Moment) {
        self.state = State::Idle;
        match answer {
            Answer::Looked(Looked::Claimed(claimed)) => self.own(claimed, standing),
            Answer::Looked(Looked::Theirs(theirs)) => match theirs.owner {
                Some(_) if planted!(self, ClaimAlive) => {
                    self.claim_if_may(Over::Session(theirs), standing, now);
                }
                Some(owner) => {
                    self.state = State::Seeking(Seek::Judging { theirs, owner });
                    self.call(Call::Find { owner });
                }
                None => self.pause(now + RETRY),
            },
            Answer::Looked(Looked::Ended(ended)) => {
                self.visits.ask_again();
                for guest in self.visits.iter_mut().filter(|guest| guest.stage == Stage::Waiting) {
                    guest.stage = Stage::Told;
                    self.commands.push_back(Command::Over { visit: guest.visit, ended });
                }
            }
            Answer::Looked(Looked::Absent) => {
                self.visits.ask_again();
                for guest in self.visits.take(|guest| guest.is_open() && !guest.begins()) {
                    let visit = guest.visit;
                    self.commands.push_back(match guest.via {
                        Via::Client => Command::Nothing(visit),
                        Via::Hop { .. } => Command::Misdirected { visit, owner: None },
                    });
                }
                if self.visits.any_waits() {
                    match standing.may_begin_from {
                        Some(from) if now < from => self.pause(from),
                        _ => self.claim_if_may(Over::Nothing, standing, now),
                    }
                }
            }
            Answer::Unknown
            | Answer::Refused(_)
            | Answer::Done
            | Answer::Owner(_)
            | Answer::Claimed(_) => {
                self.visits.ask_again();
                self.pause(now + RETRY);
            }
        }
    }

    fn found(
        &mut self,
        answer: Answer,
        theirs: Fence,
        owner: Incarnation,
        standing: Standing,
        now: Moment,
    ) {
        self.state = State::Idle;
        self.visits.ask_again();
        match answer {
            Answer::Owner(OwnerIs::Alive) => self.go_there(owner, now),
            Answer::Owner(OwnerIs::Gone) => {
                for guest in self.visits.take(|guest| guest.stage == Stage::Relayed(owner)) {
                    self.commands.push_back(Command::Cut(guest.visit));
                }
                match standing.may_take_from {
                    Some(from) if now < from => self.pause(from),
                    Some(_) => self.claim_if_may(Over::Session(theirs), standing, now),
                    None => self.pause(now + RETRY),
                }
            }
            Answer::Unknown
            | Answer::Refused(_)
            | Answer::Done
            | Answer::Looked(_)
            | Answer::Claimed(_) => self.pause(now + RETRY),
        }
    }

    /// The session is at another node that lives.
    fn go_there(&mut self, owner: Incarnation, now: Moment) {
        for guest in self.visits.iter_mut().filter(|guest| guest.stage == Stage::Waiting) {
            let visit = guest.visit;
            let command = match (guest.via, self.rules.elsewhere) {
                (Via::Hop { .. }, _) => Command::Misdirected { visit, owner: Some(owner) },
                (Via::Client, Elsewhere::Relay) => Command::Relay { visit, to: owner },
                (Via::Client, Elsewhere::Reroute) => Command::Reroute { visit, to: owner },
                (Via::Client, Elsewhere::HandOver) => continue,
            };
            guest.stage = Stage::Hopping(owner);
            self.commands.push_back(command);
        }
        self.visits.take(|guest| {
            let goes_on = guest.via == Via::Client && self.rules.elsewhere == Elsewhere::Relay;
            guest.stage == Stage::Hopping(owner) && !goes_on
        });
        if self.visits.any_waits() {
            self.call(Call::Want { owner });
            self.pause(now + RETRY);
        }
    }

    fn claim_answered(&mut self, answer: Answer, standing: Standing, now: Moment) {
        self.state = State::Idle;
        match answer {
            Answer::Claimed(claimed) => self.own(claimed, standing),
            Answer::Refused(Refused::Full) => {
                self.visits.ask_again();
                self.refuse(Refusal::Full, |guest| guest.is_open());
            }
            // Somebody was faster: it is looked anew at once.
            Answer::Refused(Refused::Stale | Refused::Behind | Refused::Missing) => {
                self.visits.ask_again();
            }
            // It may have happened: then the look finds this node as the owner.
            Answer::Unknown | Answer::Done | Answer::Looked(_) | Answer::Owner(_) => {
                self.visits.ask_again();
                self.pause(now + RETRY);
            }
        }
    }

    fn own(&mut self, claimed: Claimed, standing: Standing) {
        self.state = State::Owned(Owned::new(claimed, standing.losses));
        self.unreachable = None;
        self.commands.push_back(Command::Build(claimed));
    }

    fn claim_if_may(&mut self, over: Over, standing: Standing, now: Moment) {
        match claimer(standing) {
            Some(by) => self.claim(over, by),
            None => self.pause(now + RETRY),
        }
    }

    fn claim(&mut self, over: Over, by: Incarnation) {
        self.state = State::Seeking(Seek::Claiming);
        self.visits.ask();
        self.call(Call::Claim { over, by });
    }

    /// Nothing is asked until then, unless something is being asked now.
    fn pause(&mut self, until: Moment) {
        match &mut self.state {
            State::Idle => self.state = State::Seeking(Seek::Pausing { until }),
            State::Seeking(Seek::Pausing { until: before }) => *before = until.max(*before),
            State::Seeking(Seek::Looking | Seek::Judging { .. } | Seek::Claiming)
            | State::Owned(_) => {}
        }
    }

    /// Does what can be done now.
    pub(super) fn advance(&mut self, standing: Standing, now: Moment) {
        if self.unreachable.is_some_and(|unreachable| unreachable.due() <= now) {
            self.unreachable = None;
        }
        self.refuse(Refusal::TryAgain, |guest| guest.is_open() && guest.until <= now);
        if let State::Seeking(Seek::Pausing { until }) = self.state
            && (until <= now || !self.visits.any_waits())
        {
            self.state = State::Idle;
        }
        if self.state == State::Idle && self.visits.any_waits() {
            self.look(standing);
        }
        self.advance_owned(standing, now);
    }

    /// Refuses the visits that are meant.
    pub(super) fn refuse(&mut self, why: Refusal, meant: impl FnMut(&mut Guest) -> bool) {
        for guest in self.visits.take(meant) {
            self.commands.push_back(Command::Refuse { visit: guest.visit, why });
        }
    }

    fn look(&mut self, standing: Standing) {
        if standing.drains {
            self.refuse(Refusal::Draining, |guest| guest.stage == Stage::Waiting);
        } else if let Some(by) = claimer(standing) {
            self.state = State::Seeking(Seek::Looking);
            self.visits.ask();
            self.call(Call::Look { by });
        }
    }

    pub(super) fn call(&mut self, call: Call) {
        self.commands.push_back(Command::Call(call));
    }
}

/// Who may claim now.
fn claimer(standing: Standing) -> Option<Incarnation> {
    if standing.drains { None } else { standing.holder() }
}

#[cfg(test)]
impl Unreachable {
    /// It is as it was, and is not forgotten.
    pub(super) fn keep(&mut self, since: Moment, forgotten: Moment) {
        self.since = since;
        self.forgotten = forgotten;
    }
}

//! What the search needs to see and to set: faults, and moments that a machine cannot tell apart.

use crate::{
    Moment,
    ownership::{Fault, Ownership, State, Visit, seek::Seek},
};

impl Ownership {
    pub(super) fn plant(&mut self, fault: Option<Fault>) {
        self.fault = fault;
    }

    /// Each wait ends at `later`; no visit is given up.
    pub(super) fn canonical(&mut self, now: Moment, later: Moment) {
        const NEVER: Moment = Moment::from_micros(u64::MAX);
        for guest in self.visits.iter_mut() {
            guest.until = NEVER;
        }
        if let Some(unreachable) = &mut self.unreachable {
            unreachable.keep(now, NEVER);
        }
        match &mut self.state {
            State::Seeking(Seek::Pausing { until }) => *until = later,
            State::Owned(owned) => owned.wait_until(later),
            State::Idle | State::Seeking(Seek::Looking | Seek::Judging { .. } | Seek::Claiming) => {
            }
        }
    }

    pub(super) fn rename(&mut self, from: Visit, to: Visit) {
        for guest in self.visits.iter_mut().filter(|guest| guest.visit == from) {
            guest.visit = to;
        }
    }

    pub(super) fn is_waiting(&self, visit: Visit) -> bool {
        self.visits.iter().any(|guest| guest.visit == visit && guest.is_open())
    }

    pub(super) fn forget(&mut self, visit: Visit) {
        self.visits.remove(visit);
    }

    pub(super) fn knows_unreachable(&self) -> bool {
        self.unreachable.is_some()
    }

    pub(super) fn may_have_put_clean(&self) -> bool {
        matches!(&self.state, State::Owned(owned) if owned.may_have_put_clean())
    }
}

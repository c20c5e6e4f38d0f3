use super::{Asks, Incarnation, Via, Visit};
use crate::Moment;

/// The requests and upgrades that the machine deals with.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Visits(Vec<Guest>);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Guest {
    pub(super) visit: Visit,
    pub(super) asks: Asks,
    pub(super) via: Via,
    /// How long it waits at most.
    pub(super) until: Moment,
    /// How often a node that was taken for the owner has said that it is not.
    pub(super) misdirected: u8,
    pub(super) stage: Stage,
}

/// Where a visit is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Stage {
    /// Nothing has been asked since it came.
    Waiting,
    /// A call that was made after it came will tell.
    Asked,
    /// Its request was sent once more, to this node.
    Hopping(Incarnation),
    /// The hop was answered: bytes are copied. Ends by a cut or by its client, in no other way.
    Relayed(Incarnation),
    /// It was told that the session has ended.
    Told,
}

impl Visits {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn push(&mut self, guest: Guest) {
        self.0.push(guest);
    }

    pub(super) fn get_mut(&mut self, visit: Visit) -> Option<&mut Guest> {
        self.0.iter_mut().find(|guest| guest.visit == visit)
    }

    pub(super) fn remove(&mut self, visit: Visit) -> Option<Guest> {
        let at = self.0.iter().position(|guest| guest.visit == visit)?;
        Some(self.0.remove(at))
    }

    /// Takes those out that are meant, in the order in which they came.
    pub(super) fn take(&mut self, meant: impl FnMut(&mut Guest) -> bool) -> Vec<Guest> {
        self.0.extract_if(.., meant).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Guest> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Guest> {
        self.0.iter_mut()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether somebody waits for whom nothing is asked.
    pub(super) fn any_waits(&self) -> bool {
        self.0.iter().any(|guest| guest.stage == Stage::Waiting)
    }

    /// A call is made: it tells those who are here already.
    pub(super) fn ask(&mut self) {
        self.turn(Stage::Waiting, Stage::Asked);
    }

    /// The call has told nothing.
    pub(super) fn ask_again(&mut self) {
        self.turn(Stage::Asked, Stage::Waiting);
    }

    fn turn(&mut self, from: Stage, to: Stage) {
        for guest in &mut self.0 {
            if guest.stage == from {
                guest.stage = to;
            }
        }
    }
}

impl Guest {
    /// Whether this node still owes it an answer.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Waiting | Stage::Asked)
    }

    /// Whether it begins a session where there is none.
    pub(super) fn begins(&self) -> bool {
        self.asks != Asks::Look && self.via == Via::Client
    }
}

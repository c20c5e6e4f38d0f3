use std::time::Duration;

use crate::{
    Moment,
    numbers::{ANSWER_WITHIN, ASK_AFTER, ASK_AGAIN, BYTES_A_SECOND},
};

/// Asks a server that says nothing about what it was sent; one per transport.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Probe {
    /// The server does not answer pings.
    Off,
    /// Nothing is under way.
    Idle,
    /// Something is under way.
    Armed { at: Moment },
    /// The question is due or out.
    Asking { written: bool, since: Moment, patience: Duration },
}

impl Probe {
    pub(super) fn new(answers: bool) -> Self {
        if answers { Self::Idle } else { Self::Off }
    }

    /// Something is under way.
    pub(super) fn note_sent(&mut self, now: Moment) {
        if matches!(self, Self::Idle) {
            *self = Self::Armed { at: now + ASK_AFTER };
        }
    }

    /// The server has said its number.
    pub(super) fn note_answer(&mut self, now: Moment) {
        if matches!(self, Self::Asking { written: true, .. }) {
            *self = Self::Armed { at: now + ASK_AGAIN };
        }
    }

    /// Takes in that time has passed; returns whether the server is dead. `under_way` are the payload bytes that are not
    /// acknowledged, `None` if there is no such message.
    pub(super) fn handle_timeout(
        &mut self,
        heard: Moment,
        under_way: Option<u64>,
        now: Moment,
    ) -> bool {
        if self.due(heard).is_none_or(|due| now < due) {
            return false;
        }
        let Some(bytes) = under_way else {
            *self = Self::Idle;
            return false;
        };
        if matches!(self, Self::Asking { .. }) {
            return true;
        }
        let patience = ANSWER_WITHIN + Duration::from_secs(bytes / BYTES_A_SECOND);
        *self = Self::Asking { written: false, since: now, patience };
        false
    }

    /// Returns whether the question is to be written now; it counts as written then.
    pub(super) fn poll(&mut self) -> bool {
        match self {
            Self::Asking { written, .. } => !std::mem::replace(written, true),
            Self::Off | Self::Idle | Self::Armed { .. } => false,
        }
    }

    /// Returns when [`Self::handle_timeout`] has something to do; `heard` is when the server has said something last.
    pub(super) fn due(&self, heard: Moment) -> Option<Moment> {
        match self {
            Self::Off | Self::Idle => None,
            Self::Armed { at } => Some(*at),
            // A network that brings something is not dead, however long the answer takes.
            Self::Asking { since, patience, .. } => Some(heard.max(*since) + *patience),
        }
    }
}

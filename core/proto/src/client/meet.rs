//! What the application has to say before its queue goes to another session.

use super::{Action, Client, Event, Phase};
use crate::{Message, WireId};

/// Whether queued messages wait before they go to a session that has nothing of this client's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Meeting {
    /// They go at once.
    #[default]
    AtOnce,
    /// [`Action::Initial`] comes first.
    Initial,
    /// [`Event::NewSession`] comes first, then [`Action::Initial`].
    NewSession,
}

/// For what the queue waits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Hold {
    /// For nothing.
    #[default]
    None,
    /// [`Event::NewSession`] is to be taken.
    Told,
    /// The application has taken it and looks at the queue, until it takes the next event.
    Looked,
    /// [`Action::Initial`] is to be answered.
    Initial,
}

/// Before another session gets what is queued, the application may look at it.
impl Client {
    /// Takes in what [`Action::Initial`] asked for: the messages that go to the session before the queue.
    ///
    /// [`Limits`](super::Limits) do not hold for how many they are. One that is too long is told as
    /// [`Event::TooBig`].
    pub fn handle_initial(&mut self, messages: Vec<Message>) {
        if self.hold != Hold::Initial {
            return;
        }
        self.hold = Hold::None;
        self.in_doubt.clear();
        if matches!(self.phase, Phase::Over { .. } | Phase::Ended) {
            return;
        }
        for message in self.outbound.push_first(messages, &self.config.limits) {
            self.inbound.push(Event::TooBig(message));
        }
    }

    /// Takes out what was queued and never sent, and returns it, oldest first: no server has it. It can be sent again.
    pub fn take_queued(&mut self) -> Vec<Message> {
        let queued = self.outbound.take_unsent();
        self.close_if_acknowledged();
        queued
    }

    /// Takes out what [`in_doubt`](Self::in_doubt) returns.
    pub fn take_in_doubt(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.in_doubt)
    }

    /// Returns what was queued and never sent, oldest first: no server has it.
    pub fn queued(&self) -> impl ExactSizeIterator<Item = &Message> {
        self.outbound.unsent()
    }

    /// Returns what the session before may or may not have had, as [`Event::InDoubt`] tells, until the queue goes to the
    /// next session. Empty with [`Meeting::AtOnce`].
    pub fn in_doubt(&self) -> &[Message] {
        &self.in_doubt
    }

    /// Returns whether the queue waits for the application, which has not taken [`Event::NewSession`], or not the event
    /// after it.
    pub fn is_held(&self) -> bool {
        matches!(self.hold, Hold::Told | Hold::Looked)
    }

    /// The hello is there, and its session has nothing of this client's.
    pub(super) fn meet(&mut self, session: WireId) {
        match self.config.meeting {
            Meeting::AtOnce => {}
            // Nobody takes events any more.
            Meeting::NewSession if !self.closing => {
                self.inbound.announce(session);
                self.hold = Hold::Told;
            }
            Meeting::Initial | Meeting::NewSession => self.ask_initial(),
        }
    }

    /// The application has said what it had to say, or says nothing any more.
    pub(super) fn end_hold(&mut self) {
        if self.is_held() {
            self.ask_initial();
        }
    }

    /// The application takes `event`.
    pub(super) fn note_taken(&mut self, event: &Event) {
        if matches!(event, Event::NewSession { .. }) && self.hold == Hold::Told {
            self.hold = Hold::Looked;
        }
    }

    /// Keeps what is in doubt for the application to look at.
    pub(super) fn keep_in_doubt(&mut self, messages: &[Message]) {
        if self.config.meeting != Meeting::AtOnce {
            self.in_doubt.extend_from_slice(messages);
        }
    }

    fn ask_initial(&mut self) {
        if self.hold != Hold::Initial {
            self.hold = Hold::Initial;
            self.actions.push_back(Action::Initial);
        }
    }
}

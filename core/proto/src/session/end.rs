//! How a session stops: for good, or frozen where a drain finds it.

use std::time::Duration;

use super::{Session, Wake};
use crate::{
    Moment,
    wire::{Close, OutcomeStatus},
};

impl<I: Clone> Session<I> {
    /// Ends the session. Attached clients get the last messages, `done`, and close 1000.
    ///
    /// The first end counts; returns whether this was it.
    pub fn end(&mut self, status: OutcomeStatus, now: Moment) -> bool {
        self.end_with(status, None, now)
    }

    /// As [`Self::end`], with a close of the application's own in place of 1000.
    ///
    /// A client that comes back while the session is in memory gets the same close.
    pub fn end_with(&mut self, status: OutcomeStatus, close: Option<Close>, now: Moment) -> bool {
        if self.usage.ended.is_some() {
            return false;
        }
        if let Some(close) = close {
            self.note_rare(|rare| rare.farewell = Some(Box::new(close)));
        }
        self.hand_back();
        // Each attached client gets the last messages and the end, also during a drain.
        self.freezes = false;
        self.frozen = false;
        self.usage.ended = Some(status);
        self.usage.touch(now);
        self.drop_rare(|rare| (rare.overflow_since, rare.returns_by) = (None, None));
        self.inbox.clear();
        // No transport waits for the inbox any more, so the deadlines of those that did wait go on.
        for t in self.transports.iter_mut().filter(|t| t.is_paused()) {
            t.go_on(&self.rules, now);
        }
        if !self.rules.durable_outbox {
            self.outbox.commit(self.outbox.head());
        }
        self.wake = Wake { handler: true, room: true, transports: true, ..self.wake };
        true
    }

    /// Stops everything as soon as no message is in hand.
    pub fn freeze_at_boundary(&mut self) {
        if self.usage.ended.is_some() {
            return;
        }
        self.freezes = true;
        if !self.is_message_in_hand() {
            self.freeze();
        }
    }

    /// Stops everything: no message is taken, read or sent from now on, and no message is acknowledged. Only the heartbeat
    /// of resumable clients goes on, with the count that is committed.
    pub fn freeze(&mut self) {
        self.frozen = true;
        self.stop_trial();
    }

    /// Goes on after all. The deadlines of transports begin anew: nothing was read meanwhile.
    pub fn thaw(&mut self, now: Moment) {
        self.freezes = false;
        if std::mem::take(&mut self.frozen) {
            for t in self.transports.iter_mut().filter(|t| t.is_attached()) {
                t.thaw(&self.rules, now);
            }
        }
        self.wake = Wake { handler: true, room: true, transports: true, ..self.wake };
    }

    /// Closes all transports; resumable ones are told when to come back. Observers end.
    pub fn close_transports(
        &mut self,
        close: &Close,
        mut retry: impl FnMut() -> Option<Duration>,
        now: Moment,
    ) {
        for at in 0..self.transports.len() {
            self.end_transport(at, close.clone(), retry(), now);
        }
        self.end_observers();
    }
}

use super::{
    Action, Client, Modes, Phase, StateTurn,
    detach::{self, Facts, Pace, Verdict},
};
use crate::{
    Cursor, Moment,
    client::{Cause, Event},
    wire::{Close, CloseKind, Offer},
};

/// From one transport to the next, or to the end.
impl Client {
    pub(super) fn connect(&mut self, now: Moment) {
        self.transport.0 += 1;
        self.attempt = self.attempt.saturating_add(1);
        self.retry = None;
        let cursor = self.known.as_ref().map(|known| Cursor {
            session: known.session,
            epoch: known.epoch,
            received: self.inbound.taken(),
        });
        let offer = match (&self.known, cursor.clone()) {
            (Some(known), Some(cursor)) => {
                Offer::Resume { client: self.id, cursor, attachment: Some(known.attachment) }
            }
            _ => Offer::Fresh { client: self.id },
        };
        self.phase =
            Phase::Connecting { deadline: now + self.config.attach_timeout, offered: cursor };
        self.inbound.push(Event::Connecting);
        self.actions.push_back(Action::Connect { transport: self.transport, offer });
    }

    /// Decides how to go on without the newest transport, which is gone.
    pub(super) fn detach(&mut self, cause: Cause) {
        let closed = match &cause {
            Cause::Closed(close) => Some(close.kind()),
            _ => None,
        };
        if let Phase::Over { done, .. } = &self.phase {
            let status = done.status;
            let untaken = self.outbound.finish(done.received);
            let close = match cause {
                Cause::Closed(close) if closed != Some(CloseKind::NoCode) => close,
                _ => Close::DONE,
            };
            return self.end(Event::Done { status, untaken, close });
        }
        let offered_nothing = match &self.phase {
            Phase::Connecting { offered, .. } => offered.is_none(),
            _ => false,
        };
        let settled = matches!(&self.phase, Phase::Open(open) if open.settled);
        if closed == Some(CloseKind::TooBig)
            && let Phase::Open(open) = &self.phase
        {
            match open.offer {
                StateTurn::Not | StateTurn::Due => self.too_big = Some(self.outbound.next()),
                // It was that copy, or a message: without the copy the next 1009 tells.
                StateTurn::Said => self.withdraw_state(),
            }
        }
        let facts = Facts {
            fresh: self.facts.fresh || offered_nothing,
            reauthenticated: self.facts.reauthenticated && !settled,
            ..self.facts
        };
        let verdict = detach::decide(&cause, facts);
        self.facts.stale =
            closed == Some(CloseKind::Stale) && verdict == Verdict::Return(Pace::AtOnce);
        self.facts.reauthenticated = closed == Some(CloseKind::Reauthenticate);
        match verdict {
            Verdict::Superseded => self.stop(Event::Superseded),
            Verdict::Refused => self.stop(Event::Refused { cause }),
            Verdict::Failed => self.stop(Event::Failed { cause }),
            Verdict::Return(pace) => {
                if settled && pace != Pace::Slower {
                    self.begin_row();
                }
                self.come_back(pace, cause);
            }
            Verdict::StartFresh => {
                self.facts.fresh = true;
                self.drop_cursor();
                self.come_back(Pace::Backoff, cause);
            }
            Verdict::Rename => {
                self.renaming = true;
                self.drop_cursor();
                self.come_back(Pace::AtOnce, cause);
            }
        }
    }

    pub(super) fn come_back(&mut self, pace: Pace, cause: Cause) {
        if pace != Pace::AtOnce {
            self.failures = self.failures.saturating_add(1);
        }
        if self.closing && self.outbound.is_empty() {
            return self.end(Event::Closed);
        }
        match self.config.mode {
            Modes::Auto => self.draw(pace, cause),
            Modes::Prompt => self.stop(Event::Offline { cause }),
            Modes::Off => self.end(Event::Failed { cause }),
        }
    }

    /// The next attempt is the first of a row.
    pub(super) fn begin_row(&mut self) {
        self.attempt = 0;
        self.failures = 0;
    }

    pub(super) fn draw(&mut self, pace: Pace, cause: Cause) {
        self.phase = Phase::Drawing { pace, cause };
        self.actions.push_back(Action::Randomize);
    }

    /// Gives up the session: the next offer is fresh.
    pub(super) fn drop_cursor(&mut self) {
        self.known = None;
        self.tell_doubt();
    }

    /// The copy of the state is longer than the server takes: it is not offered any more.
    pub(super) fn withdraw_state(&mut self) {
        self.state = None;
        self.inbound.push(Event::StateTooBig);
    }

    pub(super) fn tell_doubt(&mut self) {
        let doubt = self.outbound.forget();
        if !doubt.is_empty() {
            self.keep_in_doubt(&doubt);
            self.inbound.push(Event::InDoubt(doubt));
        }
    }

    pub(super) fn stop(&mut self, event: Event) {
        if self.closing || self.config.mode == Modes::Off {
            return self.end(event);
        }
        self.begin_row();
        self.phase = Phase::Offline;
        self.inbound.push(event);
    }

    pub(super) fn end(&mut self, event: Event) {
        self.tell_doubt();
        let unsent = self.outbound.clear();
        if !unsent.is_empty() {
            self.inbound.push(Event::Unsent(unsent));
        }
        self.phase = Phase::Ended;
        self.inbound.push(event);
    }

    /// Ends if the application wants to and nothing is left to say.
    pub(super) fn close_if_acknowledged(&mut self) {
        if !self.closing || !self.outbound.is_empty() {
            return;
        }
        let goodbye = match &self.phase {
            Phase::Open(open)
                if !open.acks.has_told(self.inbound.position()) || open.offer == StateTurn::Due =>
            {
                return;
            }
            Phase::Open(_) => Some(Close::GOODBYE),
            Phase::Connecting { .. } => None,
            Phase::Drawing { .. } | Phase::Waiting { .. } | Phase::Offline => {
                return self.end(Event::Closed);
            }
            // The end comes with the server's close.
            Phase::Over { .. } | Phase::Ended => return,
        };
        self.drop_transport(goodbye);
        self.end(Event::Closed);
    }

    pub(super) fn drop_transport(&mut self, close: Option<Close>) {
        self.actions.push_back(Action::Close { transport: self.transport, close });
    }
}

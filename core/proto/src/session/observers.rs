//! Readers that are no clients: they acknowledge nothing, and hold nothing back.
//!
//! An observer is a position in what is there for all clients: in the outbox, and in the history where there is one. It
//! gets what may leave; under a durable outbox that is what is committed. No rule of the session asks for the observers, so
//! none of them keeps a message, a sender, or the session. What has gone before an observer came to it is a gap.

use super::{Session, deliver::Delivery, lives::Lineage, rarities::Rarities};
use crate::{
    Message, Position, WireId,
    compact::{Few, Rare},
};

/// Where an observer begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ObserveFrom {
    /// The last checkpoint.
    Checkpoint,
    /// What may not leave yet, and what is sent from now on.
    Now,
    /// A position that an observer was told, in this life of the session or another one.
    Position {
        /// The epoch that the position is of.
        epoch: WireId,
        /// The position of the next message that is wanted.
        position: Position,
    },
    /// The oldest message from which on nothing is missing.
    Kept,
}

/// What an observer gets.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Observed {
    /// A message that was for all clients.
    Message {
        /// Its position.
        position: Position,
        /// The message.
        message: Message,
    },
    /// Messages may be missing.
    Gap {
        /// The first position that may be missing; `None` if what was before is not known any more.
        from: Option<Position>,
        /// The first position that is there again.
        to: Position,
    },
    /// The message with this position, which comes next, is the last checkpoint. `None`: the checkpoint was cleared here.
    Checkpoint(Option<Position>),
    /// The session has ended, and the observer has had all there was.
    Ended,
}

/// What an observer does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Observation {
    /// It gets this.
    Next(Observed),
    /// It waits until transports are woken.
    Waits,
    /// It gets nothing any more: the session has gone from here.
    Over,
}

/// Why there is no observer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotObserved {
    /// The session has as many as its bounds allow.
    TooMany,
    /// There is no checkpoint.
    NoCheckpoint,
    /// The session stands still, and may be on its way out.
    Frozen,
}

/// One observer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Observer {
    /// The caller's name for it.
    number: u32,
    /// The position of the next message that it wants.
    next: Position,
    /// What it asked for belongs to another history.
    is_lost: bool,
    /// The checkpoint that it was last told, or that was before it.
    checkpoint: Option<Position>,
    /// Where a checkpoint was cleared, if it has still to be told.
    cleared: Option<Position>,
    /// It begins when the handler takes this message.
    awaits: Option<Delivery>,
    /// It gets this part alone.
    span: Option<Span>,
}

/// What is sent from a checkpoint on, until that is cleared or another one is sent. It is noted when that happens: an
/// observer that comes to it late gets the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
struct Span {
    begin: Option<Position>,
    end: Option<Position>,
}

impl Observer {
    /// One that begins here.
    fn at(next: Position, checkpoint: Option<Position>, number: u32) -> Self {
        // It is told each checkpoint that is before it.
        let checkpoint = checkpoint.filter(|checkpoint| *checkpoint < next);
        Self { number, next, is_lost: false, checkpoint, cleared: None, awaits: None, span: None }
    }

    /// Whether it waits neither for the handler to take a message nor for its span to begin.
    fn has_begun(&self) -> bool {
        self.awaits.is_none() && self.span.is_none_or(|span| span.begin.is_some())
    }
}

/// Returns the observer that the caller has given this number.
fn find<I>(rare: &mut Rare<Rarities<I>>, number: u32) -> Option<&mut Observer> {
    rare.get_mut()?.observers.iter_mut().find(|observer| observer.number == number)
}

impl<I: Clone> Session<I> {
    /// Adds an observer. The caller gives it a number that no other one of the session has had.
    ///
    /// # Errors
    ///
    /// Returns why there is none.
    pub fn observe(&mut self, from: ObserveFrom, number: u32) -> Result<(), NotObserved> {
        if self.frozen {
            return Err(NotObserved::Frozen);
        }
        if self.observers().len() >= self.rules.bounds.observers {
            return Err(NotObserved::TooMany);
        }
        let checkpoint = self.outbox.last_checkpoint();
        let kept_from = self.outbox.kept_from();
        let (next, is_lost) = match from {
            ObserveFrom::Checkpoint => (checkpoint.ok_or(NotObserved::NoCheckpoint)?, false),
            ObserveFrom::Now => (self.outbox.committed(), false),
            ObserveFrom::Kept => (kept_from, false),
            ObserveFrom::Position { epoch, position } => {
                match self.lives().lineage(&epoch, position, self.outbox.head()) {
                    Lineage::Honoured => (position, false),
                    Lineage::AboveHead | Lineage::Broken | Lineage::Foreign => (kept_from, true),
                }
            }
        };
        let observer = Observer { is_lost, ..Observer::at(next, checkpoint, number) };
        self.note_rare(|rare| rare.observers.push(observer));
        Ok(())
    }

    /// Lets an observer begin where the handler takes this message: it gets what is sent from then on.
    pub fn observe_from_taking(&mut self, number: u32, delivery: Option<Delivery>) {
        if let Some(observer) = find(&mut self.rare, number) {
            observer.awaits = delivery;
        }
        self.note_taken();
    }

    /// Lets an observer get one span alone: what is sent from a checkpoint on, until that is cleared or another one is sent.
    /// One that began with the checkpoint gets its span, any other one the next that begins. Then it is told that the
    /// checkpoint was cleared, and nothing more.
    pub fn observe_span(&mut self, number: u32) {
        let checkpoint = self.outbox.last_checkpoint();
        if let Some(observer) = find(&mut self.rare, number) {
            let begin = checkpoint.filter(|checkpoint| *checkpoint == observer.next);
            observer.span = Some(Span { begin, end: None });
        }
    }

    /// A checkpoint was sent.
    pub(super) fn note_checkpoint(&mut self, position: Position) {
        let observers = self.rare.get_mut().map(|rare| &mut rare.observers);
        for observer in observers.into_iter().flat_map(|all| all.iter_mut()) {
            if let (None, Some(span)) = (observer.awaits, &mut observer.span) {
                if span.begin.is_none() {
                    span.begin = Some(position);
                } else {
                    span.end.get_or_insert(position);
                }
            }
        }
    }

    /// The handler may have taken a message that observers wait for: what is sent from now on is theirs.
    pub(super) fn note_taken(&mut self) {
        if self.observers().iter().all(|observer| observer.awaits.is_none()) {
            return;
        }
        let (head, checkpoint) = (self.outbox.head(), self.outbox.last_checkpoint());
        let Some(rare) = self.rare.get_mut() else {
            return;
        };
        let mut observers = std::mem::replace(&mut rare.observers, Few::new());
        for observer in observers.iter_mut() {
            if observer.awaits.is_some_and(|delivery| self.has_taken(delivery)) {
                let begun = Observer::at(head, checkpoint, observer.number);
                *observer = Observer { span: observer.span, ..begun };
            }
        }
        if let Some(rare) = self.rare.get_mut() {
            rare.observers = observers;
        }
    }

    /// Returns what an observer does next.
    pub fn poll_observed(&mut self, number: u32) -> Observation {
        let is_end_committed = self.is_end_committed();
        let Self { rare, outbox, frozen, .. } = self;
        let Some(observer) = find(rare, number) else {
            return Observation::Over;
        };
        if *frozen {
            return Observation::Waits;
        }
        if !observer.has_begun() {
            // The session may end before that.
            return if is_end_committed {
                Observation::Next(Observed::Ended)
            } else {
                Observation::Waits
            };
        }
        let mut end = None;
        if let Some(Span { begin: Some(begin), end: until }) = observer.span {
            observer.next = observer.next.max(begin);
            // It is told no other checkpoint.
            (observer.checkpoint, observer.cleared) = (outbox.last_checkpoint(), None);
            end = until;
        }
        let is_at_end = |next| end.is_some_and(|end| next >= end);
        if is_at_end(observer.next) {
            return Observation::Next(Observed::Checkpoint(None));
        }
        let kept_from = outbox.kept_from();
        if observer.is_lost || observer.next < kept_from {
            let from = (!observer.is_lost).then_some(observer.next);
            observer.is_lost = false;
            observer.next = observer.next.max(kept_from);
            return Observation::Next(Observed::Gap { from, to: observer.next });
        }
        let message = outbox.next_for_all(observer.next);
        // Where the next message is, or is going to be. What lies before is nobody's, or one client's alone.
        let next = message.as_ref().map_or(outbox.committed(), |(position, _)| *position);
        let next = observer.next.max(next);
        if is_at_end(next) {
            observer.next = end.unwrap_or(next);
            return Observation::Next(Observed::Checkpoint(None));
        }
        // What was cleared before the message is told before it.
        if let Some(at) = observer.cleared.filter(|at| *at <= next) {
            observer.next = observer.next.max(at);
            (observer.cleared, observer.checkpoint) = (None, None);
            return Observation::Next(Observed::Checkpoint(None));
        }
        observer.next = next;
        let Some((position, message)) = message else {
            let has_ended = is_end_committed && observer.next >= outbox.head();
            return if has_ended { Observation::Next(Observed::Ended) } else { Observation::Waits };
        };
        if outbox.last_checkpoint() == Some(position) && observer.checkpoint != Some(position) {
            observer.checkpoint = Some(position);
            return Observation::Next(Observed::Checkpoint(Some(position)));
        }
        observer.next = position.advanced_by(1);
        Observation::Next(Observed::Message { position, message })
    }

    /// An observer has had all that may leave now, in another way.
    pub fn hasten_observer(&mut self, number: u32) {
        let (committed, checkpoint) = (self.outbox.committed(), self.outbox.last_checkpoint());
        if let Some(observer) = find(&mut self.rare, number) {
            *observer = Observer::at(committed, checkpoint, number);
        }
    }

    /// Returns the position of the next message that an observer wants; `None` if it is none any more.
    pub fn observed_before(&self, number: u32) -> Option<Position> {
        self.observers().iter().find(|it| it.number == number).map(|observer| observer.next)
    }

    /// An observer goes.
    pub fn end_observer(&mut self, number: u32) {
        self.drop_rare(|rare| rare.observers.retain(|observer| observer.number != number));
    }

    /// The session goes from here: there is nothing more to observe.
    pub fn end_observers(&mut self) {
        if !self.observers().is_empty() {
            self.drop_rare(|rare| rare.observers = Few::new());
            self.wake.transports = true;
        }
    }

    /// Returns how many observers there are.
    pub fn observer_count(&self) -> usize {
        self.observers().len()
    }

    fn observers(&self) -> &[Observer] {
        self.rare.get().map_or(&[], |rare| &rare.observers)
    }

    /// The checkpoint is cleared: observers are told behind what was sent before.
    pub(super) fn note_cleared(&mut self) {
        let (head, checkpoint) = (self.outbox.head(), self.outbox.last_checkpoint());
        let Some(rare) = self.rare.get_mut() else {
            return;
        };
        for observer in rare.observers.iter_mut() {
            if let Some(span) = &mut observer.span
                && span.begin.is_some()
            {
                span.end.get_or_insert(head);
                self.wake.transports = true;
            }
            if observer.checkpoint.or(checkpoint).is_some() {
                observer.cleared.get_or_insert(head);
                self.wake.transports = true;
            }
        }
    }
}

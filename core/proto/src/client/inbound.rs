use std::collections::VecDeque;

use crate::{
    Cursor, Gap, Message, Position, WireId,
    client::Event,
    wire::{Hello, ProtocolError},
};

/// Says whether a hello goes on with the stream of the cursor that was offered, in whichever epoch.
pub(super) fn continues(hello: &Hello, offered: Option<&Cursor>) -> Result<bool, ProtocolError> {
    let same = offered.filter(|cursor| {
        cursor.session == hello.session && hello.gap.is_none_or(|gap| gap.to.is_some())
    });
    match same {
        None => Ok(false),
        Some(cursor) if hello.from == cursor.received => Ok(true),
        // Messages are missing, and the gap tells it.
        Some(cursor) if hello.from > cursor.received && hello.gap.is_some() => Ok(true),
        Some(_) => Err(ProtocolError::Unexpected),
    }
}

/// What the server has sent, kept until the application takes it.
///
/// The cursor that is offered is what the application has *taken*, not what has arrived: it acknowledges,
/// and what is acknowledged is gone if this program dies. So the server sends again what is already
/// held; it is recognised by its position and skipped. Both sides' memory stays within the outbox.
///
/// In another epoch only the cursor is honoured, not what is held beyond it: a store that has gone back in time
/// may have other messages there. So that is dropped, and comes again.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Inbound {
    held: VecDeque<Held>,
    /// The position of the next data message on this transport.
    next: Position,
    /// Everything before was held once, or told as a gap.
    expected: Position,
    /// Everything before was taken by the application, or skipped with its knowledge.
    taken: Position,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Held {
    event: Event,
    /// The position that is reached by taking this; zero for what does not count on the present stream.
    reaches: Position,
}

impl Inbound {
    /// Goes on with the stream that was offered; in another epoch, what was not taken comes again.
    pub(super) fn resume(&mut self, hello: &Hello, same_epoch: bool) {
        if !same_epoch {
            self.held.retain(|held| held.reaches <= self.taken);
            self.expected = self.taken;
        }
        self.next = hello.from;
        self.taken = self.taken.max(hello.from);
        if let Some(gap) = hello.gap {
            self.tell_missing(Gap { to: Some(hello.from), ..gap });
        }
    }

    /// Starts another stream.
    pub(super) fn restart(&mut self, hello: &Hello) {
        if let Some(gap) = hello.gap {
            // What is held of the old stream is not missing.
            let from = self.expected.max(gap.from);
            self.push(Event::Gap(Gap { from, to: None, ..gap }));
        }
        for held in &mut self.held {
            held.reaches = Position::ZERO;
        }
        self.next = hello.from;
        self.expected = hello.from;
        self.taken = hello.from;
    }

    /// Takes in the next data message of the transport; tells whether it was news.
    pub(super) fn deliver(&mut self, message: Message) -> bool {
        let position = self.next;
        self.next = position.advanced_by(1);
        if position < self.expected {
            return false;
        }
        self.expected = self.next;
        self.held.push_back(Held { event: Event::Message(message), reaches: self.expected });
        true
    }

    /// Takes in a gap in the stream.
    pub(super) fn skip(&mut self, gap: Gap) -> Result<(), ProtocolError> {
        match gap.to {
            Some(to) if gap.from == self.next && to >= self.next => {
                self.next = to;
                self.tell_missing(gap);
                Ok(())
            }
            _ => Err(ProtocolError::Unexpected),
        }
    }

    /// Takes in that all before `position` that has not arrived is not for this client.
    ///
    /// The application is at that position when it has taken all that has arrived: what it has not taken would be gone
    /// with its process if the server were told that it is past it.
    pub(super) fn pass(&mut self, position: Position) -> Result<(), ProtocolError> {
        if position < self.next {
            return Err(ProtocolError::Unexpected);
        }
        self.next = position;
        if position > self.expected {
            let last = self.held.iter_mut().rfind(|held| held.reaches > self.taken);
            match last {
                Some(last) => last.reaches = position,
                None => self.taken = position,
            }
            self.expected = position;
        }
        Ok(())
    }

    /// Adds what is not a message.
    pub(super) fn push(&mut self, event: Event) {
        if event.is_passing() && self.held.back().is_some_and(|held| held.event.is_passing()) {
            self.held.pop_back();
        }
        self.held.push_back(Held { event, reaches: Position::ZERO });
    }

    /// Adds that there is another session, in place of an earlier one that the application has not seen.
    pub(super) fn announce(&mut self, session: WireId) {
        self.held.retain(|held| !matches!(held.event, Event::NewSession { .. }));
        self.push(Event::NewSession { session });
    }

    /// Hands the next event to the application.
    pub(super) fn take(&mut self) -> Option<Event> {
        let held = self.held.pop_front()?;
        self.taken = self.taken.max(held.reaches);
        Some(held.event)
    }

    /// The position to acknowledge: taken, but never more than this transport has brought.
    ///
    /// The application may take more between offer and hello. Then the server would see an ack above what it
    /// has sent.
    pub(super) fn position(&self) -> Position {
        self.taken.min(self.next)
    }

    /// The position to offer.
    pub(super) fn taken(&self) -> Position {
        self.taken
    }

    /// The attempts of the waits that the application has not been told yet.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> Vec<u32> {
        let events = self.held.iter().map(|held| &held.event);
        events
            .filter_map(|event| match event {
                Event::Waiting { attempt, .. } => Some(*attempt),
                _ => None,
            })
            .collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Tells the part of `gap` that is neither held nor told yet.
    fn tell_missing(&mut self, gap: Gap) {
        let Some(to) = gap.to.filter(|&to| to > self.expected) else {
            return;
        };
        self.held.push_back(Held {
            event: Event::Gap(Gap { from: gap.from.max(self.expected), ..gap }),
            reaches: to,
        });
        self.expected = to;
    }
}

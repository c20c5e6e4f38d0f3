use super::client::{Access, ClientUid, Who};
use crate::{Message, Position, compact::Queue};

/// A handler that takes no events is told of no more than this many messages that cannot be delivered.
const UNTOLD_UNDELIVERABLE: usize = 64;

/// What the handler is told.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Event<I> {
    /// A data message.
    Message {
        /// The message.
        message: Message,
        /// The client that sent it.
        from: Who<I>,
    },
    /// A client has attached.
    Attached {
        /// The client.
        who: Who<I>,
        /// What it may do.
        access: Access,
        /// Whether its cursor was honoured; if not, it holds nothing of this epoch's messages.
        resumed: bool,
        /// Whether it starts with a checkpoint message.
        checkpoint: bool,
    },
    /// A client has detached; follows its `Attached` exactly once.
    Detached {
        /// The client.
        who: Who<I>,
    },
    /// A plain client cannot take a message, or is gone before it has confirmed one that was for it alone.
    Undeliverable {
        /// The client.
        who: Who<I>,
        /// The message's position.
        position: Position,
        /// Its length.
        bytes: usize,
    },
    /// A message was dropped that had killed the process again and again.
    Dropped {
        /// How many of its client's messages were accepted before it.
        number: u64,
        /// The client that sent it.
        from: Who<I>,
    },
}

/// A client started fresh, and the handler has not been told yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct FreshStart {
    /// Whether it started with a checkpoint message.
    pub(super) checkpoint: bool,
}

/// What waits for the handler, in order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Inbox<I> {
    queue: Queue<(ClientUid, Event<I>)>,
    /// How many of these, from the front, the handler has looked at before their turn.
    looked: usize,
}

impl<I> Inbox<I> {
    pub(super) const fn new() -> Self {
        Self { queue: Queue::new(), looked: 0 }
    }

    pub(super) fn push_message(&mut self, uid: ClientUid, message: Message, from: Who<I>) {
        self.queue.used().push_back((uid, Event::Message { message, from }));
    }

    pub(super) fn push_attached(
        &mut self,
        uid: ClientUid,
        who: Who<I>,
        access: Access,
        resumed: bool,
        checkpoint: bool,
    ) {
        self.queue.used().push_back((uid, Event::Attached { who, access, resumed, checkpoint }));
    }

    /// Tells a detach, or takes the attach back if the handler has not seen that yet. Returns what that attach
    /// would have told, if it was a fresh start.
    ///
    /// So a client that flaps while the handler is busy leaves at most one pair of events for each of its
    /// messages.
    pub(super) fn push_detached(&mut self, uid: ClientUid, who: Who<I>) -> Option<FreshStart> {
        let queue = self.queue.used();
        let last = queue.iter().rposition(|(of, _)| *of == uid);
        if let Some(at) = last
            && let Event::Attached { resumed, checkpoint, .. } = queue[at].1
        {
            let fresh = (!resumed).then_some(FreshStart { checkpoint });
            queue.remove(at);
            self.queue.let_go();
            self.looked -= usize::from(at < self.looked);
            fresh
        } else {
            queue.push_back((uid, Event::Detached { who }));
            None
        }
    }

    /// Tells the handler of a message that a client cannot take. If [`UNTOLD_UNDELIVERABLE`] of these wait
    /// already, the handler takes no events: then this one is not told.
    pub(super) fn push_undeliverable(
        &mut self,
        uid: ClientUid,
        who: Who<I>,
        position: Position,
        bytes: usize,
    ) {
        let untold =
            |(_, event): &&(ClientUid, Event<I>)| matches!(event, Event::Undeliverable { .. });
        if self.queue.iter().filter(untold).count() < UNTOLD_UNDELIVERABLE {
            self.queue.used().push_back((uid, Event::Undeliverable { who, position, bytes }));
        }
    }

    /// Returns whose `Attached` waits to be told.
    pub(super) fn attaches(&self) -> impl Iterator<Item = &Who<I>> {
        self.queue.iter().filter_map(|(_, event)| match event {
            Event::Attached { who, .. } => Some(who),
            Event::Message { .. }
            | Event::Detached { .. }
            | Event::Undeliverable { .. }
            | Event::Dropped { .. } => None,
        })
    }

    /// Adds what is told before all that waits.
    pub(super) fn push_front(&mut self, uid: ClientUid, event: Event<I>) {
        self.queue.used().push_front((uid, event));
        self.looked += 1;
    }

    /// Returns what comes next, if it is a message.
    pub(super) fn front_message(&self) -> Option<(ClientUid, &Message)> {
        match self.queue.get(0)? {
            (uid, Event::Message { message, .. }) => Some((*uid, message)),
            _ => None,
        }
    }

    pub(super) fn pop(&mut self) -> Option<(ClientUid, Event<I>)> {
        let item = self.queue.pop_front();
        self.looked = self.looked.saturating_sub(1);
        self.queue.let_go();
        item
    }

    pub(super) fn clear(&mut self) {
        (self.queue, self.looked) = (Queue::new(), 0);
    }

    /// Returns the next message that was not looked at, of a client whose messages `may` be taken early.
    pub(super) fn look(&mut self, may: impl Fn(ClientUid) -> bool) -> Option<Message> {
        while let Some((uid, event)) = self.queue.get(self.looked) {
            self.looked += 1;
            if let Event::Message { message, .. } = event
                && may(*uid)
            {
                return Some(message.clone());
            }
        }
        None
    }

    /// What was looked at last was not taken, and is looked at again.
    pub(super) fn look_again(&mut self) {
        self.looked = self.looked.saturating_sub(1);
    }

    /// Takes the message that was looked at last, and says behind how many others of its client it has waited.
    pub(super) fn take_looked_at(&mut self) -> Option<(ClientUid, u64, Event<I>)> {
        let at = self.looked.checked_sub(1)?;
        let queue = self.queue.get_mut()?;
        let (uid, Event::Message { .. }) = queue.get(at)? else {
            return None;
        };
        let is_before = |(of, event): &&(ClientUid, Event<I>)| {
            of == uid && matches!(event, Event::Message { .. })
        };
        let before = queue.iter().take(at).filter(is_before).count();
        let (uid, event) = queue.remove(at)?;
        self.looked = at;
        self.queue.let_go();
        Some((uid, before as u64, event))
    }

    /// Whether an event waits. Without one there is no buffer.
    pub(super) fn is_in_use(&self) -> bool {
        self.queue.is_in_use()
    }

    pub(super) fn messages(&self) -> usize {
        self.queue.iter().filter(|(_, event)| matches!(event, Event::Message { .. })).count()
    }
}

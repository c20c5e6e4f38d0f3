//! The two directions of a connection, and what travels there.

use std::collections::VecDeque;

use session_resume_proto::{
    Moment,
    session::{Frame, Incoming},
};

/// What travels from a client to the server.
#[derive(Debug)]
pub(crate) enum Up {
    /// The request for an upgrade.
    Offer,
    Frame(Incoming),
    /// A WebSocket close, also the answer to one.
    Close,
    Eof,
}

/// What travels from the server to a client.
#[derive(Debug)]
pub(crate) enum Down {
    Frame(Frame),
    /// No server listens.
    Refused,
    Eof,
}

/// One direction: ordered, delayed, perhaps dead without either end knowing.
#[derive(Debug)]
pub(crate) struct Pipe<T> {
    queue: VecDeque<(Moment, T)>,
    last: Moment,
    dead: bool,
}

impl<T> Pipe<T> {
    pub(crate) fn new() -> Self {
        Self { queue: VecDeque::new(), last: Moment::ZERO, dead: false }
    }

    pub(crate) fn push(&mut self, at: Moment, item: T) {
        if !self.dead {
            self.last = self.last.max(at);
            self.queue.push_back((self.last, item));
        }
    }

    pub(crate) fn due(&self) -> Option<Moment> {
        self.queue.front().map(|(at, _)| *at)
    }

    pub(crate) fn pop(&mut self, now: Moment) -> Option<T> {
        if self.due()? > now {
            return None;
        }
        self.queue.pop_front().map(|(_, item)| item)
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// What has arrived is looked at again later; nothing overtakes it.
    pub(crate) fn put_back(&mut self, at: Moment, item: T) {
        self.queue.push_front((at, item));
    }

    /// Nothing arrives before `until`.
    pub(crate) fn stall(&mut self, until: Moment) {
        self.last = self.last.max(until);
        for (at, _) in &mut self.queue {
            *at = (*at).max(until);
        }
    }

    /// The network is calm: what was held up comes now.
    pub(crate) fn hurry(&mut self, now: Moment) {
        self.last = self.last.min(now);
        for (at, _) in &mut self.queue {
            *at = (*at).min(now);
        }
    }

    /// What is under way arrives up to `keep` frames, and nothing after it. A frame that is cut in its
    /// middle is a frame that does not arrive. `news`: when the other end hears of it, if ever.
    pub(crate) fn cut(&mut self, keep: usize, news: Option<(Moment, T)>) {
        self.queue.truncate(keep);
        if let Some((at, news)) = news {
            self.push(at, news);
        }
        self.dead = true;
    }
}

//! One connection, as the network sees it.

use std::collections::VecDeque;

use session_resume_proto::{
    AttachmentNumber, Moment,
    client::TransportNumber,
    session::{ClientName, Frame, Incoming},
    wire::Offer,
};

/// What the handler is told of a client that is not a program.
pub(crate) const STRANGER: u32 = u32::MAX;

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

/// The server's end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ServerEnd {
    /// The upgrade is still on its way.
    Coming,
    Turn(AttachmentNumber),
    /// A turn was refused. If the client was told `superseded`: its name, and the newest attachment
    /// then.
    Refused(Option<(ClientName, AttachmentNumber)>),
    Gone,
}

/// One direction: ordered, delayed, perhaps dead without either end knowing.
#[derive(Debug)]
pub(crate) struct Pipe<T> {
    queue: VecDeque<(Moment, T)>,
    last: Moment,
    dead: bool,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: u64,
    /// `None`: no program listens at the client's end.
    pub(crate) program: Option<(usize, TransportNumber)>,
    pub(crate) name: ClientName,
    pub(crate) info: u32,
    pub(crate) offer: Offer,
    pub(crate) client_end: bool,
    pub(crate) server_end: ServerEnd,
    pub(crate) up: Pipe<Up>,
    pub(crate) down: Pipe<Down>,
    /// The server has stopped reading with this frame in hand.
    pub(crate) stuck: Option<Incoming>,
    /// The server has something to do here.
    pub(crate) pump: bool,
    /// The server has said its close and waits until this moment for the answer.
    pub(crate) lingers: Option<Moment>,
    /// The server does not look at its timers before this moment.
    pub(crate) timer_from: Moment,
    /// Messages before this that were for its program alone may have been let go before it arrived.
    pub(crate) let_go: u64,
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

impl Link {
    pub(crate) fn turn(&self) -> Option<AttachmentNumber> {
        match self.server_end {
            ServerEnd::Turn(number) => Some(number),
            ServerEnd::Coming | ServerEnd::Refused(_) | ServerEnd::Gone => None,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        !self.client_end && matches!(self.server_end, ServerEnd::Gone)
    }

    /// The client lets go of it.
    pub(crate) fn leave(&mut self, at: Moment, says_close: bool) {
        if std::mem::replace(&mut self.client_end, false) {
            if says_close {
                self.up.push(at, Up::Close);
            }
            self.up.push(at, Up::Eof);
        }
    }
}

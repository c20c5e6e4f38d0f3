//! A client as short as the rules allow: the other end of the machine under test.

use std::collections::VecDeque;

use session_resume_proto::{
    AttachmentNumber, ClientId, Position,
    session::{Claim, ClientName, Epoch, Frame, IdentityTag, Incoming},
    wire::{self, Hello, Inbound, ServerControl, Status},
};

/// What a peer makes of a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reaction {
    Nothing,
    Answer(Incoming),
    /// The server has closed with this code and reason.
    Closed(u16, String),
}

/// A client that speaks `session-resume.v1`. Its messages are numbered by its application from 0.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Peer {
    pub(crate) who: u8,
    /// How often its browser has got another identity.
    pub(crate) moves: u8,
    /// The position that it expects next; `None` before its first hello.
    pub(crate) position: Option<u64>,
    /// The attachment of its last hello.
    pub(crate) attachment: Option<u64>,
    /// How many messages its application has made.
    pub(crate) made: u64,
    /// Those that are not acknowledged, oldest first, and the session's count before the first.
    pub(crate) queue: VecDeque<u64>,
    pub(crate) base: u64,
    /// The count before the next one to write; `None` until the hello.
    pub(crate) next: Option<u64>,
    /// How many may be under way.
    pub(crate) window: u64,
    /// What it has told its application to be in doubt.
    pub(crate) in_doubt: Vec<u64>,
    /// It may only read on the transport that it listens to.
    pub(crate) watches: bool,
    /// It was told that it has been superseded: only its user reconnects it.
    pub(crate) superseded: bool,
    /// It was told that the session is over.
    pub(crate) done: bool,
}

impl Peer {
    pub(crate) fn new(who: u8) -> Self {
        Self {
            who,
            moves: 0,
            position: None,
            attachment: None,
            made: 0,
            queue: VecDeque::new(),
            base: 0,
            next: None,
            window: 0,
            in_doubt: Vec::new(),
            watches: false,
            superseded: false,
            done: false,
        }
    }

    /// The first two have the same client id under two identities. The third has the identity of the first.
    pub(crate) fn name(&self) -> ClientName {
        let letter = if self.who < 2 { "a" } else { "b" };
        let identity = IdentityTag::new([self.who % 2 + 2 * self.moves; 16]);
        ClientName::named(identity, ClientId::parse(&letter.repeat(16)).unwrap())
    }

    /// What it offers, and that it listens to nothing else from now on.
    pub(crate) fn offer(&mut self, epoch: Epoch) -> Claim {
        self.next = None;
        match self.position {
            None => Claim::Fresh,
            Some(received) => Claim::Cursor {
                epoch: epoch.token(),
                received: Position::new(received),
                attachment: self.attachment.map(AttachmentNumber::new),
            },
        }
    }

    /// The program starts again and remembers only its name.
    pub(crate) fn restart(&mut self) {
        self.doubt();
        self.position = None;
        self.attachment = None;
        self.next = None;
    }

    pub(crate) fn make(&mut self) {
        self.queue.push_back(self.made);
        self.made += 1;
    }

    /// The next data frame, if it may write and its window allows one.
    pub(crate) fn write(&mut self) -> Option<Incoming> {
        if self.watches {
            return None;
        }
        let next = self.next?;
        if next - self.base >= self.window {
            return None;
        }
        let content = self.queue.get(usize::try_from(next - self.base).unwrap())?;
        self.next = Some(next + 1);
        Some(Incoming::Text(format!("{}:{content}", self.who).into()))
    }

    pub(crate) fn ack(&self) -> Option<Incoming> {
        self.next?;
        let position = self.position?;
        Some(Incoming::Text(format!("\u{1}{{\"ack\":{position}}}").into()))
    }

    /// Takes in a frame on the transport that it listens to.
    pub(crate) fn take(&mut self, frame: Frame, got: &mut Vec<u64>) -> Reaction {
        match frame {
            Frame::Data(message) => {
                let position = self.position.expect("data before the hello");
                assert_eq!(
                    content(message.as_text().unwrap()),
                    position,
                    "{} got another",
                    self.who
                );
                self.position = Some(position + 1);
                got.push(position);
                Reaction::Nothing
            }
            Frame::Ping(payload) => Reaction::Answer(Incoming::Pong(payload.to_vec().into())),
            Frame::Close(close) => Reaction::Closed(close.code, close.reason.into_owned()),
            Frame::Control(text) => {
                let Ok(Inbound::Control(control)) = wire::decode_server_text(text) else {
                    panic!("no control frame");
                };
                self.control(&control)
            }
        }
    }

    fn control(&mut self, control: &ServerControl) -> Reaction {
        if let Some(hello) = &control.hello {
            return self.hello(hello);
        }
        if let Some(n) = control.ack.or(control.hb) {
            self.acknowledged(n);
        }
        if let Some(gap) = control.gap {
            let to = gap.to.expect("a gap in the stream ends").get();
            assert_eq!(Some(gap.from.get()), self.position, "a gap begins where the client is");
            assert!(to > gap.from.get());
            self.position = Some(to);
        }
        if let Some(done) = &control.done {
            self.acknowledged(done.received.max(self.base));
            self.done = true;
        }
        Reaction::Nothing
    }

    fn hello(&mut self, hello: &Hello) -> Reaction {
        let from = hello.from.get();
        assert!(self.next.is_none(), "one hello");
        match (self.position, hello.status) {
            (Some(position), Status::Resumed | Status::Reused) => match hello.gap {
                Some(gap) => {
                    assert_eq!((gap.from.get(), gap.to.map(Position::get)), (position, Some(from)));
                    assert!(from > position);
                }
                None => assert_eq!(from, position, "neither a gap nor whole"),
            },
            (Some(_), status) => panic!("an offer with a cursor was answered by {status:?}"),
            (None, status) => assert!(status != Status::Resumed && hello.gap.is_none()),
        }
        let fresh = self.position.is_none();
        self.position = Some(from);
        self.attachment = Some(hello.attachment.get());
        self.window = hello.window.messages;
        if let Some(received) = hello.received {
            assert!(fresh || received >= self.base, "never smaller than the largest ack");
            if fresh {
                self.base = received;
            }
            assert!(received <= self.base + self.queue.len() as u64, "more than was sent");
            self.next = Some(received);
        } else {
            self.doubt();
            self.base = 0;
            self.next = Some(0);
        }
        Reaction::Answer(self.ack().expect("after a hello"))
    }

    fn acknowledged(&mut self, n: u64) {
        assert!(self.next.is_some_and(|next| n <= next), "{n} acknowledged, not written");
        while self.base < n {
            self.queue.pop_front();
            self.base += 1;
        }
    }

    fn doubt(&mut self) {
        self.in_doubt.extend(self.queue.drain(..));
    }
}

/// The number at the start of a message.
pub(crate) fn content(text: &str) -> u64 {
    text.split('.').next().unwrap().parse().unwrap()
}

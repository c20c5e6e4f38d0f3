//! The get that brings frames down, and what has come of it.

use super::super::Form;
use crate::{
    Moment, Position,
    numbers::PIPE_BUFFERED,
    wire::{EventReader, FrameError, FrameReader, PipeFrame, StreamItem},
};

/// The get lane.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Get {
    /// The next one goes at this moment.
    Waits {
        at: Moment,
    },
    UnderWay(UnderWay),
}

/// An open or a get that is not over.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct UnderWay {
    pub(super) form: Form,
    /// What it says of the client's position.
    pub(super) ack: Option<Position>,
    pub(super) began: Moment,
    /// When it is given up.
    pub(super) until: Moment,
    pub(super) answer: Answered,
}

/// How much of the answer has come.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Answered {
    Nothing,
    /// The head, and the body so far.
    Body {
        reader: Reader,
        /// The number of the next frame in it.
        next: u64,
        /// A byte of the body has come.
        begun: bool,
        /// A frame has come.
        useful: bool,
        flow: Flow,
    },
}

/// Whether something on the way holds the stream back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Flow {
    /// The hello has not come on it.
    Unknown,
    /// The hello has come, and the mark of flow must follow until then.
    Expected(Moment),
    Seen,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Reader {
    Frames(FrameReader),
    Events(EventReader),
}

/// What a body brings.
pub(super) enum Item {
    Frame(PipeFrame),
    Comment(String),
}

impl Reader {
    pub(super) fn new(form: Form, limit: usize) -> Self {
        match form {
            // A binary message is a third longer there, and one escaped in JSON up to six times.
            Form::Stream => Self::Events(EventReader::new(limit.saturating_mul(6))),
            Form::Poll => Self::Frames(FrameReader::new(limit)),
        }
    }

    pub(super) fn feed(&mut self, piece: &[u8]) -> Result<(), FrameError> {
        match self {
            Self::Frames(reader) => reader.feed(piece),
            Self::Events(reader) => reader.feed(piece),
        }
    }

    pub(super) fn next(&mut self) -> Option<Item> {
        match self {
            Self::Frames(reader) => reader.next_frame().map(Item::Frame),
            Self::Events(reader) => reader.next_item().map(|item| match item {
                StreamItem::Frame(frame) => Item::Frame(frame),
                StreamItem::Comment(text) => Item::Comment(text),
            }),
        }
    }
}

impl UnderWay {
    /// When something on the way is found to hold the stream back.
    pub(super) fn buffered_at(&self) -> Option<Moment> {
        match (self.form, &self.answer) {
            (Form::Stream, Answered::Nothing | Answered::Body { begun: false, .. }) => {
                Some(self.began + PIPE_BUFFERED)
            }
            (Form::Stream, Answered::Body { flow: Flow::Expected(at), .. }) => Some(*at),
            (Form::Stream, Answered::Body { flow: Flow::Unknown | Flow::Seen, .. })
            | (Form::Poll, _) => None,
        }
    }

    /// When it is to be looked at again.
    pub(super) fn due(&self) -> Moment {
        self.buffered_at().map_or(self.until, |at| at.min(self.until))
    }
}

impl Get {
    pub(super) fn due(&self) -> Moment {
        match self {
            Self::Waits { at } => *at,
            Self::UnderWay(get) => get.due(),
        }
    }
}

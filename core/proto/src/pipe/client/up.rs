//! Frames on their way up, and the post that carries them.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    Message, Moment,
    numbers::{PIPE_BATCH_BYTES, PIPE_BATCH_FRAMES, PIPE_POST_GIVEN_UP},
    wire::{ClientControl, Close, Inbound, PipeFrame, decode_client_text, encode_frames},
};

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Up {
    /// The number of the first frame of the post, or of the queue.
    next: u64,
    /// What no post has.
    queue: VecDeque<PipeFrame>,
    bytes: usize,
    post: Post,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
enum Post {
    #[default]
    None,
    /// It is repeated byte for byte until it is answered.
    Waits {
        body: Body,
        at: Moment,
    },
    UnderWay {
        body: Body,
        until: Moment,
    },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Body {
    bytes: Bytes,
    frames: u64,
    /// How many of them are messages.
    messages: u64,
}

/// What a frame is to the pipe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sort {
    Message,
    Ack(crate::Position),
    Other,
}

/// Tells messages and acknowledgements apart.
pub(super) fn sort(message: &Message) -> Sort {
    let Message::Text(text) = message else {
        return Sort::Message;
    };
    match decode_client_text(text.clone()) {
        Ok(Inbound::Data(_)) => Sort::Message,
        Ok(Inbound::Control(ClientControl { ack: Some(position), state: None, ping: None })) => {
            Sort::Ack(position)
        }
        Ok(Inbound::Control(_)) | Err(_) => Sort::Other,
    }
}

impl Up {
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < PIPE_BATCH_FRAMES && self.bytes < PIPE_BATCH_BYTES
    }

    pub(super) fn push(&mut self, frame: PipeFrame) {
        self.bytes += frame.len();
        self.queue.push_back(frame);
    }

    /// Queues an acknowledgement; one that no post has takes the newer number.
    pub(super) fn push_ack(&mut self, position: crate::Position) {
        let newest = self.queue.back().is_some_and(|frame| match frame {
            PipeFrame::Text(text) => {
                matches!(sort(&Message::Text(text.clone())), Sort::Ack(_))
            }
            PipeFrame::Binary(_) | PipeFrame::Close(_) | PipeFrame::Ping => false,
        });
        if newest && let Some(older) = self.queue.pop_back() {
            self.bytes -= older.len();
        }
        let ack = ClientControl { ack: Some(position), ..ClientControl::default() };
        self.push(PipeFrame::Text(ack.encode()));
    }

    pub(super) fn push_close(&mut self, close: Close) {
        self.push(PipeFrame::Close(close));
    }

    /// Returns the post that is due: the number of its first frame and its body. Without frames it is one only where
    /// the pipe `must` post.
    pub(super) fn poll_post(&mut self, must: bool, now: Moment) -> Option<(u64, Bytes)> {
        let body = match &self.post {
            Post::UnderWay { .. } => return None,
            Post::Waits { at, .. } if now < *at => return None,
            Post::Waits { body, .. } => body.clone(),
            Post::None if self.queue.is_empty() && !must => return None,
            Post::None => self.take_body(),
        };
        let bytes = body.bytes.clone();
        self.post = Post::UnderWay { body, until: now + PIPE_POST_GIVEN_UP };
        Some((self.next, bytes))
    }

    fn take_body(&mut self) -> Body {
        let mut frames = Vec::new();
        let mut bytes = 0;
        while let Some(frame) = self.queue.front() {
            let fits = frames.len() < PIPE_BATCH_FRAMES && bytes + frame.len() <= PIPE_BATCH_BYTES;
            if !fits && !frames.is_empty() {
                break;
            }
            bytes += frame.len();
            frames.extend(self.queue.pop_front());
        }
        self.bytes -= bytes;
        let is_message = |frame: &&PipeFrame| match frame {
            PipeFrame::Text(text) => sort(&Message::Text(text.clone())) == Sort::Message,
            PipeFrame::Binary(_) => true,
            PipeFrame::Close(_) | PipeFrame::Ping => false,
        };
        let messages = frames.iter().filter(is_message).count() as u64;
        Body { bytes: encode_frames(&frames).into(), frames: frames.len() as u64, messages }
    }

    /// The post was taken; returns how many messages the server has with it. `None`: what the server expects next is
    /// not what comes next.
    pub(super) fn handle_taken(&mut self, expected: Option<u64>) -> Option<u64> {
        let Post::UnderWay { body, .. } = &self.post else {
            return Some(0);
        };
        let next = self.next + body.frames;
        if expected.is_some_and(|expected| expected != next) {
            return None;
        }
        self.next = next;
        let messages = body.messages;
        self.post = Post::None;
        Some(messages)
    }

    /// The post is repeated at this moment.
    pub(super) fn repeat(&mut self, at: Moment) {
        if let Post::UnderWay { body, .. } = &self.post {
            self.post = Post::Waits { body: body.clone(), at };
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.post, Post::UnderWay { .. })
    }

    /// Returns whether the post is to be given up.
    pub(super) fn is_late(&self, now: Moment) -> bool {
        matches!(self.post, Post::UnderWay { until, .. } if now >= until)
    }

    /// Returns whether everything was taken.
    pub(super) fn is_idle(&self) -> bool {
        self.post == Post::None && self.queue.is_empty()
    }

    /// Returns whether a post is there that was not answered.
    pub(super) fn is_unanswered(&self) -> bool {
        self.post != Post::None
    }

    pub(super) fn due(&self) -> Option<Moment> {
        match &self.post {
            Post::UnderWay { until, .. } => Some(*until),
            Post::Waits { at, .. } => Some(*at),
            Post::None => None,
        }
    }

    /// Forgets what no post has: the pipe is over.
    pub(super) fn drop_queue(&mut self) {
        self.queue = VecDeque::new();
        self.bytes = 0;
    }
}

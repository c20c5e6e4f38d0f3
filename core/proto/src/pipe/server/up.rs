//! Frames on their way up: each counted once.

use std::collections::VecDeque;

use bytes::Bytes;
use bytestring::ByteString;
use sha2::{Digest, Sha256};

use super::{Breach, Payload};
use crate::{
    Position,
    numbers::{PIPE_BATCH_BYTES, PIPE_BATCH_FRAMES},
    wire::{ClientControl, Close, FrameError, PipeFrame, decode_frames},
};

/// A post, with its body read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Post {
    up: u64,
    down: u64,
    frames: Vec<PipeFrame>,
    bytes: usize,
    digest: u64,
}

/// What comes in on the transport.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Incoming {
    /// A text frame.
    Text(ByteString),
    /// A binary frame.
    Binary(Bytes),
    /// A ping of the client.
    Ping,
    /// The client has confirmed a ping with this payload.
    Pong(Bytes),
    /// The client closes, or has confirmed the transport's own close.
    Close(Close),
    /// A request has broken the protocol: the transport fails, and closes.
    Broken(Breach),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Up {
    /// The number of the next frame.
    next: u64,
    /// The digest of the last body that was taken; an empty one is not remembered.
    last: Option<u64>,
    /// What the transport has not read. Texts, binaries, pings and closes are the client's, and limited.
    queue: VecDeque<Incoming>,
    /// How many of them are the client's, and their payload bytes.
    frames: usize,
    bytes: usize,
    /// The newest position that a get has told, and that the transport has not read.
    ack: Option<Position>,
}

impl Post {
    /// Reads the body of a post; `up` and `down` are the request's headers.
    ///
    /// # Errors
    ///
    /// Returns [`FrameError`] if the body is no sequence of frames: [`Breach::Malformed`].
    pub fn read(up: u64, down: u64, body: Bytes) -> Result<Self, FrameError> {
        let digest = digest(up, &body);
        let frames = decode_frames(body)?;
        let bytes = frames.iter().map(PipeFrame::len).sum();
        Ok(Self { up, down, frames, bytes, digest })
    }

    pub(super) fn down(&self) -> u64 {
        self.down
    }
}

/// The digest by which the last body is known again, with its number.
fn digest(up: u64, body: &[u8]) -> u64 {
    let hash = Sha256::new().chain_update(up.to_be_bytes()).chain_update(body).finalize();
    let (first, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
    u64::from_be_bytes(*first)
}

impl Up {
    /// Returns whether the post is the next one, or exactly the last one again.
    pub(super) fn admits(&self, post: &Post) -> bool {
        post.up == self.next || self.last == Some(post.digest)
    }

    /// Takes a post that is [admitted](Self::admits), whole or not at all; returns the number that is expected next, or
    /// `None` if there is no room. What does not `count` is numbered and forgotten.
    pub(super) fn take(&mut self, post: &Post, counts: bool) -> Option<u64> {
        if post.up != self.next || post.frames.is_empty() {
            return Some(self.next);
        }
        if counts {
            let frames = self.frames + post.frames.len();
            let bytes = self.bytes + post.bytes;
            if self.frames > 0 && (frames > PIPE_BATCH_FRAMES || bytes > PIPE_BATCH_BYTES) {
                return None;
            }
            self.frames = frames;
            self.bytes = bytes;
            self.queue.extend(post.frames.iter().map(|frame| match frame {
                PipeFrame::Text(text) => Incoming::Text(text.clone()),
                PipeFrame::Binary(bytes) => Incoming::Binary(bytes.clone()),
                PipeFrame::Close(close) => Incoming::Close(close.clone()),
                PipeFrame::Ping => Incoming::Ping,
            }));
        }
        self.next += post.frames.len() as u64;
        self.last = Some(post.digest);
        Some(self.next)
    }

    pub(super) fn push_ack(&mut self, position: Position) {
        self.ack = self.ack.max(Some(position));
    }

    pub(super) fn push_pong(&mut self, payload: Payload) {
        self.queue.push_back(Incoming::Pong(payload));
    }

    pub(super) fn push_close(&mut self, close: Close) {
        self.queue.push_back(Incoming::Close(close));
    }

    pub(super) fn push_breach(&mut self, breach: Breach) {
        self.queue.push_back(Incoming::Broken(breach));
    }

    pub(super) fn poll_incoming(&mut self) -> Option<Incoming> {
        // A position is never behind the frames that were posted before it was told: it is no later than any of them.
        if let Some(position) = self.ack.take() {
            let ack = ClientControl { ack: Some(position), ..ClientControl::default() };
            return Some(Incoming::Text(ack.encode()));
        }
        let incoming = self.queue.pop_front()?;
        let bytes = match &incoming {
            Incoming::Text(text) => Some(text.len()),
            Incoming::Binary(bytes) => Some(bytes.len()),
            Incoming::Close(close) => Some(2 + close.reason.len()),
            Incoming::Ping => Some(0),
            Incoming::Pong(_) | Incoming::Broken(_) => None,
        };
        if let Some(bytes) = bytes {
            self.frames = self.frames.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        Some(incoming)
    }

    pub(super) fn clear(&mut self) {
        self.queue = VecDeque::new();
        (self.frames, self.bytes, self.ack) = (0, 0, None);
    }
}

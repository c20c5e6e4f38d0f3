//! Frames on their way down: kept until the client confirms them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Settings;
use crate::{
    Message,
    numbers::{PIPE_BATCH_BYTES, PIPE_BATCH_FRAMES, PIPE_KEPT_BYTES, PIPE_KEPT_FRAMES},
    session,
    wire::{self, Close, Inbound, PipeFrame, ServerControl},
};

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Down {
    kept: VecDeque<Kept>,
    /// The number of the first that is kept: all before it are confirmed.
    first: u64,
    /// Payload bytes of those that are kept.
    bytes: usize,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Kept {
    frame: PipeFrame,
    /// What a pong to it says, if it is a ping.
    payload: Bytes,
}

/// A confirmed frame that is news for the transport.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Confirmed {
    /// A ping, with its payload.
    Ping(Bytes),
    Close(Close),
}

impl Down {
    /// Keeps the transport's next frame. The first one is told how the pipe behaves, if it is a hello.
    pub(super) fn push(&mut self, frame: session::Frame, settings: &Settings) {
        let (frame, payload) = match frame {
            session::Frame::Control(text) if self.head() == 0 => {
                (PipeFrame::Text(with_times(text, settings)), Bytes::new())
            }
            session::Frame::Data(Message::Text(text)) | session::Frame::Control(text) => {
                (PipeFrame::Text(text), Bytes::new())
            }
            session::Frame::Data(Message::Binary(bytes)) => {
                (PipeFrame::Binary(bytes), Bytes::new())
            }
            session::Frame::Ping(payload) => (PipeFrame::Ping, Bytes::copy_from_slice(&payload)),
            session::Frame::Close(close) => (PipeFrame::Close(close), Bytes::new()),
        };
        self.keep(frame, payload);
    }

    pub(super) fn push_close(&mut self, close: Close) {
        self.keep(PipeFrame::Close(close), Bytes::new());
    }

    fn keep(&mut self, frame: PipeFrame, payload: Bytes) {
        self.bytes += frame.len();
        self.kept.push_back(Kept { frame, payload });
    }

    /// Returns the number of the first frame that is not confirmed.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the number of the next frame that the transport writes.
    pub(super) fn head(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.kept.len() < PIPE_KEPT_FRAMES && self.bytes < PIPE_KEPT_BYTES
    }

    /// Returns what one answer takes from `from` on.
    pub(super) fn batch(&self, from: u64) -> Vec<PipeFrame> {
        let skipped = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let mut frames = Vec::new();
        let mut bytes = 0;
        for kept in self.kept.iter().skip(skipped).take(PIPE_BATCH_FRAMES) {
            bytes += kept.frame.len();
            if bytes > PIPE_BATCH_BYTES && !frames.is_empty() {
                break;
            }
            frames.push(kept.frame.clone());
        }
        frames
    }

    /// Returns whether the frame before `next` is the transport's close: nothing comes after it.
    pub(super) fn is_close_before(&self, next: u64) -> bool {
        let closes = matches!(self.kept.back(), Some(Kept { frame: PipeFrame::Close(_), .. }));
        closes && next == self.head()
    }

    /// Lets go of all before `down`.
    pub(super) fn confirm(&mut self, down: u64) -> Vec<Confirmed> {
        let mut news = Vec::new();
        while self.first < down {
            let Some(kept) = self.kept.pop_front() else {
                break;
            };
            self.first += 1;
            self.bytes -= kept.frame.len();
            match kept.frame {
                PipeFrame::Ping => news.push(Confirmed::Ping(kept.payload)),
                PipeFrame::Close(close) => news.push(Confirmed::Close(close)),
                PipeFrame::Text(_) | PipeFrame::Binary(_) => {}
            }
        }
        if self.kept.is_empty() {
            // A pipe is mostly idle.
            self.kept = VecDeque::new();
        }
        news
    }

    pub(super) fn clear(&mut self) {
        self.first = self.head();
        self.kept = VecDeque::new();
        self.bytes = 0;
    }
}

/// Adds the pipe's times to a hello.
fn with_times(text: bytestring::ByteString, settings: &Settings) -> bytestring::ByteString {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    match wire::decode_server_text(text.clone()) {
        Ok(Inbound::Control(ServerControl { hello: Some(mut hello), .. })) => {
            hello.absent_ms = Some(millis(settings.absent));
            hello.hold_ms = Some(millis(settings.hold));
            ServerControl { hello: Some(hello), ..ServerControl::default() }.encode()
        }
        Ok(_) | Err(_) => text,
    }
}

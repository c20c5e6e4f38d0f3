use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use super::Raw;
use crate::words::transport::Frame;

/// The longest header of a server's frame: it has no mask.
const LONGEST_HEADER: usize = 10;

/// Frames that wait to be written. Payloads are shared, and are copied only when they are written.
#[derive(Default)]
pub(in super::super) struct Outgoing {
    frames: VecDeque<Raw>,
    /// How many bytes of the first frame are written.
    written: usize,
    /// How many bytes of all the frames are not.
    left: usize,
}

impl Outgoing {
    /// Adds a frame.
    pub(in super::super) fn push(&mut self, frame: Frame) {
        let frame = Raw::from(frame);
        self.left += frame.len();
        self.frames.push_back(frame);
    }

    /// Returns how many bytes there are to write.
    pub(in super::super) fn len(&self) -> usize {
        self.left
    }

    pub(in super::super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    #[cfg(test)]
    pub(in super::super) fn capacity(&self) -> usize {
        self.frames.capacity()
    }

    /// Copies the bytes that are next; returns how many these are.
    pub(in super::super) fn fill(&self, to: &mut [u8]) -> usize {
        let mut filled = 0;
        let mut skipped = self.written;
        for frame in &self.frames {
            let (header, length) = frame.header();
            for part in [&header[..length], &frame.payload] {
                let from = skipped.min(part.len());
                skipped -= from;
                let room = &mut to[filled..];
                let count = room.len().min(part.len() - from);
                room[..count].copy_from_slice(&part[from..from + count]);
                filled += count;
            }
            if filled == to.len() {
                break;
            }
        }
        filled
    }

    /// So many of these bytes are written. When all are, no memory is held.
    pub(in super::super) fn advance(&mut self, mut count: usize) {
        self.left -= count;
        if self.left == 0 {
            *self = Self::default();
            return;
        }
        while let Some(first) = self.frames.front() {
            let left = first.len() - self.written;
            if count < left {
                self.written += count;
                return;
            }
            count -= left;
            self.written = 0;
            self.frames.pop_front();
        }
    }
}

impl Raw {
    fn header(&self) -> ([u8; LONGEST_HEADER], usize) {
        let mut bytes = [0; LONGEST_HEADER];
        let header = FrameHeader { opcode: self.opcode, ..FrameHeader::default() };
        let mut free = &mut bytes[..];
        let length = self.payload.len() as u64;
        header.format(length, &mut free).expect("there is room for a header without a mask");
        let length = LONGEST_HEADER - free.len();
        (bytes, length)
    }

    /// Returns how many bytes it is on the wire.
    fn len(&self) -> usize {
        let length = self.payload.len();
        FrameHeader::default().len(length as u64) + length
    }
}

impl From<Frame> for Raw {
    fn from(frame: Frame) -> Self {
        let (opcode, payload) = match frame {
            Frame::Text(text) => (OpCode::Data(Data::Text), text.into_bytes()),
            Frame::Binary(payload) => (OpCode::Data(Data::Binary), payload),
            Frame::Ping(payload) => (OpCode::Control(Control::Ping), payload),
            Frame::Pong(payload) => (OpCode::Control(Control::Pong), payload),
            Frame::Close(None) => (OpCode::Control(Control::Close), Bytes::new()),
            Frame::Close(Some((code, reason))) => {
                let mut payload = BytesMut::with_capacity(2 + reason.len());
                payload.put_u16(code);
                payload.put_slice(reason.as_bytes());
                (OpCode::Control(Control::Close), payload.freeze())
            }
        };
        Self { opcode, payload }
    }
}

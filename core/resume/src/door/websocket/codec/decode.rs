use std::{io::Cursor, mem};

use bytes::Bytes;
use bytestring::ByteString;
use tokio_tungstenite::tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use super::{LONGEST_CONTROL, Violation, mask, read_close, text::Text};
use crate::words::transport::Frame;

/// The longest header of a frame.
const LONGEST_HEADER: usize = 14;

/// Makes frames of a client's bytes, wherever these are cut. It holds what is not whole, and nothing else.
pub(in super::super) struct Decoder {
    /// The largest message.
    max: usize,
    place: Place,
    /// The message of which a part has come.
    begun: Option<Begun>,
    /// How long the frames of that message are, headers included.
    spent: usize,
}

/// Where in a frame the next byte is.
enum Place {
    Header {
        /// The beginning of it.
        begun: [u8; LONGEST_HEADER],
        length: usize,
    },
    /// In the payload of a frame that is a part of a message.
    Data {
        mask: [u8; 4],
        left: usize,
        is_final: bool,
    },
    Control {
        control: Control,
        mask: [u8; 4],
        left: usize,
        payload: Vec<u8>,
    },
}

/// A message of which a part has come.
enum Begun {
    Text(Text),
    Binary(Vec<u8>),
}

impl Decoder {
    /// Creates a decoder that takes messages up to this size.
    pub(in super::super) fn new(max: usize) -> Self {
        Self { max, place: Place::START, begun: None, spent: 0 }
    }

    /// Takes bytes until a frame is whole, or there are none left. Returns how many it took, and the frame.
    ///
    /// What it took is no longer as it was.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with what has come, as soon as it can be known. The decoder cannot be used after it.
    pub(in super::super) fn decode(
        &mut self,
        input: &mut [u8],
    ) -> Result<(usize, Option<Frame>), Violation> {
        let mut taken = 0;
        loop {
            let rest = &mut input[taken..];
            match &mut self.place {
                Place::Header { begun, length } => {
                    let Some((header, payload, size)) = read_header(begun, length, rest)? else {
                        return Ok((input.len(), None));
                    };
                    taken += size;
                    let (mask, payload) = self.admit(&header, payload)?;
                    let is_whole = match header.opcode {
                        OpCode::Data(_) => header.is_final && self.begun.is_none(),
                        OpCode::Control(_) => true,
                    };
                    if is_whole && let Some(payload) = input[taken..].get_mut(..payload) {
                        // The usual case: nothing has to be kept.
                        self.place = Place::START;
                        mask::apply(mask, payload);
                        taken += payload.len();
                        if matches!(header.opcode, OpCode::Data(_)) {
                            self.spent = 0;
                        }
                        return Ok((taken, Some(whole(header.opcode, payload)?)));
                    }
                    self.place = match header.opcode {
                        OpCode::Data(data) => {
                            let begun = match data {
                                Data::Text => Begun::Text(Text::default()),
                                _ => Begun::Binary(Vec::new()),
                            };
                            self.begun.get_or_insert(begun);
                            Place::Data { mask, left: payload, is_final: header.is_final }
                        }
                        OpCode::Control(control) => {
                            let room = Vec::with_capacity(payload);
                            Place::Control { control, mask, left: payload, payload: room }
                        }
                    };
                }
                Place::Data { mask, left, is_final } => {
                    let count = rest.len().min(*left);
                    let piece = &mut rest[..count];
                    *mask = mask::apply(*mask, piece);
                    taken += count;
                    if let Some(begun) = &mut self.begun {
                        begun.push(piece, *left)?;
                    }
                    *left -= count;
                    if *left > 0 {
                        return Ok((taken, None));
                    }
                    let is_final = *is_final;
                    self.place = Place::START;
                    if is_final && let Some(begun) = self.begun.take() {
                        self.spent = 0;
                        return Ok((taken, Some(begun.finish()?)));
                    }
                }
                Place::Control { control, mask, left, payload } => {
                    let count = rest.len().min(*left);
                    let piece = &mut rest[..count];
                    *mask = mask::apply(*mask, piece);
                    taken += count;
                    payload.extend_from_slice(piece);
                    *left -= count;
                    if *left > 0 {
                        return Ok((taken, None));
                    }
                    let (opcode, payload) = (OpCode::Control(*control), mem::take(payload));
                    self.place = Place::START;
                    return Ok((taken, Some(whole(opcode, &payload)?)));
                }
            }
        }
    }

    /// Returns how many bytes of the payload that is coming are missing.
    pub(in super::super) fn missing(&self) -> usize {
        match self.place {
            Place::Header { .. } => 0,
            Place::Data { left, .. } | Place::Control { left, .. } => left,
        }
    }

    #[cfg(test)]
    pub(in super::super) fn held(&self) -> usize {
        self.begun.as_ref().map_or(0, |begun| match begun {
            Begun::Text(text) => text.capacity(),
            Begun::Binary(bytes) => bytes.capacity(),
        })
    }

    /// Whether such a frame may come here. Returns its mask, and the length of its payload.
    fn admit(&mut self, header: &FrameHeader, payload: u64) -> Result<([u8; 4], usize), Violation> {
        let length = usize::try_from(payload).ok().filter(|length| *length <= self.max);
        let length = length.ok_or(Violation::TooBig)?;
        let mask = header.mask.ok_or(Violation::Protocol("a client's frame is not masked"))?;
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Violation::Protocol("a reserved bit is set"));
        }
        match (header.opcode, &self.begun) {
            (OpCode::Control(_), _) if !header.is_final => {
                return Err(Violation::Protocol("a control frame is in fragments"));
            }
            (OpCode::Control(_), _) if length > LONGEST_CONTROL => {
                return Err(Violation::Protocol("a control frame is too long"));
            }
            (OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)), _) => {
                return Err(Violation::Protocol("an opcode is reserved"));
            }
            (OpCode::Control(_), _) => {}
            (OpCode::Data(Data::Continue), None) => {
                return Err(Violation::Protocol("there is no message to continue"));
            }
            (OpCode::Data(Data::Text | Data::Binary), Some(_)) => {
                return Err(Violation::Protocol("a message begins within another"));
            }
            (OpCode::Data(_), begun) => {
                let held = begun.as_ref().map_or(0, Begun::len);
                self.spent = self.spent.saturating_add(header.len(payload) + length);
                if length > self.max - held || self.spent > longest_with_headers(self.max) {
                    return Err(Violation::TooBig);
                }
            }
        }
        Ok((mask, length))
    }
}

impl Place {
    const START: Self = Self::Header { begun: [0; LONGEST_HEADER], length: 0 };
}

impl Begun {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Adds the next piece of a frame, of which `left` bytes had been missing.
    ///
    /// A stranger says how long a frame will be. So there is never room for more than twice what has come.
    fn push(&mut self, piece: &[u8], left: usize) -> Result<(), Violation> {
        match self {
            Self::Text(text) => {
                text.reserve(piece.len(), left);
                text.push(piece)
            }
            Self::Binary(bytes) => {
                if bytes.capacity() - bytes.len() < piece.len() {
                    bytes.reserve_exact(piece.len().max(left.min(bytes.len())));
                }
                bytes.extend_from_slice(piece);
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<Frame, Violation> {
        match self {
            Self::Text(text) => text.finish().map(Frame::Text),
            Self::Binary(bytes) => Ok(Frame::Binary(bytes.into())),
        }
    }
}

/// How long the frames of a message may be in all: an eighth more than a message, and 8 KiB, for headers.
fn longest_with_headers(max: usize) -> usize {
    max.saturating_add(max / 8).saturating_add(8 << 10)
}

/// Reads a header, of which `begun` may have come before. Returns it, the length of its payload, and how much of
/// `input` belongs to it. All of `input` does when the header is not whole.
fn read_header(
    begun: &mut [u8; LONGEST_HEADER],
    length: &mut usize,
    input: &[u8],
) -> Result<Option<(FrameHeader, u64, usize)>, Violation> {
    let before = *length;
    let bytes = if before == 0 {
        input
    } else {
        let count = input.len().min(LONGEST_HEADER - before);
        begun[before..before + count].copy_from_slice(&input[..count]);
        &begun[..before + count]
    };
    let mut cursor = Cursor::new(bytes);
    let parsed = FrameHeader::parse(&mut cursor);
    let parsed = parsed.map_err(|_| Violation::Protocol("an opcode is reserved"))?;
    if let Some((header, payload)) = parsed {
        let size = usize::try_from(cursor.position()).expect("a header is short");
        return Ok(Some((header, payload, size - before)));
    }
    if before == 0 {
        begun[..input.len()].copy_from_slice(input);
    }
    *length = before + input.len();
    Ok(None)
}

/// Makes a frame of its whole payload.
fn whole(opcode: OpCode, payload: &[u8]) -> Result<Frame, Violation> {
    Ok(match opcode {
        OpCode::Data(Data::Text) => {
            Frame::Text(ByteString::from(str::from_utf8(payload).map_err(|_| Violation::NotUtf8)?))
        }
        OpCode::Data(_) => Frame::Binary(Bytes::copy_from_slice(payload)),
        OpCode::Control(Control::Ping) => Frame::Ping(Bytes::copy_from_slice(payload)),
        OpCode::Control(Control::Close) => Frame::Close(read_close(payload)?),
        OpCode::Control(_) => Frame::Pong(Bytes::copy_from_slice(payload)),
    })
}

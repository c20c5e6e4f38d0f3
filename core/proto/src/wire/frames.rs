//! Frames in the body of a request or an answer: `application/vnd.session-resume`.
//!
//! Frames stand back to back: the kind (1 byte), the length (4 bytes, big endian), the payload.

use std::{collections::VecDeque, fmt, str};

use bytes::{Buf, Bytes, BytesMut};
use bytestring::ByteString;

use super::Close;

/// The content type of bodies of frames.
pub const FRAMES: &str = "application/vnd.session-resume";

/// What stands in front of each payload.
const HEAD: usize = 5;

/// A frame of a pipe, as HTTP carries it. Texts and binaries are those of a WebSocket, unchanged.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PipeFrame {
    /// Kind 1.
    Text(ByteString),
    /// Kind 2.
    Binary(Bytes),
    /// Kind 8: two bytes of code, at most 123 bytes of reason.
    Close(Close),
    /// Kind 9, empty: what is confirmed in a pipe is confirmed by its number.
    Ping,
}

/// The kinds of frames, as numbers.
mod kind {
    pub(super) const TEXT: u8 = 1;
    pub(super) const BINARY: u8 = 2;
    pub(super) const CLOSE: u8 = 8;
    pub(super) const PING: u8 = 9;
}

/// Why bytes are no sequence of frames.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum FrameError {
    /// A kind, or the name of an event, that does not exist.
    UnknownKind,
    /// A payload that its kind does not allow.
    BadPayload,
    /// The bytes end inside a frame.
    Cut,
    /// A frame is longer than the reader takes.
    TooBig,
}

impl PipeFrame {
    /// Returns the bytes of payload that count against limits.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            Self::Close(close) => 2 + close.reason.len(),
            Self::Ping => 0,
        }
    }

    /// Returns whether the payload is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the frame.
    ///
    /// # Panics
    ///
    /// Panics if the payload is 4 GiB or longer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = match self {
            Self::Text(_) => kind::TEXT,
            Self::Binary(_) => kind::BINARY,
            Self::Close(_) => kind::CLOSE,
            Self::Ping => kind::PING,
        };
        let length = u32::try_from(self.len()).expect("messages are limited far below 4 GiB");
        out.reserve(HEAD + self.len());
        out.push(kind);
        out.extend_from_slice(&length.to_be_bytes());
        match self {
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Binary(bytes) => out.extend_from_slice(bytes),
            Self::Close(close) => {
                out.extend_from_slice(&close.code.to_be_bytes());
                out.extend_from_slice(close.reason.as_bytes());
            }
            Self::Ping => {}
        }
    }

    fn read(kind: u8, payload: Bytes) -> Result<Self, FrameError> {
        match kind {
            kind::TEXT => Ok(Self::Text(text(&payload)?.to_owned().into())),
            kind::BINARY => Ok(Self::Binary(payload)),
            kind::CLOSE => {
                let (code, reason) = payload.split_first_chunk().ok_or(FrameError::BadPayload)?;
                if reason.len() > 123 {
                    return Err(FrameError::BadPayload);
                }
                Ok(Self::Close(Close::new(u16::from_be_bytes(*code), text(reason)?.to_owned())))
            }
            kind::PING if payload.is_empty() => Ok(Self::Ping),
            kind::PING => Err(FrameError::BadPayload),
            _ => Err(FrameError::UnknownKind),
        }
    }
}

fn text(payload: &[u8]) -> Result<&str, FrameError> {
    str::from_utf8(payload).map_err(|_| FrameError::BadPayload)
}

/// Returns the frames back to back.
pub fn encode_frames<'a>(frames: impl IntoIterator<Item = &'a PipeFrame>) -> Vec<u8> {
    let mut out = Vec::new();
    for frame in frames {
        frame.encode(&mut out);
    }
    out
}

/// Reads a whole body. Binary frames share its memory.
///
/// # Errors
///
/// Returns [`FrameError`] if the body is not a sequence of whole frames, or if anything follows a close.
pub fn decode_frames(mut body: Bytes) -> Result<Vec<PipeFrame>, FrameError> {
    let mut frames = Vec::new();
    while !body.is_empty() {
        if let Some(PipeFrame::Close(_)) = frames.last() {
            return Err(FrameError::BadPayload);
        }
        let (kind, length) = head(&body).ok_or(FrameError::Cut)?;
        if body.len() - HEAD < length {
            return Err(FrameError::Cut);
        }
        body.advance(HEAD);
        frames.push(PipeFrame::read(kind, body.split_to(length))?);
    }
    Ok(frames)
}

fn head(bytes: &[u8]) -> Option<(u8, usize)> {
    let (&[kind, a, b, c, d], _) = bytes.split_first_chunk::<HEAD>()?;
    Some((kind, u32::from_be_bytes([a, b, c, d]) as usize))
}

/// Reads frames from bytes that come in pieces.
///
/// A frame whose end never comes was never there.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FrameReader {
    bytes: BytesMut,
    frames: VecDeque<PipeFrame>,
    limit: usize,
}

impl FrameReader {
    /// Creates a reader that takes payloads of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { bytes: BytesMut::new(), frames: VecDeque::new(), limit }
    }

    /// Takes in the next piece.
    ///
    /// # Errors
    ///
    /// Returns [`FrameError`] for what is not a frame; what came before it can be taken.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), FrameError> {
        self.bytes.extend_from_slice(piece);
        while let Some((kind, length)) = head(&self.bytes) {
            if length > self.limit {
                return Err(FrameError::TooBig);
            }
            if self.bytes.len() - HEAD < length {
                break;
            }
            self.bytes.advance(HEAD);
            let payload = self.bytes.split_to(length).freeze();
            self.frames.push_back(PipeFrame::read(kind, payload)?);
        }
        Ok(())
    }

    /// Returns the next whole frame.
    pub fn next_frame(&mut self) -> Option<PipeFrame> {
        self.frames.pop_front()
    }

    /// Returns whether a frame has begun whose end has not come.
    pub fn is_inside(&self) -> bool {
        !self.bytes.is_empty()
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownKind => "unknown kind of frame",
            Self::BadPayload => "frame with a payload that its kind does not allow",
            Self::Cut => "body ends inside a frame",
            Self::TooBig => "frame over the limit",
        })
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any frame; texts with all that is hard for an event stream.
    pub(in crate::wire) fn any_frame() -> impl Strategy<Value = PipeFrame> {
        let hard = prop::collection::vec(
            prop::sample::select(vec![
                "", "a", " ", ":", "\n", "\r", "\0", "\u{1}", "\u{feff}", "ä", "\u{2028}",
                "data: x",
            ]),
            0..8,
        );
        let binary = prop::collection::vec(any::<u8>(), 0..40);
        // A reason with line ends is not told as it is on an event stream.
        let close = (any::<u16>(), "[ a-zä]{0,30}");
        prop_oneof![
            hard.prop_map(|parts| PipeFrame::Text(parts.concat().into())),
            any::<String>().prop_map(|text| PipeFrame::Text(text.into())),
            binary.prop_map(|bytes| PipeFrame::Binary(bytes.into())),
            close.prop_map(|(code, reason)| PipeFrame::Close(Close::new(code, reason))),
            Just(PipeFrame::Ping),
        ]
    }

    #[test]
    fn the_bytes_are_those_of_the_contract() {
        let frames = [
            PipeFrame::Text("hä".into()),
            PipeFrame::Binary(Bytes::from_static(&[0, 255])),
            PipeFrame::Ping,
            PipeFrame::Close(Close::SUPERSEDED),
        ];
        let bytes = encode_frames(&frames);
        let expected = b"\x01\0\0\0\x03h\xc3\xa4\x02\0\0\0\x02\0\xff\x09\0\0\0\0\x08\0\0\0\x0c\x10\x04superseded";
        assert_eq!(bytes, expected);
        assert_eq!(decode_frames(bytes.into()).unwrap(), frames);
    }

    #[test]
    fn what_is_no_sequence_of_frames_is_refused() {
        for (bytes, expected) in [
            (&b"\x01\0\0\0"[..], FrameError::Cut),
            (b"\x01\0\0\0\x02a", FrameError::Cut),
            (b"\x01\xff\xff\xff\xff", FrameError::Cut),
            (b"\0\0\0\0\0", FrameError::UnknownKind),
            (b"\x0a\0\0\0\0", FrameError::UnknownKind),
            (b"\x01\0\0\0\x01\xff", FrameError::BadPayload),
            (b"\x09\0\0\0\x01a", FrameError::BadPayload),
            (b"\x08\0\0\0\x01\x10", FrameError::BadPayload),
            (b"\x08\0\0\0\x03\x10\x04\xff", FrameError::BadPayload),
            (b"\x08\0\0\0\x02\x10\x04\x09\0\0\0\0", FrameError::BadPayload),
        ] {
            assert_eq!(decode_frames(bytes.into()), Err(expected), "{bytes:?}");
        }
        let long = PipeFrame::Binary(vec![0; 126].into());
        let mut bytes = encode_frames([&long]);
        bytes[0] = kind::CLOSE;
        assert_eq!(decode_frames(bytes.into()), Err(FrameError::BadPayload));
        assert_eq!(FrameReader::new(2).feed(b"\x01\0\0\0\x03"), Err(FrameError::TooBig));
    }

    proptest! {
        #[test]
        fn frames_in_pieces_are_the_frames(
            frames in prop::collection::vec(any_frame(), 0..6),
            piece in 1usize..9,
        ) {
            let bytes = encode_frames(&frames);
            let mut reader = FrameReader::new(4096);
            let mut read = Vec::new();
            for piece in bytes.chunks(piece) {
                reader.feed(piece).unwrap();
                read.extend(std::iter::from_fn(|| reader.next_frame()));
            }
            prop_assert!(!reader.is_inside());
            prop_assert_eq!(read, frames);
        }

        #[test]
        fn a_prefix_of_the_bytes_is_a_prefix_of_the_frames(
            frames in prop::collection::vec(any_frame(), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = encode_frames(&frames);
            let mut reader = FrameReader::new(4096);
            reader.feed(&bytes[..cut.index(bytes.len())]).unwrap();
            let read: Vec<_> = std::iter::from_fn(|| reader.next_frame()).collect();
            prop_assert!(read.len() < frames.len());
            prop_assert_eq!(&read[..], &frames[..read.len()]);
        }

        #[test]
        fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let whole = decode_frames(bytes.clone().into());
            let mut reader = FrameReader::new(64);
            let fed = reader.feed(&bytes);
            if let Ok(frames) = whole {
                prop_assert_eq!(fed, Ok(()));
                let read: Vec<_> = std::iter::from_fn(|| reader.next_frame()).collect();
                prop_assert_eq!(read, frames);
            }
        }
    }
}

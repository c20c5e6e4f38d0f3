//! Follows the bytes of one direction of a WebSocket: where each message begins, and what the hello says.

use std::collections::VecDeque;

use session_resume_proto::wire::{Hello, Inbound, ServerControl, decode_server_text};

/// A control frame that is longer than this is no hello.
const LONGEST_HELLO: usize = 64 << 10;

/// What begins a control frame of `session-resume.v1`; data that begins with the first of these has it twice.
const CONTROL: [u8; 2] = [1, b'{'];

/// What was written so far, told apart.
#[derive(Debug)]
pub(crate) struct Frames {
    /// How many bytes there were.
    length: u64,
    at: At,
    /// The data messages that are not wholly read: where each begins and ends. The end of the last one may be unknown.
    messages: VecDeque<(u64, u64)>,
    /// And where it ends.
    hello: Option<(Hello, u64)>,
}

#[derive(Debug)]
enum At {
    /// The head of HTTP, and how many bytes of the empty line at its end were there.
    Head {
        matched: usize,
    },
    /// The header of a frame.
    Header(Vec<u8>),
    Payload(Frame),
}

#[derive(Debug)]
struct Frame {
    begins: u64,
    opcode: u8,
    is_last: bool,
    mask: Option<[u8; 4]>,
    left: u64,
    /// The payload's beginning; the whole of a control frame of the protocol.
    text: Vec<u8>,
}

impl Frames {
    pub(crate) fn new() -> Self {
        let at = At::Head { matched: 0 };
        Self { length: 0, at, messages: VecDeque::new(), hello: None }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// The hello, if it is in the first `read` bytes.
    pub(crate) fn hello_before(&self, read: u64) -> Option<&Hello> {
        self.hello.as_ref().filter(|(_, end)| *end <= read).map(|(hello, _)| hello)
    }

    /// Where the messages begin that end after the first `read` bytes.
    pub(crate) fn messages_after(&self, read: u64) -> impl DoubleEndedIterator<Item = u64> {
        self.messages.iter().filter(move |(_, end)| *end > read).map(|(begin, _)| *begin)
    }

    pub(crate) fn forget_before(&mut self, read: u64) {
        while self.messages.front().is_some_and(|(_, end)| *end <= read) {
            self.messages.pop_front();
        }
    }

    pub(crate) fn follow(&mut self, mut bytes: &[u8]) {
        while let Some(&first) = bytes.first() {
            let taken = match &mut self.at {
                At::Head { matched } => {
                    *matched = match (first, *matched) {
                        (b'\r', 0 | 2) | (b'\n', 1 | 3) => *matched + 1,
                        (b'\r', _) => 1,
                        _ => 0,
                    };
                    if *matched == 4 {
                        self.at = At::Header(Vec::new());
                    }
                    1
                }
                At::Header(header) => {
                    header.push(first);
                    let begins = self.length + 1 - header.len() as u64;
                    if let Some(frame) = Frame::parse(header, begins) {
                        self.at = At::Payload(frame);
                    }
                    1
                }
                At::Payload(frame) => frame.take(bytes),
            };
            self.length += taken as u64;
            bytes = &bytes[taken..];
            if let At::Payload(frame) = &mut self.at
                && frame.left == 0
            {
                let At::Payload(frame) = std::mem::replace(&mut self.at, At::Header(Vec::new()))
                else {
                    unreachable!("looked at just now");
                };
                self.end(frame);
            }
        }
    }

    fn end(&mut self, frame: Frame) {
        match frame.opcode {
            // It goes on with the message before.
            0 => {
                if let Some((_, end)) = self.messages.back_mut() {
                    *end = if frame.is_last { self.length } else { u64::MAX };
                }
            }
            1 if frame.text.starts_with(&CONTROL) => {
                if let Some(hello) = hello(frame.text) {
                    self.hello = Some((hello, self.length));
                }
            }
            1 | 2 => {
                let end = if frame.is_last { self.length } else { u64::MAX };
                self.messages.push_back((frame.begins, end));
            }
            _ => {}
        }
    }
}

impl Frame {
    /// Reads a frame's header, once it is whole.
    fn parse(header: &[u8], begins: u64) -> Option<Self> {
        let [first, second, rest @ ..] = header else { return None };
        let (length, rest) = match second & 0x7f {
            126 => {
                let (length, rest) = rest.split_first_chunk::<2>()?;
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk::<8>()?;
                (u64::from_be_bytes(*length), rest)
            }
            short => (u64::from(short), rest),
        };
        let mask = match second & 0x80 {
            0 => None,
            _ => Some(*rest.first_chunk::<4>()?),
        };
        let (opcode, is_last) = (first & 0xf, first & 0x80 != 0);
        Some(Self { begins, opcode, is_last, mask, left: length, text: Vec::new() })
    }

    /// Takes what is there of the payload; returns how much that is.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= taken as u64;
        for &byte in &bytes[..taken] {
            let is_control = self.text.len() < CONTROL.len() || self.text.starts_with(&CONTROL);
            if !is_control || self.text.len() == LONGEST_HELLO {
                break;
            }
            let mask = self.mask.map_or(0, |mask| mask[self.text.len() % 4]);
            self.text.push(byte ^ mask);
        }
        taken
    }
}

fn hello(text: Vec<u8>) -> Option<Hello> {
    let text = String::from_utf8(text).ok()?;
    match decode_server_text(text.into()).ok()? {
        Inbound::Control(ServerControl { hello, .. }) => hello,
        Inbound::Data(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked frame.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [7, 9, 11, 13];
        let mut bytes = vec![first];
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        if payload.len() < 126 {
            bytes.push(0x80 | length[1]);
        } else {
            bytes.push(0xfe);
            bytes.extend(length);
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    #[test]
    fn messages_are_found_wherever_the_bytes_are_split() {
        let head = b"GET /live HTTP/1.1\r\nhost: a\r\n\r\n".to_vec();
        let parts = [
            head,
            masked(0x81, b"a"),
            masked(0x81, b"\x01{\"ack\":0}"),
            masked(0x8a, b"pong"),
            masked(0x81, b"\x01\x01{escaped"),
            masked(0x02, &[0; 300]),
            masked(0x89, b""),
            masked(0x80, b"its end"),
            masked(0x88, b"\x03\xe8"),
        ];
        let starts: Vec<u64> = parts
            .iter()
            .scan(0, |at, part| {
                let start = *at;
                *at += part.len() as u64;
                Some(start)
            })
            .collect();
        let bytes = parts.concat();
        for size in [1, 2, 3, 7, 100, bytes.len()] {
            let mut frames = Frames::new();
            bytes.chunks(size).for_each(|chunk| frames.follow(chunk));
            assert_eq!(frames.length(), bytes.len() as u64);
            let found: Vec<_> = frames.messages_after(0).collect();
            assert_eq!(found, [starts[1], starts[4], starts[5]], "{size}");
            // The last one ends with the frame that goes on with it.
            assert_eq!(frames.messages_after(starts[7]).count(), 1);
            assert_eq!(frames.messages_after(starts[8]).count(), 0);
            frames.forget_before(starts[5]);
            assert_eq!(frames.messages_after(0).collect::<Vec<_>>(), [starts[5]]);
        }
    }

    #[test]
    fn a_hello_is_read() {
        let hello = "\u{1}{\"hello\":{\"v\":1,\"session\":\"s\",\"epoch\":\"e\",\"attachment\":3,\
                     \"status\":\"resumed\",\"from\":7,\"received\":0,\"gap\":null,\
                     \"heartbeat_ms\":1,\"lifetime_ms\":1,\"window\":{\"messages\":1,\"bytes\":1}}}";
        let mut bytes = b"HTTP/1.1 101 x\r\n\r\n\x81\x7e".to_vec();
        bytes.extend(u16::try_from(hello.len()).unwrap().to_be_bytes());
        bytes.extend(hello.as_bytes());
        let mut frames = Frames::new();
        bytes.chunks(5).for_each(|chunk| frames.follow(chunk));
        assert_eq!(frames.hello_before(bytes.len() as u64).unwrap().from.get(), 7);
        assert_eq!(frames.hello_before(bytes.len() as u64 - 1), None, "not all of it is read");
        assert_eq!(frames.messages_after(0).count(), 0);
    }
}

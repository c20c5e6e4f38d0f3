//! Frames as events of an event stream: `text/event-stream`.
//!
//! One event is one frame, without `id`. An event without a name is a text, with one `data` line for each of its lines.
//! A text that an event stream cannot carry (CR, U+0000) is `event: json`, a JSON string. The others are `event: b64`,
//! `event: ping` and `event: close`.

use std::{collections::VecDeque, fmt::Write, str};

use super::{Close, FrameError, PipeFrame, base64};

/// The content type of event streams.
pub const EVENTS: &str = "text/event-stream";

/// What every stream of a pipe begins with, at once: the headers come with the first byte of the body through some
/// proxies.
pub const GREETING: &str = ": session-resume\n\n";
/// What the server writes alone a little after the hello. Where it comes at once, nothing on the way holds the stream
/// back.
pub const FLOW: &str = ": flow\n\n";

/// The names of events.
mod name {
    pub(super) const JSON: &str = "json";
    pub(super) const BINARY: &str = "b64";
    pub(super) const PING: &str = "ping";
    pub(super) const CLOSE: &str = "close";
}

/// Appends a frame as an event.
pub fn encode_event(frame: &PipeFrame, out: &mut String) {
    match frame {
        PipeFrame::Text(text) if text.contains(['\r', '\0']) => {
            let json = serde_json::to_string(&**text).expect("a text is JSON");
            named(name::JSON, &json, out);
        }
        PipeFrame::Text(text) => {
            out.reserve(text.len() + 8);
            for line in text.split('\n') {
                out.push_str("data: ");
                out.push_str(line);
                out.push('\n');
            }
            out.push('\n');
        }
        PipeFrame::Binary(bytes) => {
            let mut coded = String::new();
            base64::encode(bytes, &mut coded);
            named(name::BINARY, &coded, out);
        }
        PipeFrame::Ping => named(name::PING, "", out),
        PipeFrame::Close(close) => named(name::CLOSE, &close.to_line(), out),
    }
}

fn named(name: &str, data: &str, out: &mut String) {
    writeln!(out, "event: {name}\ndata: {data}\n").expect("a string takes everything");
}

impl Close {
    /// Returns code and reason in one line: the value of the header `Session-Resume-Close`, and of the event `close`.
    ///
    /// Control characters in the reason become spaces.
    pub fn to_line(&self) -> String {
        let mut line = self.code.to_string();
        if !self.reason.is_empty() {
            line.push(' ');
            line.extend(self.reason.chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
        line
    }

    /// Reads what [`to_line`](Self::to_line) writes.
    pub fn from_line(line: &str) -> Option<Self> {
        let (code, reason) = line.split_once(' ').unwrap_or((line, ""));
        let digits = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_digit());
        let code = code.parse().ok().filter(|_| digits)?;
        Some(Self::new(code, reason.to_owned()))
    }
}

/// What an event stream brings.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum StreamItem {
    /// A frame.
    Frame(PipeFrame),
    /// A comment, such as [`FLOW`]: the text behind the colon, without the space.
    Comment(String),
}

/// Reads events from bytes that come in pieces.
///
/// An event that is cut in the middle was never there.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EventReader {
    /// The line that has begun.
    line: Vec<u8>,
    event: Event,
    /// The last byte was a CR: an LF now is the same line's end.
    after_cr: bool,
    at_start: bool,
    items: VecDeque<StreamItem>,
    limit: usize,
}

/// The event that has begun.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Event {
    name: String,
    data: Option<String>,
}

impl EventReader {
    /// Creates a reader that takes events whose data has up to `limit` bytes, in the form in which they travel.
    pub fn new(limit: usize) -> Self {
        Self {
            line: Vec::new(),
            event: Event::default(),
            after_cr: false,
            at_start: true,
            items: VecDeque::new(),
            limit,
        }
    }

    /// Takes in the next piece.
    ///
    /// # Errors
    ///
    /// Returns [`FrameError`] for what is not an event of a pipe; what came before it can be taken.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), FrameError> {
        let mut rest = piece;
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|&byte| byte == b'\n' || byte == b'\r') else {
                self.line.extend_from_slice(rest);
                return self.check_length();
            };
            self.line.extend_from_slice(&rest[..end]);
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            self.check_length()?;
            self.end_line()?;
        }
        Ok(())
    }

    /// Returns the next item.
    pub fn next_item(&mut self) -> Option<StreamItem> {
        self.items.pop_front()
    }

    fn check_length(&self) -> Result<(), FrameError> {
        let data = self.event.data.as_ref().map_or(0, String::len);
        // The longest name of a field and what is around it are not data.
        let within = self.line.len() + data <= self.limit.saturating_add(16);
        if within { Ok(()) } else { Err(FrameError::TooBig) }
    }

    fn end_line(&mut self) -> Result<(), FrameError> {
        let line = std::mem::take(&mut self.line);
        let line = str::from_utf8(&line).map_err(|_| FrameError::BadPayload)?;
        let first = std::mem::take(&mut self.at_start);
        let line = if first { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        if line.is_empty() {
            return self.end_event();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.items.push_back(StreamItem::Comment(value.to_owned())),
            "event" => value.clone_into(&mut self.event.name),
            "data" => match &mut self.event.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.event.data = Some(value.to_owned()),
            },
            // `id`, `retry`, and what may come later.
            _ => {}
        }
        Ok(())
    }

    fn end_event(&mut self) -> Result<(), FrameError> {
        let Event { name, data } = std::mem::take(&mut self.event);
        let frame = match (&*name, data) {
            ("", None) => return Ok(()),
            ("", Some(text)) => PipeFrame::Text(text.into()),
            (name::PING, _) => PipeFrame::Ping,
            (name::JSON, Some(json)) => {
                let text: String =
                    serde_json::from_str(&json).map_err(|_| FrameError::BadPayload)?;
                PipeFrame::Text(text.into())
            }
            (name::BINARY, Some(coded)) => {
                let bytes = base64::decode(&coded).ok_or(FrameError::BadPayload)?;
                PipeFrame::Binary(bytes.into())
            }
            (name::CLOSE, Some(line)) => {
                PipeFrame::Close(Close::from_line(&line).ok_or(FrameError::BadPayload)?)
            }
            (name::JSON | name::BINARY | name::CLOSE, None) => return Err(FrameError::BadPayload),
            (_, _) => return Err(FrameError::UnknownKind),
        };
        self.items.push_back(StreamItem::Frame(frame));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::frames::tests::any_frame, *};

    fn encoded(frame: &PipeFrame) -> String {
        let mut out = String::new();
        encode_event(frame, &mut out);
        out
    }

    fn read(bytes: &[u8], piece: usize) -> Result<Vec<StreamItem>, FrameError> {
        let mut reader = EventReader::new(4096);
        let mut items = Vec::new();
        for piece in bytes.chunks(piece) {
            reader.feed(piece)?;
            items.extend(std::iter::from_fn(|| reader.next_item()));
        }
        Ok(items)
    }

    #[test]
    fn the_events_are_those_of_the_contract() {
        for (frame, event) in [
            (PipeFrame::Text("".into()), "data: \n\n"),
            (PipeFrame::Text("a".into()), "data: a\n\n"),
            (PipeFrame::Text(" a\n\n:b".into()), "data:  a\ndata: \ndata: :b\n\n"),
            (PipeFrame::Text("\n".into()), "data: \ndata: \n\n"),
            (PipeFrame::Text("a\rb".into()), "event: json\ndata: \"a\\rb\"\n\n"),
            (PipeFrame::Text("\0\n".into()), "event: json\ndata: \"\\u0000\\n\"\n\n"),
            (PipeFrame::Text("\u{1}{\"ack\":1}".into()), "data: \u{1}{\"ack\":1}\n\n"),
            (PipeFrame::Binary(vec![0, 255].into()), "event: b64\ndata: AP8=\n\n"),
            (PipeFrame::Ping, "event: ping\ndata: \n\n"),
            (PipeFrame::Close(Close::SUPERSEDED), "event: close\ndata: 4100 superseded\n\n"),
            (PipeFrame::Close(Close::GOODBYE), "event: close\ndata: 1000\n\n"),
        ] {
            assert_eq!(encoded(&frame), event);
            assert_eq!(read(event.as_bytes(), 1), Ok(vec![StreamItem::Frame(frame)]));
        }
    }

    #[test]
    fn a_reason_cannot_split_the_stream() {
        let close = Close::new(4000, "a\r\ndata: b\n\n\0");
        assert_eq!(close.to_line(), "4000 a  data: b   ");
        assert_eq!(encoded(&PipeFrame::Close(close)), "event: close\ndata: 4000 a  data: b   \n\n");
    }

    #[test]
    fn comments_are_told_and_what_is_unknown_is_skipped() {
        let stream =
            "\u{feff}: session-resume\n\nid: 7\nretry: 5\nlater: x\n\n:flow\r\n\r\nevent: ping\r\r";
        let comment = |text: &str| StreamItem::Comment(text.into());
        let expected =
            vec![comment("session-resume"), comment("flow"), StreamItem::Frame(PipeFrame::Ping)];
        for piece in 1..10 {
            assert_eq!(read(stream.as_bytes(), piece).as_ref(), Ok(&expected));
        }
    }

    #[test]
    fn what_is_no_event_of_a_pipe_is_refused() {
        for (stream, expected) in [
            ("event: session\ndata: {}\n\n", FrameError::UnknownKind),
            ("event: json\ndata: 1\n\n", FrameError::BadPayload),
            ("event: json\n\n", FrameError::BadPayload),
            ("event: b64\ndata: a\n\n", FrameError::BadPayload),
            ("event: close\ndata: x\n\n", FrameError::BadPayload),
            ("event: close\ndata: +1 x\n\n", FrameError::BadPayload),
            ("event: close\ndata: 65536\n\n", FrameError::BadPayload),
        ] {
            assert_eq!(read(stream.as_bytes(), 3), Err(expected), "{stream}");
        }
        assert_eq!(read(b"data: \xff\n\n", 3), Err(FrameError::BadPayload));
        let mut reader = EventReader::new(10);
        assert_eq!(reader.feed(&[b'd'; 27]), Err(FrameError::TooBig));
        let mut reader = EventReader::new(10);
        assert_eq!(reader.feed("data: 1234567\n".repeat(3).as_bytes()), Err(FrameError::TooBig));
    }

    proptest! {
        #[test]
        fn frames_in_pieces_are_the_frames(
            frames in prop::collection::vec(any_frame(), 0..6),
            piece in 1usize..9,
        ) {
            let stream: String = frames.iter().map(encoded).collect();
            prop_assert!(!stream.contains(['\r', '\0']));
            let items: Vec<_> = frames.into_iter().map(StreamItem::Frame).collect();
            prop_assert_eq!(read(stream.as_bytes(), piece), Ok(items));
        }

        #[test]
        fn an_event_that_is_cut_was_never_there(
            frames in prop::collection::vec(any_frame(), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let stream: String = frames.iter().map(encoded).collect();
            let cut = &stream.as_bytes()[..cut.index(stream.len())];
            let items = read(cut, 5).unwrap();
            prop_assert!(items.len() < frames.len());
            let whole: Vec<_> = frames[..items.len()].iter().cloned().map(StreamItem::Frame).collect();
            prop_assert_eq!(items, whole);
        }

        #[test]
        fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = read(&bytes, 7);
        }
    }
}

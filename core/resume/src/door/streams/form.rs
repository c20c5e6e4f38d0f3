//! In which form a door gives messages out.

use std::fmt::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};
use data_encoding::BASE64;
use http::HeaderValue;
use serde::de::IgnoredAny;
use session_resume_proto::{Message, Position, session::Reading};

/// An answer has at most this much, but for one message that is longer.
const CHUNK: usize = 64 << 10;

/// How the messages of a session are given to readers of a Durable Streams door.
///
/// The door is a read half of the [Durable Streams](https://github.com/durable-streams/durable-streams) protocol: catch-up
/// reads, long polls and streams of events, on a route of its own. The functions of the adapters (`streams`) mount it.
///
/// # Example
///
/// ```
/// use session_resume::adapter::Door;
///
/// let door = Door::text().with_content_type(http::HeaderValue::from_static("text/markdown"));
/// # drop(door);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Door {
    form: Form,
    content_type: HeaderValue,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Json,
    Text,
    Bytes,
}

impl Door {
    /// `application/json`: an answer is an array, and each message is one value of it. A text that is no JSON is a string, and
    /// a binary message is `{"b64":".."}`.
    pub fn json() -> Self {
        Self::new(Form::Json, "application/json")
    }

    /// `text/plain; charset=utf-8`: the messages, one after the other, with nothing between. Of a binary message, what is
    /// not UTF-8 is replaced. In a stream of events each end of a line is a line feed.
    pub fn text() -> Self {
        Self::new(Form::Text, "text/plain; charset=utf-8")
    }

    /// `application/octet-stream`: the messages, one after the other, with nothing between. Base64 in a stream of events.
    pub fn bytes() -> Self {
        Self::new(Form::Bytes, "application/octet-stream")
    }

    fn new(form: Form, content_type: &'static str) -> Self {
        Self { form, content_type: HeaderValue::from_static(content_type) }
    }

    /// Sets the `Content-Type` of answers. It changes nothing of the form.
    #[must_use]
    pub fn with_content_type(mut self, content_type: HeaderValue) -> Self {
        self.content_type = content_type;
        self
    }

    pub(super) fn content_type(&self) -> &HeaderValue {
        &self.content_type
    }

    /// Whether what is in a stream of events is base64.
    pub(super) fn is_encoded(&self) -> bool {
        self.form == Form::Bytes
    }

    /// How many bytes of messages are read for one answer.
    pub(super) const ROOM: usize = CHUNK;

    /// Makes one answer of what was read: as many of the messages as fit, and at least one if there is one.
    pub(super) fn chunk(&self, reading: Reading) -> Chunk {
        let Reading { from, messages, next, is_up_to_date, has_ended } = reading;
        let whole = Rest { next, is_up_to_date, has_ended };
        let mut bytes = BytesMut::new();
        let mut at = from;
        let mut has_some = false;
        for (position, message) in messages {
            let before = bytes.len();
            self.append(&mut bytes, &message, !has_some);
            if has_some && bytes.len() > CHUNK {
                bytes.truncate(before);
                let rest = Rest { next: at, is_up_to_date: false, has_ended: false };
                return self.close(bytes, from, true, rest);
            }
            has_some = true;
            at = position.advanced_by(1);
        }
        self.close(bytes, from, has_some, whole)
    }

    fn append(&self, bytes: &mut BytesMut, message: &Message, is_first: bool) {
        match (self.form, message) {
            (Form::Json, message) => {
                bytes.put_u8(if is_first { b'[' } else { b',' });
                match message {
                    Message::Text(text) if is_json(text) => {
                        bytes.extend_from_slice(text.as_bytes());
                    }
                    Message::Text(text) => {
                        let text: &str = text;
                        let string = serde_json::to_vec(text).expect("a string is JSON");
                        bytes.extend_from_slice(&string);
                    }
                    Message::Binary(binary) => {
                        let _ = write!(bytes, r#"{{"b64":"{}"}}"#, BASE64.encode(binary));
                    }
                }
            }
            (Form::Text, Message::Binary(binary)) => {
                bytes.extend_from_slice(String::from_utf8_lossy(binary).as_bytes());
            }
            (Form::Text | Form::Bytes, Message::Text(text)) => {
                bytes.extend_from_slice(text.as_bytes());
            }
            (Form::Bytes, Message::Binary(binary)) => bytes.extend_from_slice(binary),
        }
    }

    fn close(&self, mut bytes: BytesMut, from: Position, has_some: bool, rest: Rest) -> Chunk {
        if self.form == Form::Json {
            bytes.extend_from_slice(if has_some { b"]" } else { b"[]" });
        }
        let Rest { next, is_up_to_date, has_ended } = rest;
        Chunk { bytes: bytes.freeze(), has_some, from, next, is_up_to_date, has_ended }
    }
}

/// What follows a chunk.
#[derive(Clone, Copy)]
struct Rest {
    next: Position,
    is_up_to_date: bool,
    has_ended: bool,
}

/// What one answer, or one event, gives out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Chunk {
    pub(super) bytes: Bytes,
    /// There is at least one message in it.
    pub(super) has_some: bool,
    pub(super) from: Position,
    pub(super) next: Position,
    pub(super) is_up_to_date: bool,
    pub(super) has_ended: bool,
}

/// Whether a text is one value of JSON.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(messages: Vec<Message>) -> Reading {
        let count = messages.len() as u64;
        let messages = (3..).map(Position::new).zip(messages).collect();
        let next = Position::new(3 + count);
        Reading { from: Position::new(3), messages, next, is_up_to_date: true, has_ended: true }
    }

    #[test]
    fn each_form_gives_messages_out_in_its_way() {
        let messages = || {
            let texts = ["{\"a\":1}", "no \"JSON\"", " [1,\n2] ", "", "1 2", "null"];
            let texts = texts.into_iter().map(Message::from);
            texts.chain([Message::Binary(Bytes::from_static(b"\xff\x00"))]).collect::<Vec<_>>()
        };
        for (door, expected, empty) in [
            (
                Door::json(),
                &br#"[{"a":1},"no \"JSON\"", [1,
2] ,"","1 2",null,{"b64":"/wA="}]"#[..],
                "[]",
            ),
            (Door::text(), "{\"a\":1}no \"JSON\" [1,\n2] 1 2null\u{fffd}\0".as_bytes(), ""),
            (Door::bytes(), b"{\"a\":1}no \"JSON\" [1,\n2] 1 2null\xff\0", ""),
        ] {
            let chunk = door.chunk(reading(messages()));
            assert_eq!(chunk.bytes, expected, "{door:?}");
            assert!(chunk.has_some && chunk.is_up_to_date && chunk.has_ended);
            assert_eq!((chunk.from, chunk.next), (Position::new(3), Position::new(10)));
            let chunk = door.chunk(reading(Vec::new()));
            assert_eq!(chunk.bytes, empty, "{door:?}");
            assert!(!chunk.has_some && chunk.is_up_to_date && chunk.has_ended);
            assert_eq!(chunk.next, Position::new(3));
        }
    }

    #[test]
    fn a_chunk_ends_between_two_messages() {
        // As a string of JSON each takes six times as much.
        let control = Message::from("\u{1}".repeat(CHUNK / 6));
        for (door, count) in [(Door::json(), 1), (Door::text(), 3)] {
            let chunk = door.chunk(reading(vec![control.clone(); 3]));
            assert_eq!(chunk.next, Position::new(3 + count), "{door:?}");
            assert_eq!((chunk.is_up_to_date, chunk.has_ended), (count == 3, count == 3));
            if chunk.bytes.starts_with(b"[") {
                assert!(is_json(std::str::from_utf8(&chunk.bytes).unwrap()));
            }
        }
        let long = Message::from(".".repeat(2 * CHUNK));
        let chunk = Door::bytes().chunk(reading(vec![long, "next".into()]));
        assert_eq!((chunk.bytes.len(), chunk.next), (2 * CHUNK, Position::new(4)));
    }
}

use std::fmt;

use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{AttachmentNumber, Gap, MAX_INTEGER, Message, Position, WireId};

/// The character that begins every control frame.
const MARK: char = '\u{1}';

/// What happened to a client at its attach.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// A new session.
    New,
    /// The client's cursor was honoured, whole or with a gap told.
    Resumed,
    /// A live session in which the client starts fresh.
    Reused,
    /// A session rebuilt from a snapshot; the client's cursor was of an earlier epoch.
    Restored,
}

/// How a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OutcomeStatus {
    /// The handler returned a result.
    Done,
    /// The handler returned an error.
    Failed,
    /// The handler, or a task the session owns, panicked.
    Panicked,
    /// No client came back in time.
    Expired,
    /// The outbox was full and the policy says that this ends the session.
    Overflow,
    /// The application closed the session.
    Closed,
}

/// How much unacknowledged data a client may keep under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Window {
    /// Data messages.
    pub messages: u64,
    /// Bytes of payload.
    pub bytes: u64,
}

/// The server's first frame on a resumable transport.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol version: [`VERSION`](super::VERSION).
    pub v: u64,
    /// The session's public id.
    pub session: WireId,
    /// The epoch of the outbox.
    pub epoch: WireId,
    /// The number of this transport's turn.
    pub attachment: AttachmentNumber,
    /// What happened to this client.
    pub status: Status,
    /// The position of the next data message on this transport.
    pub from: Position,
    /// How many of this client's data messages the session has accepted; `None` if it no longer knows.
    pub received: Option<u64>,
    /// What can no longer be replayed.
    pub gap: Option<Gap>,
    /// The longest silence of a healthy server, in milliseconds.
    pub heartbeat_ms: u64,
    /// How long the session outlives its last transport, in milliseconds.
    pub lifetime_ms: u64,
    /// How much unacknowledged data the client may keep under way.
    pub window: Window,
    /// The longest message that the session takes, in bytes of payload; `None` if the server does not say.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The server answers [`ClientControl::ping`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ping: bool,
    /// On a pipe: how long it lives without a request, in milliseconds.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub absent_ms: Option<u64>,
    /// On a pipe: how long the server lets a get wait, in milliseconds.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u64>,
}

/// The session is over: the last frame before close 1000.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Done {
    /// How it ended.
    pub status: OutcomeStatus,
    /// How many of this client's messages the handler has taken.
    pub received: u64,
}

/// A control frame of the server. Members are independent; the server sends one at a time.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ServerControl {
    /// The first frame.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub hello: Option<Hello>,
    /// How many of this client's messages the handler has taken.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub ack: Option<u64>,
    /// The same number, as a sign of life.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub hb: Option<u64>,
    /// Messages that will not come; the client's position becomes `to`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// The client's position is this one now, when it has taken all that has arrived: what is before and has not
    /// arrived is not for it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub skip: Option<Position>,
    /// The number of a message of this client that is counted as taken and was not handled: it had killed the
    /// process again and again.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// When to come back, in milliseconds.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub retry: Option<u64>,
    /// The end of the session.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub done: Option<Done>,
}

/// A control frame of the client. Members are independent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClientControl {
    /// The client's position: `hello.from`, plus messages its application has taken, plus gaps skipped.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub ack: Option<Position>,
    /// The client's own copy of the state, at most once, as its first frame after the first ack.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub state: Option<StateOffer>,
    /// `true` asks for [`ServerControl::hb`] at once.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub ping: Option<bool>,
}

/// A client's own copy of the state, for a merge. [`StateOffer::new`] makes one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StateOffer {
    /// How many boundaries with changes the copy has seen.
    pub iteration: u64,
    /// When it last changed, in milliseconds since the Unix epoch.
    pub updated: u64,
    /// The state itself, still unread: only the session knows its type.
    pub value: Box<RawValue>,
}

/// A text frame, told apart.
#[derive(Debug)]
pub enum Inbound<C> {
    /// Application data, unescaped.
    Data(ByteString),
    /// A control frame.
    Control(C),
}

/// The peer broke the protocol: close 4103.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ProtocolError {
    /// U+0001 followed by neither `{` nor U+0001.
    UnknownMark,
    /// A control frame that is not JSON of the expected types.
    BadControl,
    /// An integer above [`MAX_INTEGER`].
    TooLarge,
    /// An acknowledgement of what was never sent.
    OverAck,
    /// A cursor above the head of its own epoch.
    CursorAboveHead,
    /// A frame where the protocol does not allow it.
    Unexpected,
    /// What is no frame at all, on a pipe.
    NoFrame,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownMark => "U+0001 must be followed by { or U+0001",
            Self::BadControl => "malformed control frame",
            Self::TooLarge => "integer above 2^53-1",
            Self::OverAck => "acknowledged more than was sent",
            Self::CursorAboveHead => "cursor above the head of its epoch",
            Self::Unexpected => "frame not allowed here",
            Self::NoFrame => "not a frame",
        })
    }
}

impl std::error::Error for ProtocolError {}

impl StateOffer {
    /// Makes an offer of `value`.
    ///
    /// `iteration` is how many boundaries with changes the copy has seen: what the server's handler has told of its own
    /// state, and one more for a change of the client's. `updated` is when the copy last changed, in milliseconds since
    /// the Unix epoch. Numbers above [`MAX_INTEGER`] count as that.
    ///
    /// # Errors
    ///
    /// Returns the error of `value`'s serialisation.
    pub fn new(iteration: u64, updated: u64, value: &impl Serialize) -> serde_json::Result<Self> {
        let [iteration, updated] = [iteration, updated].map(|n| n.min(MAX_INTEGER));
        Ok(Self { iteration, updated, value: serde_json::value::to_raw_value(value)? })
    }
}

impl ServerControl {
    /// Returns the frame's text.
    pub fn encode(&self) -> ByteString {
        encode(self)
    }
}

impl ClientControl {
    /// Returns the frame's text.
    pub fn encode(&self) -> ByteString {
        encode(self)
    }
}

/// Reads a text frame that a client sent.
///
/// # Errors
///
/// Returns [`ProtocolError`] for anything that must close the transport with 4103. Unknown members of a
/// control object are ignored, known ones must have the right type.
pub fn decode_client_text(text: ByteString) -> Result<Inbound<ClientControl>, ProtocolError> {
    decode(text, |control: &ClientControl| {
        let state = control.state.as_ref();
        [
            control.ack.map(Position::get),
            state.map(|state| state.iteration),
            state.map(|state| state.updated),
        ]
        .into_iter()
        .flatten()
        .max()
    })
}

/// Reads a text frame that a server sent.
///
/// # Errors
///
/// As [`decode_client_text`].
pub fn decode_server_text(text: ByteString) -> Result<Inbound<ServerControl>, ProtocolError> {
    decode(text, |control: &ServerControl| {
        let hello = control.hello.as_ref();
        let gap = |gap: Option<Gap>| gap.map(|gap| gap.from.max(gap.to.unwrap_or_default()).get());
        [
            control.ack,
            control.hb,
            control.skip.map(Position::get),
            control.dropped,
            control.retry,
            control.done.as_ref().map(|done| done.received),
            gap(control.gap),
            hello.and_then(|hello| gap(hello.gap)),
            hello.map(|hello| {
                [
                    hello.attachment.get(),
                    hello.from.get(),
                    hello.received.unwrap_or(0),
                    hello.heartbeat_ms,
                    hello.lifetime_ms,
                    hello.window.messages,
                    hello.window.bytes,
                    hello.limit.unwrap_or(0),
                    hello.absent_ms.unwrap_or(0),
                    hello.hold_ms.unwrap_or(0),
                ]
                .into_iter()
                .max()
                .unwrap_or(0)
            }),
        ]
        .into_iter()
        .flatten()
        .max()
    })
}

/// Puts one more U+0001 in front of data that begins with it, so that it is not read as control.
///
/// Everything else passes as it is: zero bytes are added, the payload is shared.
#[must_use]
pub fn escape(message: Message) -> Message {
    match message {
        Message::Text(text) if text.starts_with(MARK) => {
            let mut escaped = String::with_capacity(text.len() + 1);
            escaped.push(MARK);
            escaped.push_str(&text);
            Message::Text(escaped.into())
        }
        other => other,
    }
}

/// Reads a member that may be absent but, if there, has a value: `null` is a wrong type.
fn present<'de, D: serde::Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<V>, D::Error> {
    V::deserialize(deserializer).map(Some)
}

fn encode(control: &impl Serialize) -> ByteString {
    let json = serde_json::to_string(control).expect("control frames hold nothing JSON cannot say");
    let mut text = String::with_capacity(json.len() + 1);
    text.push(MARK);
    text.push_str(&json);
    text.into()
}

fn decode<C: for<'de> Deserialize<'de>>(
    text: ByteString,
    largest: impl FnOnce(&C) -> Option<u64>,
) -> Result<Inbound<C>, ProtocolError> {
    let Some(rest) = text.strip_prefix(MARK) else {
        return Ok(Inbound::Data(text));
    };
    if rest.starts_with(MARK) {
        return Ok(Inbound::Data(text.slice_ref(rest)));
    }
    if !rest.starts_with('{') {
        return Err(ProtocolError::UnknownMark);
    }
    let control = serde_json::from_str(rest).map_err(|_| ProtocolError::BadControl)?;
    if largest(&control).is_some_and(|n| n > MAX_INTEGER) {
        return Err(ProtocolError::TooLarge);
    }
    Ok(Inbound::Control(control))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Result<Inbound<ClientControl>, ProtocolError> {
        decode_client_text(text.into())
    }

    #[test]
    fn data_passes_unchanged_and_only_the_mark_is_escaped() {
        for (data, wire) in [("", ""), ("{\"ack\":1}", "{\"ack\":1}"), ("\u{1}", "\u{1}\u{1}")] {
            assert_eq!(escape(Message::text(data)), Message::text(wire));
            let Ok(Inbound::Data(back)) = decode(wire) else { panic!("{wire:?}") };
            assert_eq!(back, data);
        }
        let bytes = Message::binary(vec![1, 2]);
        assert_eq!(escape(bytes.clone()), bytes);
    }

    #[test]
    fn control_frames_are_read_and_unknown_members_ignored() {
        let Ok(Inbound::Control(control)) = decode("\u{1}{\"ack\":7,\"later\":[{}]}") else {
            panic!()
        };
        assert_eq!(control.ack, Some(Position::new(7)));
        let Ok(Inbound::Control(control)) = decode("\u{1}{}") else { panic!() };
        assert!(control.ack.is_none() && control.state.is_none());
    }

    #[test]
    fn broken_control_frames_are_told_apart() {
        for (text, expected) in [
            ("\u{1}", ProtocolError::UnknownMark),
            ("\u{1}ack", ProtocolError::UnknownMark),
            ("\u{1} {\"ack\":1}", ProtocolError::UnknownMark),
            ("\u{1}{", ProtocolError::BadControl),
            ("\u{1}{\"ack\":-1}", ProtocolError::BadControl),
            ("\u{1}{\"ack\":1.5}", ProtocolError::BadControl),
            ("\u{1}{\"ack\":\"1\"}", ProtocolError::BadControl),
            ("\u{1}{\"ack\":null}", ProtocolError::BadControl),
            ("\u{1}{\"ack\":1,\"ack\":2}", ProtocolError::BadControl),
            ("\u{1}{\"ack\":1}x", ProtocolError::BadControl),
            ("\u{1}{\"ack\":9007199254740992}", ProtocolError::TooLarge),
            (
                "\u{1}{\"state\":{\"iteration\":9007199254740992,\"updated\":0,\"value\":0}}",
                ProtocolError::TooLarge,
            ),
        ] {
            assert_eq!(decode(text).err(), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn the_hello_reads_as_the_contract_writes_it() {
        let hello = Hello {
            v: super::super::VERSION,
            session: WireId::parse("s").unwrap(),
            epoch: WireId::parse("e").unwrap(),
            attachment: AttachmentNumber::new(3),
            status: Status::Resumed,
            from: Position::new(5),
            received: None,
            gap: Some(Gap { from: Position::new(2), to: None, reason: crate::GapReason::Expired }),
            heartbeat_ms: 30_000,
            lifetime_ms: 120_000,
            window: Window { messages: 256, bytes: 1_048_576 },
            limit: Some(65_536),
            ping: true,
            absent_ms: None,
            hold_ms: None,
        };
        let frame = ServerControl { hello: Some(hello.clone()), ..ServerControl::default() };
        assert_eq!(
            &*frame.encode(),
            "\u{1}{\"hello\":{\"v\":1,\"session\":\"s\",\"epoch\":\"e\",\"attachment\":3,\"status\":\"resumed\",\
             \"from\":5,\"received\":null,\"gap\":{\"from\":2,\"to\":null,\"reason\":\"expired\"},\
             \"heartbeat_ms\":30000,\"lifetime_ms\":120000,\"window\":{\"messages\":256,\"bytes\":1048576},\"limit\":65536,\"ping\":true}}"
        );
        let Ok(Inbound::Control(back)) = decode_server_text(frame.encode()) else { panic!() };
        assert_eq!(back.hello, Some(hello));
    }
}

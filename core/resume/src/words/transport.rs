//! The trait of transports. The crate publishes it as `transport`.

use std::{borrow::Cow, error::Error, fmt};

use bytes::Bytes;
use bytestring::ByteString;
use futures_core::Stream;
use futures_sink::Sink;

/// A frame of a transport, whole messages only. The kinds are those of a WebSocket; another transport has some way to
/// carry each of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// A text message; incoming ones are copied out of the library's read buffer, which they would keep
    /// alive otherwise.
    Text(ByteString),
    /// A binary message.
    Binary(Bytes),
    /// A ping. The transport answers an incoming one by itself, as WebSocket libraries do; the pump only sees that the
    /// peer lives. An outgoing one asks the client for a [`Pong`](Self::Pong) with the same bytes.
    Ping(Bytes),
    /// A pong.
    Pong(Bytes),
    /// A close, with code and reason.
    Close(Option<(u16, Cow<'static, str>)>),
}

/// What is wrong with a transport.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// A message over the limit has come: close 1009.
    TooBig,
    /// Something has come that is not WebSocket: close 1002.
    Protocol,
    /// A text message has come that is not UTF-8: close 1007.
    InvalidText,
    /// The connection is gone.
    Broken,
}

/// Why a transport cannot go on.
#[derive(Debug)]
pub struct TransportError {
    kind: TransportErrorKind,
    source: Box<dyn Error + Send + Sync>,
}

impl TransportError {
    /// Creates an error with its cause.
    pub fn new(kind: TransportErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source: source.into() }
    }

    /// Returns what is wrong.
    pub fn kind(&self) -> TransportErrorKind {
        self.kind
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            TransportErrorKind::TooBig => "message over the limit",
            TransportErrorKind::Protocol => "not a WebSocket frame",
            TransportErrorKind::InvalidText => "text that is not UTF-8",
            TransportErrorKind::Broken => "connection broken",
        })
    }
}

impl Error for TransportError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

/// One connection of a client: a WebSocket, as any library gives one, or any other stream and sink of frames.
///
/// Implemented for every stream and sink of [`Frame`]s; an adapter maps its library's message type. The
/// transport must answer pings and closes by itself while it is polled (tungstenite does), and its limit of a
/// message should lie above [`Limits::message`](crate::Limits::message), so that a message a little too
/// big is closed with 1009 by us instead of cut off.
///
/// After a close, or an error that is not [`Broken`](TransportErrorKind::Broken), the stream is polled on once our
/// close frame is out: until the peer has closed the connection, it should read what still comes and forget it.
/// Closed with bytes unread, a TCP connection is reset, and the peer may never see why.
///
/// # Example
///
/// ```
/// use std::io;
///
/// use futures_util::{Sink, SinkExt, Stream, StreamExt, future};
/// use session_resume::transport::{Frame, Transport, TransportError, TransportErrorKind};
///
/// /// What some library has.
/// enum Message { Text(String), Binary(Vec<u8>), Ping(Vec<u8>), Pong(Vec<u8>), Close(u16, String) }
///
/// fn transport<S>(socket: S) -> impl Transport
/// where
///     S: Stream<Item = io::Result<Message>> + Sink<Message, Error = io::Error> + Send + Unpin,
/// {
///     socket
///         .sink_map_err(error)
///         .with(|frame| future::ok::<_, TransportError>(message(frame)))
///         .map(|message| message.map(frame).map_err(error))
/// }
///
/// fn frame(message: Message) -> Frame {
///     match message {
///         Message::Text(text) => Frame::Text(text.into()),
///         Message::Binary(bytes) => Frame::Binary(bytes.into()),
///         Message::Ping(payload) => Frame::Ping(payload.into()),
///         Message::Pong(payload) => Frame::Pong(payload.into()),
///         Message::Close(code, reason) => Frame::Close(Some((code, reason.into()))),
///     }
/// }
///
/// fn message(frame: Frame) -> Message {
///     match frame {
///         Frame::Text(text) => Message::Text(text.to_string()),
///         Frame::Binary(bytes) => Message::Binary(bytes.into()),
///         Frame::Ping(payload) => Message::Ping(payload.into()),
///         Frame::Pong(payload) => Message::Pong(payload.into()),
///         Frame::Close(Some((code, reason))) => Message::Close(code, reason.into_owned()),
///         Frame::Close(None) => Message::Close(1005, String::new()),
///     }
/// }
///
/// fn error(error: io::Error) -> TransportError {
///     let kind = match error.kind() {
///         io::ErrorKind::FileTooLarge => TransportErrorKind::TooBig,
///         io::ErrorKind::InvalidData => TransportErrorKind::Protocol,
///         _ => TransportErrorKind::Broken,
///     };
///     TransportError::new(kind, error)
/// }
/// ```
pub trait Transport:
    Stream<Item = Result<Frame, TransportError>> + Sink<Frame, Error = TransportError> + Send + Unpin
{
}

impl<S> Transport for S where
    S: Stream<Item = Result<Frame, TransportError>>
        + Sink<Frame, Error = TransportError>
        + Send
        + Unpin
{
}

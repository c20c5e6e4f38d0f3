use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytestring::ByteString;
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WsError, Message, Utf8Bytes,
        error::ProtocolError,
        protocol::{
            CloseFrame, Role, WebSocketConfig,
            frame::{
                Frame as RawFrame,
                coding::{Data, OpCode},
            },
        },
    },
};

use super::metered::{Metered, TooMuch};
use crate::words::transport::{Frame, TransportError, TransportErrorKind};

/// tungstenite zeroes its read buffer before every read: at 4 KiB instead of 128 an echo costs a third of the
/// CPU, and a connection a twentieth of the memory. What the allocator adds fits into the page, too.
const READ_BUFFER: usize = (4 << 10) - 64;
/// Written out at this size or when the pump flushes, whichever comes first. A connection keeps what a burst has
/// filled: at 16 KiB, messages of 1 KiB cost a third more CPU; 64 KiB is not measurably better.
const WRITE_BUFFER: usize = 32 << 10;

/// tungstenite's WebSocket as a transport.
#[derive(Debug)]
pub struct WebSocket<S> {
    stream: WebSocketStream<Metered<S>>,
    rest: Rest,
}

/// What becomes of the bytes that come after a close or something unreadable. tungstenite reads no more of them;
/// closing the connection before they are read would reset it, and with it our close frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rest {
    /// There is none yet.
    Readable,
    /// It is not wanted. The peer does not know yet that we have said all.
    Unwanted,
    /// The peer knows.
    Discarded,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Creates the server's end over a connection whose handshake is done. `max_message_size` is
    /// [`Upgrade::max_message_size`](crate::adapter::Upgrade::max_message_size).
    ///
    /// What it holds of a message that has not come whole is at most that and an eighth of it, headers of
    /// fragments included, and 8 KiB: more is refused as too big.
    ///
    /// # Cancel safety
    ///
    /// The connection is closed when the future is dropped.
    pub async fn server(io: S, max_message_size: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(max_message_size))
            .max_frame_size(Some(max_message_size));
        let most = max_message_size.saturating_add(max_message_size / 8).saturating_add(8 << 10);
        let io = Metered::new(io, most);
        let stream = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        Self { stream, rest: Rest::Readable }
    }

    /// Reads until the peer has closed, and forgets what it reads. A caller that polls after the last frame has sent
    /// all that it has to send, so our side is closed first.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        /// At most this many pieces are read at a time; then other tasks get a turn.
        const PIECES: usize = 64;
        let io = self.stream.get_mut().get_mut();
        if self.rest == Rest::Unwanted {
            if ready!(Pin::new(&mut *io).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            self.rest = Rest::Discarded;
        }
        let mut piece = [0; 1024];
        for _ in 0..PIECES {
            let mut piece = ReadBuf::new(&mut piece);
            let read = ready!(Pin::new(&mut *io).poll_read(cx, &mut piece));
            if read.is_err() || piece.filled().is_empty() {
                return Poll::Ready(());
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for WebSocket<S> {
    type Item = Result<Frame, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.rest != Rest::Readable {
            return self.poll_discard(cx).map(|()| None);
        }
        let message = ready!(Pin::new(&mut self.stream).poll_next(cx));
        match &message {
            Some(Ok(Message::Text(_) | Message::Binary(_))) => self.stream.get_mut().whole(),
            // May come between the fragments of a message.
            Some(Ok(Message::Ping(payload) | Message::Pong(payload))) => {
                self.stream.get_mut().passed(payload.len());
            }
            _ => {}
        }
        Poll::Ready(message.map(|message| {
            let message = message.map(frame).map_err(error);
            self.rest = match &message {
                Ok(Frame::Close(_)) => Rest::Unwanted,
                Err(error) if error.kind() != TransportErrorKind::Broken => Rest::Unwanted,
                _ => Rest::Readable,
            };
            message
        }))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Frame> for WebSocket<S> {
    type Error = TransportError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.stream).poll_ready(cx).map_err(error)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Self::Error> {
        Pin::new(&mut self.stream).start_send(message(frame)).map_err(error)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.stream).poll_flush(cx).map_err(error)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.stream).poll_close(cx).map_err(error)
    }
}

fn frame(message: Message) -> Frame {
    match message {
        Message::Text(text) => Frame::Text(ByteString::from(text.as_str())),
        Message::Binary(bytes) => Frame::Binary(bytes),
        Message::Ping(payload) => Frame::Ping(payload),
        Message::Pong(payload) => Frame::Pong(payload),
        Message::Close(close) => {
            Frame::Close(close.map(|close| (close.code.into(), close.reason.to_string().into())))
        }
        Message::Frame(_) => unreachable!("tungstenite reads whole messages"),
    }
}

fn message(frame: Frame) -> Message {
    match frame {
        // As a frame: tungstenite's text can only be made by checking once more that it is UTF-8.
        Frame::Text(text) => {
            Message::Frame(RawFrame::message(text.into_bytes(), OpCode::Data(Data::Text), true))
        }
        Frame::Binary(bytes) => Message::Binary(bytes),
        Frame::Ping(payload) => Message::Ping(payload),
        Frame::Pong(payload) => Message::Pong(payload),
        Frame::Close(close) => Message::Close(close.map(|(code, reason)| CloseFrame {
            code: code.into(),
            reason: Utf8Bytes::from(reason.into_owned()),
        })),
    }
}

fn error(error: WsError) -> TransportError {
    let kind = match &error {
        WsError::Io(error) if TooMuch::is_in(error) => TransportErrorKind::TooBig,
        WsError::Capacity(_) => TransportErrorKind::TooBig,
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            TransportErrorKind::Broken
        }
        WsError::Protocol(_) => TransportErrorKind::Protocol,
        WsError::Utf8(_) => TransportErrorKind::InvalidText,
        _ => TransportErrorKind::Broken,
    };
    TransportError::new(kind, error)
}

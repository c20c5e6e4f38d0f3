use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use bytestring::ByteString;
use futures_core::Stream;
use futures_sink::Sink;
use session_resume::transport::{Frame, TransportError, TransportErrorKind};
use tungstenite::{Error as WsError, error::ProtocolError};

/// axum's WebSocket as a transport.
#[derive(Debug)]
pub(crate) struct Socket(pub(crate) WebSocket);

impl Stream for Socket {
    type Item = Result<Frame, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let message = ready!(Pin::new(&mut self.0).poll_next(cx));
        Poll::Ready(message.map(|message| message.map(frame).map_err(error)))
    }
}

impl Sink<Frame> for Socket {
    type Error = TransportError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.0).poll_ready(cx).map_err(error)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Self::Error> {
        Pin::new(&mut self.0).start_send(message(frame)).map_err(error)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.0).poll_flush(cx).map_err(error)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.0).poll_close(cx).map_err(error)
    }
}

fn frame(message: Message) -> Frame {
    match message {
        Message::Text(text) => Frame::Text(ByteString::from(text.as_str())),
        Message::Binary(bytes) => Frame::Binary(bytes),
        Message::Ping(payload) => Frame::Ping(payload),
        Message::Pong(payload) => Frame::Pong(payload),
        Message::Close(close) => {
            Frame::Close(close.map(|close| (close.code, close.reason.as_str().to_owned().into())))
        }
    }
}

fn message(frame: Frame) -> Message {
    match frame {
        Frame::Text(text) => {
            Message::Text(Utf8Bytes::try_from(text.into_bytes()).expect("a ByteString is UTF-8"))
        }
        Frame::Binary(bytes) => Message::Binary(bytes),
        Frame::Ping(payload) => Message::Ping(payload),
        Frame::Pong(payload) => Message::Pong(payload),
        Frame::Close(close) => Message::Close(close.map(|(code, reason)| CloseFrame {
            code,
            reason:
                Utf8Bytes::try_from(Bytes::from(reason.into_owned())).expect("a String is UTF-8"),
        })),
    }
}

fn error(error: axum::Error) -> TransportError {
    let error = error.into_inner();
    let kind = match error.downcast_ref::<WsError>() {
        Some(WsError::Capacity(_)) => TransportErrorKind::TooBig,
        Some(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
            TransportErrorKind::Broken
        }
        Some(WsError::Protocol(_) | WsError::Utf8(_)) => TransportErrorKind::Protocol,
        _ => TransportErrorKind::Broken,
    };
    TransportError::new(kind, error)
}

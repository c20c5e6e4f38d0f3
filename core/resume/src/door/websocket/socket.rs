use std::{
    borrow::Cow,
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    codec::{Decoder, Outgoing, Violation},
    scratch::{self, Scratch},
};
use crate::words::transport::{Frame, TransportError, TransportErrorKind};

/// The most that is read in one call, and so the most that is held of frames which nobody has asked for yet.
const READ: usize = 16 << 10;
/// Of a payload that is known to come, this much is read in one call.
const READ_PAYLOAD: usize = 64 << 10;
/// At most this many calls read for one frame; then other tasks get a turn.
const READS: usize = 32;
/// Once so much waits, it is written before more is taken.
const FULL: usize = scratch::SIZE;
/// After the connection took less than there was, this much is copied at first. It may take as little again.
const AFTER_FULL: usize = 32 << 10;

/// A WebSocket over a stream of bytes as a transport: the server's end.
///
/// It holds no memory but for what is not whole: a message that is coming, frames that nobody has asked for yet, and
/// frames that the connection does not take. An idle one has no buffer.
///
/// Pings are answered as it is polled. While the connection takes nothing, only the newest ping will be answered
/// (RFC 6455 §5.5.3), so that a peer which does not read makes nothing grow.
pub struct WebSocket<S> {
    io: S,
    decoder: Decoder,
    /// Read, and not yet decoded.
    ahead: BytesMut,
    outgoing: Outgoing,
    /// The payload of the newest ping that came while the connection took nothing.
    pong: Option<Bytes>,
    /// An answer to a ping or a close is not flushed yet.
    owes: bool,
    /// Which half waits until the connection takes more. The connection knows the waker of that half alone.
    waits: Option<Half>,
    reading: Reading,
    writing: Writing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Stream,
    Sink,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reading {
    Open,
    /// A close or a violation has come. What still comes is not wanted, but closing a connection before it is read
    /// would reset it, and with it our close frame. The peer does not know yet that we have said all.
    Unwanted,
    /// The same, and the peer knows.
    Discarded,
    /// The connection is gone.
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Writing {
    Open,
    /// A close is the last frame.
    Closed,
    /// The connection has failed.
    Failed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Creates the server's end over a connection whose handshake is done. `max_message_size` is
    /// [`Upgrade::max_message_size`](crate::adapter::Upgrade::max_message_size).
    ///
    /// What it holds of a message that has not come whole is at most that, and 16 KiB which were read behind it. A
    /// message whose frames make more than that, an eighth of it and 8 KiB, headers of fragments included, is refused
    /// as too big.
    pub fn server(io: S, max_message_size: usize) -> Self {
        Self {
            io,
            decoder: Decoder::new(max_message_size),
            ahead: BytesMut::new(),
            outgoing: Outgoing::default(),
            pong: None,
            owes: false,
            waits: None,
            reading: Reading::Open,
            writing: Writing::Open,
        }
    }

    /// How many bytes of memory it holds besides itself.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.ahead.capacity() + self.outgoing.capacity() + self.decoder.held()
    }

    /// Returns the next frame.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, TransportError>> {
        for _ in 0..READS {
            let decoded = if self.ahead.is_empty() {
                self.poll_answer(cx);
                ready!(self.poll_read(cx))?
            } else {
                self.decode_ahead()
            };
            match decoded {
                Ok(Some(frame)) => {
                    self.answer(&frame);
                    return Poll::Ready(Ok(frame));
                }
                Ok(None) => {}
                Err(violation) => {
                    self.read_to(Reading::Unwanted);
                    let error = TransportError::new(violation.kind(), violation);
                    return Poll::Ready(Err(error));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn decode_ahead(&mut self) -> Result<Option<Frame>, Violation> {
        let (taken, frame) = self.decoder.decode(&mut self.ahead)?;
        self.ahead.advance(taken);
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
        Ok(frame)
    }

    /// Reads once, and decodes the first frame of that.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Result<Option<Frame>, Violation>, TransportError>> {
        let most = self.decoder.missing().clamp(READ, READ_PAYLOAD);
        let mut scratch = Scratch::take();
        let mut buf = ReadBuf::new(&mut scratch[..most]);
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf));
        let count = buf.filled().len();
        let error = match read {
            Ok(()) if count > 0 => {
                let bytes = &mut scratch[..count];
                return Poll::Ready(Ok(self.decoder.decode(bytes).map(|(taken, frame)| {
                    if taken < count {
                        self.ahead = BytesMut::from(&bytes[taken..]);
                    }
                    frame
                })));
            }
            Ok(()) => io::Error::new(io::ErrorKind::UnexpectedEof, "no close came before the end"),
            Err(error) => error,
        };
        self.read_to(Reading::Gone);
        Poll::Ready(Err(broken(error)))
    }

    /// Nothing more is decoded.
    fn read_to(&mut self, reading: Reading) {
        self.reading = reading;
        self.decoder = Decoder::new(0);
        self.ahead = BytesMut::new();
    }

    /// Answers a ping or a close, but does not write the answer yet. After our own close there is nothing to answer.
    fn answer(&mut self, frame: &Frame) {
        let is_open = self.writing == Writing::Open;
        match frame {
            Frame::Ping(payload) if is_open => {
                self.owes = true;
                if self.waits.is_some() {
                    self.pong = Some(payload.clone());
                } else {
                    self.pong = None;
                    self.outgoing.push(Frame::Pong(payload.clone()));
                }
            }
            Frame::Close(close) => {
                if is_open {
                    self.owes = true;
                    self.push_close(close.clone());
                }
                self.read_to(Reading::Unwanted);
            }
            Frame::Ping(_) | Frame::Pong(_) | Frame::Text(_) | Frame::Binary(_) => {}
        }
    }

    fn push_close(&mut self, close: Option<(u16, Cow<'static, str>)>) {
        if let Some(payload) = self.pong.take() {
            self.outgoing.push(Frame::Pong(payload));
        }
        self.outgoing.push(Frame::Close(close));
        self.writing = Writing::Closed;
    }

    /// Writes what we owe the peer, as far as the connection takes it. That this fails, the sink will say.
    fn poll_answer(&mut self, cx: &mut Context<'_>) {
        // The sink's half writes all there is when it goes on, and must not lose its place to us.
        if self.owes && self.waits != Some(Half::Sink) && self.writing != Writing::Failed {
            let _ = self.poll_written(cx, Half::Stream);
        }
    }

    /// Writes and flushes all there is.
    fn poll_written(&mut self, cx: &mut Context<'_>, half: Half) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx, half, 0))?;
        let flushed = ready!(Pin::new(&mut self.io).poll_flush(cx));
        self.owes = false;
        Poll::Ready(flushed.inspect_err(|_| self.fail()))
    }

    /// Writes until no more than `most` bytes are left.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        half: Half,
        most: usize,
    ) -> Poll<io::Result<()>> {
        let mut size = if self.waits.is_some() { AFTER_FULL } else { scratch::SIZE };
        loop {
            if self.outgoing.is_empty()
                && let Some(payload) = self.pong.take()
            {
                self.outgoing.push(Frame::Pong(payload));
            }
            if self.outgoing.len() <= most {
                self.waits = None;
                return Poll::Ready(Ok(()));
            }
            let mut scratch = Scratch::take();
            let filled = self.outgoing.fill(&mut scratch[..size]);
            let written = Pin::new(&mut self.io).poll_write(cx, &scratch[..filled]);
            let error = match written {
                Poll::Pending => {
                    self.waits = Some(half);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => io::ErrorKind::WriteZero.into(),
                Poll::Ready(Ok(written)) => {
                    self.outgoing.advance(written);
                    size = scratch::SIZE;
                    continue;
                }
                Poll::Ready(Err(error)) => error,
            };
            self.fail();
            return Poll::Ready(Err(error));
        }
    }

    /// Nothing more is written.
    fn fail(&mut self) {
        self.writing = Writing::Failed;
        self.outgoing = Outgoing::default();
        self.pong = None;
        self.waits = None;
    }

    fn check_writable(&self) -> Result<(), TransportError> {
        if self.writing == Writing::Failed {
            return Err(broken(io::ErrorKind::BrokenPipe.into()));
        }
        Ok(())
    }

    /// Reads until the peer has closed, and forgets what it reads. A caller that polls after the last frame has sent
    /// all that it has to send, so our side is closed first.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reading == Reading::Unwanted {
            // Our answer to the peer's close may not be out.
            let _ = ready!(self.poll_written(cx, Half::Stream));
            if ready!(Pin::new(&mut self.io).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            self.reading = Reading::Discarded;
        }
        let mut scratch = Scratch::take();
        for _ in 0..READS {
            let mut piece = ReadBuf::new(&mut scratch[..READ]);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut piece));
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
        match self.reading {
            Reading::Open => self.poll_frame(cx).map(Some),
            Reading::Unwanted | Reading::Discarded => self.poll_discard(cx).map(|()| None),
            Reading::Gone => Poll::Ready(None),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Frame> for WebSocket<S> {
    type Error = TransportError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.check_writable()?;
        if self.outgoing.len() < FULL {
            return Poll::Ready(Ok(()));
        }
        self.poll_write(cx, Half::Sink, FULL - 1).map_err(broken)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Self::Error> {
        self.check_writable()?;
        if self.reading == Reading::Gone {
            return Err(broken(io::ErrorKind::NotConnected.into()));
        }
        if self.writing == Writing::Closed {
            let violation = Violation::Protocol("a close was the last frame");
            return Err(TransportError::new(violation.kind(), violation));
        }
        match frame {
            Frame::Close(close) => self.push_close(close),
            frame => self.outgoing.push(frame),
        }
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.check_writable()?;
        self.poll_written(cx, Half::Sink).map_err(broken)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.writing == Writing::Open && self.reading != Reading::Gone {
            self.push_close(None);
        }
        self.poll_flush(cx)
    }
}

/// What is coming and going is not told: it may be secret.
impl<S> fmt::Debug for WebSocket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reading, writing, .. } = self;
        let mut f = f.debug_struct("WebSocket");
        f.field("reading", reading).field("writing", writing).finish_non_exhaustive()
    }
}

fn broken(error: io::Error) -> TransportError {
    TransportError::new(TransportErrorKind::Broken, error)
}

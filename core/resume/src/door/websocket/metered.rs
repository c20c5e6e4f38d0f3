//! How much of an unfinished message a connection may have sent.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection that is read only up to a limit ahead of the last whole message.
///
/// tungstenite bounds a message and a frame, each by itself: a message in fragments and the frame that follows it
/// make twice as much.
#[derive(Debug)]
pub(super) struct Metered<S> {
    io: S,
    most: usize,
    /// Bytes read since the last whole message. What has come of the next one in the same read is not in it.
    held: usize,
}

/// More than a message may have been sent, and no message came of it.
#[derive(Debug)]
pub(super) struct TooMuch;

impl TooMuch {
    pub(super) fn is_in(error: &io::Error) -> bool {
        matches!(error.get_ref(), Some(cause) if cause.is::<Self>())
    }
}

impl<S> Metered<S> {
    pub(super) fn new(io: S, most: usize) -> Self {
        Self { io, most, held: 0 }
    }

    /// A message has come whole.
    pub(super) fn whole(&mut self) {
        self.held = 0;
    }

    /// A control frame with a payload of this size has come: it is not a part of a message.
    pub(super) fn passed(&mut self, payload: usize) {
        const HEADER: usize = 6;
        self.held = self.held.saturating_sub(payload + HEADER);
    }

    pub(super) fn get_mut(&mut self) -> &mut S {
        &mut self.io
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.held > self.most {
            return Poll::Ready(Err(io::Error::other(TooMuch)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.held += buf.filled().len() - before;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fragments of a message are too many or too long")
    }
}

impl std::error::Error for TooMuch {}

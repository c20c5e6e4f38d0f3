//! A connection whose first head is sealed as it is written.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::head::{Greeting, HopKey, LONGEST, end_of};

/// The connection of one hop. The MAC covers the bytes of the head as they are sent, so they are held back until the head is
/// whole.
pub(super) struct Sealed {
    stream: TcpStream,
    phase: Phase,
}

enum Phase {
    /// The head is not whole.
    Head {
        key: HopKey,
        greeting: Greeting,
        bytes: Vec<u8>,
    },
    /// It is sealed, and on its way.
    Leaving {
        bytes: Vec<u8>,
        sent: usize,
    },
    Through,
}

impl Sealed {
    pub(super) fn new(stream: TcpStream, key: HopKey, greeting: Greeting) -> Self {
        Self { stream, phase: Phase::Head { key, greeting, bytes: Vec::new() } }
    }

    /// Writes what is sealed.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Phase::Leaving { bytes, sent } = &mut self.phase {
            if *sent == bytes.len() {
                self.phase = Phase::Through;
                break;
            }
            let more = ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[*sent..]))?;
            if more == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent += more;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Sealed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Sealed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Phase::Head { key, greeting, bytes } = &mut self.phase {
            let from = bytes.len();
            bytes.extend_from_slice(buf);
            if let Some(end) = end_of(bytes, from) {
                if !key.seal(greeting, &mut bytes[..end]) {
                    return Poll::Ready(Err(io::Error::other("the head names no hop")));
                }
                self.phase = Phase::Leaving { bytes: std::mem::take(bytes), sent: 0 };
            } else if bytes.len() > LONGEST {
                return Poll::Ready(Err(io::Error::other("the head is too long for a hop")));
            }
            // It leaves with the flush that follows a head, or with the next write.
            return match self.poll_leave(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(buf.len())),
            };
        }
        ready!(self.poll_leave(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_leave(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_leave(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

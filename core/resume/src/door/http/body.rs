//! The body of an answer.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{pipe::Asking, tube::Reader};

/// The body of an answer over HTTP: nothing, bytes that are there, or a stream that goes on.
///
/// It is not boxed, and it never fails.
#[derive(Debug, Default)]
#[must_use = "a body is a part of an answer"]
pub struct Body(Kind);

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Empty,
    Whole(Bytes),
    Stream(Reader),
    /// The pieces of a pipe's stream; before them what is there at once.
    Pipe(Bytes, Box<Asking>),
}

impl Body {
    pub(super) fn stream(reader: Reader) -> Self {
        Self(Kind::Stream(reader))
    }

    pub(super) fn pipe(first: &'static str, asking: Asking) -> Self {
        Self(Kind::Pipe(Bytes::from_static(first.as_bytes()), Box::new(asking)))
    }
}

impl Body {
    /// Returns the bytes of a body that is there as a whole; for adapters whose framework has a body of its own for that.
    ///
    /// # Errors
    ///
    /// Returns the body if it is a stream.
    pub fn into_whole(self) -> Result<Bytes, Self> {
        match self.0 {
            Kind::Empty => Ok(Bytes::new()),
            Kind::Whole(bytes) => Ok(bytes),
            stream @ (Kind::Stream(_) | Kind::Pipe(..)) => Err(Self(stream)),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self(Kind::Empty) } else { Self(Kind::Whole(bytes)) }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = |bytes| Ok(Frame::data(bytes));
        let piece = match &mut self.0 {
            Kind::Stream(reader) => return reader.poll_take(cx).map(|bytes| bytes.map(frame)),
            Kind::Pipe(first, asking) if first.is_empty() => ready!(asking.poll_piece(cx)),
            Kind::Pipe(first, _) => Some(std::mem::take(first)),
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Kind::Empty;
                Some(bytes)
            }
            Kind::Empty => None,
        };
        if piece.is_none() {
            self.0 = Kind::Empty;
        }
        Poll::Ready(piece.map(frame))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Whole(_) | Kind::Pipe(..) => false,
            Kind::Stream(reader) => reader.is_at_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(_) | Kind::Pipe(..) => SizeHint::default(),
        }
    }
}

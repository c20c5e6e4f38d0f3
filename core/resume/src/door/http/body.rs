//! The body of an answer.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};

use super::{pipe::Asking, tube::Reader};
use crate::words::refusal::{AnswerStream, Refusal};

/// The body of an answer over HTTP: nothing, bytes that are there, or a stream that goes on.
///
/// It fails only where another node answers, and is lost before the end.
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
    /// What another node says.
    Relayed(Relayed),
}

struct Relayed(AnswerStream);

impl fmt::Debug for Relayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relayed").finish_non_exhaustive()
    }
}

impl Refusal {
    /// As [`into_response`](Self::into_response), for a framework whose bodies stream: another node may answer with a stream.
    pub fn into_body_response(mut self) -> Response<Body> {
        match self.take_stream() {
            Some(response) => response.map(|stream| Body(Kind::Relayed(Relayed(stream)))),
            None => self.into_bytes_response().map(Body::from),
        }
    }
}

impl Body {
    pub(crate) fn stream(reader: Reader) -> Self {
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
            stream @ (Kind::Stream(_) | Kind::Pipe(..) | Kind::Relayed(_)) => Err(Self(stream)),
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
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let frame = |bytes| Ok(Frame::data(bytes));
        let piece = match &mut self.0 {
            Kind::Stream(reader) => return reader.poll_take(cx).map(|bytes| bytes.map(frame)),
            Kind::Relayed(Relayed(stream)) => {
                let piece = ready!(stream.as_mut().poll_next(cx));
                let piece = piece.map(|piece| piece.map_err(io::Error::other));
                if piece.as_ref().is_none_or(Result::is_err) {
                    self.0 = Kind::Empty;
                }
                return Poll::Ready(piece.map(|piece| piece.map(Frame::data)));
            }
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
            Kind::Whole(_) | Kind::Pipe(..) | Kind::Relayed(_) => false,
            Kind::Stream(reader) => reader.is_at_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(_) | Kind::Pipe(..) | Kind::Relayed(_) => SizeHint::default(),
        }
    }
}

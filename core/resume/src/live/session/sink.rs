use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::{FusedStream, Stream};
use futures_sink::Sink;
use session_resume_proto::Message;
use tokio::task::coop;

use super::{LiveSession, Session, send};
use crate::SendError;

/// Sends to the clients of a session: [`Session::send`] as a [`Sink`].
///
/// It is ready while the outbox has room. A message is sent, and the sink is flushed, when the message is in the outbox;
/// nothing waits for a client. If another send has taken the room meanwhile, the sink keeps this one message until there
/// is room again; it never keeps more. Closing it flushes it, and does not end the session.
///
/// # Errors
///
/// As [`Session::send`].
///
/// # Cancel safety
///
/// A `SinkExt::send` that is dropped while it waits has sent nothing. In the one case that the sink keeps the message, the
/// next call on the sink sends it; dropping the sink drops it.
pub struct SessionSink<T: Send + 'static = ()> {
    session: Session<T>,
    /// Its place among the sends that wait for room.
    ticket: Option<u32>,
    /// Taken, and not in the outbox yet.
    kept: Option<Message>,
}

impl<T: Send + 'static> Session<T> {
    /// Returns what sends as a [`Sink`], for combinators such as `forward` and for libraries. It has a handle of the
    /// session; every call makes another sink.
    pub fn sink(&self) -> SessionSink<T> {
        SessionSink::new(self.clone())
    }
}

impl<T: Send + 'static> LiveSession<T> {
    /// Makes one value of both directions: a [`Stream`] of what comes in and a [`Sink`] for what goes out. This is for
    /// libraries that run on such a value, for example an RPC library on a transport.
    ///
    /// Everything that is said of [the stream](Self#impl-Stream-for-LiveSession<T>) and of [`SessionSink`] holds for it.
    pub fn into_duplex(self) -> SessionDuplex<T> {
        SessionDuplex { sink: self.sink(), live: self }
    }
}

impl<T: Send + 'static> SessionSink<T> {
    fn new(session: Session<T>) -> Self {
        Self { session, ticket: None, kept: None }
    }

    /// Sends what is kept.
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        if self.kept.is_none() {
            return Poll::Ready(Ok(()));
        }
        let Self { session, ticket, kept } = self;
        let sent = ready!(send::poll_send(&session.shared, kept, ticket, cx.waker()));
        self.leave_line();
        Poll::Ready(sent)
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { session, ticket, .. } = self;
        ready!(send::poll_room(&session.shared, ticket, cx.waker()));
        self.leave_line();
        Poll::Ready(())
    }

    fn leave_line(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.session.shared.leave_line(ticket);
        }
    }
}

impl<T: Send + 'static> Sink<Message> for SessionSink<T> {
    type Error = SendError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let coop = ready!(coop::poll_proceed(cx));
        ready!(self.poll_kept(cx))?;
        ready!(self.poll_room(cx));
        coop.made_progress();
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Self::Error> {
        assert!(self.kept.is_none(), "start_send without poll_ready");
        self.kept = send::send_or_return(&self.session.shared, message)?;
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let coop = ready!(coop::poll_proceed(cx));
        ready!(self.poll_kept(cx))?;
        // While it is not ready it is not flushed either: some callers (tarpc) ask in turn until one of the two is.
        if self.ticket.is_some() {
            ready!(self.poll_room(cx));
        }
        coop.made_progress();
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_kept(cx)
    }
}

impl<T: Send + 'static> Drop for SessionSink<T> {
    fn drop(&mut self) {
        self.leave_line();
    }
}

/// Another sink of the same session. A message that this one keeps stays here.
impl<T: Send + 'static> Clone for SessionSink<T> {
    fn clone(&self) -> Self {
        Self::new(self.session.clone())
    }
}

impl<T: Send + 'static> fmt::Debug for SessionSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionSink").field("session", &self.session).finish_non_exhaustive()
    }
}

/// A session as one value that is [`Stream`] and [`Sink`]: what [`LiveSession::into_duplex`] makes.
pub struct SessionDuplex<T: Send + 'static = ()> {
    live: LiveSession<T>,
    sink: SessionSink<T>,
}

impl<T: Send + 'static> SessionDuplex<T> {
    /// Returns the handler's own handle. A message that the sink has kept is dropped.
    pub fn into_inner(self) -> LiveSession<T> {
        self.live
    }
}

impl<T: Send + 'static> Stream for SessionDuplex<T> {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        Pin::new(&mut self.live).poll_next(cx)
    }
}

impl<T: Send + 'static> FusedStream for SessionDuplex<T> {
    fn is_terminated(&self) -> bool {
        self.live.is_terminated()
    }
}

impl<T: Send + 'static> Sink<Message> for SessionDuplex<T> {
    type Error = SendError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.sink).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Self::Error> {
        Pin::new(&mut self.sink).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.sink).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.sink).poll_close(cx)
    }
}

impl<T: Send + 'static> fmt::Debug for SessionDuplex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionDuplex").field("live", &self.live).finish_non_exhaustive()
    }
}

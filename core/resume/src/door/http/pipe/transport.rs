//! The session's end of a pipe.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use session_resume_proto::{
    Message,
    pipe::{Breach, Incoming},
    session,
    wire::Close,
};
use tokio::time::Sleep;

use crate::{
    live::pipes::{Pipe, Pipes, State, Waits},
    words::{
        clock::Time,
        transport::{Frame, TransportError, TransportErrorKind},
    },
};

/// A pipe as a transport. Dropped, it is the end of the pipe.
pub(super) struct Transport {
    pipe: Arc<Pipe>,
    pipes: Arc<Pipes>,
    time: Arc<dyn Time>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Transport {
    pub(super) fn new(pipe: Arc<Pipe>, pipes: Arc<Pipes>, time: Arc<dyn Time>) -> Self {
        Self { pipe, pipes, time, timer: None }
    }
}

/// What there is to read.
enum Read {
    Frame(Incoming),
    /// Nothing, until this time at least.
    Nothing(Option<session_resume_proto::Moment>),
    Gone,
}

impl Stream for Transport {
    type Item = Result<Frame, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let (pipes, clock) = (&self.pipes, self.time.clock());
            let read = self.pipe.step_or_wait(
                Waits::Transport,
                cx,
                |state| {
                    state.server.handle_timeout(clock.now());
                    match state.server.poll_incoming() {
                        Some(incoming) => Read::Frame(incoming),
                        None if state.refused || state.server.is_gone() => Read::Gone,
                        None if state.close_is_out && pipes.is_draining() => Read::Gone,
                        None => Read::Nothing(state.server.absent_at()),
                    }
                },
                |read| matches!(read, Read::Nothing(_)),
            );
            match read {
                Read::Frame(incoming) => return Poll::Ready(Some(frame(incoming))),
                Read::Gone => return Poll::Ready(None),
                Read::Nothing(None) => return Poll::Pending,
                Read::Nothing(Some(due)) => {
                    let at = self.time.clock().instant(due);
                    let timer = super::set(&mut self.timer, at);
                    if timer.poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

fn frame(incoming: Incoming) -> Result<Frame, TransportError> {
    Ok(match incoming {
        Incoming::Text(text) => Frame::Text(text),
        Incoming::Binary(bytes) => Frame::Binary(bytes),
        Incoming::Ping => Frame::Ping(bytes::Bytes::new()),
        Incoming::Pong(payload) => Frame::Pong(payload),
        Incoming::Close(close) => Frame::Close(Some((close.code, close.reason))),
        Incoming::Broken(breach) => {
            let kind = match breach {
                Breach::Malformed => TransportErrorKind::Protocol,
                Breach::TooBig => TransportErrorKind::TooBig,
            };
            return Err(TransportError::new(kind, "a post that cannot be read"));
        }
    })
}

fn broken() -> TransportError {
    TransportError::new(TransportErrorKind::Broken, "the pipe is gone")
}

impl Sink<Frame> for Transport {
    type Error = TransportError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let ready = |state: &State| {
            let server = &state.server;
            if server.is_gone() { Some(Err(broken())) } else { server.is_ready().then_some(Ok(())) }
        };
        match self.pipe.look_or_wait(cx, ready) {
            Some(ready) => Poll::Ready(ready),
            None => Poll::Pending,
        }
    }

    fn start_send(self: Pin<&mut Self>, frame: Frame) -> Result<(), TransportError> {
        let frame = match frame {
            Frame::Text(text) if is_control(&text) => session::Frame::Control(text),
            Frame::Text(text) => session::Frame::Data(Message::Text(text)),
            Frame::Binary(bytes) => session::Frame::Data(Message::Binary(bytes)),
            Frame::Ping(payload) => match payload[..].try_into() {
                Ok(payload) => session::Frame::Ping(payload),
                // None of the session's.
                Err(_) => return Ok(()),
            },
            Frame::Pong(_) => return Ok(()),
            Frame::Close(close) => {
                let (code, reason) = close.unwrap_or((1000, "".into()));
                session::Frame::Close(Close { code, reason })
            }
        };
        self.pipe.step(|state| state.server.push(frame)).map_err(|_| broken())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }
}

fn is_control(text: &str) -> bool {
    text.as_bytes().first_chunk() == Some(b"\x01{")
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.pipes.retire(&self.pipe, self.time.clock().now());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        task::{Wake, Waker},
        time::Duration,
    };

    use super::*;
    use crate::words::{clock::Clock, identity::Identity};
    use session_resume_proto::{
        pipe::{Form, Get, GetStep, Nonce, RequestId, Server, Settings, Token},
        session::Access,
    };

    struct Home(Clock);

    impl Time for Home {
        fn clock(&self) -> &Clock {
            &self.0
        }
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_reader_stalls_keeps_no_task_busy() {
        let home = Home(Clock::new(Duration::from_secs(5)));
        let now = home.0.now();
        let token = Token {
            nonce: Nonce::parse("abcdefghijklmnopqrstuv").unwrap(),
            tag: session_resume_proto::pipe::Tag::parse("0123456789abcdef").unwrap(),
        };
        let identity = Identity::mint([1; 16]);
        let server = Server::new(Settings::default(), now);
        let pipe = Pipe::new(token, identity, Access::Full, None, false, None, server);
        let mut transport = Transport::new(Arc::clone(&pipe), Pipes::new(), Arc::new(home));
        let get = Get { down: 0, form: Form::Stream, wait: None, ack: None };
        pipe.step(|state| state.server.handle_get(RequestId(1), get, now)).unwrap();
        Pin::new(&mut transport).start_send(Frame::Text("hello".into())).unwrap();
        let told = pipe.step(|state| state.server.poll_get(RequestId(1), now));
        assert!(matches!(told, GetStep::Frames(_)), "{told:?}");
        // A moment later the stream's body should ask for more, and does not.
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut transport).poll_next(&mut cx).is_pending());
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
        for _ in 0..2 {
            woken.0.store(false, Ordering::Relaxed);
            assert!(Pin::new(&mut transport).poll_next(&mut cx).is_pending());
            tokio::task::yield_now().await;
        }
        assert!(!woken.0.load(Ordering::Relaxed), "there is nothing to do");
    }
}

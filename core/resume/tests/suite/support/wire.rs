//! A WebSocket in memory, with the peer's hand on everything.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytestring::ByteString;
use futures_core::Stream;
use futures_sink::Sink;
use session_resume::transport::{Frame, TransportError, TransportErrorKind};

#[derive(Debug, Default)]
struct Pipe {
    to_server: VecDeque<Option<Frame>>,
    to_client: VecDeque<Frame>,
    /// The peer's stack answers pings and closes, and its window is open.
    answers: bool,
    /// How many frames the peer's window still takes; `None` for any number.
    window: Option<usize>,
    /// Frames are taken but not flushed.
    holds_flush: bool,
    /// Writing fails: the peer has reset the connection.
    refuses: bool,
    server_gone: bool,
    /// How often the server has tried to read.
    polls: usize,
    /// How often it has flushed: each is a write to the network.
    flushes: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
    client: Option<Waker>,
}

impl Pipe {
    fn wake_server(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

/// The server's end.
#[derive(Debug)]
pub(crate) struct Socket(Arc<Mutex<Pipe>>);

/// The client's end.
#[derive(Debug)]
pub(crate) struct Wire(Arc<Mutex<Pipe>>);

pub(crate) fn pair() -> (Socket, Wire) {
    let pipe = Arc::new(Mutex::new(Pipe { answers: true, ..Pipe::default() }));
    (Socket(Arc::clone(&pipe)), Wire(pipe))
}

impl Wire {
    fn with<R>(&self, f: impl FnOnce(&mut Pipe) -> R) -> R {
        let mut pipe = self.0.lock().unwrap();
        let result = f(&mut pipe);
        pipe.wake_server();
        result
    }

    pub(crate) fn send(&self, frame: Frame) {
        self.with(|pipe| pipe.to_server.push_back(Some(frame)));
    }

    pub(crate) fn text(&self, text: &str) {
        self.send(Frame::Text(text.into()));
    }

    pub(crate) fn control(&self, json: &str) {
        self.text(&format!("\u{1}{json}"));
    }

    /// Returns how often the server has tried to read.
    pub(crate) fn polls(&self) -> usize {
        self.0.lock().unwrap().polls
    }

    /// The connection breaks; the server notices.
    pub(crate) fn cut(&self) {
        self.with(|pipe| pipe.to_server.push_back(None));
    }

    /// The peer's stack is gone, and nothing says so: no pong, no close.
    pub(crate) fn fall_silent(&self) {
        self.with(|pipe| pipe.answers = false);
    }

    /// The peer's window takes this many frames more.
    pub(crate) fn narrow(&self, frames: usize) {
        self.with(|pipe| pipe.window = Some(frames));
    }

    /// Frames are taken, but flushing does not come to an end.
    pub(crate) fn hold_flush(&self, holds: bool) {
        self.with(|pipe| pipe.holds_flush = holds);
    }

    /// Every write fails from now on; what is there to read can still be read.
    pub(crate) fn refuse_writes(&self) {
        self.with(|pipe| pipe.refuses = true);
    }

    /// Returns how often the server has flushed.
    pub(crate) fn flushes(&self) -> usize {
        self.0.lock().unwrap().flushes
    }

    /// Returns the next frame; `None` once the server has let go of the socket.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        poll_fn(|cx| {
            let mut pipe = self.0.lock().unwrap();
            match pipe.to_client.pop_front() {
                Some(frame) => Poll::Ready(Some(frame)),
                None if pipe.server_gone => Poll::Ready(None),
                None => {
                    pipe.client = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Returns the next frame if it is there already.
    pub(crate) fn now(&mut self) -> Option<Frame> {
        self.0.lock().unwrap().to_client.pop_front()
    }

    /// Returns the next text frame; pings in between are passed over.
    pub(crate) async fn next_text(&mut self) -> ByteString {
        loop {
            match self.next().await {
                Some(Frame::Text(text)) => return text,
                Some(Frame::Ping(_)) => {}
                other => panic!("expected text, got {other:?}"),
            }
        }
    }

    /// Returns the next control frame's JSON.
    pub(crate) async fn next_control(&mut self) -> serde_json::Value {
        let text = self.next_text().await;
        let json = text.strip_prefix('\u{1}').unwrap_or_else(|| panic!("a control frame: {text}"));
        serde_json::from_str(json).unwrap()
    }

    /// Returns code and reason of the close; everything before it is passed over.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        // In virtual time heartbeats would come for ever.
        for _ in 0..10_000 {
            match self.next().await {
                Some(Frame::Close(Some((code, reason)))) => return (code, reason.into_owned()),
                Some(_) => {}
                None => break,
            }
        }
        panic!("no close frame");
    }

    /// Waits until the server lets go of the socket.
    pub(crate) async fn gone(&mut self) {
        while self.next().await.is_some() {}
    }
}

impl Stream for Socket {
    type Item = Result<Frame, TransportError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut pipe = self.0.lock().unwrap();
        pipe.polls += 1;
        match pipe.to_server.pop_front() {
            Some(Some(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(None) => {
                Poll::Ready(Some(Err(TransportError::new(TransportErrorKind::Broken, "reset"))))
            }
            None => {
                pipe.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Sink<Frame> for Socket {
    type Error = TransportError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let mut pipe = self.0.lock().unwrap();
        if pipe.refuses {
            let reset = TransportError::new(TransportErrorKind::Broken, "reset");
            return Poll::Ready(Err(reset));
        }
        if pipe.window == Some(0) {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, frame: Frame) -> Result<(), Self::Error> {
        let mut pipe = self.0.lock().unwrap();
        if let Some(window) = &mut pipe.window {
            *window = window.checked_sub(1).expect("the pump asks before it sends");
        }
        if pipe.answers {
            let answer = match &frame {
                Frame::Ping(payload) => Some(Frame::Pong(payload.clone())),
                Frame::Close(close) => Some(Frame::Close(close.clone())),
                Frame::Text(_) | Frame::Binary(_) | Frame::Pong(_) => None,
            };
            if let Some(answer) = answer {
                pipe.to_server.push_back(Some(answer));
                pipe.reader.take().into_iter().for_each(Waker::wake);
            }
        }
        pipe.to_client.push_back(frame);
        pipe.client.take().into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let mut pipe = self.0.lock().unwrap();
        if pipe.holds_flush {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.flushes += 1;
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_flush(cx)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut pipe = self.0.lock().unwrap();
        pipe.server_gone = true;
        pipe.client.take().into_iter().for_each(Waker::wake);
    }
}

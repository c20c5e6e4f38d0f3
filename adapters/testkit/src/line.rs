//! One connection in memory, and what a network does to it.

use std::{
    io::{self, ErrorKind},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Buf as _, BytesMut};
use session_resume_proto::wire::Hello;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::frames::Frames;

/// What is under way at the most; then writing waits, as it does on a socket whose buffers are full.
const CAPACITY: usize = 256 << 10;

/// One of the two directions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What becomes of the bytes of a direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    /// They arrive.
    Passes,
    /// They wait.
    Held,
    /// They are taken and never arrive.
    Vanishes,
}

#[derive(Debug)]
struct Pipe {
    flow: Flow,
    /// Written, and not read yet.
    bytes: BytesMut,
    /// All that was ever written.
    frames: Frames,
    /// The writer has closed.
    is_finished: bool,
    /// The reader has gone.
    is_unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug)]
struct State {
    up: Pipe,
    down: Pipe,
    /// The client's end, and the server's: was it reset?
    client_is_reset: bool,
    server_is_reset: bool,
}

/// A connection; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Line(Arc<Mutex<State>>);

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct End {
    line: Line,
    /// The direction in which this end writes.
    writes: Direction,
}

impl Line {
    /// Makes a connection; returns the client's end, and the server's.
    pub(crate) fn new() -> (Self, End, End) {
        let (up, down) = (Pipe::new(), Pipe::new());
        let state = State { up, down, client_is_reset: false, server_is_reset: false };
        let line = Self(Arc::new(Mutex::new(state)));
        let end = |writes| End { line: line.clone(), writes };
        let ends = (end(Direction::Up), end(Direction::Down));
        (line, ends.0, ends.1)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_flow(&self, direction: Direction, flow: Flow) {
        let mut state = self.lock();
        let pipe = state.pipe(direction);
        // What vanishes once does so for ever.
        if pipe.flow == Flow::Vanishes {
            return;
        }
        pipe.flow = flow;
        if flow == Flow::Vanishes {
            pipe.bytes.clear();
        }
        pipe.wake();
    }

    /// Resets both ends: what is under way is lost.
    pub(crate) fn reset(&self) {
        let mut state = self.lock();
        state.client_is_reset = true;
        state.server_is_reset = true;
        state.wake();
    }

    /// Resets the client's end. The server's is told nothing.
    pub(crate) fn abandon_server(&self) {
        self.set_flow(Direction::Up, Flow::Vanishes);
        self.set_flow(Direction::Down, Flow::Vanishes);
        let mut state = self.lock();
        state.client_is_reset = true;
        state.wake();
    }

    /// Returns how many bytes were written in this direction, and how many of them are not read yet.
    pub(crate) fn progress(&self, direction: Direction) -> (u64, usize) {
        let mut state = self.lock();
        let pipe = state.pipe(direction);
        (pipe.frames.length(), pipe.bytes.len())
    }

    /// Returns how many data messages are under way in this direction.
    pub(crate) fn under_way(&self, direction: Direction) -> usize {
        let mut state = self.lock();
        let pipe = state.pipe(direction);
        pipe.frames.messages_after(pipe.read()).count()
    }

    /// Takes the last `count` data messages away, and all that was written after the first of these.
    pub(crate) fn lose(&self, direction: Direction, count: usize) {
        let mut state = self.lock();
        let pipe = state.pipe(direction);
        let read = pipe.read();
        let Some(from) = pipe.frames.messages_after(read).rev().nth(count.wrapping_sub(1)) else {
            return;
        };
        let keep = usize::try_from(from.saturating_sub(read)).expect("it is in memory");
        pipe.bytes.truncate(keep);
    }

    /// Returns whether the client can still be told something here.
    pub(crate) fn is_open(&self) -> bool {
        let state = self.lock();
        !state.client_is_reset && !state.down.is_unread && !state.down.is_finished
    }

    /// Returns whether one of the ends is still there and was not reset.
    pub(crate) fn is_of_use(&self) -> bool {
        let state = self.lock();
        let client_is_gone = state.client_is_reset || state.down.is_unread;
        let server_is_gone = state.server_is_reset || state.up.is_unread;
        !(client_is_gone && server_is_gone)
    }

    /// Returns the hello of this connection, if it has arrived.
    pub(crate) fn hello(&self) -> Option<Hello> {
        let state = self.lock();
        state.down.frames.hello_before(state.down.read()).cloned()
    }
}

impl State {
    fn pipe(&mut self, direction: Direction) -> &mut Pipe {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }

    fn wake(&mut self) {
        self.up.wake();
        self.down.wake();
    }
}

impl Pipe {
    fn new() -> Self {
        Self {
            flow: Flow::Passes,
            bytes: BytesMut::new(),
            frames: Frames::new(),
            is_finished: false,
            is_unread: false,
            reader: None,
            writer: None,
        }
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    /// How many bytes were read.
    fn read(&self) -> u64 {
        self.frames.length() - self.bytes.len() as u64
    }
}

impl End {
    /// The state, unless this end was reset.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.line.lock();
        let is_reset = match self.writes {
            Direction::Up => state.client_is_reset,
            Direction::Down => state.server_is_reset,
        };
        if is_reset { Err(ErrorKind::ConnectionReset.into()) } else { Ok(state) }
    }

    fn reads(&self) -> Direction {
        match self.writes {
            Direction::Up => Direction::Down,
            Direction::Down => Direction::Up,
        }
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.state()?;
        let pipe = state.pipe(self.reads());
        if pipe.flow == Flow::Passes && !pipe.bytes.is_empty() {
            let length = buf.remaining().min(pipe.bytes.len());
            buf.put_slice(&pipe.bytes[..length]);
            pipe.bytes.advance(length);
            let read = pipe.read();
            pipe.frames.forget_before(read);
            pipe.writer.take().into_iter().for_each(Waker::wake);
            return Poll::Ready(Ok(()));
        }
        if pipe.flow == Flow::Passes && pipe.is_finished {
            return Poll::Ready(Ok(()));
        }
        pipe.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state()?;
        let pipe = state.pipe(self.writes);
        match pipe.flow {
            Flow::Vanishes => return Poll::Ready(Ok(buf.len())),
            Flow::Passes if pipe.is_unread => {
                return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
            }
            Flow::Passes | Flow::Held => {}
        }
        let length = buf.len().min(CAPACITY - pipe.bytes.len());
        if length == 0 && !buf.is_empty() {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.bytes.extend_from_slice(&buf[..length]);
        pipe.frames.follow(&buf[..length]);
        pipe.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.state().map(drop))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state()?;
        let pipe = state.pipe(self.writes);
        pipe.is_finished = true;
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.line.lock();
        state.pipe(self.writes).is_finished = true;
        let reads = self.reads();
        state.pipe(reads).is_unread = true;
        state.wake();
    }
}

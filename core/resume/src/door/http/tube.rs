//! What joins a transport, which a session's pump writes, and the body of an answer, which the server reads.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};

/// The transport is not ready while the body has this much to take: the session's outbox keeps the rest.
const ROOM: usize = 64 << 10;

/// Bytes on their way from a transport to a body.
#[derive(Default)]
struct Tube {
    bytes: BytesMut,
    /// Pings among the bytes.
    pings: Vec<Bytes>,
    /// Their answers, once the bytes are taken.
    pongs: VecDeque<Bytes>,
    /// The transport has said all.
    ended: bool,
    /// The body is gone.
    cut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Waits for pongs, or for the end.
    listener: Option<Waker>,
}

/// Makes a tube; returns its two ends.
pub(crate) fn tube(first: &'static str) -> (Writer, Reader) {
    let tube = Tube { bytes: first.into(), ..Tube::default() };
    let tube = Arc::new(Mutex::new(tube));
    (Writer(Arc::clone(&tube)), Reader(tube))
}

/// The transport's end. Dropped, it ends the body.
pub(crate) struct Writer(Arc<Mutex<Tube>>);

/// The body's end. Dropped, it is the end of the transport.
pub(crate) struct Reader(Arc<Mutex<Tube>>);

/// What a transport hears from its reader.
#[derive(Debug)]
pub(crate) enum Heard {
    /// All before this ping was taken.
    Pong(Bytes),
    /// The reader has taken all to the end.
    ReadToEnd,
    /// The reader is gone.
    Gone,
}

fn lock(tube: &Mutex<Tube>) -> MutexGuard<'_, Tube> {
    tube.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waker = Some(cx.waker().clone()),
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl Writer {
    /// Waits for room; `false` if the reader is gone.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> Poll<bool> {
        let mut tube = lock(&self.0);
        if tube.cut {
            return Poll::Ready(false);
        }
        if tube.bytes.len() < ROOM {
            return Poll::Ready(true);
        }
        wait(&mut tube.writer, cx);
        Poll::Pending
    }

    pub(crate) fn write(&self, write: impl FnOnce(&mut BytesMut)) {
        let mut tube = lock(&self.0);
        write(&mut tube.bytes);
        wake(&mut tube.reader);
    }

    /// Asks for a [`Heard::Pong`] when all that was written is taken; for that there is something to take.
    pub(super) fn ping(&self, payload: Bytes, comment: &[u8]) {
        let mut tube = lock(&self.0);
        tube.bytes.extend_from_slice(comment);
        tube.pings.push(payload);
        wake(&mut tube.reader);
    }

    /// There is nothing more to write.
    pub(super) fn end(&self) {
        let mut tube = lock(&self.0);
        tube.ended = true;
        wake(&mut tube.reader);
    }

    pub(crate) fn poll_heard(&self, cx: &Context<'_>) -> Poll<Heard> {
        let mut tube = lock(&self.0);
        if let Some(payload) = tube.pongs.pop_front() {
            return Poll::Ready(Heard::Pong(payload));
        }
        if tube.ended && tube.bytes.is_empty() {
            return Poll::Ready(Heard::ReadToEnd);
        }
        if tube.cut {
            return Poll::Ready(Heard::Gone);
        }
        wait(&mut tube.listener, cx);
        Poll::Pending
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

impl Reader {
    /// Takes all that is there; `None` at the end.
    pub(super) fn poll_take(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let mut tube = lock(&self.0);
        if tube.bytes.is_empty() {
            if tube.ended {
                return Poll::Ready(None);
            }
            wait(&mut tube.reader, cx);
            return Poll::Pending;
        }
        // Not a part of it: the memory goes with the bytes.
        let bytes = mem::take(&mut tube.bytes).freeze();
        let answered = mem::take(&mut tube.pings);
        tube.pongs.extend(answered);
        wake(&mut tube.writer);
        wake(&mut tube.listener);
        Poll::Ready(Some(bytes))
    }

    pub(super) fn is_at_end(&self) -> bool {
        let tube = lock(&self.0);
        tube.ended && tube.bytes.is_empty()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut tube = lock(&self.0);
        tube.cut = true;
        wake(&mut tube.writer);
        wake(&mut tube.listener);
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

//! Waiting for a call on a thread without a runtime, with a limit.

use std::{
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

/// What has ended the waiting.
pub(crate) enum Received<T> {
    Call(T),
    TimedOut,
    /// All senders are gone, and the queue is empty.
    Ended,
}

/// Waits for a call, for at most `wait`; `None` means without a limit.
pub(crate) fn receive<T>(queue: &mut mpsc::Receiver<T>, wait: Option<Duration>) -> Received<T> {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let start = Instant::now();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match queue.poll_recv(&mut cx) {
            Poll::Ready(Some(call)) => return Received::Call(call),
            Poll::Ready(None) => return Received::Ended,
            Poll::Pending => {}
        }
        match wait.map(|wait| wait.saturating_sub(start.elapsed())) {
            None => thread::park(),
            Some(Duration::ZERO) => return Received::TimedOut,
            Some(left) => thread::park_timeout(left),
        }
    }
}

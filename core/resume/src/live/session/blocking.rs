use std::{fmt, ops::Deref, time::Duration};

use futures_util::FutureExt as _;
use serde::{Serialize, de::DeserializeOwned};
use session_resume_proto::Message;
use tokio::{runtime::Handle, time};

use super::{Client, Event, LiveSession, Session};
use crate::{CommitError, NoMessage, Outgoing, SendError};

/// A [`LiveSession`] for a handler that runs on a plain thread of its own.
///
/// Waiting blocks that thread and nothing else. A thread cannot be cancelled: when the session ends or leaves
/// memory, or its layer is dropped, receiving returns `None`, sending and committing fail, and a handler should
/// then return.
pub struct BlockingSession<T = ()> {
    live: LiveSession<T>,
    runtime: Handle,
}

impl<T: Send + 'static> BlockingSession<T> {
    pub(crate) fn new(live: LiveSession<T>, runtime: Handle) -> Self {
        Self { live, runtime }
    }

    /// Receives the next data message; see [`LiveSession::recv`].
    pub fn recv(&mut self) -> Option<Message> {
        self.runtime.block_on(self.live.recv())
    }

    /// Receives the next data message if there is one now.
    ///
    /// As with [`recv`](Self::recv), asking says that the message before is handled. Between two calls the handler counts as
    /// waiting: work that no client watches needs a [guard](Session::block_expiration).
    ///
    /// # Errors
    ///
    /// Returns [`NoMessage::Yet`] if there is none now, and [`NoMessage::Over`] if the session is over.
    ///
    /// # Example
    ///
    /// A simulation ticks, and obeys what has come between two ticks.
    ///
    /// ```
    /// # fn tick(_: &mut u64) {}
    /// use session_resume::{BlockingSession, NoMessage};
    ///
    /// fn simulate(mut session: BlockingSession<u64>) {
    ///     loop {
    ///         match session.try_recv() {
    ///             Ok(message) if message.as_text() == Some("reset") => session.update(|ticks| *ticks = 0),
    ///             Ok(_) | Err(NoMessage::Yet) => session.update(tick),
    ///             Err(_) => return,
    ///         }
    ///     }
    /// }
    /// ```
    pub fn try_recv(&mut self) -> Result<Message, NoMessage> {
        now(self.live.recv())
    }

    /// Receives the next data message, and waits for it for this long at most. A message that comes later is not lost: the
    /// next call has it.
    ///
    /// # Errors
    ///
    /// Returns [`NoMessage::Yet`] if none has come in that time, and [`NoMessage::Over`] if the session is over.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message, NoMessage> {
        let received =
            self.runtime.block_on(async { time::timeout(timeout, self.live.recv()).await });
        received.map_err(|_| NoMessage::Yet)?.ok_or(NoMessage::Over)
    }

    /// Receives the next urgent message, before its turn, if there is one now: see [`LiveSession::urgent`].
    ///
    /// # Errors
    ///
    /// Returns [`NoMessage::Yet`] if there is none now, and [`NoMessage::Over`] if the session is over: whatever the handler
    /// works on, nobody waits for it.
    ///
    /// # Example
    ///
    /// A computation that can be stopped between two steps.
    ///
    /// ```
    /// # fn step(_: &str, n: u32) -> u32 { n }
    /// use session_resume::{BlockingSession, NoMessage};
    ///
    /// fn compute(mut session: BlockingSession) -> session_resume::Result {
    ///     while let Some(task) = session.recv() {
    ///         let task = task.as_text().unwrap_or_default();
    ///         if task == "stop" {
    ///             continue;                               // there was nothing to stop
    ///         }
    ///         for n in 0..1000 {
    ///             match session.try_urgent() {
    ///                 Err(NoMessage::Yet) => session.send(step(task, n).to_string())?,
    ///                 Ok(_) => break,                     // the route's `on_urgent` picks "stop"
    ///                 Err(_) => return Ok(()),
    ///             }
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn try_urgent(&mut self) -> Result<Message, NoMessage> {
        now(self.live.urgent())
    }

    /// Receives the next event; see [`LiveSession::recv_event`].
    pub fn recv_event(&mut self) -> Option<Event> {
        self.runtime.block_on(self.live.recv_event())
    }

    /// Receives the next data message as JSON; see [`LiveSession::recv_json`].
    ///
    /// # Errors
    ///
    /// As [`LiveSession::recv_json`].
    pub fn recv_json<M: DeserializeOwned>(&mut self) -> Option<serde_json::Result<M>> {
        self.runtime.block_on(self.live.recv_json())
    }

    /// Puts what is done so far on disk; see [`LiveSession::commit`].
    ///
    /// # Errors
    ///
    /// As [`LiveSession::commit`].
    pub fn commit(&mut self) -> Result<(), CommitError> {
        self.runtime.block_on(self.live.commit())
    }

    /// Waits until all updates so far are on disk; see [`LiveSession::saved`].
    ///
    /// # Errors
    ///
    /// As [`LiveSession::saved`].
    pub fn saved(&self) -> Result<(), CommitError> {
        self.runtime.block_on(self.live.saved())
    }

    /// Sends a message; see [`Session::send`].
    ///
    /// # Errors
    ///
    /// As [`Session::send`].
    pub fn send(&self, message: impl Into<Outgoing>) -> Result<(), SendError> {
        self.runtime.block_on(self.live.send(message))
    }

    /// Sends a value as JSON; see [`Session::send_json`].
    ///
    /// # Errors
    ///
    /// As [`Session::send_json`].
    pub fn send_json<V: Serialize + ?Sized>(&self, value: &V) -> Result<(), SendError> {
        self.runtime.block_on(self.live.send_json(value))
    }

    /// Changes the state and sends a message as one step; see [`Session::send_with`].
    ///
    /// # Errors
    ///
    /// As [`Session::send_with`].
    pub fn send_with<M: Into<Outgoing>>(
        &self,
        make: impl FnOnce(&mut T) -> M,
    ) -> Result<(), SendError> {
        self.runtime.block_on(self.live.send_with(make))
    }

    /// Sends a message to one client alone; see [`Session::send_to`].
    ///
    /// # Errors
    ///
    /// As [`Session::send_to`].
    pub fn send_to(&self, client: Client, message: impl Into<Outgoing>) -> Result<(), SendError> {
        self.runtime.block_on(self.live.send_to(client, message))
    }

    /// Sends a value as JSON to one client alone; see [`Session::send_json_to`].
    ///
    /// # Errors
    ///
    /// As [`Session::send_json_to`].
    pub fn send_json_to<V: Serialize + ?Sized>(
        &self,
        client: Client,
        value: &V,
    ) -> Result<(), SendError> {
        self.runtime.block_on(self.live.send_json_to(client, value))
    }

    /// Sends a message of which only the newest of its slot counts; see [`Session::send_latest`].
    ///
    /// # Errors
    ///
    /// As [`Session::send_latest`].
    pub fn send_latest(
        &self,
        slot: impl Into<String>,
        message: impl Into<Outgoing>,
    ) -> Result<(), SendError> {
        self.runtime.block_on(self.live.send_latest(slot, message))
    }

    /// Sends a value as JSON of which only the newest of its slot counts; see [`Session::send_json_latest`].
    ///
    /// # Errors
    ///
    /// As [`Session::send_json_latest`].
    pub fn send_json_latest<V: Serialize + ?Sized>(
        &self,
        slot: impl Into<String>,
        value: &V,
    ) -> Result<(), SendError> {
        self.runtime.block_on(self.live.send_json_latest(slot, value))
    }

    /// Sends a checkpoint; see [`Session::send_checkpoint`].
    ///
    /// # Errors
    ///
    /// As [`Session::send_checkpoint`].
    pub fn send_checkpoint(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.runtime.block_on(self.live.send_checkpoint(message))
    }
}

/// What a receive has now.
fn now(received: impl Future<Output = Option<Message>>) -> Result<Message, NoMessage> {
    received.now_or_never().ok_or(NoMessage::Yet)?.ok_or(NoMessage::Over)
}

/// Everything that does not wait: `read`, `update`, `try_send`, `block_expiration`, …
///
/// The methods that wait are shadowed by the blocking ones above.
impl<T> Deref for BlockingSession<T> {
    type Target = Session<T>;

    fn deref(&self) -> &Self::Target {
        &self.live
    }
}

impl<T> fmt::Debug for BlockingSession<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingSession").field("live", &self.live).finish_non_exhaustive()
    }
}

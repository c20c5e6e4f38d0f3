use std::{
    fmt,
    future::poll_fn,
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::{FusedStream, Stream};
use serde::de::DeserializeOwned;
use session_resume_proto::{
    Message,
    session::{self, Access},
};
use tokio::task::coop;

use super::{Client, Event, Peer, Resumed, Session, core::Core, durable::Boundary, shared::Shared};
use crate::{
    CommitError, SessionOrigin,
    words::durability::{SavedBy, Urgency},
};

/// The handler's own handle: a [`Session`] that also receives. There is one per session.
///
/// # Example
///
/// A handler that counts clicks. It runs once per session: when the connection drops, `recv` waits, and the loop goes on with
/// the next connection.
///
/// ```
/// # mod browser { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doctest/browser.rs")); }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> session_resume::Result {
/// use session_resume::{LiveSession, SessionResume};
///
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Counter { clicks: u64 }
///
/// async fn live(mut session: LiveSession<Counter>) -> session_resume::Result<u64> {
///     while let Some(message) = session.recv().await {    // waits across reconnects
///         if message.as_text() == Some("stop") {
///             break;
///         }
///         // The change and its message are one step: in a crash either both are there or neither.
///         session.send_with(|counter| { counter.clicks += 1; counter.clicks.to_string() }).await?;
///     }
///     Ok(session.read(|counter| counter.clicks))          // the outcome, which can be polled
/// }
///
/// # let resume = SessionResume::new().with_state::<Counter>();
/// # let mut browser = browser::Browser::default();
/// # let mut tab = browser.open(&resume, http::Request::get("/live"), live).await;
/// tab.send("click");
/// assert_eq!(tab.receive().await, "1");
/// // The connection breaks, and the page opens another one. The same handler goes on.
/// # drop(tab);
/// # let mut tab = browser.open(&resume, http::Request::get("/live"), live).await;
/// tab.send("click");
/// # // A plain client may be sent again what it has not confirmed.
/// # while tab.receive().await != "2" {}
/// # tab.send("stop");
/// # let session = browser.get(&resume).await;
/// # assert_eq!(session.outcome().map(|outcome| outcome.status()), None, "a new one: the first has ended");
/// # Ok(())
/// # }
/// ```
pub struct LiveSession<T = ()> {
    pub(super) session: Session<T>,
    /// Whether it has returned that the session is over.
    is_over: bool,
}

impl<T: Send + 'static> LiveSession<T> {
    pub(crate) fn new(shared: Arc<Shared<T>>, origin: SessionOrigin) -> Self {
        Self { session: Session::new(shared, origin), is_over: false }
    }

    /// Receives the next data message; waits across reconnects. `None` when the session is over.
    ///
    /// Asking for the next message says that the one before is handled. Attaches and detaches in
    /// between are passed over: [`recv_event`](Self::recv_event) tells them.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken in the very poll that returns it.
    pub async fn recv(&mut self) -> Option<Message> {
        poll_fn(|cx| {
            loop {
                match ready!(self.poll_recv_event(cx)) {
                    Some(Event::Message { message, .. }) => return Poll::Ready(Some(message)),
                    Some(_) => {}
                    None => return Poll::Ready(None),
                }
            }
        })
        .await
    }

    /// Receives the next event: a message, or a client that has attached or detached. `None` when the
    /// session is over.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`Self::recv`].
    pub async fn recv_event(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_recv_event(cx)).await
    }

    fn poll_recv_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let shared = &self.session.shared;
        let coop = ready!(coop::poll_proceed(cx));
        shared.boundary(Boundary::Receive);
        let received = shared.with_core(|core, now| match core.machine.poll_receive(now) {
            Some(event) => Poll::Ready(Some(core.told(event))),
            None if core.is_over() => Poll::Ready(None),
            None => {
                core.wait_to_receive(cx.waker());
                Poll::Pending
            }
        });
        let received = ready!(received);
        if shared.is_durable() {
            shared.watch_work();
        }
        coop.made_progress();
        self.is_over = received.is_none();
        Poll::Ready(received)
    }

    /// Receives the next data message and reads it as JSON. `None` when the session is over.
    ///
    /// # Errors
    ///
    /// Fails if the message is not JSON of this type; it counts as handled all the same.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`Self::recv`].
    pub async fn recv_json<M: DeserializeOwned>(&mut self) -> Option<serde_json::Result<M>> {
        let message = self.recv().await?;
        Some(serde_json::from_slice(message.as_bytes()))
    }

    /// Puts what is done so far, the message in hand included, on disk.
    ///
    /// Without a store there is no disk: it says that the message in hand is handled, and returns at once.
    ///
    /// # Errors
    ///
    /// Fails if the store does not take the snapshot, which is tried again all the same, or if the session has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the commit may happen or not; call again to be sure.
    pub async fn commit(&mut self) -> Result<(), CommitError> {
        let shared = &self.session.shared;
        shared.boundary(Boundary::Commit);
        shared.wait_saved(Urgency::Now, SavedBy::Handler).await
    }

    /// Waits until all updates so far are on disk, as [`Session::saved`]; for the handler itself.
    ///
    /// With a message in hand they get there only when it is handled, so the handler would wait for itself:
    /// that is an error at once, and [`commit`](Self::commit) is what to call.
    ///
    /// # Errors
    ///
    /// Fails if the store does, or if there are updates to save and a message is in hand.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`Session::saved`].
    pub async fn saved(&self) -> Result<(), CommitError> {
        self.session.shared.wait_saved(Urgency::Now, SavedBy::Handler).await
    }

    /// Returns a handle that can be cloned and kept.
    pub fn handle(&self) -> Session<T> {
        self.session.clone()
    }
}

/// The messages, as [`recv`](LiveSession::recv) returns them: it ends when the session does, waits across reconnects, and
/// passes over attaches and detaches.
///
/// Asking for the next message says that the one before is handled. A combinator or library that reads ahead (`buffered`,
/// `peekable`, a server that works on several requests at once) says so while it still works on it. With a store, such a
/// message is lost in a crash; one that [`recv`](LiveSession::recv) has returned is handled anew.
impl<T: Send + 'static> Stream for LiveSession<T> {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        loop {
            match ready!(self.poll_recv_event(cx)) {
                Some(Event::Message { message, .. }) => return Poll::Ready(Some(message)),
                Some(_) => {}
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<T: Send + 'static> FusedStream for LiveSession<T> {
    fn is_terminated(&self) -> bool {
        self.is_over
    }
}

impl<T: Send + 'static> Shared<T> {
    /// What the handler had in hand is handled. Whatever waits for a boundary happens here.
    pub(super) fn boundary(&self, at: Boundary) {
        self.state.step();
        if !self.is_durable() {
            self.step(|core| core.machine.hand_back());
        } else if self.step(|core| core.reach_boundary(at)) {
            self.keeper().into_iter().for_each(|keeper| keeper.take_snapshot(self));
        }
        self.merge_offered();
    }
}

impl Core {
    fn told(&mut self, event: session::Event<Peer>) -> Event {
        match event {
            session::Event::Attached { who, access, resumed, checkpoint } => {
                let client = Client::of(&who);
                Event::Attached {
                    client,
                    identity: client.identity(),
                    read_only: access == Access::ReadOnly,
                    resumed: match (resumed, client.id()) {
                        (false, _) => Resumed::Fresh,
                        (true, None) => Resumed::Assumed,
                        (true, Some(_)) => Resumed::Cursor,
                    },
                    checkpoint,
                    request: self.take_request(who.info.serial),
                }
            }
            session::Event::Detached { who } => Event::Detached { client: Client::of(&who) },
            session::Event::Undeliverable { who, position, bytes } => {
                let (client, position) = (Client::of(&who), position.get());
                Event::Undeliverable { client, identity: client.identity(), position, bytes }
            }
            session::Event::Dropped { number, from } => {
                let client = Client::of(&from);
                Event::Dropped { client, identity: client.identity(), number }
            }
            session::Event::Message { message, from } => {
                let client = Client::of(&from);
                Event::Message { message, client, identity: client.identity() }
            }
        }
    }
}

impl<T> Deref for LiveSession<T> {
    type Target = Session<T>;

    fn deref(&self) -> &Self::Target {
        &self.session
    }
}

impl<T> fmt::Debug for LiveSession<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveSession").field("session", &self.session).finish_non_exhaustive()
    }
}

use std::{fmt, sync::Arc};

use session_resume_proto::{client::Config, pipe::Choice};
use tokio::task::JoinHandle;

use crate::{
    Cause, Close, ConnectError, Event, Message, SendError, StateOffer, Transport, Undelivered,
    connector::Connector,
    driver::{Initial, drive},
    shared::{Shared, Taken},
};

/// One end of a session that outlives its connections; see the [crate docs](crate).
///
/// Dropping it ends everything at once: what was queued is not delivered. [`close`](Self::close) waits.
pub struct Client {
    sender: Sender,
    driver: JoinHandle<()>,
    /// An event that came while waiting for the session. It is returned first.
    early: Option<Event>,
}

/// Sends for a [`Client`] from elsewhere; cheap to clone.
///
/// It does not keep the client alive.
#[derive(Clone)]
pub struct Sender {
    shared: Arc<Shared>,
}

impl Client {
    /// Connects with the default settings and waits for the session.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError`] if the URL cannot work or the first attempt fails.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime with I/O and time enabled.
    ///
    /// # Cancel safety
    ///
    /// The client ends when the future is dropped.
    pub async fn connect(url: impl Into<String>) -> Result<Self, ConnectError> {
        Self::builder(url).connect().await
    }

    pub(crate) fn spawn(
        config: Config,
        state: Option<StateOffer>,
        connector: Connector,
        choice: Choice,
        initial: Option<Initial>,
    ) -> Self {
        let shared = Arc::new(Shared::new(config, connector));
        shared.lock().machine.offer_state(state);
        Self {
            driver: tokio::spawn(drive(Arc::clone(&shared), choice, initial)),
            sender: Sender { shared },
            early: None,
        }
    }

    /// Queues a message for the server; waits only while the queue is full.
    ///
    /// It is kept until the server's handler has taken it.
    ///
    /// # Errors
    ///
    /// Returns the message if it is over the limit, if the client has ended, or if the queue is full and only the
    /// application could change that: with [`reconnect`](Self::reconnect), or by taking the event after
    /// [`Event::NewSession`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is queued or it is not, and it is not if the future was dropped.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.sender.send(message).await
    }

    /// Queues a message for the server.
    ///
    /// # Errors
    ///
    /// Returns the message if it was not taken.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.sender.try_send(message)
    }

    /// Returns the next data message; other events are passed over.
    ///
    /// `None`: nothing comes by itself any more. Either the client has ended, or only
    /// [`reconnect`](Self::reconnect) starts it again; [`recv_event`](Self::recv_event) tells which.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is not taken before it is returned.
    pub async fn recv(&mut self) -> Option<Message> {
        loop {
            if let Event::Message(message) = self.recv_event().await? {
                return Some(message);
            }
        }
    }

    /// Returns the next event; `None` as [`recv`](Self::recv).
    ///
    /// Messages, gaps and what is in doubt come in the order in which they happened. Of a row of
    /// connection states with nothing between them, only the newest is told.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event is not taken before it is returned.
    pub async fn recv_event(&mut self) -> Option<Event> {
        if let Some(event) = self.early.take() {
            return Some(event);
        }
        loop {
            match self.sender.shared.take() {
                Taken::Event(event) => return Some(event),
                Taken::Nothing => return None,
                Taken::Later => self.sender.shared.events.notified().await,
            }
        }
    }

    /// Connects now, if there is no connection and no attempt.
    ///
    /// For [`Modes::Prompt`](crate::Modes::Prompt), after [`Event::Superseded`] and the like, and to cut a
    /// wait short when the network is back.
    pub fn reconnect(&self) {
        self.sender.reconnect();
    }

    /// Sets this program's own copy of the session's state; `None` takes it back.
    ///
    /// The copy is offered at each connection from now on, before any message that is sent there. What becomes of it is
    /// for the server's merge policy to decide: by default the server's own copy wins, always. There is no answer, and a
    /// copy may be looked at twice, when a connection drops behind it. A copy that is longer than the server takes is
    /// not offered: [`Event::StateTooBig`].
    ///
    /// ```no_run
    /// use session_resume_client::{Client, StateOffer};
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut client = Client::connect("ws://127.0.0.1:3000/live").await?;
    /// // The server's handler has told its state, and `session.iteration()` with it: 17. The user has gone on, offline.
    /// let now = std::time::UNIX_EPOCH.elapsed()?.as_millis() as u64;
    /// client.offer_state(Some(StateOffer::new(18, now, &vec!["a task", "another task"])?));
    /// # Ok(())
    /// # }
    /// ```
    pub fn offer_state(&self, copy: Option<StateOffer>) {
        self.sender.shared.lock().machine.offer_state(copy);
    }

    /// Returns what was sent here and never left this client, oldest first: no server has it.
    ///
    /// While [`Event::NewSession`] is the last event that was taken, the list only grows. At other times messages leave it
    /// when they are sent.
    #[must_use]
    pub fn queued(&self) -> Vec<Message> {
        self.sender.shared.lock().machine.queued().cloned().collect()
    }

    /// Takes out what [`queued`](Self::queued) returns: it is not delivered, unless it is sent again.
    ///
    /// ```no_run
    /// use session_resume_client::{Client, Event, Message};
    ///
    /// # fn is_stale(message: &Message) -> bool { false }
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut client = Client::builder("ws://127.0.0.1:3000/live")
    ///     .with_new_session_event()
    ///     .with_initial(|| ["subscribe"])
    ///     .connect()
    ///     .await?;
    /// while let Some(event) = client.recv_event().await {
    ///     if let Event::NewSession { .. } = event {
    ///         // `client.take_in_doubt()` goes in front, where to be handled twice does no harm.
    ///         for message in client.take_queued() {
    ///             if !is_stale(&message) {
    ///                 client.try_send(message)?;
    ///             }
    ///         }
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_queued(&self) -> Vec<Message> {
        self.sender.shared.take_queued()
    }

    /// Returns what the session before may or may not have had, as [`Event::InDoubt`] tells, until the queue goes to the
    /// next session. It is never sent again by itself.
    ///
    /// Empty without [`Builder::with_new_session_event`](crate::Builder::with_new_session_event) and
    /// [`Builder::with_initial`](crate::Builder::with_initial).
    #[must_use]
    pub fn in_doubt(&self) -> Vec<Message> {
        self.sender.shared.lock().machine.in_doubt().to_vec()
    }

    /// Takes out what [`in_doubt`](Self::in_doubt) returns.
    pub fn take_in_doubt(&self) -> Vec<Message> {
        self.sender.shared.lock().machine.take_in_doubt()
    }

    /// Returns how the present connection comes; `None`: there is none.
    pub fn transport(&self) -> Option<Transport> {
        let state = self.sender.shared.lock();
        state.machine.is_attached().then_some(state.path)
    }

    /// Returns a handle that sends.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Returns the cookies, for [`Builder::with_cookies`](crate::Builder::with_cookies) at the next start of this program.
    ///
    /// # Security
    ///
    /// They are the identity: a program that has them gets into its sessions.
    pub fn cookies(&self) -> String {
        self.sender.shared.connector.cookies.header()
    }

    /// Ends the client once the server's handler has taken every message; the session itself goes on.
    ///
    /// Until then it reconnects as its mode says, however long that takes: give it a timeout. A message
    /// that was received and not taken is not acknowledged: the server sends it to the next client that
    /// comes. A queue that waits for the application after [`Event::NewSession`] goes out, too. If the handler may wait for room in its outbox, take its messages with [`recv`](Self::recv)
    /// first.
    ///
    /// # Errors
    ///
    /// Returns [`Undelivered`] with what was not taken when the client ended before.
    ///
    /// # Cancel safety
    ///
    /// The client ends at once when the future is dropped.
    pub async fn close(mut self) -> Result<(), Undelivered> {
        let shared = &self.sender.shared;
        shared.close();
        // Nothing is taken before the end: a message that the application does not see must not be
        // acknowledged.
        while !shared.is_over() {
            shared.events.notified().await;
        }
        let mut undelivered = Undelivered::default();
        while let Taken::Event(event) = shared.take() {
            match event {
                Event::InDoubt(messages) => undelivered.in_doubt.extend(messages),
                Event::Unsent(messages) | Event::Done { untaken: messages, .. } => {
                    undelivered.unsent.extend(messages);
                }
                Event::TooBig(message) | Event::Dropped(message) => {
                    undelivered.unsent.push(message);
                }
                Event::TakenBack { count } => undelivered.taken_back += count,
                _ => {}
            }
        }
        // The close frame is on its way; a driver that panicked has nothing more to say.
        let _ = (&mut self.driver).await;
        if undelivered == Undelivered::default() { Ok(()) } else { Err(undelivered) }
    }

    /// Waits for the first hello.
    pub(crate) async fn opened(&mut self) -> Result<(), ConnectError> {
        loop {
            let cause = match self.recv_event().await {
                Some(Event::Connecting) => continue,
                Some(open @ Event::Open { .. }) => {
                    self.early = Some(open);
                    return Ok(());
                }
                Some(
                    Event::Waiting { cause, .. }
                    | Event::Offline { cause }
                    | Event::Refused { cause }
                    | Event::Failed { cause },
                ) => cause,
                Some(Event::Superseded) => Cause::Closed(Close::SUPERSEDED),
                _ => Cause::Lost,
            };
            return Err(ConnectError::Failed { cause });
        }
    }
}

impl Sender {
    /// As [`Client::send`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.shared.send(message.into()).await
    }

    /// As [`Client::try_send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_send(&self, message: impl Into<Message>) -> Result<(), SendError> {
        self.shared.try_send(message.into())
    }

    /// As [`Client::reconnect`].
    pub fn reconnect(&self) {
        self.shared.reconnect();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
        // Not left to the task's own end: a runtime that is shutting down may never get there.
        self.sender.shared.abandon();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("connector", &self.sender.shared.connector)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

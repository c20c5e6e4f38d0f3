use std::{fmt, panic::Location, time::Duration};

use serde_json::Value;
use session_resume_client::{Client, Event, Gap, Message, OutcomeStatus, Status, Undelivered};
use session_resume_proto::wire::Hello;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{DEADLINE, verbs::verbs, wire::Wire};

/// At most this many of the last events are in the text of a panic.
const TOLD: usize = 12;

/// A page with an open resumable WebSocket: [`session_resume_client::Client`] on a network that a test can break.
///
/// It comes back by itself. Whatever happens to the network, [`recv`](Self::recv) returns each message of the
/// application once and in order; if the session was lost, or a message, it panics and says so. Dropping it is closing
/// the tab.
///
/// Waiting ends after two minutes ([`set_deadline`](Self::set_deadline)), of the paused clock if that is paused.
pub struct Page {
    client: Client,
    wire: Wire,
    path: String,
    deadline: Duration,
    events: Vec<Event>,
}

impl Page {
    pub(crate) fn new(client: Client, wire: Wire, path: &str) -> Self {
        Self { client, wire, path: path.to_owned(), deadline: DEADLINE, events: Vec::new() }
    }

    /// Waits for the session.
    #[track_caller]
    pub(crate) fn opened(mut self) -> impl Future<Output = Self> {
        let at = Location::caller();
        async move {
            loop {
                match self.event("a session", at).await {
                    Event::Open { .. } => return self,
                    Event::Connecting => {}
                    other => self.fail(at, &format!("gets no session: {other:?}")),
                }
            }
        }
    }

    /// Sends a message: it is queued, and goes to the server as soon as the test waits for something.
    ///
    /// # Panics
    ///
    /// Panics if the queue is full, if the message is over the limit, or if the session has ended.
    #[track_caller]
    pub fn send(&self, message: impl Into<Message>) {
        if let Err(error) = self.client.try_send(message) {
            panic!("the page at {} cannot send: {error}", self.path);
        }
    }

    /// Returns the next message, which is text.
    ///
    /// # Panics
    ///
    /// Panics if none comes before the deadline, if it is binary, if something was lost, or if the page will not come back
    /// by itself. The panic says what the page was told.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    #[track_caller]
    pub fn recv(&mut self) -> impl Future<Output = String> {
        let at = Location::caller();
        async move {
            match self.message(at).await {
                Message::Text(text) => text.into(),
                binary @ Message::Binary(_) => self.fail(at, &format!("got no text: {binary:?}")),
            }
        }
    }

    /// Returns the next message.
    ///
    /// # Panics
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    #[track_caller]
    pub fn recv_message(&mut self) -> impl Future<Output = Message> {
        self.message(Location::caller())
    }

    /// Returns the next message, which is JSON.
    ///
    /// # Panics
    ///
    /// As [`recv`](Self::recv), and if it is not JSON.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    #[track_caller]
    pub fn recv_json(&mut self) -> impl Future<Output = Value> {
        let at = Location::caller();
        async move {
            let message = self.message(at).await;
            match serde_json::from_slice(message.as_bytes()) {
                Ok(value) => value,
                Err(error) => self.fail(at, &format!("got no JSON: {error}: {message:?}")),
            }
        }
    }

    async fn message(&mut self, at: &'static Location<'static>) -> Message {
        match self.news("a message", at).await {
            Event::Message(message) => message,
            other => self.fail(at, &format!("was told something else than a message: {other:?}")),
        }
    }

    /// Returns the next gap: positions that will not come. What is in doubt before it is passed over.
    ///
    /// # Panics
    ///
    /// As [`recv`](Self::recv), and if a message comes first.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    #[track_caller]
    pub fn gap(&mut self) -> impl Future<Output = Gap> {
        let at = Location::caller();
        async move {
            loop {
                match self.news("a gap", at).await {
                    Event::Gap(gap) => return gap,
                    Event::InDoubt(_) => {}
                    other => {
                        self.fail(at, &format!("was told something else than a gap: {other:?}"))
                    }
                }
            }
        }
    }

    /// Waits for the end of the session; returns how it ended.
    ///
    /// # Panics
    ///
    /// As [`recv`](Self::recv), and if a message comes first.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    #[track_caller]
    pub fn done(&mut self) -> impl Future<Output = OutcomeStatus> {
        let at = Location::caller();
        async move {
            match self.news("the end of the session", at).await {
                Event::Done { status, .. } => status,
                other => self.fail(at, &format!("was told something else than the end: {other:?}")),
            }
        }
    }

    /// Returns the next event that is not a state of the connection.
    ///
    /// # Panics
    ///
    /// Panics if none comes before the deadline, or if nothing comes any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    #[track_caller]
    pub fn told(&mut self) -> impl Future<Output = Event> {
        self.news("news", Location::caller())
    }

    /// Returns the next event, whatever it is, a state of the connection too.
    ///
    /// # Panics
    ///
    /// Panics if none comes before the deadline, or if nothing comes any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    #[track_caller]
    pub fn recv_event(&mut self) -> impl Future<Output = Event> {
        self.event("an event", Location::caller())
    }

    /// Returns what the page was told so far, in order: what the methods above have passed over, too.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Returns what the hellos said that the page was told of so far: `New` first, then `Resumed` after a drop. Of several
    /// drops with nothing between them, only the last one is told.
    pub fn statuses(&self) -> Vec<Status> {
        let status = |event: &Event| match event {
            Event::Open { status, .. } => Some(*status),
            _ => None,
        };
        self.events.iter().filter_map(status).collect()
    }

    /// Returns the hello of the present connection; waits for it while there is none.
    ///
    /// # Panics
    ///
    /// Panics if none comes before the deadline.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    #[track_caller]
    pub fn hello(&self) -> impl Future<Output = Hello> {
        let at = Location::caller();
        async move {
            let hello = async {
                loop {
                    if let Some(hello) = self.wire.hello() {
                        return hello;
                    }
                    sleep(Duration::from_millis(1)).await;
                }
            };
            match timeout(self.deadline, hello).await {
                Ok(hello) => hello,
                Err(_) => self.fail(at, &format!("has waited {:?} for a hello", self.deadline)),
            }
        }
    }

    /// Returns the public id of the session, of which the page was told last.
    pub fn session(&self) -> &str {
        let sessions = self.events.iter().rev().filter_map(|event| match event {
            Event::Open { session, .. } => Some(session.as_str()),
            _ => None,
        });
        sessions.take(1).next().unwrap_or_default()
    }

    /// Returns the client, for what is not here.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sets how long the methods of this page wait at the most. Default: two minutes, which is longer than a server or a
    /// client takes to notice that its peer is silent, and to come back.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// Leaves once the server's handler has taken everything. The session goes on.
    ///
    /// # Errors
    ///
    /// Returns what was not delivered.
    ///
    /// # Panics
    ///
    /// Panics if that takes longer than the deadline.
    #[track_caller]
    pub fn close(self) -> impl Future<Output = Result<(), Undelivered>> {
        let at = Location::caller();
        async move {
            let Self { client, path, deadline, .. } = self;
            let Ok(closed) = timeout(deadline, client.close()).await else {
                panic!(
                    "{at}: the page at {path} has waited {deadline:?} for its messages to be taken"
                );
            };
            closed
        }
    }

    verbs!();

    /// The network is gone: the connection is cut as [`cut`](Self::cut) does, and none can be made.
    ///
    /// # Cancel safety
    ///
    /// As [`cut`](Self::cut).
    pub async fn go_offline(&self) {
        self.wire.go_offline().await;
    }

    /// The network is back, and the page comes back at once.
    pub fn go_online(&self) {
        self.wire.go_online();
        self.client.reconnect();
    }

    /// The next event that is not a state of the connection.
    async fn news(&mut self, what: &str, at: &Location<'_>) -> Event {
        let until = Instant::now() + self.deadline;
        loop {
            match self.event_until(until, what, at).await {
                // They may come for ever: they do not begin the wait anew.
                Event::Connecting | Event::Waiting { .. } | Event::Open { .. } => {}
                event => return event,
            }
        }
    }

    async fn event(&mut self, what: &str, at: &Location<'_>) -> Event {
        self.event_until(Instant::now() + self.deadline, what, at).await
    }

    async fn event_until(&mut self, until: Instant, what: &str, at: &Location<'_>) -> Event {
        match timeout_at(until, self.client.recv_event()).await {
            Ok(Some(event)) => {
                self.events.push(event.clone());
                event
            }
            Ok(None) => self.fail(at, &format!("waits for {what}, and nothing comes any more")),
            Err(_) => self.fail(at, &format!("has waited {:?} for {what}", self.deadline)),
        }
    }

    fn fail(&self, at: &Location<'_>, what: &str) -> ! {
        let first = self.events.len().saturating_sub(TOLD);
        let mut told: Vec<_> = self.events[first..].iter().map(short).collect();
        if first > 0 {
            told.insert(0, "...".to_owned());
        }
        let told = told.join("\n  ");
        panic!("{at}: the page at {} {what}. It was told so far:\n  {told}", self.path);
    }
}

/// An event in a line that can be read.
fn short(event: &Event) -> String {
    const LONGEST: usize = 200;
    let text = format!("{event:?}");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("path", &self.path).finish_non_exhaustive()
    }
}

//! Readers that are no clients: [`Session::observe`].

use std::{
    error::Error,
    fmt,
    pin::Pin,
    str::FromStr,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use futures_core::{FusedStream, Stream};
use session_resume_proto::{
    Message, Moment, Position, WireId,
    session::{self, NotObserved, Observation, ObserveFrom},
};
use tokio::task::coop;

use super::{
    Session,
    core::{Core, WakersDue},
    shared::Shared,
};
use crate::words::{durability::Urgency, observe};

/// Where an observer begins: see [`Session::observe`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum From {
    /// With the last [checkpoint](Session::send_checkpoint). Without one this is an error.
    Checkpoint,
    /// With what is sent from now on. Under [`Durability::Exact`](crate::Durability::Exact) that includes what was sent and is
    /// not on disk yet.
    Now,
    /// Where an earlier observer was, in this life of the session or an earlier one: [`Observe::cursor`]. What is not there
    /// any more is told as a gap.
    Position(Cursor),
    /// With the oldest message from which on nothing is missing: what a client needs, or the session
    /// [retains](crate::Retain). What was before is not told as a gap.
    Kept,
}

/// A place in what a session has sent: what comes next, and in which history. As text `<epoch>.<position>`, 1 to 85 of
/// `[A-Za-z0-9_.-]`, for example as the `id` of an event.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    epoch: WireId,
    next: Position,
}

impl Cursor {
    /// Returns the position of the next message.
    pub fn position(&self) -> u64 {
        self.next.get()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.next)
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({self})")
    }
}

/// The text is no cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct InvalidCursor;

impl fmt::Display for InvalidCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a cursor is `<epoch>.<position>`")
    }
}

impl Error for InvalidCursor {}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    /// Reads a cursor as it is written. Whether the session knows its history is found out where it is used.
    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (epoch, next) = text.split_once('.').ok_or(InvalidCursor)?;
        let is_number = !next.is_empty() && next.bytes().all(|digit| digit.is_ascii_digit());
        let next = next.parse().ok().filter(|_| is_number).ok_or(InvalidCursor)?;
        let epoch = WireId::parse(epoch).ok_or(InvalidCursor)?;
        let cursor = Self { epoch, next: Position::new(next) };
        // Only the canonical spelling.
        (cursor.to_string() == text).then_some(cursor).ok_or(InvalidCursor)
    }
}

/// What an observer gets: see [`Session::observe`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Observed {
    /// A message that was sent to all clients.
    #[non_exhaustive]
    Message {
        /// How many messages precede it. Numbers may be left out: those of messages for one client, and of values of a slot
        /// that were replaced.
        position: u64,
        /// The message.
        message: Message,
    },
    /// Messages are gone that the observer has not had. Some of them may not have been for all clients.
    #[non_exhaustive]
    Gap {
        /// The first position that may be missing. `None` if the history before is not known any more: the session was
        /// restored without its outbox, or the cursor is of another session.
        from: Option<u64>,
        /// The first position that is there again.
        to: u64,
    },
    /// The checkpoint is another one. One that a newer one has replaced before the observer came to it is not told.
    #[non_exhaustive]
    Checkpoint {
        /// The position of the next message, which is the [checkpoint](Session::send_checkpoint). `None` where the
        /// checkpoint was [cleared](Session::clear_checkpoint): all that was sent before was told before.
        position: Option<u64>,
    },
    /// The session has ended, with a store on disk, and the observer has had all there was. Nothing follows.
    Ended,
}

/// Why a session cannot be observed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ObserveError {
    /// The session has [`Limits::observers`](crate::Limits::observers) already.
    TooMany,
    /// The session has no checkpoint: [`From::Checkpoint`] alone.
    NoCheckpoint,
    /// The session has left this process's memory, or stands still: in a drain, or while its node is cut off. Look it up
    /// again.
    NotHere,
}

impl fmt::Display for ObserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooMany => "limits.observers reached",
            Self::NoCheckpoint => "the session has no checkpoint",
            Self::NotHere => "the session has left this process, or stands still",
        })
    }
}

impl Error for ObserveError {}

impl ObserveError {
    pub(super) fn from(why: NotObserved) -> Self {
        match why {
            NotObserved::TooMany => Self::TooMany,
            NotObserved::NoCheckpoint => Self::NoCheckpoint,
            NotObserved::Frozen => Self::NotHere,
        }
    }
}

/// A reader that is no client: what [`Session::observe`] returns.
///
/// The [`Stream`] ends after [`Observed::Ended`]. It ends without it when the session leaves this process: in a drain, for its
/// store, or for another node. An observer that goes on then looks the session up again, and observes it from its
/// [`cursor`](Self::cursor).
///
/// Dropping it ends the observation.
///
/// # Cancel safety
///
/// Cancel safe: what comes next is taken in the very poll that returns it.
pub struct Observe<T: Send + 'static = ()> {
    session: Arc<Shared<T>>,
    ticket: u32,
    cursor: Cursor,
    is_over: bool,
}

/// An observer waits for what comes next.
pub(super) struct Waiting {
    ticket: u32,
    waker: Waker,
}

impl Waiting {
    pub(super) fn wake(self) {
        self.waker.wake();
    }
}

impl<T: Send + 'static> Session<T> {
    /// Reads along what the session sends to all clients, without being one of them.
    ///
    /// An observer acknowledges nothing and holds nothing back: no `send` waits for it, and it keeps no message and no session
    /// alive. One that is slow is told a gap, when messages have left that it has not had:
    /// [`with_retention`](crate::SessionResume::with_retention) keeps more for it. It takes nobody's place, the handler is not
    /// told of it, and [`clients`](Self::clients) does not have it. Under
    /// [`Durability::Exact`](crate::Durability::Exact) it gets what is on disk.
    ///
    /// A session that has ended can be read, as far as it is in memory.
    ///
    /// Code that has a [`Session`] may observe it: ask first whether the request may.
    ///
    /// # Errors
    ///
    /// Returns [`ObserveError`] if the session has as many observers as
    /// [`Limits::observers`](crate::Limits::observers) says, if there is no checkpoint to begin with, or if the session is not
    /// here any more.
    ///
    /// # Example
    ///
    /// A program without a client of ours follows along, and goes on later where it was.
    ///
    /// ```
    /// # mod browser { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doctest/browser.rs")); }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> session_resume::Result {
    /// use futures_util::StreamExt as _;
    /// use session_resume::observe::{self, Cursor, Observed};
    /// # use session_resume::SessionResume;
    ///
    /// # let resume = SessionResume::new();
    /// # let mut browser = browser::Browser::default();
    /// # let session = browser.get(&resume).await;
    /// let mut events = session.observe(observe::From::Kept)?;
    /// session.send("one").await?;
    /// session.send("two").await?;
    /// let Some(Observed::Message { position: 0, message, .. }) = events.next().await else { panic!() };
    /// assert_eq!(message.as_text(), Some("one"));
    /// let seen = events.cursor().to_string();        // for example the `id` of an event
    /// drop(events);
    ///
    /// let mut events = session.observe(observe::From::Position(seen.parse()?))?;
    /// let Some(Observed::Message { message, .. }) = events.next().await else { panic!() };
    /// assert_eq!(message.as_text(), Some("two"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn observe(&self, from: From) -> Result<Observe<T>, ObserveError> {
        let from = match from {
            From::Checkpoint => ObserveFrom::Checkpoint,
            From::Now => ObserveFrom::Now,
            From::Kept => ObserveFrom::Kept,
            From::Position(Cursor { epoch, next }) => {
                ObserveFrom::Position { epoch, position: next }
            }
        };
        self.observe_as(|core, ticket, _| core.observe(from, ticket))
    }

    /// Observes what is sent from the last checkpoint on, until that is cleared or another one is sent.
    #[cfg(feature = "http")]
    pub(crate) fn observe_span(&self) -> Result<Observe<T>, ObserveError> {
        self.observe_as(|core, ticket, _| {
            core.observe(ObserveFrom::Checkpoint, ticket)?;
            core.machine.observe_span(ticket);
            Ok(())
        })
    }

    /// Makes an observer, as `begin` says.
    pub(super) fn observe_as<E>(
        &self,
        begin: impl FnOnce(&mut Core, u32, Moment) -> Result<(), E>,
    ) -> Result<Observe<T>, E> {
        let shared = &self.shared;
        shared.hush();
        let (ticket, cursor) = shared.with_core(|core, now| {
            let ticket = core.ticket();
            begin(core, ticket, now)?;
            core.name_epoch();
            let next = core.machine.observed_before(ticket).unwrap_or_default();
            Ok((ticket, Cursor { epoch: core.machine.epoch().token(), next }))
        })?;
        observe::observers(1.0);
        Ok(Observe { session: Arc::clone(shared), ticket, cursor, is_over: false })
    }
}

impl Core {
    fn observe(&mut self, from: ObserveFrom, ticket: u32) -> Result<(), ObserveError> {
        if self.life().has_left() {
            return Err(ObserveError::NotHere);
        }
        self.machine.observe(from, ticket).map_err(ObserveError::from)
    }

    /// A cursor names the epoch from now on: the record must say so, or a restart does not honour the cursor.
    pub(super) fn name_epoch(&mut self) {
        if !self.machine.names_epoch() {
            self.machine.expect_hello();
            if self.machine.rules().durable_outbox && !self.is_over() {
                self.changed(Urgency::Soon);
            }
        }
    }

    fn observer_waits(&mut self, ticket: u32, waker: &Waker) {
        let observers = &mut self.rare_mut().observers;
        match observers.iter_mut().find(|waiting| waiting.ticket == ticket) {
            Some(waiting) => waiting.waker.clone_from(waker),
            None => observers.push(Waiting { ticket, waker: waker.clone() }),
        }
    }

    /// Takes the observers that wait.
    pub(super) fn take_observers(&mut self, due: &mut WakersDue) {
        if let Some(rare) = self.rare.get_mut() {
            due.observers.append(&mut rare.observers);
        }
    }
}

impl<T: Send + 'static> Observe<T> {
    /// Returns where the observer is: [`From::Position`] goes on with what this one would get next.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// What may leave now was read in another way: what comes next is what comes after it.
    #[cfg(feature = "http")]
    pub(crate) fn hasten(&mut self) {
        let ticket = self.ticket;
        let next = self.session.step(|core| {
            core.machine.hasten_observer(ticket);
            core.machine.observed_before(ticket)
        });
        self.cursor.next = next.unwrap_or(self.cursor.next);
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let ticket = self.ticket;
        self.session.step(|core| {
            core.machine.end_observer(ticket);
            if let Some(rare) = core.rare() {
                rare.observers.retain(|waiting| waiting.ticket != ticket);
            }
            core.tidy();
        });
        observe::observers(-1.0);
    }
}

impl<T: Send + 'static> Stream for Observe<T> {
    type Item = Observed;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Observed>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let coop = ready!(coop::poll_proceed(cx));
        self.session.hush();
        let ticket = self.ticket;
        let (observation, next) = self.session.step(|core| {
            if core.life().has_left() {
                return (Observation::Over, None);
            }
            let observation = core.machine.poll_observed(ticket);
            if observation == Observation::Waits {
                core.observer_waits(ticket, cx.waker());
            }
            (observation, core.machine.observed_before(ticket))
        });
        self.cursor.next = next.unwrap_or(self.cursor.next);
        let observed = match observation {
            Observation::Waits => return Poll::Pending,
            Observation::Next(observed) => Some(told(observed)),
            Observation::Over => None,
        };
        coop.made_progress();
        if matches!(observed, None | Some(Observed::Ended)) {
            self.end();
        }
        Poll::Ready(observed)
    }
}

fn told(observed: session::Observed) -> Observed {
    match observed {
        session::Observed::Message { position, message } => {
            Observed::Message { position: position.get(), message }
        }
        session::Observed::Gap { from, to } => {
            Observed::Gap { from: from.map(Position::get), to: to.get() }
        }
        session::Observed::Checkpoint(position) => {
            Observed::Checkpoint { position: position.map(Position::get) }
        }
        session::Observed::Ended => Observed::Ended,
        _ => unreachable!("no other kind"),
    }
}

impl<T: Send + 'static> FusedStream for Observe<T> {
    fn is_terminated(&self) -> bool {
        self.is_over
    }
}

impl<T: Send + 'static> Drop for Observe<T> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<T: Send + 'static> fmt::Debug for Observe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observe").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        for text in ["e.0", "0123456789abcdef-1.18446744073709551615"] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "e",
            "e.",
            ".1",
            "e.01",
            "e.+1",
            "e.-1",
            "e.1.2",
            "e e.1",
            "e.18446744073709551616",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text}");
        }
    }
}

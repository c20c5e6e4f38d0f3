//! Messages for the handler that come from inside the server: [`Session::post`].

use std::{error::Error, fmt};

use session_resume_proto::{
    Message, Moment,
    session::{ClientName, Delivery, ObserveFrom, Undelivered, Who},
};

use super::{Observe, ObserveError, Session, core::Core, event::Peer};
use crate::{
    Identity,
    words::{durability::Urgency, refusal::Refusal},
};

/// Why a message is not in the inbox.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum PostError {
    /// The inbox has no room for it ([`Limits::inbox_messages`](crate::Limits::inbox_messages) and its neighbours), or the
    /// session stands still: in a drain, or while its node is cut off. Try again later.
    Full,
    /// The message is over [`Limits::message`](crate::Limits::message).
    TooLarge,
    /// The session has ended.
    Ended,
    /// The session has left this process's memory. Look it up again.
    NotHere,
    /// The session has [`Limits::observers`](crate::Limits::observers) already: [`Session::post_and_observe`] alone.
    TooManyObservers,
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the inbox is full, or the session stands still",
            Self::TooLarge => "message over the limit (limits.message)",
            Self::Ended => "the session has ended",
            Self::NotHere => "the session has left this process",
            Self::TooManyObservers => "limits.observers reached",
        })
    }
}

impl Error for PostError {}

/// How a client is told whose request it was.
impl From<PostError> for Refusal {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Full | PostError::Ended => Self::inbox_full(),
            PostError::TooLarge => Self::too_big(),
            PostError::NotHere => Self::moved_meanwhile(),
            PostError::TooManyObservers => Self::too_many_observers(),
        }
        .counted()
    }
}

impl<T: Send + 'static> Session<T> {
    /// Puts a message into the session's inbox, as if a plain client of this identity had sent it: the handler receives it in
    /// its turn.
    ///
    /// The limits of the inbox hold as for any client, those of a second included. Posting is activity. It does not start the
    /// handler: a request does that, such as a WebSocket upgrade or `ResumeStart`. Without a handler the message waits for one.
    ///
    /// The identity is in the session from then on. Code that has a [`Session`] may post to it: ask first whether the request
    /// may.
    ///
    /// # Errors
    ///
    /// Returns [`PostError`] if the message is not in the inbox.
    ///
    /// # Example
    ///
    /// ```
    /// # mod browser { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doctest/browser.rs")); }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> session_resume::Result {
    /// use session_resume::{LiveSession, SessionResume};
    ///
    /// async fn live(mut session: LiveSession) -> session_resume::Result {
    ///     while let Some(message) = session.recv().await {
    ///         session.send(message).await?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # let resume = SessionResume::new();
    /// # let mut browser = browser::Browser::default();
    /// # let mut page = browser.open(&resume, http::Request::get("/live"), live).await;
    /// # let session = browser.get(&resume).await;
    /// // A webhook, for example.
    /// session.post(session.identity(), "it is paid")?;
    /// # assert_eq!(page.receive().await, "it is paid");
    /// # Ok(())
    /// # }
    /// ```
    pub fn post(&self, identity: Identity, message: impl Into<Message>) -> Result<(), PostError> {
        let message = message.into();
        self.shared.hush();
        self.shared.with_core(|core, now| core.post(identity, message, now)).map(|_| ())
    }

    /// As [`post`](Self::post), and [observes](Self::observe) the session from the moment on at which the handler takes this
    /// message: what it sends then is perhaps the answer. What it sends for messages before this one is not observed.
    ///
    /// The observer gets nothing before that moment. If the session ends first, it gets
    /// [`Observed::Ended`](crate::observe::Observed::Ended).
    ///
    /// # Errors
    ///
    /// Returns [`PostError`] if the message is not in the inbox, or nobody more may observe the session; then it is not in the
    /// inbox either.
    ///
    /// # Example
    ///
    /// ```
    /// # mod browser { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doctest/browser.rs")); }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> session_resume::Result {
    /// use futures_util::StreamExt as _;
    /// use session_resume::{LiveSession, SessionResume, observe::Observed};
    ///
    /// async fn live(mut session: LiveSession) -> session_resume::Result {
    ///     while let Some(message) = session.recv().await {
    ///         session.send(message).await?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # let resume = SessionResume::new();
    /// # let mut browser = browser::Browser::default();
    /// # let page = browser.open(&resume, http::Request::get("/live"), live).await;
    /// # let session = browser.get(&resume).await;
    /// session.post(session.identity(), "one")?;
    /// let mut events = session.post_and_observe(session.identity(), "two")?;
    /// let Some(Observed::Message { message, .. }) = events.next().await else { panic!() };
    /// assert_eq!(message.as_text(), Some("two"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn post_and_observe(
        &self,
        identity: Identity,
        message: impl Into<Message>,
    ) -> Result<Observe<T>, PostError> {
        self.post_and_observe_as(identity, message.into(), |_, _| {})
    }

    /// As [`post_and_observe`](Self::post_and_observe), for one span alone.
    #[cfg(feature = "http")]
    pub(crate) fn post_and_observe_span(
        &self,
        identity: Identity,
        message: Message,
    ) -> Result<Observe<T>, PostError> {
        self.post_and_observe_as(identity, message, |core, ticket| {
            core.machine.observe_span(ticket);
        })
    }

    fn post_and_observe_as(
        &self,
        identity: Identity,
        message: Message,
        begin: impl FnOnce(&mut Core, u32),
    ) -> Result<Observe<T>, PostError> {
        self.observe_as(|core, ticket, now| {
            if core.life().has_left() {
                return Err(PostError::NotHere);
            }
            core.machine.observe(ObserveFrom::Now, ticket).map_err(
                |why| match ObserveError::from(why) {
                    ObserveError::TooMany => PostError::TooManyObservers,
                    ObserveError::NotHere | ObserveError::NoCheckpoint => PostError::Full,
                },
            )?;
            match core.post(identity, message, now) {
                Ok(delivery) => {
                    core.machine.observe_from_taking(ticket, delivery);
                    begin(core, ticket);
                }
                Err(error) => {
                    core.machine.end_observer(ticket);
                    return Err(error);
                }
            }
            Ok(())
        })
    }
}

impl Core {
    fn post(
        &mut self,
        identity: Identity,
        message: Message,
        now: Moment,
    ) -> Result<Option<Delivery>, PostError> {
        if self.life().has_left() {
            return Err(PostError::NotHere);
        }
        let who = Who { name: ClientName::plain(identity.tag()), info: Peer::new() };
        let delivery = self.machine.deliver(&who, message, None, now).map_err(|why| match why {
            Undelivered::Full | Undelivered::OtherMessage => PostError::Full,
            Undelivered::TooBig => PostError::TooLarge,
            Undelivered::Ended => PostError::Ended,
        })?;
        self.changed(Urgency::Soon);
        Ok(delivery)
    }
}

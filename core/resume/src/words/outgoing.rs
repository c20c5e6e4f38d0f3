//! A message on its way out.

use std::time::Duration;

use session_resume_proto::Message;

/// A message to send, and how long it is worth sending. Whatever makes a [`Message`] makes one of these, too.
///
/// ```
/// # use std::time::Duration;
/// # use session_resume::{Outgoing, Session};
/// # async fn example(session: Session) -> session_resume::Result {
/// session.send("kept until every client has it").await?;
/// session.send(Outgoing::new("typing …").with_time_to_live(Duration::from_secs(5))).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    pub(crate) message: Message,
    pub(crate) time_to_live: Option<Duration>,
}

impl Outgoing {
    /// A message that is kept until every client has it.
    pub fn new(message: impl Into<Message>) -> Self {
        Self { message: message.into(), time_to_live: None }
    }

    /// From this time on the message is not sent any more: a client that comes back later does not get it, and is told
    /// of no gap. The time begins when the message is in the outbox. A client that has been sent it may take it later.
    #[must_use]
    pub fn with_time_to_live(mut self, time: Duration) -> Self {
        self.time_to_live = Some(time);
        self
    }
}

impl<M: Into<Message>> From<M> for Outgoing {
    fn from(message: M) -> Self {
        Self::new(message)
    }
}

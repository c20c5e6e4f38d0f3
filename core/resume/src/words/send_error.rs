//! Why a message was not sent.

use std::{error::Error, fmt};

use session_resume_proto::{
    Message,
    session::{Bounds, NotSent},
};

/// A message was not sent. The error says why, and gives the message back.
///
/// A pointer: the `Result` of a send stays small, and only a send that fails allocates.
pub struct SendError(Box<Unsent>);

/// Why a message was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SendErrorKind {
    /// The session has ended, or it has left this process's memory.
    Ended,
    /// The message is over [`Limits::message`](crate::Limits::message). The session goes on.
    TooLarge,
    /// Output that is not committed fills the outbox alone, so waiting does not help:
    /// [`commit`](crate::LiveSession::commit) makes room.
    Uncommitted,
    /// The session keeps no messages for the client that it is for: it does not know the client, others have pushed
    /// it out or taken the session over, or it was away while the outbox was full.
    NotThere,
    /// There is no room in the outbox now. Only a send that does not wait returns this.
    Full,
    /// The value cannot be written as JSON. [`source`](Error::source) says what is wrong with it.
    Json,
}

struct Unsent {
    why: Why,
    message: Option<Message>,
}

#[derive(Debug)]
enum Why {
    Ended,
    TooLarge { limit: usize },
    Uncommitted { messages: usize, bytes: usize },
    Full,
    NotThere,
    Json(serde_json::Error),
}

impl SendError {
    pub(crate) fn new(why: NotSent, message: Option<Message>, bounds: &Bounds) -> Self {
        let why = match why {
            NotSent::Full => Why::Full,
            NotSent::Gone => Why::NotThere,
            NotSent::Ended => Why::Ended,
            NotSent::TooLarge(limit) => Why::TooLarge { limit },
            NotSent::Uncommitted => {
                Why::Uncommitted { messages: bounds.outbox_messages, bytes: bounds.outbox_bytes }
            }
        };
        Self(Box::new(Unsent { why, message }))
    }

    /// The session is over. There is no message if none was made.
    pub(crate) fn ended(message: Option<Message>) -> Self {
        Self(Box::new(Unsent { why: Why::Ended, message }))
    }

    pub(crate) fn json(error: serde_json::Error) -> Self {
        Self(Box::new(Unsent { why: Why::Json(error), message: None }))
    }

    /// Returns why the message was not sent.
    pub fn kind(&self) -> SendErrorKind {
        match self.0.why {
            Why::Ended => SendErrorKind::Ended,
            Why::TooLarge { .. } => SendErrorKind::TooLarge,
            Why::Uncommitted { .. } => SendErrorKind::Uncommitted,
            Why::Full => SendErrorKind::Full,
            Why::NotThere => SendErrorKind::NotThere,
            Why::Json(_) => SendErrorKind::Json,
        }
    }

    /// Returns the message. `None` if there is none yet: the value of a `send_json` is not JSON, or the closure of a
    /// `send_with` has not run.
    pub fn into_message(self) -> Option<Message> {
        self.0.message
    }
}

/// Without the message: it may be long, or secret.
impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").field("why", &self.0.why).finish_non_exhaustive()
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.why {
            Why::Ended => f.write_str("the session has ended"),
            Why::TooLarge { limit } => write!(f, "message over the limit of {limit} bytes"),
            Why::Uncommitted { messages, bytes } => write!(
                f,
                "uncommitted output fills the outbox (limits.outbox_messages is {messages}, limits.outbox_bytes \
                 {bytes}): call commit() in between"
            ),
            Why::Full => f.write_str("the outbox is full"),
            Why::NotThere => f.write_str(
                "the session keeps no messages for this client: it is unknown, was pushed out or taken over from, or \
                 was away while the outbox was full",
            ),
            Why::Json(_) => f.write_str("the value cannot be written as JSON"),
        }
    }
}

impl Error for SendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0.why {
            Why::Json(error) => Some(error),
            Why::Ended
            | Why::TooLarge { .. }
            | Why::Uncommitted { .. }
            | Why::Full
            | Why::NotThere => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn an_error_is_a_word_long_and_does_not_show_its_message() {
        assert_eq!(size_of::<Result<(), SendError>>(), size_of::<usize>());
        let error = SendError::ended(Some("password".into()));
        let shown = format!("{error:?}; {error}");
        assert_eq!(shown, "SendError { why: Ended, .. }; the session has ended");
        assert_eq!(error.into_message(), Some("password".into()));
    }

    #[test]
    fn what_is_wrong_with_a_value_is_the_cause() {
        let error = serde_json::to_string(&HashMap::from([((1, 2), 3)])).unwrap_err();
        let error = SendError::json(error);
        assert_eq!(error.kind(), SendErrorKind::Json);
        assert!(error.source().unwrap().is::<serde_json::Error>());
        assert_eq!(error.into_message(), None);
    }
}

//! Why a handler that does not wait for a message has none.

use std::{error::Error, fmt};

/// Why [`try_recv`](crate::BlockingSession::try_recv), [`recv_timeout`](crate::BlockingSession::recv_timeout) and
/// [`try_urgent`](crate::BlockingSession::try_urgent) return no message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum NoMessage {
    /// None has come yet.
    Yet,
    /// The session is over: none will come, and the handler should return.
    Over,
}

impl fmt::Display for NoMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yet => "no message has come yet",
            Self::Over => "the session is over",
        })
    }
}

impl Error for NoMessage {}

//! How durable what a session does is.

use std::{fmt, sync::Arc};

/// How much a crash may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Durability {
    /// State and handled messages are exact through `kill -9`. Messages to clients go out at once: a graceful
    /// drain stores those that are unacknowledged, and no client notices; after a kill clients are told a gap
    /// `restarted`.
    #[default]
    State,
    /// The outbox is part of every commit, and a message leaves only after the commit that covers it: exactly
    /// once both ways through `kill -9`, for the latency of one group commit.
    Exact,
}

/// Something is not on disk: the store did not take it (it is tried again, and nothing was acknowledged
/// meanwhile), or the session has ended, or it is its own handler that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitError {
    text: Arc<str>,
}

impl CommitError {
    pub(crate) fn new(error: &dyn fmt::Display) -> Self {
        Self { text: error.to_string().into() }
    }

    pub(crate) fn ended() -> Self {
        Self { text: "the session has ended".into() }
    }

    pub(crate) fn in_hand() -> Self {
        let text =
            "the handler has a message in hand and would wait for its own next recv: call commit()";
        Self { text: text.into() }
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not committed: {}", self.text)
    }
}

impl std::error::Error for CommitError {}

/// How urgently a session wants to be saved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Urgency {
    /// Within the flush interval.
    Soon,
    /// With the next commit.
    Now,
}

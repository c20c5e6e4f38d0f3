//! Why something is not on disk.

use std::{error::Error, fmt, sync::Arc};

use crate::words::store::StoreError;

/// Something is not on disk.
#[derive(Clone, Debug)]
pub struct CommitError(NotSaved);

/// Why something is not on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum CommitErrorKind {
    /// The store has not taken the snapshot. [`source`](Error::source) is its
    /// [`StoreError`](crate::store::StoreError). The snapshot is tried again, and nothing was acknowledged
    /// meanwhile.
    Store,
    /// The session has ended, or it has left this process's memory.
    Ended,
    /// The handler waits with a message in hand, and what it waits for gets on disk only when the message is handled:
    /// call [`commit`](crate::LiveSession::commit) instead.
    MessageInHand,
}

#[derive(Clone, Debug)]
enum NotSaved {
    Store(Arc<StoreError>),
    Ended,
    MessageInHand,
}

impl CommitError {
    pub(crate) fn by_store(error: StoreError) -> Self {
        Self(NotSaved::Store(Arc::new(error)))
    }

    pub(crate) fn ended() -> Self {
        Self(NotSaved::Ended)
    }

    pub(crate) fn message_in_hand() -> Self {
        Self(NotSaved::MessageInHand)
    }

    /// Returns why something is not on disk.
    pub fn kind(&self) -> CommitErrorKind {
        match self.0 {
            NotSaved::Store(_) => CommitErrorKind::Store,
            NotSaved::Ended => CommitErrorKind::Ended,
            NotSaved::MessageInHand => CommitErrorKind::MessageInHand,
        }
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            NotSaved::Store(_) => "not committed: the store has not taken the snapshot",
            NotSaved::Ended => "not committed: the session has ended",
            NotSaved::MessageInHand => {
                "not committed: the handler has a message in hand and would wait for its own next recv: call commit()"
            }
        })
    }
}

impl Error for CommitError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            NotSaved::Store(error) => Some(&**error),
            NotSaved::Ended | NotSaved::MessageInHand => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ErrorKind;

    #[test]
    fn the_causes_of_the_store_are_kept() {
        let error = CommitError::by_store(StoreError::new(ErrorKind::Full, "100 MiB"));
        assert_eq!(error.kind(), CommitErrorKind::Store);
        let store = error.source().unwrap();
        assert_eq!(store.downcast_ref::<StoreError>().unwrap().kind(), ErrorKind::Full);
        assert_eq!(store.source().unwrap().to_string(), "100 MiB");
        assert!(CommitError::ended().source().is_none());
    }
}

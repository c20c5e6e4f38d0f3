use std::{fmt, time::SystemTime};

use super::record::{self, KeyRecord, SessionRecord};
use crate::words::record_error::RecordError;
use crate::{Identity, SessionId, words::store::StoreError};

/// What is kept of a session whose state did not fit its type any more.
///
/// Read from a record of the kind [`RecordKind::Unreadable`](crate::store::RecordKind::Unreadable);
/// [`Unreadable`](crate::Unreadable) says when there is one and how to get at it.
#[derive(Clone)]
pub struct SetAside(Box<SessionRecord>);

impl SetAside {
    /// Reads such a record.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooNew`](crate::store::ErrorKind::TooNew) and [`ErrorKind::Corrupt`](crate::store::ErrorKind::Corrupt)
    /// if another version of this crate has written it, or if it is damaged or another kind of record.
    pub fn read(bytes: &[u8]) -> Result<Self, StoreError> {
        match record::decode(bytes)? {
            KeyRecord::Live(record) => Ok(Self(record)),
            KeyRecord::Ended(_) => Err(RecordError::Corrupt.into()),
        }
    }

    /// Returns the session's id.
    pub fn session(&self) -> SessionId {
        self.0.session
    }

    /// Returns the identity that had started the session.
    pub fn identity(&self) -> Identity {
        self.0.identity
    }

    /// Returns the name of the handler that it ran, if that had one.
    pub fn handler(&self) -> Option<&str> {
        self.0.handler.as_deref()
    }

    /// Returns when the session was created.
    pub fn created(&self) -> SystemTime {
        self.0.created.time()
    }

    /// Returns when its state last changed.
    pub fn updated(&self) -> SystemTime {
        self.0.updated.time()
    }

    /// Returns its state, as the JSON that was written of it.
    pub fn state(&self) -> &[u8] {
        &self.0.state
    }
}

// By hand: the state is a user's.
impl fmt::Debug for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetAside").field("session", &self.0.session).finish_non_exhaustive()
    }
}

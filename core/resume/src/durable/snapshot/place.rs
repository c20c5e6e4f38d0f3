//! Where things are in the store.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use super::record::{self, IdRecord, Millis, OutcomeRecord};
use crate::{
    SessionId,
    words::store::{
        ErrorKind, RecordKind, Stamp, StoreError, StoreKey, Versioned, deadline::Punctual,
        erased::ErasedStore,
    },
};

/// The store as the layer knows it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_field_names, reason = "the store that the layer's name is in")]
pub(crate) struct Store {
    pub(crate) store: Arc<dyn ErasedStore>,
    /// The application's own, without a deadline.
    bare: Arc<dyn ErasedStore>,
    /// The layer's name in the store.
    pub(crate) name: Arc<str>,
}

impl Store {
    /// A store whose calls have this deadline.
    pub(crate) fn new(store: Arc<dyn ErasedStore>, name: Arc<str>, timeout: Duration) -> Self {
        Self { store: Arc::new(Punctual::new(Arc::clone(&store), timeout)), bare: store, name }
    }

    /// The same store with another deadline.
    pub(crate) fn with_timeout(&self, timeout: Duration) -> Self {
        Self::new(Arc::clone(&self.bare), Arc::clone(&self.name), timeout)
    }

    /// Returns where the session of this key is.
    ///
    /// Keys of sessions are at most 560 bytes and names are checked when they are set, so it fits.
    pub(crate) fn session_key(&self, key: &[u8]) -> StoreKey {
        StoreKey::new(RecordKind::Session, &self.name, key).expect("session keys are bounded")
    }

    /// Returns where the outcome of this session is.
    pub(crate) fn id_key(&self, id: SessionId) -> StoreKey {
        StoreKey::new(RecordKind::Outcome, &self.name, id.as_uuid().as_bytes())
            .expect("session ids are 16 bytes")
    }

    /// Returns where the mark is on a session to which no client has come back, made at this time.
    pub(crate) fn visitor_key(&self, created: Millis, key: &[u8]) -> StoreKey {
        let id = [&created.get().to_be_bytes(), key].concat();
        StoreKey::new(RecordKind::Visitor, &self.name, &id).expect("session keys are bounded")
    }

    /// Returns where the record of this session is kept if its state cannot be read.
    pub(crate) fn aside_key(&self, id: SessionId) -> StoreKey {
        StoreKey::new(RecordKind::Unreadable, &self.name, id.as_uuid().as_bytes())
            .expect("session ids are 16 bytes")
    }

    /// Returns how many records are kept aside; `None` if the store cannot tell.
    pub(crate) fn count_aside(&self) -> Option<usize> {
        self.store.count(RecordKind::Unreadable, &self.name)
    }

    /// Returns how many sessions are stored, and to how many of these no client has come back; `None` if the store
    /// cannot tell.
    pub(crate) fn census(&self) -> Option<(usize, usize)> {
        let count = |kind| self.store.count(kind, &self.name);
        Some((count(RecordKind::Session)?, count(RecordKind::Visitor)?))
    }

    /// Puts what is known by a session's id: over what its line has put there before, or for the first time.
    pub(crate) async fn put_by_id(
        &self,
        id: SessionId,
        stamp: Stamp,
        record: &IdRecord,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        let at = self.id_key(id);
        self.put_or_make(&at, stamp, record::encode(record), expires_in).await.map(drop)
    }

    /// Keeps a copy of the record of a session whose state cannot be read; returns whether there was none yet.
    pub(crate) async fn put_aside(
        &self,
        id: SessionId,
        stored: &Versioned,
        expires_in: Duration,
    ) -> Result<bool, StoreError> {
        let at = self.aside_key(id);
        // With the stamp of what it is a copy of: an older copy never takes the place of a newer one.
        let copied = self.put_or_make(&at, stored.stamp, stored.bytes.clone(), expires_in).await;
        match copied {
            Err(error) if error.kind() == ErrorKind::Stale => Ok(false),
            copied => copied,
        }
    }

    /// Puts a record over what its line has put there before, or makes it; returns whether it was made.
    async fn put_or_make(
        &self,
        at: &StoreKey,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> Result<bool, StoreError> {
        loop {
            let put = self.store.put(at, stamp, bytes.clone(), expires_in).await;
            if !is(&put, ErrorKind::NotFound) {
                return put.map(|()| false);
            }
            let claimed = self.store.claim(at, None, stamp, bytes.clone(), expires_in).await;
            // Another owner of the session has come first: the next put is judged by that.
            if !is(&claimed, ErrorKind::Stale) {
                return claimed.map(|()| true);
            }
        }
    }

    /// Makes sure that the outcome of a final record can be found by the session's id. Its process may have
    /// died before it could.
    pub(crate) async fn publish(
        &self,
        last: &Versioned,
        outcome: OutcomeRecord,
    ) -> Result<(), StoreError> {
        let id = SessionId::of_line(last.stamp.line);
        let known = self.store.load(&self.id_key(id)).await?;
        let known = known.map(|stored| record::decode::<IdRecord>(&stored.bytes)).transpose()?;
        if matches!(known, Some(IdRecord::Ended(_))) {
            return Ok(());
        }
        self.put_by_id(id, last.stamp, &IdRecord::Ended(outcome), last.expires_in).await
    }
}

/// Whether a call was refused like this.
pub(crate) fn is<R>(result: &Result<R, StoreError>, kind: ErrorKind) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == kind)
}

/// Returns the session key in a [mark](Store::visitor_key).
pub(crate) fn marked(mark: &StoreKey) -> &[u8] {
    mark.id().get(size_of::<u64>()..).unwrap_or_default()
}

/// The error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> impl fmt::Display {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

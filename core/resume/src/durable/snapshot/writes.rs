//! Writes to the store that are more than one call.

use std::time::Duration;

use bytes::Bytes;

use super::record::{self, IdRecord, OutcomeRecord};
use crate::{
    SessionId,
    words::store::{
        ErrorKind, Stamp, StoreError, StoreKey, Versioned,
        named::{Store, is},
    },
};

impl Store {
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

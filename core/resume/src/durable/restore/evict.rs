//! Removes from the store what no client can ask for any more, and makes room in a store that is full.

use crate::{
    durable::snapshot::record::{self, KeyRecord},
    live::registry::Registry,
    words::{
        errors::chain,
        key::SessionKey,
        observe,
        store::{
            RecordKind, Stamp, StoreError, StoreKey,
            named::{Store, marked},
        },
    },
};

/// The number of sessions that are looked at before the store is counted again.
const AT_ONCE: usize = 1024;

impl<T: Send + 'static> Registry<T> {
    /// Deletes what no client can ask for any more.
    pub(crate) async fn delete_expired(&self) {
        const AT_ONCE: usize = 1024;
        let Some(store) = &self.config().store else {
            return;
        };
        if !self.trusts_the_clock() {
            return;
        }
        loop {
            match store.store.delete_expired(AT_ONCE).await {
                Ok(AT_ONCE) => {}
                Ok(_) => return,
                Err(error) => {
                    observe::store_failed();
                    tracing::warn!(error = %chain(&error), "expired records not deleted");
                    return;
                }
            }
        }
    }

    /// Deletes stored sessions to which no client has come back, the oldest first: as many as there are beyond
    /// `max_stored`, and all of them beyond half of that.
    pub(crate) async fn evict_visitors(&self) {
        let Some(store) = self.config().store.clone() else {
            return;
        };
        let max = self.config().limits.max_stored;
        while let Some((stored, visitors)) = store.census() {
            let beyond = stored.saturating_sub(max).max(visitors.saturating_sub(max / 2));
            let wanted = beyond.min(visitors).min(AT_ONCE);
            if wanted == 0 {
                return;
            }
            match self.evict_some(&store, wanted).await {
                Ok(0) => return,
                Ok(evicted) => {
                    tracing::warn!(evicted, stored, "the store is full (limits.max_stored)");
                }
                Err(error) => {
                    observe::store_failed();
                    tracing::warn!(error = %chain(&error), "no room made in the store");
                    return;
                }
            }
        }
    }

    async fn evict_some(&self, store: &Store, wanted: usize) -> Result<usize, StoreError> {
        // Those in memory stay.
        let limit = wanted.saturating_add(self.live());
        let marks = store.store.first(RecordKind::Visitor, &store.name, limit).await?;
        let mut evicted = 0;
        for mark in marks {
            if evicted == wanted {
                break;
            }
            evicted += usize::from(self.evict(store, &mark).await?);
        }
        Ok(evicted)
    }

    /// Deletes the session that has this mark, and the mark; `false` if it is in memory.
    async fn evict(&self, store: &Store, mark: &StoreKey) -> Result<bool, StoreError> {
        let bytes = marked(mark);
        let Some(marked) = store.store.load(mark).await? else {
            return Ok(true);
        };
        if let Some(key) = SessionKey::from_bytes(bytes) {
            // No other task restores it meanwhile.
            let _alone = self.alone(&key).await;
            if self.by_key(&key).is_some() {
                return Ok(false);
            }
            let at = store.session_key(bytes);
            // If there is another claim, a client has come back to it after all.
            if let Some(stored) = store.store.load(&at).await?
                && stored.stamp.same_fence(marked.stamp)
                && let Ok(KeyRecord::Live(record)) = record::decode(&stored.bytes)
            {
                let last = last_of(stored.stamp);
                store.store.remove(&store.id_key(record.session), last).await?;
                store.store.remove(&at, last).await?;
            }
        }
        store.store.remove(mark, last_of(marked.stamp)).await?;
        Ok(true)
    }
}

/// The last write of an owner that is gone: nothing of it comes later.
fn last_of(stamp: Stamp) -> Stamp {
    Stamp { number: u64::MAX, ..stamp }
}

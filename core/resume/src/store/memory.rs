use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;

use super::{ErrorKind, Generation, SnapshotStore, StoreError, StoreKey, Versioned};

/// Keeps records in memory, up to a limit: for tests, and to try restarts within one process.
///
/// Clones share the records and the identity key. Nothing survives the process, so this store breaks
/// rule 2 of [`SnapshotStore`] by its nature; it keeps all others. When the next record does not fit,
/// it is refused as [`ErrorKind::Full`] and everything stored stays.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    identity_key: [u8; 64],
    max_bytes: usize,
    records: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    by_key: BTreeMap<StoreKey, Versioned>,
    /// Has exactly one entry for each of `by_key`.
    by_expiry: BTreeSet<(SystemTime, StoreKey)>,
    /// The sum of `cost` over `by_key`.
    bytes: usize,
}

/// What a record takes beside its key (twice, in both maps) and bytes, roughly.
const OVERHEAD: usize = 192;

impl MemoryStore {
    /// The limit of [`new`](Self::new): 64 MiB.
    pub const DEFAULT_MAX_BYTES: usize = 64 << 20;

    /// Creates an empty store that holds up to 64 MiB.
    ///
    /// # Panics
    ///
    /// If the operating system has no random bytes for the identity key.
    pub fn new() -> Self {
        Self::with_max_bytes(Self::DEFAULT_MAX_BYTES)
    }

    /// Creates an empty store that holds up to `max_bytes`: keys, bytes and 192 bytes for each record.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn with_max_bytes(max_bytes: usize) -> Self {
        let mut identity_key = [0; 64];
        getrandom::fill(&mut identity_key).expect("the operating system has random bytes");
        Self { shared: Arc::new(Shared { identity_key, max_bytes, records: Mutex::default() }) }
    }

    // No call can panic half way through a change, so a poisoned lock guards whole records.
    fn lock(&self) -> MutexGuard<'_, Records> {
        self.shared.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl SnapshotStore for MemoryStore {
    async fn load(&self, key: &StoreKey) -> Result<Option<Versioned>, StoreError> {
        Ok(self.lock().by_key.get(key).cloned())
    }

    async fn put(
        &self,
        key: &StoreKey,
        generation: Generation,
        bytes: Bytes,
        expires: SystemTime,
    ) -> Result<(), StoreError> {
        let mut records = self.lock();
        let freed = records.owned_by(key, generation)?.map_or(0, |old| cost(key, old));
        let record = Versioned { generation, bytes, expires };
        let used = (records.bytes - freed).saturating_add(cost(key, &record));
        if used > self.shared.max_bytes {
            return Err(ErrorKind::Full.into());
        }
        records.take(key);
        records.insert(key.clone(), record);
        Ok(())
    }

    async fn touch(
        &self,
        key: &StoreKey,
        generation: Generation,
        expires: SystemTime,
    ) -> Result<(), StoreError> {
        let mut records = self.lock();
        records.owned_by(key, generation)?;
        let record = records.take(key).ok_or(ErrorKind::NotFound)?;
        records.insert(key.clone(), Versioned { expires, ..record });
        Ok(())
    }

    async fn remove(&self, key: &StoreKey, generation: Generation) -> Result<(), StoreError> {
        let mut records = self.lock();
        records.owned_by(key, generation)?;
        records.take(key);
        Ok(())
    }

    async fn delete_expired(&self, now: SystemTime, limit: usize) -> Result<usize, StoreError> {
        let mut records = self.lock();
        let mut deleted = 0;
        while deleted < limit
            && let Some((expires, key)) = records.by_expiry.first()
            && *expires <= now
        {
            let key = key.clone();
            records.take(&key);
            deleted += 1;
        }
        Ok(deleted)
    }

    fn identity_key(&self) -> Option<[u8; 64]> {
        Some(self.shared.identity_key)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = self.lock();
        f.debug_struct("MemoryStore")
            .field("records", &records.by_key.len())
            .field("bytes", &records.bytes)
            .field("max_bytes", &self.shared.max_bytes)
            .finish_non_exhaustive()
    }
}

impl Records {
    /// Returns the record under `key`, if any, unless somebody newer than `generation` owns it.
    fn owned_by(
        &self,
        key: &StoreKey,
        generation: Generation,
    ) -> Result<Option<&Versioned>, StoreError> {
        match self.by_key.get(key) {
            Some(record) if record.generation > generation => Err(ErrorKind::Stale.into()),
            found => Ok(found),
        }
    }

    fn take(&mut self, key: &StoreKey) -> Option<Versioned> {
        let (key, record) = self.by_key.remove_entry(key)?;
        self.bytes -= cost(&key, &record);
        self.by_expiry.remove(&(record.expires, key));
        Some(record)
    }

    /// `key` is not in the map.
    fn insert(&mut self, key: StoreKey, record: Versioned) {
        self.bytes += cost(&key, &record);
        self.by_expiry.insert((record.expires, key.clone()));
        self.by_key.insert(key, record);
    }
}

fn cost(key: &StoreKey, record: &Versioned) -> usize {
    OVERHEAD + key.as_bytes().len() + record.bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{RecordKind, contract};

    fn key(id: &str) -> StoreKey {
        StoreKey::new(RecordKind::Session, "live", id.as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn the_contract_holds() {
        contract::check(&MemoryStore::new()).await;
        let store = MemoryStore::new();
        contract::check_reopen(async || store.clone()).await;
    }

    #[tokio::test]
    async fn a_full_store_refuses_and_keeps_everything() {
        let (a, b) = (key("a"), key("b"));
        let (g, t) = (Generation::new(1), SystemTime::UNIX_EPOCH);
        let one = OVERHEAD + a.as_bytes().len() + 100;
        let store = MemoryStore::with_max_bytes(2 * one);
        let bytes = |n: usize| Bytes::from(vec![7; n]);

        store.put(&a, g, bytes(100), t).await.unwrap();
        store.put(&b, g, bytes(100), t).await.unwrap();
        for (key, len) in [(&a, 101), (&key("c"), 0), (&a, usize::MAX >> 40)] {
            let err = store.put(key, g, bytes(len), t).await.unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Full);
        }
        assert_eq!(store.load(&a).await.unwrap().unwrap().bytes.len(), 100);
        // Room comes back by shrinking, by removal and by expiry.
        store.put(&a, g, bytes(0), t).await.unwrap();
        store.put(&b, g, bytes(200), t).await.unwrap();
        store.remove(&b, g).await.unwrap();
        store.put(&a, g, bytes(300), t).await.unwrap();
        assert_eq!(store.delete_expired(t, 9).await.unwrap(), 1);
        assert_eq!(store.lock().bytes, 0);
        store.put(&b, g, bytes(one + 100), t).await.unwrap();
    }

    #[tokio::test]
    async fn debug_prints_counts_alone() {
        let store = MemoryStore::new();
        let (g, t) = (Generation::new(1), SystemTime::UNIX_EPOCH);
        store.put(&key("hunter2"), g, "hunter2".into(), t).await.unwrap();
        let text = format!("{store:?}");
        assert!(text.starts_with("MemoryStore { records: 1, bytes: "), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("identity"), "{text}");
    }
}

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{
    ErrorKind, LayerNames, RecordKind, SnapshotStore, Stamp, StoreError, StoreKey, Verdict,
    Versioned, nodes::Nodes,
};
use crate::words::wall::{self, later};

/// Keeps records in memory, up to a limit: for tests, and to try restarts within one process.
///
/// Clones share the records and the identity key. Nothing survives the process, so this store breaks
/// rule 2 of [`SnapshotStore`] by its nature; it keeps all others. When the next record does not fit,
/// it is refused as [`ErrorKind::Full`] and everything stored stays.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    names: LayerNames,
}

struct Shared {
    identity_key: [u8; 64],
    max_bytes: usize,
    records: Mutex<Records>,
    nodes: Mutex<Nodes>,
}

#[derive(Default)]
struct Records {
    by_key: BTreeMap<StoreKey, Record>,
    /// Has exactly one entry for each of `by_key`.
    by_expiry: BTreeSet<(SystemTime, StoreKey)>,
    /// How many of `by_key` begin so: by kind and layer. Never zero.
    counts: BTreeMap<Vec<u8>, usize>,
    /// The sum of `cost` over `by_key`.
    bytes: usize,
    /// How far the store's clock is ahead of the wall's.
    ahead: Duration,
}

struct Record {
    stamp: Stamp,
    bytes: Bytes,
    expires: SystemTime,
}

/// What a record takes beside its key (twice, in both maps) and bytes, roughly.
const OVERHEAD: usize = 224;

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

    /// Creates an empty store that holds up to `max_bytes`: keys, bytes and 224 bytes for each record.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn with_max_bytes(max_bytes: usize) -> Self {
        let mut identity_key = [0; 64];
        getrandom::fill(&mut identity_key).expect("the operating system has random bytes");
        Self {
            shared: Arc::new(Shared {
                identity_key,
                max_bytes,
                records: Mutex::default(),
                nodes: Mutex::default(),
            }),
            names: LayerNames::new(),
        }
    }

    /// Returns a handle as another process would have: the same records and nodes, and a list of layer names of its own.
    /// For tests of several nodes in one process.
    #[must_use]
    pub fn for_another_process(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), names: LayerNames::new() }
    }

    /// Lets time pass for what is stored: every record comes nearer to its end by this duration. For tests.
    pub fn advance(&self, by: Duration) {
        let mut records = self.lock();
        records.ahead = records.ahead.saturating_add(by);
    }

    pub(super) fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner)
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
        let records = self.lock();
        let now = records.now();
        Ok(records.by_key.get(key).map(|record| Versioned {
            stamp: record.stamp,
            bytes: record.bytes.clone(),
            expires_in: record.expires.duration_since(now).unwrap_or_default(),
        }))
    }

    async fn claim(
        &self,
        key: &StoreKey,
        found: Option<Stamp>,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        let mut records = self.lock();
        match stamp.claims(found, records.stamp(key))? {
            Verdict::Keep => Ok(()),
            Verdict::Change => records.write(key, stamp, bytes, expires_in, self.shared.max_bytes),
        }
    }

    async fn put(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        let mut records = self.lock();
        match stamp.puts(records.stamp(key))? {
            Verdict::Keep => Ok(()),
            Verdict::Change => records.write(key, stamp, bytes, expires_in, self.shared.max_bytes),
        }
    }

    async fn touch(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        let mut records = self.lock();
        if stamp.touches(records.stamp(key))? == Verdict::Change
            && let Some(record) = records.take(key)
        {
            let expires = records.expires(expires_in);
            records.insert(key.clone(), Record { expires, ..record });
        }
        Ok(())
    }

    async fn remove(&self, key: &StoreKey, stamp: Stamp) -> Result<(), StoreError> {
        let mut records = self.lock();
        if stamp.removes(records.stamp(key))? == Verdict::Change {
            records.take(key);
        }
        Ok(())
    }

    async fn delete_expired(&self, limit: usize) -> Result<usize, StoreError> {
        let mut records = self.lock();
        let now = records.now();
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

    fn identity_keys(&self) -> Option<Bytes> {
        let records = self.lock();
        records.by_key.get(&StoreKey::identity_keys()).map(|record| record.bytes.clone())
    }

    fn count(&self, kind: RecordKind, layer: &str) -> Option<usize> {
        let prefix = StoreKey::prefix(kind, layer).ok()?;
        Some(self.lock().counts.get(&prefix).copied().unwrap_or(0))
    }

    async fn first(
        &self,
        kind: RecordKind,
        layer: &str,
        limit: usize,
    ) -> Result<Vec<StoreKey>, StoreError> {
        let start = StoreKey::new(kind, layer, b"")?;
        let records = self.lock();
        let keys = records.by_key.range(&start..).map(|(key, _)| key);
        let ours = keys.take_while(|key| key.prefix_of() == start.as_bytes());
        Ok(ours.take(limit).cloned().collect())
    }

    fn layer_names(&self) -> Option<&LayerNames> {
        Some(&self.names)
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
    fn now(&self) -> SystemTime {
        later(wall::now(), self.ahead)
    }

    fn expires(&self, expires_in: Duration) -> SystemTime {
        later(self.now(), expires_in)
    }

    fn stamp(&self, key: &StoreKey) -> Option<Stamp> {
        self.by_key.get(key).map(|record| record.stamp)
    }

    fn write(
        &mut self,
        key: &StoreKey,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
        max_bytes: usize,
    ) -> Result<(), StoreError> {
        let freed = self.by_key.get(key).map_or(0, |old| cost(key, old));
        let record = Record { stamp, bytes, expires: self.expires(expires_in) };
        let used = (self.bytes - freed).saturating_add(cost(key, &record));
        if used > max_bytes {
            return Err(ErrorKind::Full.into());
        }
        self.take(key);
        self.insert(key.clone(), record);
        Ok(())
    }

    fn take(&mut self, key: &StoreKey) -> Option<Record> {
        let (key, record) = self.by_key.remove_entry(key)?;
        self.bytes -= cost(&key, &record);
        if let Some(count) = self.counts.get_mut(key.prefix_of()) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(key.prefix_of());
            }
        }
        self.by_expiry.remove(&(record.expires, key));
        Some(record)
    }

    /// `key` is not in the map.
    fn insert(&mut self, key: StoreKey, record: Record) {
        self.bytes += cost(&key, &record);
        *self.counts.entry(key.prefix_of().to_vec()).or_default() += 1;
        self.by_expiry.insert((record.expires, key.clone()));
        self.by_key.insert(key, record);
    }
}

fn cost(key: &StoreKey, record: &Record) -> usize {
    OVERHEAD + key.as_bytes().len() + record.bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::store::contract;

    fn key(id: &str) -> StoreKey {
        StoreKey::new(RecordKind::Session, "live", id.as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn the_contract_holds() {
        contract::check(&MemoryStore::new()).await;
        let store = MemoryStore::new();
        contract::check_reopen(async || store.clone()).await;
    }

    const LATER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_full_store_refuses_and_keeps_everything() {
        let (a, b) = (key("a"), key("b"));
        let first = Stamp::first(1, 1);
        let mut stamp = first;
        let mut next = || {
            stamp = stamp.next();
            stamp
        };
        let one = OVERHEAD + a.as_bytes().len() + 100;
        let store = MemoryStore::with_max_bytes(2 * one);
        let bytes = |n: usize| Bytes::from(vec![7; n]);

        store.claim(&a, None, first, bytes(100), LATER).await.unwrap();
        store.claim(&b, None, first, bytes(100), LATER).await.unwrap();
        for (key, len) in [(&a, 101), (&b, 101), (&a, usize::MAX >> 40)] {
            let err = store.put(key, next(), bytes(len), LATER).await.unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Full);
        }
        let err = store.claim(&key("c"), None, first, bytes(0), LATER).await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Full);
        assert_eq!(store.load(&a).await.unwrap().unwrap().bytes.len(), 100);
        // Room comes back by shrinking, by removal and by expiry.
        store.put(&a, next(), bytes(0), LATER).await.unwrap();
        store.put(&b, next(), bytes(200), LATER).await.unwrap();
        store.remove(&b, next()).await.unwrap();
        store.put(&a, next(), bytes(300), LATER).await.unwrap();
        assert_eq!(store.delete_expired(9).await.unwrap(), 0);
        store.advance(LATER);
        assert_eq!(store.delete_expired(9).await.unwrap(), 1);
        assert_eq!(store.lock().bytes, 0);
        store.claim(&b, None, first, bytes(one + 100), LATER).await.unwrap();
    }

    #[tokio::test]
    async fn never_is_a_time_too() {
        let store = MemoryStore::new();
        store
            .claim(&key("a"), None, Stamp::first(1, 1), Bytes::new(), Duration::MAX)
            .await
            .unwrap();
        store.advance(LATER);
        let left = store.load(&key("a")).await.unwrap().unwrap().expires_in;
        assert!(left > 100 * 365 * 24 * LATER, "{left:?}");
        store.advance(Duration::MAX);
        assert!(store.load(&key("a")).await.unwrap().unwrap().expires_in.is_zero());
    }

    #[tokio::test]
    async fn records_are_counted_by_kind_and_layer() {
        let store = MemoryStore::new();
        let stamp = Stamp::first(1, 1);
        let of = |layer: &str, id: u8| StoreKey::new(RecordKind::Visitor, layer, &[id]).unwrap();
        let claim = async |key: StoreKey| {
            store.claim(&key, None, stamp, Bytes::new(), LATER).await.unwrap();
        };
        for id in [3, 1, 2, 2] {
            claim(of("a", id)).await;
        }
        claim(of("ab", 1)).await;
        let count = |layer| store.count(RecordKind::Visitor, layer).unwrap();
        assert_eq!((count("a"), count("ab"), count("b")), (3, 1, 0));
        assert_eq!(store.count(RecordKind::Session, "a"), Some(0));
        let first = store.first(RecordKind::Visitor, "a", 2).await.unwrap();
        assert_eq!(first, [of("a", 1), of("a", 2)]);
        assert_eq!(store.first(RecordKind::Visitor, "a", 9).await.unwrap().len(), 3);
        store.touch(&of("a", 1), stamp, LATER).await.unwrap();
        store.remove(&of("a", 1), stamp.next()).await.unwrap();
        assert_eq!(count("a"), 2);
        store.advance(LATER);
        store.delete_expired(9).await.unwrap();
        assert_eq!((count("a"), count("ab")), (0, 0));
        assert!(store.lock().counts.is_empty());
    }

    #[tokio::test]
    async fn debug_prints_counts_alone() {
        let store = MemoryStore::new();
        let stamp = Stamp::first(1, 1);
        store.claim(&key("hunter2"), None, stamp, "hunter2".into(), LATER).await.unwrap();
        let text = format!("{store:?}");
        assert!(text.starts_with("MemoryStore { records: 1, bytes: "), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("identity"), "{text}");
    }
}

//! A store under test, and what all rules need.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::store::{
    ErrorKind, Generation, RecordKind, SnapshotStore, StoreError, StoreKey, Versioned,
};

pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const MINUTE: Duration = Duration::from_secs(60);

pub(super) struct Suite<'a, S> {
    pub(super) store: &'a S,
    /// Made anew for every run: the remains of one that failed do not make the next fail.
    pub(super) layer: String,
    /// In the future, because a backend may let go of what has expired; whole seconds.
    pub(super) base: SystemTime,
}

impl<'a, S: SnapshotStore> Suite<'a, S> {
    pub(super) fn new(store: &'a S) -> Self {
        let run = getrandom::u64().expect("the operating system has random bytes");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            store,
            layer: format!("contract-{run:016x}"),
            base: SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs()) + HOUR,
        }
    }

    /// Everything that the suite puts expires within two hours of `base`.
    pub(super) async fn clean_up(&self) {
        while self.delete(self.base + 2 * HOUR, 1000).await == 1000 {}
    }

    pub(super) fn key(&self, id: &str) -> StoreKey {
        self.key_of(RecordKind::Session, id.as_bytes())
    }

    pub(super) fn key_of(&self, kind: RecordKind, id: &[u8]) -> StoreKey {
        ok(StoreKey::new(kind, &self.layer, id))
    }

    pub(super) async fn put(
        &self,
        key: &StoreKey,
        generation: u64,
        bytes: Bytes,
        expires: SystemTime,
    ) {
        let generation = Generation::new(generation);
        ok(self.store.put(key, generation, bytes, expires).await);
    }

    pub(super) async fn load(&self, key: &StoreKey) -> Option<Versioned> {
        ok(self.store.load(key).await)
    }

    pub(super) async fn delete(&self, now: SystemTime, limit: usize) -> usize {
        ok(self.store.delete_expired(now, limit).await)
    }

    pub(super) async fn expect(
        &self,
        rule: &str,
        key: &StoreKey,
        generation: u64,
        bytes: Bytes,
        expires: SystemTime,
    ) {
        let expected = Versioned { generation: Generation::new(generation), bytes, expires };
        let loaded = self.load(key).await;
        assert!(
            loaded.as_ref() == Some(&expected),
            "{rule}: expected {expected:?}, loaded {loaded:?}"
        );
    }

    pub(super) async fn expect_none(&self, rule: &str, key: &StoreKey) {
        let loaded = self.load(key).await;
        assert!(loaded.is_none(), "{rule}: expected no record, loaded {loaded:?}");
    }
}

/// Different bytes for different keys.
pub(super) fn key_text(key: &StoreKey) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

pub(super) fn ok<T>(result: Result<T, StoreError>) -> T {
    match result {
        Ok(value) => value,
        Err(err) => panic!("this call should have succeeded: {err} ({err:?})"),
    }
}

pub(super) fn refusal(rule: &str, result: Result<(), StoreError>, kind: ErrorKind) {
    match result {
        Err(err) if err.kind() == kind => {}
        other => panic!("{rule}: expected a refusal as {kind:?}, got {other:?}"),
    }
}

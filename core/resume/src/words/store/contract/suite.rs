//! A store under test, and what all rules need.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;

use super::Wire;
use crate::words::store::{
    ErrorKind, RecordKind, SnapshotStore, Stamp, StoreError, StoreKey, Versioned,
};

pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// The suite may take at most this long from a write until it looks at its expiry.
const SLACK: Duration = Duration::from_secs(600);

/// Two owners.
pub(super) const A: u64 = 0xA;
pub(super) const B: u64 = 0xB;

pub(super) struct Suite<'a, S, W> {
    pub(super) store: &'a S,
    pub(super) wire: &'a W,
    /// Made anew for every run: the remains of one that failed do not make the next fail.
    pub(super) layer: String,
    used: Mutex<BTreeSet<StoreKey>>,
}

impl<'a, S: SnapshotStore, W: Wire> Suite<'a, S, W> {
    pub(super) fn new(store: &'a S, wire: &'a W) -> Self {
        let run = getrandom::u64().expect("the operating system has random bytes");
        Self::resumed(store, wire, format!("contract-{run:016x}"))
    }

    pub(super) fn resumed(store: &'a S, wire: &'a W, layer: String) -> Self {
        Self { store, wire, layer, used: Mutex::default() }
    }

    pub(super) async fn clean_up(&self) {
        let used = std::mem::take(&mut *self.used.lock().unwrap_or_else(PoisonError::into_inner));
        for key in used {
            if let Some(record) = self.load(&key).await {
                ok(self.store.remove(&key, record.stamp).await);
            }
        }
    }

    pub(super) fn key(&self, id: &str) -> StoreKey {
        self.key_of(RecordKind::Session, id.as_bytes())
    }

    pub(super) fn key_of(&self, kind: RecordKind, id: &[u8]) -> StoreKey {
        let key = ok(StoreKey::new(kind, &self.layer, id));
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        key
    }

    /// Makes a record, and returns its stamp.
    pub(super) async fn make(&self, key: &StoreKey, bytes: Bytes) -> Stamp {
        let stamp = Stamp::first(7, A);
        ok(self.store.claim(key, None, stamp, bytes, HOUR).await);
        stamp
    }

    pub(super) async fn put(&self, key: &StoreKey, stamp: Stamp, bytes: &Bytes, left: Duration) {
        ok(self.store.put(key, stamp, bytes.clone(), left).await);
    }

    pub(super) async fn load(&self, key: &StoreKey) -> Option<Versioned> {
        ok(self.store.load(key).await)
    }

    pub(super) async fn delete(&self, limit: usize) -> usize {
        ok(self.store.delete_expired(limit).await)
    }

    /// Expects that this is stored, to expire in `left` since it was written, a moment ago.
    pub(super) async fn expect(
        &self,
        rule: &str,
        key: &StoreKey,
        stamp: Stamp,
        bytes: &Bytes,
        left: Duration,
    ) {
        let loaded = self.load(key).await;
        let fits = loaded.as_ref().is_some_and(|record| {
            record.stamp == stamp
                && record.bytes == bytes
                && record.expires_in <= left + Duration::from_millis(1)
                && record.expires_in + SLACK >= left
        });
        let len = bytes.len();
        assert!(
            fits,
            "{rule}: expected {stamp:?} with {len} bytes for {left:?}, loaded {loaded:?}"
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

pub(super) fn fine(rule: &str, result: Result<(), StoreError>) {
    if let Err(err) = result {
        panic!("{rule}: this call should have succeeded: {err} ({err:?})");
    }
}

pub(super) fn refusal(rule: &str, result: Result<(), StoreError>, kind: ErrorKind) {
    match result {
        Err(err) if err.kind() == kind => {}
        other => panic!("{rule}: expected a refusal as {kind:?}, got {other:?}"),
    }
}

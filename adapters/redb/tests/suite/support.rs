use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use session_resume::store::{ErrorKind, RecordKind, SnapshotStore, Stamp, StoreError, StoreKey};
use session_resume_redb::RedbStore;
use tempfile::TempDir;

pub(crate) const FIRST: Stamp = Stamp::first(1, 1);
/// Of the last write that there can be.
pub(crate) const LAST: Stamp = Stamp { number: u64::MAX, ..FIRST };

/// Far enough that nothing in these tests expires.
pub(crate) const LATER: Duration = Duration::from_secs(1_000_000_000);

/// Writes a record, made if there is none.
pub(crate) async fn write(
    store: &RedbStore,
    key: &StoreKey,
    stamp: Stamp,
    bytes: impl Into<Bytes>,
) -> Result<(), StoreError> {
    let bytes = bytes.into();
    match store.put(key, stamp, bytes.clone(), LATER).await {
        Err(err) if err.kind() == ErrorKind::NotFound => {
            store.claim(key, None, stamp, bytes, LATER).await
        }
        done => done,
    }
}

pub(crate) fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.redb");
    (directory, path)
}

#[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
pub(crate) fn key(id: impl ToString) -> StoreKey {
    StoreKey::new(RecordKind::Session, "test", id.to_string().as_bytes()).unwrap()
}

/// A store with `records` records of some hundred bytes, closed in good order.
pub(crate) async fn filled(path: &Path, records: usize) {
    let store = RedbStore::open(path).unwrap();
    for n in 0..records {
        store.claim(&key(n), None, FIRST, body(n).into(), LATER).await.unwrap();
    }
}

pub(crate) fn body(n: usize) -> String {
    format!("record {n} ").repeat(40)
}

/// Asserts that the store in `path` opens and has all of `filled`.
pub(crate) async fn expect_filled(path: &Path, records: usize) {
    let store = RedbStore::open(path).unwrap();
    for n in 0..records {
        let record = store.load(&key(n)).await.unwrap();
        assert!(record.is_some_and(|record| record.bytes == body(n)), "record {n}");
    }
}

/// Bytes without a pattern, the same in every run.
pub(crate) fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed.to_be_bytes()[0]
    })
    .take(len)
    .collect()
}

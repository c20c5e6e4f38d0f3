use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use session_resume::store::{Generation, RecordKind, SnapshotStore, StoreKey};
use session_resume_redb::RedbStore;
use tempfile::TempDir;

pub(crate) const ONE: Generation = Generation::new(1);

/// Far enough that nothing in these tests expires.
pub(crate) fn later() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000)
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
        store.put(&key(n), ONE, body(n).into(), later()).await.unwrap();
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

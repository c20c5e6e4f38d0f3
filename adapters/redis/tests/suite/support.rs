//! What all tests need.

use std::time::Duration;

use session_resume::store::{ErrorKind, RecordKind, SnapshotStore, Stamp, StoreError, StoreKey};
use session_resume_redis::RedisStore;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const FIRST: Stamp = Stamp::first(7, 1);
/// Long enough for a busy machine, short enough for a test that waits for it.
pub(crate) const SHORT: Duration = Duration::from_millis(600);

pub(crate) fn key(id: &str) -> StoreKey {
    StoreKey::new(RecordKind::Session, "live", id.as_bytes()).unwrap()
}

pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T, StoreError>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// Tries a call again until it succeeds.
pub(crate) async fn until_ok<T>(mut call: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    let attempts = async {
        loop {
            match call().await {
                Ok(done) => return done,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), attempts).await.expect("it works again")
}

pub(crate) async fn text_of(store: &RedisStore, key: &StoreKey) -> Option<String> {
    let record = store.load(key).await.unwrap()?;
    Some(String::from_utf8(record.bytes.to_vec()).unwrap())
}

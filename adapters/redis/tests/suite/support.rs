//! What all tests need.

use std::time::Duration;

use session_resume::store::{ErrorKind, RecordKind, SnapshotStore, Stamp, StoreError, StoreKey};
use session_resume_redis::{ConnectError, RedisStore};
use session_resume_testkit::tcp::Proxy;
use tokio::{sync::watch, task::JoinHandle};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const FIRST: Stamp = Stamp::first(7, 1);
/// Long enough for a busy machine, short enough for a test that waits for it.
pub(crate) const SHORT: Duration = Duration::from_millis(1500);

/// The URL of an engine's first database, by way of a proxy.
pub(crate) fn url(proxy: &Proxy) -> String {
    format!("redis://{}", proxy.address())
}

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
    // A Sentinel that the machine has held up does nothing for 30 s (its TILT mode).
    tokio::time::timeout(Duration::from_secs(120), attempts).await.expect("it works again")
}

pub(crate) async fn text_of(store: &RedisStore, key: &StoreKey) -> Option<String> {
    let record = store.load(key).await.unwrap()?;
    Some(String::from_utf8(record.bytes.to_vec()).unwrap())
}

/// The first claim's write with this number.
pub(crate) fn number(number: u64) -> Stamp {
    Stamp { number, ..FIRST }
}

/// Expects that a store cannot be connected; the error is one line without the password.
pub(crate) async fn refused(url: &str) -> ConnectError {
    refused_by(RedisStore::builder(url)).await
}

pub(crate) async fn refused_by(builder: session_resume_redis::Builder) -> ConnectError {
    let error = builder.with_timeout(SHORT).connect().await.unwrap_err();
    let (text, debug) = (error.to_string(), format!("{error:?}"));
    assert!(!text.contains('\n'), "one line: {text}");
    assert!(!text.contains("hunter2") && !debug.contains("hunter2"), "no password: {text} {debug}");
    error
}

/// Sessions that write all the time, each its own record.
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    writers: Vec<JoinHandle<Written>>,
}

struct Written {
    key: StoreKey,
    /// The last write that was acknowledged, and the last one that was tried.
    acknowledged: Stamp,
    last: Stamp,
    failed: usize,
}

/// Begins to write to as many records.
pub(crate) async fn load_of(store: &RedisStore, records: usize) -> Load {
    begin(store, records, false).await
}

/// The same, but each tenth time a record is removed and made anew. Only where no call fails: else it is not known which
/// of the two has happened.
#[cfg(feature = "cluster")]
pub(crate) async fn load_that_makes_anew(store: &RedisStore, records: usize) -> Load {
    begin(store, records, true).await
}

async fn begin(store: &RedisStore, records: usize, makes_anew: bool) -> Load {
    let (stop, stopped) = watch::channel(false);
    let mut writers = Vec::new();
    for n in 0..records {
        let key = key(&format!("load {n}"));
        until_ok(async || store.claim(&key, None, FIRST, "1".into(), HOUR).await).await;
        writers.push(tokio::spawn(write(store.clone(), key, makes_anew, stopped.clone())));
    }
    Load { stop, writers }
}

async fn write(
    store: RedisStore,
    key: StoreKey,
    makes_anew: bool,
    stopped: watch::Receiver<bool>,
) -> Written {
    let mut written = Written { key, acknowledged: FIRST, last: FIRST, failed: 0 };
    while !*stopped.borrow() {
        let stamp = written.last.next();
        let text = stamp.number.to_string().into();
        let ended = if makes_anew && stamp.number.is_multiple_of(10) {
            store.remove(&written.key, stamp).await.unwrap();
            store.claim(&written.key, None, stamp, text, HOUR).await
        } else {
            store.put(&written.key, stamp, text, HOUR).await
        };
        written.last = stamp;
        match ended {
            Ok(()) => written.acknowledged = stamp,
            Err(error) => {
                written.failed += 1;
                assert!(!error.kind().is_refusal(), "{error:?}");
                // Before the next write hides it: is what was acknowledged still there?
                let record = loop {
                    match store.load(&written.key).await {
                        Ok(record) => break record,
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                };
                let there = record.expect("it is there").stamp.number;
                let acknowledged = written.acknowledged.number;
                assert!(there >= acknowledged, "{there} {acknowledged}");
            }
        }
    }
    written
}

impl Load {
    /// Ends it, and expects that each record is at least what was acknowledged last; returns how many writes have
    /// failed.
    pub(crate) async fn nothing_is_lost(self, store: &RedisStore) -> usize {
        self.stop.send_replace(true);
        let mut failed = 0;
        for writer in self.writers {
            let written = writer.await.unwrap();
            let record = until_ok(async || store.load(&written.key).await).await;
            let record = record.expect("it is there");
            let number = record.stamp.number;
            assert_eq!(record.bytes, number.to_string());
            let acknowledged = written.acknowledged.number;
            assert!(number >= acknowledged, "{number} {acknowledged}");
            assert!(number <= written.last.number);
            assert!(acknowledged > 1, "there was load");
            failed += written.failed;
        }
        failed
    }
}

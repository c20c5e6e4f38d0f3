//! Stores with one fault each: the suite must name the rule that each of them breaks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{suite::HOUR, *};
use crate::store::{MAX_KEY_LEN, MemoryStore, RecordKind, StoreError, StoreKey, Versioned};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    IgnoresGenerations,
    RefusesEqualGenerations,
    LosesTouches,
    TouchRaisesTheGeneration,
    TouchMakesRecords,
    TouchIgnoresGenerations,
    RemovesWhateverTheGeneration,
    KeepsRemoved,
    KeepsTombstones,
    DeletesUnexpired,
    DeletesOneTooLate,
    IgnoresTheLimit,
    MiscountsDeleted,
    TruncatesLargeValues,
    TruncatesKeys,
    RoundsExpiryDown,
    PutKeepsTheOldExpiry,
    LosesEveryHundredth,
    DroppedPutsHappenLate,
    ChangesIdentityKey,
}

const ALL: [(Fault, &str); 20] = [
    (Fault::IgnoresGenerations, "rule 3 (fenced)"),
    (Fault::RefusesEqualGenerations, "should have succeeded"),
    (Fault::LosesTouches, "touch: moves the expiry alone"),
    (Fault::TouchRaisesTheGeneration, "touch: moves the expiry alone"),
    (Fault::TouchMakesRecords, "touch: there is no record"),
    (Fault::TouchIgnoresGenerations, "rule 3 (fenced)"),
    (Fault::RemovesWhateverTheGeneration, "rule 3 (fenced)"),
    (Fault::KeepsRemoved, "rule 4 (removal forgets)"),
    (Fault::KeepsTombstones, "should have succeeded"),
    (Fault::DeletesUnexpired, "rule 5 (expiry)"),
    (Fault::DeletesOneTooLate, "rule 5 (expiry)"),
    (Fault::IgnoresTheLimit, "rule 5 (expiry)"),
    (Fault::MiscountsDeleted, "rule 5 (expiry)"),
    (Fault::TruncatesLargeValues, "rule 1 (atomic)"),
    (Fault::TruncatesKeys, "keys: each names its own record"),
    (Fault::RoundsExpiryDown, "rule 5 (expiry)"),
    (Fault::PutKeepsTheOldExpiry, "rule 1 (atomic)"),
    (Fault::LosesEveryHundredth, "rule 1: concurrent calls"),
    (Fault::DroppedPutsHappenLate, "rule 6 (dropped futures)"),
    (Fault::ChangesIdentityKey, "identity_key"),
];

type Put = (StoreKey, Generation, Bytes, SystemTime);

#[derive(Debug)]
struct Broken {
    inner: MemoryStore,
    fault: Fault,
    removed: Mutex<HashMap<StoreKey, Generation>>,
    puts: Mutex<u32>,
    /// A put whose future was dropped, waiting to do harm.
    late: Arc<Mutex<Option<Put>>>,
}

impl Broken {
    fn new(fault: Fault) -> Self {
        Self {
            inner: MemoryStore::new(),
            fault,
            removed: Mutex::default(),
            puts: Mutex::default(),
            late: Arc::default(),
        }
    }

    fn key(&self, key: &StoreKey) -> StoreKey {
        if self.fault == Fault::TruncatesKeys && key.as_bytes().len() == MAX_KEY_LEN {
            let id = &key.as_bytes()[30..900];
            return StoreKey::new(RecordKind::Session, "short", id).unwrap();
        }
        key.clone()
    }

    async fn stored(&self, key: &StoreKey) -> Option<Versioned> {
        self.inner.load(key).await.unwrap()
    }
}

impl SnapshotStore for Broken {
    async fn load(&self, key: &StoreKey) -> Result<Option<Versioned>, StoreError> {
        let late = self.late.lock().unwrap().take();
        if let Some((key, generation, bytes, expires)) = late {
            self.inner.put(&key, generation, bytes, expires).await?;
        }
        self.inner.load(&self.key(key)).await
    }

    async fn put(
        &self,
        key: &StoreKey,
        generation: Generation,
        mut bytes: Bytes,
        mut expires: SystemTime,
    ) -> Result<(), StoreError> {
        let key = &self.key(key);
        let stored = self.stored(key).await;
        match self.fault {
            Fault::IgnoresGenerations => self.inner.remove(key, Generation::new(u64::MAX)).await?,
            Fault::RefusesEqualGenerations
                if stored.as_ref().is_some_and(|old| old.generation == generation) =>
            {
                return Err(ErrorKind::Stale.into());
            }
            Fault::KeepsTombstones
                if self.removed.lock().unwrap().get(key).is_some_and(|at| *at > generation) =>
            {
                return Err(ErrorKind::Stale.into());
            }
            Fault::TruncatesLargeValues => bytes.truncate(65_536),
            Fault::RoundsExpiryDown => {
                let since = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap();
                let millis = u64::try_from(since.as_millis()).unwrap();
                expires = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            }
            Fault::PutKeepsTheOldExpiry => expires = stored.map_or(expires, |old| old.expires),
            Fault::LosesEveryHundredth => {
                let mut puts = self.puts.lock().unwrap();
                *puts += 1;
                if puts.is_multiple_of(100) {
                    return Ok(());
                }
            }
            Fault::DroppedPutsHappenLate => {
                let mut late = Late {
                    slot: Arc::clone(&self.late),
                    put: Some((key.clone(), generation, bytes.clone(), expires)),
                };
                tokio::task::yield_now().await;
                late.put = None;
            }
            _ => {}
        }
        self.inner.put(key, generation, bytes, expires).await
    }

    async fn touch(
        &self,
        key: &StoreKey,
        generation: Generation,
        expires: SystemTime,
    ) -> Result<(), StoreError> {
        let newest = Generation::new(u64::MAX);
        match self.fault {
            Fault::LosesTouches => match self.stored(key).await {
                Some(old) if old.generation <= generation => Ok(()),
                _ => self.inner.touch(key, generation, expires).await,
            },
            Fault::TouchRaisesTheGeneration => {
                self.inner.touch(key, generation, expires).await?;
                let bytes = self.stored(key).await.unwrap().bytes;
                self.inner.put(key, generation, bytes, expires).await
            }
            Fault::TouchMakesRecords if self.stored(key).await.is_none() => {
                self.inner.put(key, generation, Bytes::new(), expires).await
            }
            Fault::TouchIgnoresGenerations => self.inner.touch(key, newest, expires).await,
            _ => self.inner.touch(key, generation, expires).await,
        }
    }

    async fn remove(&self, key: &StoreKey, generation: Generation) -> Result<(), StoreError> {
        match self.fault {
            Fault::RemovesWhateverTheGeneration => {
                self.inner.remove(key, Generation::new(u64::MAX)).await
            }
            Fault::KeepsRemoved => match self.stored(key).await {
                Some(old) if old.generation > generation => Err(ErrorKind::Stale.into()),
                _ => Ok(()),
            },
            Fault::KeepsTombstones => {
                self.inner.remove(key, generation).await?;
                self.removed.lock().unwrap().insert(key.clone(), generation);
                Ok(())
            }
            _ => self.inner.remove(key, generation).await,
        }
    }

    async fn delete_expired(&self, now: SystemTime, limit: usize) -> Result<usize, StoreError> {
        match self.fault {
            Fault::DeletesUnexpired => self.inner.delete_expired(now + HOUR, limit).await,
            Fault::DeletesOneTooLate => {
                let now = now - Duration::from_millis(1);
                self.inner.delete_expired(now, limit).await
            }
            Fault::IgnoresTheLimit => self.inner.delete_expired(now, usize::MAX).await,
            Fault::MiscountsDeleted => {
                let deleted = self.inner.delete_expired(now, limit).await?;
                Ok(deleted.saturating_sub(1))
            }
            _ => self.inner.delete_expired(now, limit).await,
        }
    }

    fn identity_key(&self) -> Option<[u8; 64]> {
        if self.fault == Fault::ChangesIdentityKey {
            return MemoryStore::new().identity_key();
        }
        self.inner.identity_key()
    }
}

struct Late {
    slot: Arc<Mutex<Option<Put>>>,
    put: Option<Put>,
}

impl Drop for Late {
    fn drop(&mut self) {
        if let Some(put) = self.put.take() {
            *self.slot.lock().unwrap() = Some(put);
        }
    }
}

#[tokio::test]
async fn a_wrapper_without_a_fault_passes() {
    check(&Broken::new(Fault::None)).await;
}

#[tokio::test]
async fn every_fault_is_caught_and_named() {
    for (fault, rule) in ALL {
        let text = panic_text(async move { check(&Broken::new(fault)).await }).await;
        assert!(text.contains(rule), "{fault:?} was caught as: {text}");
    }
}

#[tokio::test]
async fn a_store_that_forgets_is_caught_when_it_is_opened_again() {
    let text = panic_text(check_reopen(async || MemoryStore::new())).await;
    assert!(text.contains("after opening the store again"), "{text}");
}

/// Returns how the suite failed; an empty text if it passed.
async fn panic_text(suite: impl Future<Output = ()> + Send + 'static) -> String {
    let Err(failed) = tokio::spawn(suite).await else {
        return String::new();
    };
    let panic = failed.into_panic();
    let constant = panic.downcast_ref::<&str>().map(ToString::to_string);
    constant.or_else(|| panic.downcast_ref::<String>().cloned()).expect("a panic with a text")
}

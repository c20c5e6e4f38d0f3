//! Stores with one fault each: the suite must name the rule that each of them breaks.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::*;
use crate::words::store::{
    MAX_KEY_LEN, MemoryStore, RecordKind, Stamp, StoreError, StoreKey, Verdict, Versioned,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    ClaimsOverAnything,
    ClaimsOverNewerWrites,
    RefusesClaimsAgain,
    PutsOverAnything,
    LetsEqualGenerationsThrough,
    LetsOtherLinesThrough,
    RefusesToHeal,
    PutsMakeRecords,
    PutsIgnoreTheOrder,
    PutsAgainAreStale,
    ComparesAsFloats,
    LosesTouches,
    TouchMakesRecords,
    TouchChangesTheStamp,
    TouchIgnoresOwners,
    TouchIgnoresTheOrder,
    RemovesWhateverTheOwner,
    RemovesIgnoreTheOrder,
    KeepsRemoved,
    KeepsTombstones,
    DeletesUnexpired,
    ReturnsExpiryAsGiven,
    IgnoresTheLimit,
    MiscountsDeleted,
    TruncatesLargeValues,
    KeepsTheEndOfLongerValues,
    KeepsPartsOfRefusedValues,
    SharesLargeValues,
    TruncatesKeys,
    RoundsExpiryDown,
    PutKeepsTheOldExpiry,
    PutsAgainMoveTheExpiry,
    LosesEveryHundredth,
    ChangesIdentityKey,
    ForgetsIdentityKeys,
}

const ALL: [(Fault, &str); 34] = [
    (Fault::ClaimsOverAnything, "rule 3 (owned), claim"),
    (Fault::ClaimsOverNewerWrites, "rule 3 (owned), claim"),
    (Fault::RefusesClaimsAgain, "rule 4: a claim that is sent again"),
    (Fault::PutsOverAnything, "rule 3 (owned): an older generation"),
    (Fault::LetsEqualGenerationsThrough, "rule 3 (owned): an equal generation of another owner"),
    (Fault::LetsOtherLinesThrough, "rule 3 (owned): another line of a larger generation"),
    (Fault::RefusesToHeal, "rule 3: a put heals an older record"),
    (Fault::PutsMakeRecords, "rule 5 (nothing comes back)"),
    (Fault::PutsIgnoreTheOrder, "rule 4 (in order)"),
    (Fault::PutsAgainAreStale, "rule 4 (in order)"),
    (Fault::ComparesAsFloats, "rule 4 (in order): large numbers"),
    (Fault::LosesTouches, "touch: moves the expiry alone"),
    (Fault::TouchMakesRecords, "touch: there is no record"),
    (Fault::TouchChangesTheStamp, "touch: moves the expiry alone"),
    (Fault::TouchIgnoresOwners, "rule 3 (owned)"),
    (Fault::TouchIgnoresTheOrder, "rule 4 (in order), touch"),
    (Fault::RemovesWhateverTheOwner, "rule 3 (owned)"),
    (Fault::RemovesIgnoreTheOrder, "rule 4 (in order), remove"),
    (Fault::KeepsRemoved, "remove: "),
    (Fault::KeepsTombstones, "rule 5: a removal leaves no trace"),
    (Fault::DeletesUnexpired, "rule 6 (expiry)"),
    (Fault::ReturnsExpiryAsGiven, "rule 6 (expiry): its time is up"),
    (Fault::IgnoresTheLimit, "rule 6 (expiry): at most"),
    (Fault::MiscountsDeleted, "rule 6 (expiry)"),
    (Fault::TruncatesLargeValues, "rule 1 (atomic)"),
    (Fault::KeepsTheEndOfLongerValues, "rule 1 (atomic), large values: removed from"),
    (Fault::KeepsPartsOfRefusedValues, "rule 3 (owned), large values"),
    (Fault::SharesLargeValues, "rule 5, large values: what goes takes nothing"),
    (Fault::TruncatesKeys, "keys: each names its own record"),
    (Fault::RoundsExpiryDown, "rule 6 (expiry): not a moment less"),
    (Fault::PutKeepsTheOldExpiry, "rule 1 (atomic)"),
    (Fault::PutsAgainMoveTheExpiry, "rule 4 (in order)"),
    (Fault::LosesEveryHundredth, "rule 1: concurrent calls"),
    (Fault::ChangesIdentityKey, "identity_key"),
];

/// What a faulty store keeps in parts is longer.
const PARTS: usize = 65_536;

#[derive(Debug)]
struct Broken {
    inner: MemoryStore,
    fault: Fault,
    removed: Mutex<HashSet<StoreKey>>,
    claims: Mutex<u32>,
}

impl Broken {
    fn new(fault: Fault) -> Self {
        Self {
            inner: MemoryStore::new(),
            fault,
            removed: Mutex::default(),
            claims: Mutex::default(),
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

    /// Writes whatever is there.
    async fn force(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        if let Some(stored) = self.stored(key).await {
            self.inner.remove(key, stored.stamp).await?;
        }
        self.inner.claim(key, None, stamp, bytes, expires_in).await
    }

    fn shaped(&self, bytes: Bytes, expires_in: Duration) -> (Bytes, Duration) {
        match self.fault {
            Fault::TruncatesLargeValues => (bytes.slice(..bytes.len().min(65_536)), expires_in),
            Fault::RoundsExpiryDown => (bytes, Duration::from_secs(expires_in.as_secs())),
            _ => (bytes, expires_in),
        }
    }
}

impl SnapshotStore for Broken {
    async fn load(&self, key: &StoreKey) -> Result<Option<Versioned>, StoreError> {
        let mut loaded = self.inner.load(&self.key(key)).await?;
        if let Some(record) = &mut loaded
            && self.fault == Fault::ReturnsExpiryAsGiven
        {
            record.expires_in = record.expires_in.max(Duration::from_millis(30));
        }
        Ok(loaded)
    }

    async fn claim(
        &self,
        key: &StoreKey,
        found: Option<Stamp>,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        let key = &self.key(key);
        let stored = self.stored(key).await.map(|record| record.stamp);
        let (bytes, expires_in) = self.shaped(bytes, expires_in);
        match self.fault {
            Fault::ClaimsOverAnything => return self.force(key, stamp, bytes, expires_in).await,
            Fault::ClaimsOverNewerWrites
                if stored.zip(found).is_some_and(|(stored, found)| stored.same_fence(found)) =>
            {
                return self.force(key, stamp, bytes, expires_in).await;
            }
            Fault::RefusesClaimsAgain if stored == Some(stamp) => {
                return Err(ErrorKind::Stale.into());
            }
            Fault::KeepsTombstones if self.removed.lock().unwrap().contains(key) => {
                return Err(ErrorKind::Stale.into());
            }
            Fault::LosesEveryHundredth => {
                let mut claims = self.claims.lock().unwrap();
                *claims += 1;
                if claims.is_multiple_of(100) {
                    return Ok(());
                }
            }
            _ => {}
        }
        self.inner.claim(key, found, stamp, bytes, expires_in).await
    }

    async fn put(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        let key = &self.key(key);
        let (bytes, mut expires_in) = self.shaped(bytes, expires_in);
        let Some(record) = self.stored(key).await else {
            if self.fault == Fault::PutsMakeRecords {
                return self.force(key, stamp, bytes, expires_in).await;
            }
            return self.inner.put(key, stamp, bytes, expires_in).await;
        };
        let stored = record.stamp;
        let force = match self.fault {
            Fault::PutsOverAnything => true,
            Fault::LetsEqualGenerationsThrough => {
                stored.line == stamp.line && stored.generation == stamp.generation
            }
            Fault::LetsOtherLinesThrough => stored.generation < stamp.generation,
            Fault::PutsIgnoreTheOrder => stored.same_fence(stamp),
            Fault::RefusesToHeal if !stored.same_fence(stamp) => {
                return Err(ErrorKind::Stale.into());
            }
            Fault::PutsAgainAreStale if stamp.puts(Some(stored)) == Ok(Verdict::Keep) => {
                return Err(ErrorKind::Stale.into());
            }
            Fault::ComparesAsFloats => {
                #[expect(clippy::cast_precision_loss, reason = "the fault")]
                let (stored, given) = (stored.number as f64, stamp.number as f64);
                if given <= stored {
                    return Ok(());
                }
                false
            }
            Fault::KeepsTheEndOfLongerValues
                if bytes.len() > PARTS && record.bytes.len() > bytes.len() =>
            {
                let end = &record.bytes[bytes.len()..];
                let bytes = [&bytes[..], end].concat().into();
                return self.inner.put(key, stamp, bytes, expires_in).await;
            }
            Fault::KeepsPartsOfRefusedValues
                if bytes.len() > PARTS && stamp.puts(Some(stored)).is_err() =>
            {
                let bytes = [&record.bytes[..PARTS], &bytes[PARTS..]].concat().into();
                self.force(key, stored, bytes, record.expires_in).await?;
                return Err(ErrorKind::Stale.into());
            }
            Fault::PutKeepsTheOldExpiry => {
                expires_in = record.expires_in;
                false
            }
            Fault::PutsAgainMoveTheExpiry if stamp.puts(Some(stored)) == Ok(Verdict::Keep) => {
                return self.inner.touch(key, stored, expires_in).await;
            }
            _ => false,
        };
        if force {
            return self.force(key, stamp, bytes, expires_in).await;
        }
        self.inner.put(key, stamp, bytes, expires_in).await
    }

    async fn touch(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        let stored = self.stored(key).await;
        let Some(record) = stored else {
            if self.fault == Fault::TouchMakesRecords {
                return self.force(key, stamp, Bytes::new(), expires_in).await;
            }
            return self.inner.touch(key, stamp, expires_in).await;
        };
        let own = stamp.same_fence(record.stamp);
        match self.fault {
            Fault::LosesTouches if own => Ok(()),
            Fault::TouchChangesTheStamp if own && stamp.number > record.stamp.number => {
                self.force(key, stamp, record.bytes, expires_in).await
            }
            Fault::TouchIgnoresOwners => self.inner.touch(key, record.stamp, expires_in).await,
            Fault::TouchIgnoresTheOrder if own => {
                self.inner.touch(key, record.stamp, expires_in).await
            }
            _ => self.inner.touch(key, stamp, expires_in).await,
        }
    }

    async fn remove(&self, key: &StoreKey, stamp: Stamp) -> Result<(), StoreError> {
        let key = &self.key(key);
        let stored = self.stored(key).await.map_or(stamp, |record| record.stamp);
        match self.fault {
            Fault::RemovesWhateverTheOwner => self.inner.remove(key, stored).await,
            Fault::RemovesIgnoreTheOrder if stored.same_fence(stamp) => {
                self.inner.remove(key, stored).await
            }
            Fault::SharesLargeValues => {
                let removed = self.stored(key).await;
                self.inner.remove(key, stamp).await?;
                let Some(removed) = removed.filter(|removed| removed.bytes.len() > PARTS) else {
                    return Ok(());
                };
                let layer = std::str::from_utf8(&key.prefix_of()[3..]).unwrap();
                for key in self.inner.first(RecordKind::Session, layer, usize::MAX).await? {
                    if let Some(other) =
                        self.stored(&key).await.filter(|other| other.bytes == removed.bytes)
                    {
                        self.force(&key, other.stamp, Bytes::new(), other.expires_in).await?;
                    }
                }
                Ok(())
            }
            Fault::KeepsRemoved => match stamp.removes(Some(stored)) {
                Err(kind) => Err(kind.into()),
                Ok(_) => Ok(()),
            },
            Fault::KeepsTombstones => {
                self.inner.remove(key, stamp).await?;
                self.removed.lock().unwrap().insert(key.clone());
                Ok(())
            }
            _ => self.inner.remove(key, stamp).await,
        }
    }

    async fn delete_expired(&self, limit: usize) -> Result<usize, StoreError> {
        match self.fault {
            Fault::DeletesUnexpired => {
                self.inner.advance(9 * HOUR);
                self.inner.delete_expired(limit).await
            }
            Fault::IgnoresTheLimit => self.inner.delete_expired(usize::MAX).await,
            Fault::MiscountsDeleted => {
                let deleted = self.inner.delete_expired(limit).await?;
                Ok(deleted.saturating_sub(1))
            }
            _ => self.inner.delete_expired(limit).await,
        }
    }

    fn identity_keys(&self) -> Option<Bytes> {
        let keys = self.inner.identity_keys();
        keys.filter(|_| self.fault != Fault::ForgetsIdentityKeys)
    }

    fn identity_key(&self) -> Option<[u8; 64]> {
        if self.fault == Fault::ChangesIdentityKey {
            return MemoryStore::new().identity_key();
        }
        self.inner.identity_key()
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

#[tokio::test]
#[should_panic(expected = "identity_keys: not what was there")]
async fn a_store_that_does_not_read_the_identity_keys_is_caught_when_it_is_opened_again() {
    let disk = MemoryStore::new();
    let forgets = || Broken::new(Fault::ForgetsIdentityKeys);
    check_reopen(async || Broken { inner: disk.clone(), ..forgets() }).await;
}

/// An engine behind a connection: a task makes the calls, also those whose callers have gone.
#[derive(Clone, Debug)]
struct Connection {
    held: Arc<Mutex<Option<Arc<Notify>>>>,
    arrived: Arc<Notify>,
}

/// A store on the other side of a [`Connection`].
#[derive(Debug)]
struct Remote {
    engine: Arc<Broken>,
    connection: Connection,
}

impl Remote {
    fn new(fault: Fault) -> Self {
        let connection = Connection { held: Arc::default(), arrived: Arc::default() };
        Self { engine: Arc::new(Broken::new(fault)), connection }
    }

    /// Sends a call; it goes on without its caller.
    async fn send<R, F>(&self, call: impl FnOnce(Arc<Broken>) -> F) -> Result<R, StoreError>
    where
        R: Send + 'static,
        F: Future<Output = Result<R, StoreError>> + Send + 'static,
    {
        let connection = self.connection.clone();
        let held = connection.held.lock().unwrap().clone();
        let call = call(Arc::clone(&self.engine));
        let made = tokio::spawn(async move {
            if let Some(held) = &held {
                held.notified().await;
            }
            let result = call.await;
            if held.is_some() {
                connection.arrived.notify_one();
            }
            result
        });
        made.await.unwrap()
    }
}

impl SnapshotStore for Remote {
    async fn load(&self, key: &StoreKey) -> Result<Option<Versioned>, StoreError> {
        let key = key.clone();
        self.send(|engine| async move { engine.load(&key).await }).await
    }

    async fn claim(
        &self,
        key: &StoreKey,
        found: Option<Stamp>,
        stamp: Stamp,
        bytes: Bytes,
        left: Duration,
    ) -> Result<(), StoreError> {
        let key = key.clone();
        self.send(|engine| async move { engine.claim(&key, found, stamp, bytes, left).await }).await
    }

    async fn put(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        bytes: Bytes,
        left: Duration,
    ) -> Result<(), StoreError> {
        let key = key.clone();
        self.send(|engine| async move { engine.put(&key, stamp, bytes, left).await }).await
    }

    async fn touch(&self, key: &StoreKey, stamp: Stamp, left: Duration) -> Result<(), StoreError> {
        let key = key.clone();
        self.send(|engine| async move { engine.touch(&key, stamp, left).await }).await
    }

    async fn remove(&self, key: &StoreKey, stamp: Stamp) -> Result<(), StoreError> {
        let key = key.clone();
        self.send(|engine| async move { engine.remove(&key, stamp).await }).await
    }

    async fn delete_expired(&self, limit: usize) -> Result<usize, StoreError> {
        self.send(|engine| async move { engine.delete_expired(limit).await }).await
    }
}

#[expect(clippy::async_yields_async, reason = "the late call is for the suite to let go")]
impl Wire for Connection {
    fn hold<'a>(&'a self, call: Call<'a>) -> Pin<Box<dyn Future<Output = Late<'a>> + Send + 'a>> {
        Box::pin(async move {
            let held = Arc::new(Notify::new());
            *self.held.lock().unwrap() = Some(Arc::clone(&held));
            let gave_up = tokio::time::timeout(Duration::from_millis(5), call).await;
            assert!(gave_up.is_err(), "what is held is not answered");
            *self.held.lock().unwrap() = None;
            let late: Late<'a> = Box::pin(async move {
                held.notify_one();
                self.arrived.notified().await;
            });
            late
        })
    }
}

#[tokio::test]
async fn calls_of_lost_connections_arrive_late() {
    let remote = Remote::new(Fault::None);
    check_over(&remote, &remote.connection.clone()).await;
    for (fault, rule) in [
        (Fault::PutsIgnoreTheOrder, "rule 4 (in order)"),
        (Fault::RemovesWhateverTheOwner, "rule 3 (owned)"),
    ] {
        let text = panic_text(async move {
            let remote = Remote::new(fault);
            check_over(&remote, &remote.connection.clone()).await;
        })
        .await;
        assert!(text.contains(rule), "{fault:?} was caught as: {text}");
    }
}

/// What only a connection can do: the rule about late calls alone finds these.
#[tokio::test]
async fn a_late_call_that_does_harm_is_named() {
    let text = panic_text(async {
        let remote = Remote::new(Fault::PutsIgnoreTheOrder);
        Suite::new(&remote, &remote.connection.clone()).a_late_write_changes_nothing().await;
    })
    .await;
    assert!(text.contains("a put that lands late"), "{text}");
    let text = panic_text(async {
        let remote = Remote::new(Fault::ClaimsOverNewerWrites);
        Suite::new(&remote, &remote.connection.clone()).a_late_claim_is_over_what_was_found().await;
    })
    .await;
    assert!(text.contains("a claim that lands late"), "{text}");
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

//! Where sessions go when they leave memory: the [`SnapshotStore`] trait and its rules.
//!
//! A store keeps *records*: opaque bytes under a [`StoreKey`], each with the [`Generation`] of the
//! owner who wrote it and the time at which it expires. It knows nothing of sessions; what the
//! bytes mean is decided elsewhere. [`MemoryStore`] is here for tests and for trying things out;
//! the embedded store that survives a restart is the crate `session-resume-redb`.
//!
//! If you write a backend, the rules are on [`SnapshotStore`], and [`contract`] checks them.

pub mod contract;
pub(crate) mod deadline;
// Not re-exported: where both traits are in scope, calls on a store would be ambiguous.
pub(crate) mod erased;
mod error;
mod key;
mod memory;
mod state;

use std::{fmt, future::Future, sync::Arc, time::SystemTime};

use bytes::Bytes;

pub use self::{
    error::{ErrorKind, StoreError},
    key::{MAX_KEY_LEN, RecordKind, StoreKey},
    memory::MemoryStore,
    state::StoredState,
};

/// Keeps records by key.
///
/// Backends write the methods as `async fn`. These are the rules, and [`contract`] checks those
/// that can be checked from outside:
///
/// 1. **Atomic.** Every call happens whole or not at all, for every reader and through every crash.
///    Calls on one key have one order, also when they come from several handles.
/// 2. **Durable.** When a writing call resolves to `Ok`, its effect survives a `kill -9` of this
///    process; a backend that writes to a disk of its own has synced it. `Ok` before that is a bug.
///    After an `Err` of a kind other than those that name a refusal ([`ErrorKind::is_refusal`]) the
///    call may still have happened, whole.
/// 3. **Fenced.** A call with an older generation than the stored one is refused as
///    [`ErrorKind::Stale`] and changes nothing. An equal or newer generation is let through.
/// 4. **Removal forgets.** [`remove`](Self::remove) and [`delete_expired`](Self::delete_expired)
///    leave no trace, so a store is as large as what it keeps. While a key has no record nothing is
///    fenced: a lower generation may be put again. An owner has two answers to that. It takes
///    [`Generation::first`] for a new record, which is larger than any that came before a removal; so
///    an old owner is fenced as soon as the key has a new one. And where an old owner may be alive
///    (a store that several nodes share) it ends a session by putting a final record that says so,
///    with a short expiry, instead of removing it: that record fences like any other.
/// 5. **Expiry is a date, not a clock.** A store never reads a clock to answer; it deletes when
///    [`delete_expired`](Self::delete_expired) tells it the time. (A backend with an expiry of its
///    own may use it as well, but never earlier than `expires`.) So [`load`](Self::load) may return a
///    record that has expired, and the caller compares. `expires` is kept to the millisecond at
///    least; what is finer is rounded up.
/// 6. **Dropped futures.** A future that is dropped before it resolves has happened whole or not at
///    all, and it does not happen late: a writing call made after the drop is ordered after it.
/// 7. **Off the runtime.** No call blocks the thread that polls it. Many calls at the same time are
///    normal, and a backend that pays per commit groups them.
///
/// # Example
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use session_resume::store::{ErrorKind, Generation, MemoryStore, RecordKind, SnapshotStore, StoreKey};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = MemoryStore::new();
/// let key = StoreKey::new(RecordKind::Session, "live", b"aad5")?;
/// let now = SystemTime::now();
/// let (ours, theirs) = (Generation::first(now), Generation::first(now).next());
///
/// store.put(&key, ours, "state".into(), now + Duration::from_secs(60)).await?;
/// // Another node takes the session over; from now on this one is refused.
/// store.put(&key, theirs, "state".into(), now + Duration::from_secs(60)).await?;
/// let refused = store.put(&key, ours, "old".into(), now + Duration::from_secs(60)).await;
/// assert_eq!(refused.unwrap_err().kind(), ErrorKind::Stale);
/// # Ok::<(), session_resume::store::StoreError>(())
/// # }).unwrap();
/// ```
pub trait SnapshotStore: fmt::Debug + Send + Sync + 'static {
    /// Returns the record under `key`, or `None` if there is none.
    ///
    /// The record may have expired; see rule 5.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] or [`ErrorKind::TooNew`] if the record cannot be read, any kind that is
    /// not a refusal if the backend fails.
    ///
    /// # Cancel safety
    ///
    /// Reads only: nothing is lost.
    fn load(
        &self,
        key: &StoreKey,
    ) -> impl Future<Output = Result<Option<Versioned>, StoreError>> + Send;

    /// Stores `bytes` under `key` unless a newer generation is already there.
    ///
    /// Replaces bytes, generation and expiry together. An `expires` that has passed is fine: the next
    /// [`delete_expired`](Self::delete_expired) takes it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stale`] when another owner has taken the record over since, [`ErrorKind::Full`] or
    /// [`ErrorKind::TooLarge`] when there is no room; the old record then stays. Other kinds when the
    /// backend fails.
    ///
    /// # Cancel safety
    ///
    /// The record is the old or the new one; see rule 6.
    fn put(
        &self,
        key: &StoreKey,
        generation: Generation,
        bytes: Bytes,
        expires: SystemTime,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Moves the expiry of the record under `key`, in either direction.
    ///
    /// Bytes and generation stay, also when `generation` is newer than the stored one: only `put`
    /// takes a record over.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stale`] as for `put`, [`ErrorKind::NotFound`] if there is no record (it has expired
    /// and is gone: put it anew). Other kinds when the backend fails.
    ///
    /// # Cancel safety
    ///
    /// The expiry is the old or the new one; see rule 6.
    fn touch(
        &self,
        key: &StoreKey,
        generation: Generation,
        expires: SystemTime,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes the record under `key`; fine if there is none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stale`] as for `put`. Other kinds when the backend fails.
    ///
    /// # Cancel safety
    ///
    /// The record is there or gone; see rule 6.
    fn remove(
        &self,
        key: &StoreKey,
        generation: Generation,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Deletes at most `limit` records with `expires <= now`, the longest expired first, and returns how many.
    ///
    /// Fewer than `limit` means that nothing more is due. The work is proportional to what is due, not
    /// to what is stored.
    ///
    /// # Errors
    ///
    /// Any kind that is not a refusal when the backend fails.
    ///
    /// # Cancel safety
    ///
    /// As many records as the call would have deleted are gone, or none.
    fn delete_expired(
        &self,
        now: SystemTime,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Returns the key that signs identity cookies, if this store keeps one.
    ///
    /// Always the same for one store, made at random when the store was; so that cookies outlive the
    /// process. Does no I/O: it is read when the store is opened.
    ///
    /// # Security
    ///
    /// Whoever can read the store can forge every cookie. Keep it out of logs.
    fn identity_key(&self) -> Option<[u8; 64]> {
        None
    }

    /// Returns whether no other process can use this store while this one does.
    ///
    /// Then nobody else can have taken a session over, and an attach need not ask.
    fn is_exclusive(&self) -> bool {
        false
    }
}

impl<S: SnapshotStore> SnapshotStore for Arc<S> {
    async fn load(&self, key: &StoreKey) -> Result<Option<Versioned>, StoreError> {
        S::load(self, key).await
    }

    async fn put(
        &self,
        key: &StoreKey,
        generation: Generation,
        bytes: Bytes,
        expires: SystemTime,
    ) -> Result<(), StoreError> {
        S::put(self, key, generation, bytes, expires).await
    }

    async fn touch(
        &self,
        key: &StoreKey,
        generation: Generation,
        expires: SystemTime,
    ) -> Result<(), StoreError> {
        S::touch(self, key, generation, expires).await
    }

    async fn remove(&self, key: &StoreKey, generation: Generation) -> Result<(), StoreError> {
        S::remove(self, key, generation).await
    }

    async fn delete_expired(&self, now: SystemTime, limit: usize) -> Result<usize, StoreError> {
        S::delete_expired(self, now, limit).await
    }

    fn identity_key(&self) -> Option<[u8; 64]> {
        S::identity_key(self)
    }

    fn is_exclusive(&self) -> bool {
        S::is_exclusive(self)
    }
}

/// A record as a store returns it.
#[derive(Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The generation of the owner who put it.
    pub generation: Generation,
    /// What was put.
    pub bytes: Bytes,
    /// When it expires, to the millisecond at least.
    pub expires: SystemTime,
}

// By hand: the bytes are a user's state.
impl fmt::Debug for Versioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Versioned")
            .field("generation", &self.generation)
            .field("len", &self.bytes.len())
            .field("expires", &self.expires)
            .finish()
    }
}

/// Which owner of a record: a later owner has a larger generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

impl Generation {
    /// Creates a generation from its number, as read from a record.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the generation for a key that has no record, given the time.
    ///
    /// It counts the milliseconds since 1970. An owner adds one per takeover, so this is larger than
    /// any generation the key had before its last record was removed, unless the clock went back.
    pub fn first(now: SystemTime) -> Self {
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    /// Returns the generation of the next owner.
    ///
    /// # Panics
    ///
    /// After 2^64 - 1, which no key reaches.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("a key is never taken over 2^64 times"))
    }

    /// Returns the number to store.
    pub const fn get(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn an_arc_of_a_store_is_a_store() {
        contract::check(&Arc::new(MemoryStore::new())).await;
        let store = MemoryStore::new();
        assert_eq!(
            Arc::new(store.clone()).identity_key(),
            store.identity_key(),
            "forwarded, not the default"
        );
    }

    #[test]
    fn a_first_generation_is_newer_than_what_was_removed() {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let old = (0..900).fold(Generation::first(then), |g, _| g.next());
        assert!(Generation::first(then + Duration::from_secs(1)) > old);
        assert_eq!(Generation::first(SystemTime::UNIX_EPOCH - Duration::from_secs(1)).get(), 0);
    }

    #[test]
    fn a_record_prints_no_state() {
        let record = Versioned {
            generation: Generation::new(7),
            bytes: Bytes::from_static(b"hunter2"),
            expires: SystemTime::UNIX_EPOCH,
        };
        let text = format!("{record:?}");
        assert!(!text.contains("hunter2") && text.contains("len: 7"), "{text}");
    }
}

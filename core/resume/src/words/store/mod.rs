//! The trait of stores, and what its calls are about. The crate publishes it as `store`.

mod cluster;
pub mod contract;
pub(crate) mod deadline;
// Not re-exported: where both traits are in scope, calls on a store would be ambiguous.
pub(crate) mod erased;
pub(crate) mod erased_cluster;
mod error;
mod key;
mod memory;
pub(crate) mod named;
mod names;
mod nodes;
mod stamp;
mod state;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;

pub(crate) use self::names::LayerName;
pub use self::{
    cluster::{ClusterStore, EngineRun, Renewed},
    error::{ErrorKind, StoreError},
    key::{MAX_KEY_LEN, RecordKind, StoreKey},
    memory::MemoryStore,
    names::LayerNames,
    stamp::{Stamp, Verdict},
    state::StoredState,
};

/// Keeps records by key.
///
/// Backends write the methods as `async fn`. These are the rules, and [`contract`] checks those
/// that can be checked from outside:
///
/// 1. **Atomic.** Every call happens whole or not at all, for every reader and through every crash.
///    Calls on one key have one order, also when they come from several handles or processes.
/// 2. **Durable.** When a writing call resolves to `Ok`, its effect survives a `kill -9` of this
///    process; a backend that writes to a disk of its own has synced it. `Ok` before that is a bug.
///    After an `Err` of a kind other than those that name a refusal ([`ErrorKind::is_refusal`]) the
///    call may still have happened, whole, or may happen later.
/// 3. **Owned.** The caller that writes a record first owns it: [`claim`](Self::claim) writes only over
///    exactly what its caller has found (nothing, or the record with that very stamp). Every other
///    writing call is its owner's alone: the record must come from the same claim, or from an earlier
///    one of the same line (then the store has lost the claim, and the call heals that). Everything
///    else is refused as [`ErrorKind::Stale`] and changes nothing: a later owner's record, that of
///    another owner of the same generation, and that of another line.
/// 4. **In order.** Each write of an owner has a number. One whose number is not larger than the stored
///    one changes nothing and is `Ok`: it has happened already (a call whose answer was lost and that was
///    sent again), or a later write of the same owner has taken its place (a call that was given up for
///    lost and lands late).
/// 5. **Nothing comes back.** A record is made by [`claim`](Self::claim) alone; only a store that has lost everything says so
///    ([`losses`](Self::losses)).
///    [`remove`](Self::remove) and [`delete_expired`](Self::delete_expired) leave no trace, and what an
///    owner puts after them is [`ErrorKind::NotFound`]. While a key has no record nothing is fenced, so an
///    owner that may have a rival ends its line by putting a final record that says so, with a short
///    expiry: the next owner claims over that, and the earlier ones are refused.
/// 6. **Expiry is a time from now**, so that processes need not agree on a date: given with each write,
///    returned by [`load`](Self::load) as what is left of it, by the store's own clock. A record is there
///    at least for this time, and after that until [`delete_expired`](Self::delete_expired) takes it or the
///    backend does; so `load` may return one that has expired, and the caller compares. Fractions of a
///    millisecond are rounded up. What is longer than ten years may be stored as ten years.
/// 7. **Dropped futures.** A future that is dropped before it resolves has happened whole or not at all,
///    or happens later, as after an error. Rule 4 makes that harmless.
/// 8. **Off the runtime.** No call blocks the thread that polls it. Many calls at the same time are
///    normal, and a backend that pays per commit groups them.
///
/// Rules 3 and 4 are pure: [`Stamp`] has them, and a backend that runs its own code at the record calls
/// them there.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use session_resume::store::{ErrorKind, MemoryStore, RecordKind, SnapshotStore, Stamp, StoreKey};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = MemoryStore::new();
/// let key = StoreKey::new(RecordKind::Session, "live", b"aad5")?;
/// let hour = Duration::from_secs(3600);
///
/// // One process begins a session, and saves it again.
/// let ours = Stamp::first(0xaad5, 1);
/// store.claim(&key, None, ours, "state".into(), hour).await?;
/// let ours = ours.next();
/// store.put(&key, ours, "newer state".into(), hour).await?;
///
/// // Another one takes it over; from now on the first is refused.
/// let found = store.load(&key).await?.unwrap();
/// let theirs = found.stamp.taken_by(2);
/// store.claim(&key, Some(found.stamp), theirs, found.bytes, hour).await?;
/// let refused = store.put(&key, ours.next(), "old".into(), hour).await;
/// assert_eq!(refused.unwrap_err().kind(), ErrorKind::Stale);
/// # Ok::<(), session_resume::store::StoreError>(())
/// # }).unwrap();
/// ```
pub trait SnapshotStore: fmt::Debug + Send + Sync + 'static {
    /// Returns the record under `key`, or `None` if there is none.
    ///
    /// The record may have expired; see rule 6.
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

    /// Stores `bytes` under `key` if what is there is exactly `found`: no record, or the one with that stamp.
    /// The caller owns the record from then on.
    ///
    /// `stamp` is [`Stamp::first`] of a new line, [`Stamp::taken_by`] of the record found, or (an owner that
    /// writes over no more than it has read) [`Stamp::next`] of it. The caller that was not answered claims
    /// again: with the same stamp, or over what it finds then.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stale`] when there is something else by now, [`ErrorKind::Full`] or
    /// [`ErrorKind::TooLarge`] when there is no room; what was there then stays. Other kinds when the backend
    /// fails.
    ///
    /// # Cancel safety
    ///
    /// The record is the old or the new one; see rule 7.
    fn claim(
        &self,
        key: &StoreKey,
        found: Option<Stamp>,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores `bytes` over the caller's own record under `key`.
    ///
    /// The owner of a record on a store that is not [exclusive](Self::is_exclusive) takes `NotFound` for the end of its
    /// ownership and gives the session up, unless [`losses`](Self::losses) has grown since its last write. So a store whose
    /// engine may come back empty must count that; else the sessions are lost although they are in memory.
    ///
    /// Replaces bytes, stamp and expiry together. An `expires_in` of zero is fine: the next
    /// [`delete_expired`](Self::delete_expired) takes it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stale`] when another owner has taken the record over since, [`ErrorKind::NotFound`] when
    /// there is none, [`ErrorKind::Full`] or [`ErrorKind::TooLarge`] when there is no room; the old record
    /// then stays. Other kinds when the backend fails.
    ///
    /// # Cancel safety
    ///
    /// The record is the old or the new one; see rule 7.
    fn put(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Moves the expiry of the caller's own record under `key`, in either direction; all else stays.
    ///
    /// `stamp` is that of the caller's last write. An `Ok` says that the caller still owns the record.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stale`] as for `put`, [`ErrorKind::NotFound`] if the caller's record is not there: put it
    /// again, which heals what the store has lost. Other kinds when the backend fails.
    ///
    /// # Cancel safety
    ///
    /// The expiry is the old or the new one; see rule 7.
    fn touch(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        expires_in: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes the caller's own record under `key`; fine if there is none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stale`] as for `put`. Other kinds when the backend fails.
    ///
    /// # Cancel safety
    ///
    /// The record is there or gone; see rule 7.
    fn remove(
        &self,
        key: &StoreKey,
        stamp: Stamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Deletes at most `limit` records that have expired, the longest expired first, and returns how many.
    ///
    /// Fewer than `limit` means that nothing more is due. The work is proportional to what is due, not
    /// to what is stored. A backend that lets go of records by itself has nothing to do here.
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
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Returns the key that signs identity cookies, if this store keeps one.
    ///
    /// Always the same for one store, made at random when the store was; so that cookies outlive the
    /// process. Does no I/O: it is read when the store is opened.
    ///
    /// # Security
    ///
    /// A program that can read the store can forge every cookie. Keep the key out of logs.
    fn identity_key(&self) -> Option<[u8; 64]> {
        None
    }

    /// Returns the bytes of the record under [`StoreKey::identity_keys`] as they were when the store was opened, or later;
    /// `None` if there was no such record.
    ///
    /// The record says which keys sign identities since they were [changed](crate::SessionResume::rotate_identity_keys).
    /// A layer needs it before its first request. So a store that keeps an [`identity_key`](Self::identity_key) reads the record when it is
    /// opened, and cannot be opened if that fails. Does no I/O.
    ///
    /// # Security
    ///
    /// As for the identity key.
    fn identity_keys(&self) -> Option<Bytes> {
        None
    }

    /// Returns whether no other process can use this store while this one does.
    ///
    /// Then no other process can have taken a session over, and an attach need not ask.
    fn is_exclusive(&self) -> bool {
        false
    }

    /// Returns how often the store has been found to have lost everything: an engine that keeps nothing on disk has
    /// been started again.
    ///
    /// An owner that is told [`ErrorKind::NotFound`] after that makes its record anew, from what it has in memory; else the
    /// record has been removed, and the owner has lost its session to another process. So the number has grown before the
    /// first call is told that there is no record. Does no I/O.
    fn losses(&self) -> u64 {
        0
    }

    /// Returns how many records of this kind a layer has here; `None` if the store cannot tell, as one that several
    /// processes share.
    ///
    /// Asked for every new session, so it does no I/O. With it, and [`first`](Self::first),
    /// `Limits::max_stored` bounds what is stored.
    fn count(&self, kind: RecordKind, layer: &str) -> Option<usize> {
        let _ = (kind, layer);
        None
    }

    /// Returns the keys of at most `limit` records of this kind in a layer, the smallest first.
    ///
    /// # Errors
    ///
    /// Any kind that is not a refusal when the backend fails.
    ///
    /// # Cancel safety
    ///
    /// Reads only: nothing is lost.
    fn first(
        &self,
        kind: RecordKind,
        layer: &str,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoreKey>, StoreError>> + Send {
        let _ = (kind, layer, limit);
        async { Ok(Vec::new()) }
    }

    /// Returns the list of the names under which layers use this store: the same one from every handle.
    ///
    /// Without it two layers of one process that were given the same store and no names take each other's
    /// sessions, and it is not noticed.
    fn layer_names(&self) -> Option<&LayerNames> {
        None
    }
}

impl<S: SnapshotStore> SnapshotStore for Arc<S> {
    async fn load(&self, key: &StoreKey) -> Result<Option<Versioned>, StoreError> {
        S::load(self, key).await
    }

    async fn claim(
        &self,
        key: &StoreKey,
        found: Option<Stamp>,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        S::claim(self, key, found, stamp, bytes, expires_in).await
    }

    async fn put(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        S::put(self, key, stamp, bytes, expires_in).await
    }

    async fn touch(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        S::touch(self, key, stamp, expires_in).await
    }

    async fn remove(&self, key: &StoreKey, stamp: Stamp) -> Result<(), StoreError> {
        S::remove(self, key, stamp).await
    }

    async fn delete_expired(&self, limit: usize) -> Result<usize, StoreError> {
        S::delete_expired(self, limit).await
    }

    fn identity_key(&self) -> Option<[u8; 64]> {
        S::identity_key(self)
    }

    fn identity_keys(&self) -> Option<Bytes> {
        S::identity_keys(self)
    }

    fn is_exclusive(&self) -> bool {
        S::is_exclusive(self)
    }

    fn losses(&self) -> u64 {
        S::losses(self)
    }

    fn count(&self, kind: RecordKind, layer: &str) -> Option<usize> {
        S::count(self, kind, layer)
    }

    async fn first(
        &self,
        kind: RecordKind,
        layer: &str,
        limit: usize,
    ) -> Result<Vec<StoreKey>, StoreError> {
        S::first(self, kind, layer, limit).await
    }

    fn layer_names(&self) -> Option<&LayerNames> {
        S::layer_names(self)
    }
}

/// A record as a store returns it.
#[derive(Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The write that brought it.
    pub stamp: Stamp,
    /// What was put.
    pub bytes: Bytes,
    /// How long it is until it expires; zero if it has.
    pub expires_in: Duration,
}

// By hand: the bytes are a user's state.
impl fmt::Debug for Versioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Versioned")
            .field("stamp", &self.stamp)
            .field("len", &self.bytes.len())
            .field("expires_in", &self.expires_in)
            .finish()
    }
}

#[cfg(test)]
mod tests {
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
    fn a_record_prints_no_state() {
        let record = Versioned {
            stamp: Stamp::first(7, 7),
            bytes: Bytes::from_static(b"hunter2"),
            expires_in: Duration::ZERO,
        };
        let text = format!("{record:?}");
        assert!(!text.contains("hunter2") && text.contains("len: 7"), "{text}");
    }
}

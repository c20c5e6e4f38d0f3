//! What becomes of a stored session that cannot be read.

/// What becomes of a stored session whose state does not fit the layer's type any more: the type has changed and
/// serde cannot make it of what an earlier version of the program has written.
///
/// It applies where the [reuse policy](crate::reuse) answers `Reuse`, as the default one does. Any request for the
/// session counts as a fresh arrival then, a client's cursor or not.
///
/// # What is kept aside
///
/// Where a new session takes the place of an unreadable one, by this or because the policy answers `Fresh`, nothing
/// is lost. The old record is kept in the store under
/// [`RecordKind::Unreadable`](crate::store::RecordKind::Unreadable) and the session's id, for as long as a session is
/// [stored](crate::SessionResume::with_stored_lifetime) from then on. A warning in the log names the
/// session's id, once. Polling tells that the old session has `expired`, and why. A client that comes with a
/// cursor of it goes on with the new session: its hello says `new`, with a gap `expired`.
///
/// If the store can count ([`SnapshotStore::count`](crate::store::SnapshotStore::count)), at most
/// [`Limits::max_stored`](crate::Limits::max_stored) records are kept aside. When that many are, the session is not
/// touched and the request is answered with 503.
///
/// An operator gets at what is kept with the store's own calls, and [`SetAside`](crate::store::SetAside) reads it. An
/// embedded store can be opened when the server has stopped. A store that several processes share may list no keys: there
/// the id from the log makes the key.
///
/// ```
/// use session_resume::{
///     SessionId,
///     store::{MemoryStore, RecordKind, SetAside, SnapshotStore, StoreError, StoreKey},
/// };
///
/// /// The key of one of them. A layer is called `default` unless `with_name` gives another name.
/// fn key(session: SessionId) -> Result<StoreKey, StoreError> {
///     StoreKey::new(RecordKind::Unreadable, "default", session.as_uuid().as_bytes())
/// }
///
/// async fn report(store: &impl SnapshotStore) -> Result<(), StoreError> {
///     for key in store.first(RecordKind::Unreadable, "default", 1000).await? {
///         let Some(kept) = store.load(&key).await? else { continue };
///         let aside = SetAside::read(&kept.bytes)?;
///         println!("{}: {}", aside.session(), String::from_utf8_lossy(aside.state()));
///         // When it is not needed any more: store.remove(&key, kept.stamp).await?
///     }
///     Ok(())
/// }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(report(&MemoryStore::new())).unwrap();
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Unreadable {
    /// Requests for the session are refused with 500, clients that offer to resume are closed with 1011 and come
    /// back with backoff. The session is kept as it is: a version of the program that can read its state restores
    /// it. So a bad deploy ends no session.
    #[default]
    Refuse,
    /// A new session starts in its place, and its record is kept aside.
    StartAnew,
}

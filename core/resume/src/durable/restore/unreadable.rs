//! Stored sessions whose state does not fit its type any more: they are refused, or give way to new ones.

use super::{Asks, Loaded, ended_of};
use crate::{
    Outcome, OutcomeStatus,
    durable::snapshot::{
        place::Store,
        record::{RecordError, SessionRecord},
    },
    live::registry::Registry,
    words::{
        panics::caught,
        refusal::Refusal,
        reuse::{Residence, ReuseDecision},
        store::{ErrorKind, StoreError},
    },
};

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

/// What a request does after the session under its key could not be read.
pub(super) enum Way {
    /// Nothing is in its way.
    Free,
    /// Another process has changed the record: look again.
    Taken,
}

impl<T: Send + 'static> Registry<T> {
    /// Makes the state from what is stored. This calls the application's code: its panic counts like its error.
    pub(super) fn read_state(&self, record: &SessionRecord) -> Result<T, RecordError> {
        let codec = self.config().codec.expect("a layer with a store has a codec");
        match caught(|| (codec.decode)(&record.state)) {
            Ok(Ok(state)) => Ok(state),
            Ok(Err(error)) => Err(RecordError::of_state::<T>(Some(&error))),
            Err(_) => Err(RecordError::of_state::<T>(None)),
        }
    }

    /// Asks the reuse policy about a session that cannot be restored, and lets a new one have its place if that is the
    /// answer. No cursor continues it, so every request is asked about.
    pub(super) async fn give_way(
        &self,
        store: &Store,
        loaded: &Loaded,
        asks: &Asks<'_>,
        error: RecordError,
    ) -> Result<Way, Refusal> {
        match self.decide(Residence::Unreadable, &loaded.record, asks) {
            ReuseDecision::Refuse(status) => return Err(Refusal::by_policy(status)),
            ReuseDecision::Reuse => match self.config().unreadable {
                Unreadable::Refuse => return Err(Refusal::unreadable(&error)),
                Unreadable::StartAnew => {}
            },
            ReuseDecision::Fresh => {}
        }
        if asks.looks {
            // It finds nothing, and changes nothing.
            return Ok(Way::Free);
        }
        self.has_room_aside()?;
        match self.set_aside(store, loaded, asks, error).await {
            Ok(()) => Ok(Way::Free),
            Err(error) if error.kind() == ErrorKind::Stale => Ok(Way::Taken),
            Err(error) => Err(Refusal::by_store(&error)),
        }
    }

    /// Ends the session after a copy of its record is kept aside.
    async fn set_aside(
        &self,
        store: &Store,
        loaded: &Loaded,
        asks: &Asks<'_>,
        error: RecordError,
    ) -> Result<(), StoreError> {
        let record = &loaded.record;
        let lifetime = self.config().stored_lifetime;
        if store.put_aside(record.session, &loaded.stored, lifetime).await? {
            // The whole id: a store that lists no keys is asked by it. The session has ended, so it names nothing else.
            tracing::warn!(
                session = %record.session, %error,
                "a stored session cannot be read: its record is kept aside, and a new session has its place"
            );
        }
        // Not `closed`: clients are told the end of a session that was closed, and do not come back by themselves.
        let outcome = Outcome::with_error(
            OutcomeStatus::Expired,
            "its state could not be read any more, and a new session has its place",
        );
        let ended = ended_of(asks.context.key(), record, outcome);
        self.end_stored(store, loaded, &ended, self.config().outcome_lifetime).await
    }
}

//! Stored sessions whose state does not fit its type any more: they are refused, or give way to new ones.

use super::{Asks, Loaded, Way, ended_of};
use crate::{
    Outcome, OutcomeStatus,
    durable::snapshot::record::SessionRecord,
    live::registry::Registry,
    words::{
        panics::caught,
        record_error::RecordError,
        refusal::Refusal,
        reuse::{Residence, ReuseDecision},
        store::{StoreError, named::Store},
        unreadable::Unreadable,
    },
};

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
        Way::after(self.set_aside(store, loaded, asks, error).await)
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
        let ended = ended_of(asks.context.key(), &loaded.stored, record, outcome);
        self.end_stored(store, loaded, &ended, self.config().outcome_lifetime).await
    }
}

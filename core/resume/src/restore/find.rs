//! What polling finds in the store: nothing is restored for it.

use super::ended_of;
use crate::{
    Outcome, OutcomeStatus, SessionId,
    key::SessionKey,
    layer::RequestContext,
    outcomes::Ended,
    registry::Registry,
    snapshot::record::{self, IdRecord, SessionRecord},
    store::StoreError,
    wall,
};

/// What polling finds in the store.
pub(crate) enum Found {
    /// An outcome, and who may see it.
    Ended(Ended),
    /// A session that waits for somebody to come back; whether its handler was at work when it got here.
    Stored { interrupted: bool },
}

impl<T: Send + 'static> Registry<T> {
    /// Looks for what a poll asks for.
    pub(crate) async fn find_stored(
        &self,
        id: SessionId,
        context: &RequestContext,
    ) -> Result<Option<Found>, StoreError> {
        let Some(store) = self.config().store.clone() else {
            return Ok(None);
        };
        let by_id = store.store.load(&store.id_key(id)).await?;
        let key =
            match by_id.map(|stored| (record::decode::<IdRecord>(&stored.bytes), stored.expires)) {
                Some((Ok(IdRecord::Ended(outcome)), expires)) => {
                    let ended = outcome.into_ended()?;
                    return Ok((expires > wall::now()).then_some(Found::Ended(ended)));
                }
                Some((Ok(IdRecord::Pointer(key)), _)) => key,
                Some((Err(error), _)) => return Err(error.into()),
                // The identity's own session needs no pointer.
                None => SessionKey::own(context.identity()).to_bytes(),
            };
        let Some(stored) = store.store.load(&store.session_key(&key)).await? else {
            return Ok(None);
        };
        let record = record::decode::<SessionRecord>(&stored.bytes)?;
        let caller = context.identity();
        let knows = record.identity == caller || record.guests.contains(&caller);
        if record.session != id || !knows {
            return Ok(None);
        }
        if self.is_over(&stored, &record) {
            // Its record is kept for as long as this can be asked.
            let gone = stored.expires <= wall::now();
            let key = SessionKey::from_bytes(&key).filter(|_| !gone);
            let outcome = Outcome::by_rule(OutcomeStatus::Expired);
            return Ok(key.map(|key| Found::Ended(ended_of(&key, &record, outcome))));
        }
        Ok(Some(Found::Stored { interrupted: record.working && !record.clean }))
    }

    /// Looks for the outcome of a session that is not in memory.
    pub(crate) async fn find_ended(&self, id: SessionId) -> Result<Option<Ended>, StoreError> {
        let Some(store) = self.config().store.clone() else {
            return Ok(None);
        };
        let Some(stored) = store.store.load(&store.id_key(id)).await? else {
            return Ok(None);
        };
        let record = record::decode::<IdRecord>(&stored.bytes)?;
        match record {
            IdRecord::Ended(outcome) if stored.expires > wall::now() => {
                Ok(Some(outcome.into_ended()?))
            }
            IdRecord::Ended(_) | IdRecord::Pointer(_) => Ok(None),
        }
    }

    /// Looks for the caller's own stored session; others can only be asked for by their ids.
    pub(crate) async fn find_own(
        &self,
        context: &RequestContext,
    ) -> Result<Option<(SessionId, Found)>, StoreError> {
        let Some(store) = self.config().store.clone() else {
            return Ok(None);
        };
        let key = SessionKey::own(context.identity()).to_bytes();
        let Some(stored) = store.store.load(&store.session_key(&key)).await? else {
            return Ok(None);
        };
        let record = record::decode::<SessionRecord>(&stored.bytes)?;
        let found = self.find_stored(record.session, context).await?;
        Ok(found.map(|found| (record.session, found)))
    }
}

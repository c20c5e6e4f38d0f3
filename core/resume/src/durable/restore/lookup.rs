//! What polling finds in the store: nothing is restored for it.

use super::ended_of;
use crate::{
    Identity, Outcome, OutcomeStatus, SessionId,
    durable::snapshot::record::{self, IdRecord, KeyRecord, OutcomeRecord},
    live::{ended::Ended, registry::Registry},
    words::{
        context::RequestContext,
        key::SessionKey,
        node::NodeInfo,
        observe,
        record_error::RecordError,
        store::{StoreError, Versioned},
    },
};

/// What polling finds in the store.
pub(crate) enum InStore {
    /// An outcome, and which identities may see it.
    Ended(Ended),
    /// A session that waits for a client to come back; whether its handler was at work when it was stored.
    Stored {
        interrupted: bool,
        #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only streams ask"))]
        key: SessionKey,
    },
    /// A session that lives at another node.
    Elsewhere(NodeInfo),
}

impl<T: Send + 'static> Registry<T> {
    /// Looks for what a poll asks for.
    pub(crate) async fn find_stored(
        &self,
        id: SessionId,
        context: &RequestContext,
    ) -> Result<Option<InStore>, StoreError> {
        let Some(store) = self.config().store.clone() else {
            return Ok(None);
        };
        let caller = context.identity();
        let key = match store.store.load(&store.id_key(id)).await? {
            // The identity's own session needs no pointer.
            None => SessionKey::own(caller).to_bytes(),
            Some(stored) => match record::decode(&stored.bytes) {
                Ok(IdRecord::Pointer(key)) => key,
                Ok(IdRecord::Ended(outcome)) => {
                    return Ok(still_told(outcome, &stored).map(InStore::Ended));
                }
                Err(error) => return Ok(nobodys(error)),
            },
        };
        let Some(stored) = store.store.load(&store.session_key(&key)).await? else {
            return Ok(None);
        };
        let record = match record::decode(&stored.bytes) {
            Ok(KeyRecord::Live(record)) => record,
            // Its process died before it could put this under the id.
            Ok(KeyRecord::Ended(outcome)) => {
                let ended = still_told(outcome, &stored);
                return Ok(ended.filter(|_| stored.stamp.line == id.line()).map(InStore::Ended));
            }
            Err(error) if is_only_for(caller, &key) => return Err(error.into()),
            Err(error) => return Ok(nobodys(error)),
        };
        if record.session != id || !record.is_known_to(caller) {
            return Ok(None);
        }
        if !record.clean
            && let Some(node) = self.lives_at(stored.stamp.owner).await?
        {
            return Ok(Some(InStore::Elsewhere(node)));
        }
        if self.is_over(&stored, &record) {
            // Its record is kept for as long as this can be asked.
            let gone = stored.expires_in.is_zero();
            let key = SessionKey::from_bytes(&key).filter(|_| !gone);
            let outcome = Outcome::by_rule(OutcomeStatus::Expired);
            return Ok(key.map(|key| InStore::Ended(ended_of(&key, &stored, &record, outcome))));
        }
        let interrupted = record.working && !record.clean;
        Ok(SessionKey::from_bytes(&key).map(|key| InStore::Stored { interrupted, key }))
    }

    /// Looks for the outcome of a session that is not in memory.
    pub(crate) async fn find_ended(&self, id: SessionId) -> Result<Option<Ended>, StoreError> {
        let Some(store) = self.config().store.clone() else {
            return Ok(None);
        };
        let Some(stored) = store.store.load(&store.id_key(id)).await? else {
            return Ok(None);
        };
        Ok(match record::decode(&stored.bytes) {
            Ok(IdRecord::Ended(outcome)) => still_told(outcome, &stored),
            Ok(IdRecord::Pointer(_)) => None,
            Err(error) => nobodys(error),
        })
    }

    /// Looks for the outcome that a session has left under its key, until the next one takes the key.
    #[cfg(feature = "http")]
    pub(crate) async fn find_final(&self, key: &SessionKey) -> Result<Option<Ended>, StoreError> {
        let Some(store) = self.config().store.clone() else {
            return Ok(None);
        };
        let Some(stored) = store.store.load(&store.session_key(&key.to_bytes())).await? else {
            return Ok(None);
        };
        Ok(match record::decode(&stored.bytes) {
            Ok(KeyRecord::Ended(outcome)) => still_told(outcome, &stored),
            // The restore, which comes next, refuses what cannot be read.
            Ok(KeyRecord::Live(_)) | Err(_) => None,
        })
    }

    /// Looks for the caller's own stored session; others can only be asked for by their ids.
    pub(crate) async fn find_own(
        &self,
        context: &RequestContext,
    ) -> Result<Option<(SessionId, InStore)>, StoreError> {
        let Some(store) = self.config().store.clone() else {
            return Ok(None);
        };
        let key = SessionKey::own(context.identity()).to_bytes();
        let Some(stored) = store.store.load(&store.session_key(&key)).await? else {
            return Ok(None);
        };
        let KeyRecord::Live(record) = record::decode(&stored.bytes)? else {
            return Ok(None);
        };
        let found = self.find_stored(record.session, context).await?;
        Ok(found.map(|found| (record.session, found)))
    }
}

/// The outcome of a record, as long as it can be asked for.
fn still_told(outcome: OutcomeRecord, stored: &Versioned) -> Option<Ended> {
    if stored.expires_in.is_zero() {
        return None;
    }
    outcome.into_ended(stored.stamp.generation).map_or_else(nobodys, Some)
}

/// A record that cannot be read does not say whose it is. A caller that asks by an id is told that there is none.
fn nobodys<R>(error: RecordError) -> Option<R> {
    observe::store_failed();
    tracing::error!(%error, "a stored session cannot be read");
    None
}

/// Whether no other identity can have this key.
fn is_only_for(caller: Identity, key: &[u8]) -> bool {
    let key = SessionKey::from_bytes(key).filter(|key| !key.is_shared());
    key.is_some_and(|key| key.rescoped(caller) == key)
}

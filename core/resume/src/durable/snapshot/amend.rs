//! Changes to a record that is in the store, between two snapshots.

use std::sync::Arc;

use super::{
    record::{self, KeyRecord, SessionRecord},
    writer::Writer,
};
use crate::{
    live::session::{Durable, Shared},
    words::{
        errors::chain,
        observe,
        store::{ErrorKind, StoreError, named::is},
    },
};

/// Changes what the session's record says about it. The snapshot itself stays. Returns whether the record says it now.
pub(crate) async fn amend<T: Send + 'static>(
    store: &Writer<T>,
    session: &Arc<Shared<T>>,
    change: impl Fn(&mut SessionRecord),
) -> bool {
    let _turn = session.write_turn().await;
    amend_in_turn(store, session, change).await
}

/// As [`amend`], for a caller whose turn it is to write.
pub(super) async fn amend_in_turn<T: Send + 'static>(
    store: &Writer<T>,
    session: &Arc<Shared<T>>,
    change: impl Fn(&mut SessionRecord),
) -> bool {
    try_amend(store, session, change).await.unwrap_or_else(|error| {
        observe::store_failed();
        tracing::warn!(session = %session.id().short(), error = %chain(&error), "record not amended");
        false
    })
}

/// A message is in hand, so no snapshot can be taken, and that may be so for long: clients whose first hello
/// waits for the record join the last boundary's. Returns whether that need not be tried again.
pub(super) async fn admit_newcomers<T: Send + 'static>(
    store: &Writer<T>,
    session: &Arc<Shared<T>>,
) -> bool {
    let newcomers = {
        let core = session.lock();
        if core.is_over() { None } else { core.machine.newcomers() }
    };
    let Some(newcomers) = newcomers else {
        return true;
    };
    match try_amend(store, session, |record| record.machine.admit(&newcomers)).await {
        Ok(true) => session.step(|core| core.machine.handle_admitted(&newcomers)),
        // Nothing of the session is there yet: the boundary brings it.
        Ok(false) => {}
        Err(error) => {
            observe::store_failed();
            tracing::error!(session = %session.id().short(), error = %chain(&error), "client not recorded");
            session.not_saved(error);
            return false;
        }
    }
    true
}

/// Returns whether there is a record of ours.
async fn try_amend<T: Send + 'static>(
    store: &Writer<T>,
    session: &Arc<Shared<T>>,
    change: impl Fn(&mut SessionRecord),
) -> Result<bool, StoreError> {
    loop {
        let key = session.lock().key.to_bytes();
        let Some(stamp) = session.with_durable(Durable::next_stamp) else {
            return Ok(false);
        };
        let key = store.session_key(&key);
        let Some(stored) = store.store.load(&key).await? else {
            return Ok(false);
        };
        let Ok(KeyRecord::Live(mut record)) = record::decode(&stored.bytes) else {
            return Ok(false);
        };
        let Some(expires_in) = store.expires_in(session) else {
            return Ok(false);
        };
        if !stamp.same_fence(stored.stamp) {
            return Ok(false);
        }
        change(&mut record);
        let bytes = record::encode(&KeyRecord::Live(record));
        // Over exactly what was read: a snapshot that has come meanwhile stays.
        let amended = store.store.claim(&key, Some(stored.stamp), stamp, bytes, expires_in).await;
        if !is(&amended, ErrorKind::Stale) {
            return amended.map(|()| true);
        }
    }
}

//! Records and their owners: making one, writing it, and ending it.
//!
//! A store that several processes use refuses a process that does not own the record. So nothing is told before the
//! record says it: not that a message is handled, and not that the session has ended.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    record::{self, IdRecord, KeyRecord, OutcomeRecord},
    writer::Writer,
};
use crate::{
    live::{
        ended::Ended,
        session::{Durable, Moved, Place, Shared},
    },
    words::{
        key::SessionKey,
        observe::{self, nodes::Claimed},
        store::{ErrorKind, Stamp, StoreError, StoreKey, named::is},
        wall::{later, until},
    },
};

/// Puts a session's record under `key`; makes it if there is none.
pub(super) async fn put_record<T: Send + 'static>(
    store: &Writer<T>,
    session: &Shared<T>,
    key: &SessionKey,
    bytes: &Bytes,
    expires_in: Duration,
) -> Result<(), StoreError> {
    let at = store.session_key(&key.to_bytes());
    let there = Place::Ours(key.clone());
    let losses = store.store.losses();
    if session.durable(|durable| durable.place == there)? {
        let mut put = store.store.put(&at, session.next_stamp()?, bytes.clone(), expires_in).await;
        if is(&put, ErrorKind::NotFound) && !store.store.is_exclusive() {
            put = make_again(store, session, &at, bytes, expires_in).await.map(drop);
        }
        if !is(&put, ErrorKind::NotFound) {
            if put.is_ok() {
                session.durable(|durable| durable.losses = losses)?;
            }
            return put;
        }
        // No other process can have taken it: it has expired while the session was in use.
    }
    session.durable(|durable| durable.place = Place::Asked(key.clone()))?;
    claim_anew(store, session, &at, bytes, expires_in).await?;
    session.durable(|durable| (durable.place, durable.losses) = (there, losses))
}

/// Makes the record of a session again when it is not there any more, in a store that others use, too.
///
/// Only if the store has lost everything since the session's last write; else another process has taken the session
/// over, and ended it or moved it, and this is [`ErrorKind::Stale`]. A process that has taken it over and makes it again
/// itself wins, earlier or later: its generation is larger.
async fn make_again<T: Send + 'static>(
    store: &Writer<T>,
    session: &Shared<T>,
    at: &StoreKey,
    bytes: &Bytes,
    expires_in: Duration,
) -> Result<Stamp, StoreError> {
    if session.durable(|durable| durable.losses)? == store.store.losses() {
        return Err(ErrorKind::Stale.into());
    }
    tracing::warn!(session = %session.id().short(), "the store has lost the session; it is put again");
    let stamp = session.next_stamp()?;
    let claimed = store.store.claim(at, None, stamp, bytes.clone(), expires_in).await;
    if !is(&claimed, ErrorKind::Stale) {
        return claimed.map(|()| stamp);
    }
    // Another process was faster. What comes from an earlier claim of the same session is put over.
    let stamp = session.next_stamp()?;
    store.store.put(at, stamp, bytes.clone(), expires_in).await.map(|()| stamp)
}

/// Makes the record of a session that has none there.
async fn claim_anew<T: Send + 'static>(
    store: &Writer<T>,
    session: &Shared<T>,
    at: &StoreKey,
    bytes: &Bytes,
    expires_in: Duration,
) -> Result<Stamp, StoreError> {
    let mut found = None;
    loop {
        let stamp = session.next_stamp()?;
        let begun = Instant::now();
        let claimed = store.store.claim(at, found, stamp, bytes.clone(), expires_in).await;
        if claimed.is_ok() && session.is_at_node() {
            observe::nodes::claimed(Claimed::New, begun.elapsed());
        }
        if !is(&claimed, ErrorKind::Stale) {
            return claimed.map(|()| stamp);
        }
        found = may_replace(store, session, at).await?;
    }
}

/// Returns what is under the key of a session that has just begun, if it may claim over that; refused as
/// [`ErrorKind::Stale`] if another session has the key.
async fn may_replace<T: Send + 'static>(
    store: &Writer<T>,
    session: &Shared<T>,
    at: &StoreKey,
) -> Result<Option<Stamp>, StoreError> {
    let Some(stored) = store.store.load(at).await? else {
        return Ok(None);
    };
    let record = match record::decode(&stored.bytes)? {
        KeyRecord::Ended(outcome) => {
            store.publish(&stored, outcome).await?;
            return Ok(Some(stored.stamp));
        }
        // Our own claim, whose answer was lost.
        KeyRecord::Live(_)
            if session.durable(|durable| durable.stamp)?.same_fence(stored.stamp) =>
        {
            return Ok(Some(stored.stamp));
        }
        KeyRecord::Live(record) => record,
    };
    let Some(before) = store.registry.upgrade().and_then(|registry| registry.by_id(record.session))
    else {
        return Err(ErrorKind::Stale.into());
    };
    // It had the key until now, in this process: its record goes first.
    let Some(ended) = before.ended() else {
        let text = "the session that had this key before is on its way to another one";
        return Err(StoreError::new(ErrorKind::Unavailable, text));
    };
    put_final(store, &before, &ended).await?;
    match before.durable(|durable| durable.place.clone())? {
        Place::Ended(stamp) => Ok(Some(stamp)),
        _ => Err(ErrorKind::Stale.into()),
    }
}

/// Ends a session in the store: a final record under its key, and only then its outcome under its id.
///
/// The final record is refused to a process that does not own the session any more. The outcome alone would not be:
/// what is under the id may still be from this owner.
pub(super) async fn end_record<T: Send + 'static>(
    store: &Writer<T>,
    session: &Shared<T>,
    ended: &Ended,
) -> Result<(), StoreError> {
    put_final(store, session, ended).await?;
    let outcome = IdRecord::Ended(OutcomeRecord::of(ended));
    let expires_in = expires_in(store, ended)?;
    store.put_by_id(session.id(), session.next_stamp()?, &outcome, expires_in).await
}

async fn put_final<T: Send + 'static>(
    store: &Writer<T>,
    session: &Shared<T>,
    ended: &Ended,
) -> Result<(), StoreError> {
    let (place, old_keys) = session.durable(|durable| {
        let moved = durable.moved.as_deref().into_iter().flat_map(Moved::keys);
        (durable.place.clone(), moved.cloned().collect::<Vec<_>>())
    })?;
    let expires_in = expires_in(store, ended)?;
    let bytes = || record::encode(&KeyRecord::Ended(OutcomeRecord::of(ended)));
    let (key, put) = match place {
        Place::Nowhere | Place::Ended(_) => return Ok(()),
        Place::Ours(key) => {
            let at = store.session_key(&key.to_bytes());
            let stamp = session.next_stamp()?;
            let bytes = bytes();
            let mut put =
                store.store.put(&at, stamp, bytes.clone(), expires_in).await.map(|()| stamp);
            if is(&put, ErrorKind::NotFound) && !store.store.is_exclusive() {
                put = make_again(store, session, &at, &bytes, expires_in).await;
            }
            (key, put)
        }
        Place::Asked(key) => {
            let at = store.session_key(&key.to_bytes());
            let bytes = bytes();
            // Boxed: it may have to end another one first.
            (key, Box::pin(claim_anew(store, session, &at, &bytes, expires_in)).await)
        }
    };
    match put {
        Ok(stamp) => session.durable(|durable| durable.place = Place::Ended(stamp))?,
        // The session that has the key now has put it, and claimed over it.
        Err(_) if matches!(session.durable(|durable| durable.place.clone())?, Place::Ended(_)) => {}
        // It has expired while the session was in use.
        Err(error) if error.kind() == ErrorKind::NotFound && store.store.is_exclusive() => {}
        Err(error) => return Err(error),
    }
    for old in old_keys.iter().filter(|old| **old != key) {
        vacate(store, session, old).await?;
    }
    Ok(())
}

/// Removes the record from where it was before it moved.
pub(super) async fn vacate<T: Send + 'static>(
    store: &Writer<T>,
    session: &Shared<T>,
    from: &SessionKey,
) -> Result<(), StoreError> {
    let at = store.session_key(&from.to_bytes());
    let removed = store.store.remove(&at, session.next_stamp()?).await;
    // Stale: a new session has the old key already.
    if is(&removed, ErrorKind::Stale) { Ok(()) } else { removed }
}

fn expires_in<T: Send + 'static>(store: &Writer<T>, ended: &Ended) -> Result<Duration, StoreError> {
    let registry = store.registry.upgrade().ok_or(ErrorKind::Unavailable)?;
    Ok(until(later(ended.outcome.completed(), registry.config().outcome_lifetime)))
}

impl<T: Send + 'static> Shared<T> {
    fn durable<R>(&self, see: impl FnOnce(&mut Durable) -> R) -> Result<R, StoreError> {
        self.with_durable(see).ok_or_else(|| ErrorKind::Unavailable.into())
    }

    /// Returns the stamp of the session's next write.
    pub(super) fn next_stamp(&self) -> Result<Stamp, StoreError> {
        self.durable(Durable::next_stamp)
    }
}

//! The task that writes: one for all sessions of a layer, so that the store can group its commits.

use std::{
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{
    Job, Pointer, Urgency,
    amend::admit_newcomers,
    place::{Store, chain},
    queue::{Item, Saver},
    record::{self, IdRecord, OutcomeRecord},
    work::mark_working,
};
use crate::{
    observe,
    outcomes::Ended,
    registry::Registry,
    session::shared::Shared,
    store::{ErrorKind, Generation, StoreError},
};

/// So many calls are under way at the same time; the store groups them.
const CONCURRENCY: usize = 1024;
/// After a failure the saver waits, ever longer.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// Writes until the layer stops it.
pub(crate) async fn run<T: Send + 'static>(registry: Weak<Registry<T>>, saver: Arc<Saver<T>>) {
    let mut backoff = FIRST_BACKOFF;
    loop {
        let Some(interval) = registry.upgrade().map(|registry| registry.config().flush_interval)
        else {
            return;
        };
        let mut since = Instant::now();
        loop {
            // Batched across sessions: whoever is urgent takes the others along.
            let had_items = saver.has_items();
            match saver.idle_until(interval, since) {
                Some(until) if until <= Instant::now() => break,
                Some(until) => {
                    let _ = tokio::time::timeout_at(until, saver.queued()).await;
                }
                None => saver.queued().await,
            }
            if !had_items {
                since = Instant::now();
            }
        }
        let items = saver.take();
        // Not kept while the store works: dropping the last handle of the layer must end all of it, also
        // if the store never answers.
        let Some(store) = registry.upgrade().and_then(|registry| registry.config().store.clone())
        else {
            return;
        };
        let total = items.len();
        let failed: Vec<_> = stream::iter(items)
            .map(|item| write(&store, item))
            .buffer_unordered(CONCURRENCY)
            .filter_map(async |failed| failed)
            .collect()
            .await;
        // After the snapshots: a handler that has come to its boundary is not at work.
        if let Some(since) = Instant::now().checked_sub(interval) {
            let marks = stream::iter(saver.take_watched(since))
                .map(async |session| mark_working(&store, &session).await);
            marks.buffer_unordered(CONCURRENCY).collect::<()>().await;
        }
        if failed.is_empty() {
            if total > 0 {
                backoff = FIRST_BACKOFF;
            }
            continue;
        }
        tracing::warn!(
            failed = failed.len(),
            of = total,
            retry_ms = backoff.as_millis(),
            "the store does not take everything"
        );
        // One session that cannot be stored must not hold up the others, and a store that is down must not be
        // asked by everybody all the time.
        let is_down = failed.len() == total && total > 1;
        saver.put_back(failed.into_iter(), Instant::now() + backoff);
        if is_down {
            tokio::time::sleep(FIRST_BACKOFF).await;
        }
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
    }
}

/// Writes one item; returns it if it must be tried again.
async fn write<T: Send + 'static>(store: &Store, item: Item<T>) -> Option<Item<T>> {
    match item {
        Item::Session(session) => {
            if session.has_ended() {
                return None;
            }
            match session.take_job() {
                None => {
                    let admitted = admit_newcomers(store, &session).await;
                    (!admitted).then_some(Item::Session(session))
                }
                Some(job) => {
                    let saved = put(store, &session, job).await;
                    (!saved).then_some(Item::Session(session))
                }
            }
        }
        Item::Touch(session) => {
            touch(store, &session).await;
            None
        }
        Item::Ended(session, ended) => {
            put_outcome(store, &session, ended).await.map(|ended| Item::Ended(session, ended))
        }
    }
}

async fn put<T: Send + 'static>(store: &Store, session: &Arc<Shared<T>>, job: Job) -> bool {
    let started = Instant::now();
    let Some(expires) = session.record_expires() else {
        return true;
    };
    match put_all(store, session, &job, expires).await {
        Ok(()) => {
            tracing::trace!(
                session = %session.id().short(),
                bytes = job.bytes.len(),
                micros = started.elapsed().as_micros(),
                "saved"
            );
            observe::committed(started.elapsed());
            session.saved(&job);
            // The record no longer says that the handler is at work; it may be, again.
            session.watch_work();
            true
        }
        Err(error) if error.kind() == ErrorKind::Stale => {
            session.lose_to_another();
            true
        }
        Err(error) => {
            observe::store_failed();
            tracing::error!(session = %session.id().short(), error = %chain(&error), "snapshot not saved");
            session.not_saved(&chain(&error));
            false
        }
    }
}

/// Puts the record, and what leads to it.
///
/// A record that has moved is there twice for a moment. The pointer says which one counts, so after a crash in
/// between exactly one does: the pointer to the old place is there first.
async fn put_all<T: Send + 'static>(
    store: &Store,
    session: &Arc<Shared<T>>,
    job: &Job,
    expires: SystemTime,
) -> Result<(), StoreError> {
    let (home, pointer) = {
        let mut core = session.lock();
        let durable = core.durable.as_mut();
        let pointer = durable.as_ref().map_or(Pointer::None, |durable| durable.pointer);
        let moved = durable.and_then(|durable| durable.moved.as_deref_mut());
        // A snapshot from before the move still goes to the old place.
        let moved = moved.filter(|moved| moved.home != job.key);
        // Whatever becomes of the put: it may be there.
        let home = moved.map(|moved| {
            moved.begins(&job.key);
            moved.home.to_bytes()
        });
        (home, pointer)
    };
    let key = job.key.to_bytes();
    let at = store.session_key(&key);
    let moves = home.is_some();
    if let Some(home) = home {
        store.put_pointer(session.id(), home, job.generation, expires).await?;
    } else if pointer == Pointer::Wanted {
        store.put_pointer(session.id(), key.clone(), job.generation, expires).await?;
        note_pointer(session);
    }
    store.store.put(&at, job.generation, job.bytes.clone(), expires).await?;
    if moves {
        store.put_pointer(session.id(), key, job.generation, expires).await?;
        note_pointer(session);
    }
    let strays = {
        let mut core = session.lock();
        let moved = core.durable.as_mut().and_then(|durable| durable.moved.as_deref_mut());
        moved.map_or_else(Vec::new, |moved| {
            if moves {
                moved.is_home(&job.key);
            }
            moved.strays.clone()
        })
    };
    for stray in &strays {
        match store.store.remove(&store.session_key(&stray.to_bytes()), job.generation).await {
            // Stale: a new session has that key already.
            Err(error) if error.kind() != ErrorKind::Stale => return Err(error),
            _ => {}
        }
    }
    let mut core = session.lock();
    let core = &mut *core;
    if let Some(durable) = &mut core.durable {
        let key = &core.key;
        durable.moved.take_if(|moved| {
            moved.strays.retain(|stray| !strays.contains(stray));
            // It may have moved on meanwhile.
            moved.strays.is_empty() && moved.home == *key
        });
    }
    Ok(())
}

fn note_pointer<T>(session: &Shared<T>) {
    if let Some(durable) = &mut session.lock().durable {
        durable.pointer = Pointer::Saved;
    }
}

/// Moves the expiry of a session that is in use.
async fn touch<T: Send + 'static>(store: &Store, session: &Arc<Shared<T>>) {
    let (key, generation, pointer) = {
        let core = session.lock();
        let Some(durable) = core.durable.as_ref().filter(|_| !core.is_over()) else {
            return;
        };
        // A move puts everything anew.
        if durable.moved.is_some() {
            return;
        }
        (core.key.to_bytes(), durable.generation, durable.pointer)
    };
    let Some(expires) = session.record_expires() else {
        return;
    };
    let mut touched = store.store.touch(&store.session_key(&key), generation, expires).await;
    if touched.is_ok() && pointer == Pointer::Saved {
        touched = store.store.touch(&store.id_key(session.id()), generation, expires).await;
    }
    match touched {
        Ok(()) => {
            if let Some(durable) = &mut session.lock().durable {
                durable.touched();
            }
        }
        Err(error) if error.kind() == ErrorKind::Stale => session.lose_to_another(),
        Err(error) if error.kind() == ErrorKind::NotFound => session.step(|core| {
            if let Some(durable) = &mut core.durable
                && durable.pointer == Pointer::Saved
            {
                durable.pointer = Pointer::Wanted;
            }
            core.changed(Urgency::Soon);
        }),
        Err(error) => {
            observe::store_failed();
            tracing::warn!(session = %session.id().short(), error = %chain(&error), "expiry not moved");
        }
    }
}

/// The outcome first, then the snapshot goes: whoever finds both believes the outcome. Returns it if it must be
/// tried again.
async fn put_outcome<T: Send + 'static>(
    store: &Store,
    session: &Arc<Shared<T>>,
    mut ended: Ended,
) -> Option<Ended> {
    let (generation, moved) = {
        let core = session.lock();
        let durable = core.durable.as_ref();
        let generation = durable.map_or(Generation::new(0), |durable| durable.generation);
        (generation, durable.and_then(|durable| durable.moved.clone()))
    };
    let lifetime = session.registry()?.config().outcome_lifetime;
    let expires = record::later(ended.outcome.completed(), lifetime);
    let bytes = record::encode(&IdRecord::Ended(OutcomeRecord::of(&ended)));
    let mut result = store.store.put(&store.id_key(session.id()), generation, bytes, expires).await;
    for key in moved.iter().flat_map(|moved| moved.keys()).chain([&ended.key]) {
        if result.is_ok() {
            result = store.store.remove(&store.session_key(&key.to_bytes()), generation).await;
            // A new session has taken the key already.
            if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Stale) {
                result = Ok(());
            }
        }
    }
    match result {
        Ok(()) => {
            if let Some(registry) = session.registry() {
                registry.outcome_saved(session, ended);
            }
            None
        }
        // Another process has the session: its end is that one's to tell.
        Err(error) if error.kind() == ErrorKind::Stale => {
            session.lose_to_another();
            None
        }
        Err(error) => {
            observe::store_failed();
            tracing::error!(session = %session.id().short(), error = %chain(&error), "outcome not saved");
            if error.kind() == ErrorKind::TooLarge {
                ended.outcome = Arc::new(ended.outcome.without_result());
            }
            Some(ended)
        }
    }
}

impl<T: Send + 'static> Shared<T> {
    /// When what is put now may be deleted; `None` if the layer is gone.
    pub(super) fn record_expires(&self) -> Option<SystemTime> {
        self.registry().map(|registry| registry.record_expires(self))
    }

    /// Another process has put a newer generation.
    fn lose_to_another(self: &Arc<Self>) {
        if let Some(registry) = self.registry() {
            registry.lose(self);
        }
    }

    /// The generation of this owner; `None` without a store.
    pub(super) fn generation(&self) -> Option<Generation> {
        self.lock().durable.as_ref().map(|durable| durable.generation)
    }
}

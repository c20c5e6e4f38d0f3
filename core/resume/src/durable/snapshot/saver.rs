//! The task that writes: one for all sessions of a layer, so that the store can group its commits.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use super::{
    amend::admit_newcomers,
    own::{end_record, put_record, vacate},
    queue::{Attempt, Saver},
    record::IdRecord,
    work::mark_working,
    writer::Writer,
};
use crate::{
    live::{
        ended::Ended,
        registry::{Item, Registry, Saves},
        session::{CancelHandler, Durable, Job, Pointer, Shared},
    },
    words::{
        durability::Urgency,
        errors::chain,
        key::SessionKey,
        observe,
        outcome::Outcome,
        panics::run_caught,
        store::{ErrorKind, StoreError, named::is},
    },
};

/// The number of items that are written at the same time. The store groups them.
const CONCURRENCY: usize = 1024;
/// How often a saver that waits for a lease looks whether its layer is still there.
const MOMENT: Duration = Duration::from_secs(1);

impl<T: Send + 'static> Saves<T> for Saver<T> {
    fn push(&self, item: Item<T>, urgency: Urgency) {
        self.push(item, urgency);
    }

    fn hurry(&self) {
        self.hurry();
    }

    fn take_snapshot(&self, session: &Shared<T>) {
        session.take_at_boundary(self.codec);
    }

    fn watch(&self, session: Arc<Shared<T>>) {
        self.watch(session);
    }

    fn give_turns(&self, session: &Arc<Shared<T>>) {
        self.give_turns(session);
    }
}

/// Writes until the layer stops it.
///
/// Each item in a task of its own: what the store does with one holds up no other.
pub(crate) async fn run<T: Send + 'static>(registry: Weak<Registry<T>>, saver: Arc<Saver<T>>) {
    let mut tasks = Tasks { set: JoinSet::new(), room: Arc::new(Semaphore::new(CONCURRENCY)) };
    loop {
        let Some(interval) = registry.upgrade().map(|registry| registry.config().flush_interval)
        else {
            return;
        };
        let mut since = Instant::now();
        loop {
            // Batched across sessions: an urgent session takes the others along.
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
        // What is put without a lease may be refused: it waits, as the sessions do.
        let node = registry.upgrade().and_then(|registry| registry.node().cloned());
        if let Some(node) = node {
            while !node.held_by(Instant::now() + interval.max(MOMENT)).await {
                if registry.upgrade().is_none() {
                    return;
                }
            }
        }
        // Not kept while the store works: dropping the last handle of the layer must end all of it, also
        // if the store never answers.
        let Some(writer) = registry.upgrade().and_then(|registry| registry.writer()) else {
            return;
        };
        for attempt in saver.take() {
            let (writer, saver) = (writer.clone(), Arc::clone(&saver));
            tasks.spawn(async move { attempt.make(&writer, &saver).await }).await;
        }
        if let Some(since) = Instant::now().checked_sub(interval) {
            for session in saver.take_watched(since) {
                let writer = writer.clone();
                tasks.spawn(async move { mark_working(&writer, &session).await }).await;
            }
        }
        tasks.reap();
    }
}

/// What is being written; dropping this ends it.
struct Tasks {
    set: JoinSet<()>,
    room: Arc<Semaphore>,
}

impl Tasks {
    /// Starts a task once there is room for it.
    async fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        let room = Arc::clone(&self.room).acquire_owned().await;
        self.set.spawn(async move {
            task.await;
            drop(room);
        });
    }

    /// Forgets those that have ended.
    fn reap(&mut self) {
        while self.set.try_join_next().is_some() {}
    }
}

impl<T: Send + 'static> Attempt<T> {
    /// Writes the item; one that is not written is tried again later.
    async fn make(self, store: &Writer<T>, saver: &Saver<T>) {
        let Self { item, failures } = self;
        let session = Arc::clone(item.session());
        // Boxed: it is large, and is moved into the task before it runs.
        match run_caught(write(store, item).boxed()).await {
            Ok(None) => {}
            Ok(Some(item)) => saver.put_back(Self { item, failures: failures + 1 }),
            Err(panic) => {
                session.end(Outcome::panicked(&panic, Some("snapshot")), CancelHandler::Yes);
            }
        }
    }
}

/// Writes one item; returns it if it must be tried again.
async fn write<T: Send + 'static>(store: &Writer<T>, item: Item<T>) -> Option<Item<T>> {
    let session = Arc::clone(item.session());
    let _turn = session.write_turn().await;
    match item {
        Item::Session(session) => {
            if !session.goes_on() {
                return None;
            }
            match session.take_job(store.codec) {
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

async fn put<T: Send + 'static>(store: &Writer<T>, session: &Arc<Shared<T>>, job: Job) -> bool {
    let started = Instant::now();
    let Some(expires_in) = store.expires_in(session) else {
        return true;
    };
    let put = async {
        mark(store, session, &job, expires_in).await?;
        put_all(store, session, &job, expires_in).await?;
        unmark(store, session).await
    };
    match put.await {
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
            store.taken_over(session);
            true
        }
        Err(error) => {
            observe::store_failed();
            tracing::error!(session = %session.id().short(), error = %chain(&error), "snapshot not saved");
            session.not_saved(error);
            session.keep_unsaved(job);
            false
        }
    }
}

/// Marks a session to which no client has come back, before its record is there: when the store is full, these go
/// first.
async fn mark<T: Send + 'static>(
    store: &Writer<T>,
    session: &Arc<Shared<T>>,
    job: &Job,
    expires_in: Duration,
) -> Result<(), StoreError> {
    if store.census().is_none() {
        return Ok(());
    }
    let mark = {
        let core = session.lock();
        let durable = core.durable.as_ref().filter(|durable| durable.mark.is_none());
        let unmarked = durable.filter(|_| core.is_visitors());
        unmarked.map(|durable| store.visitor_key(durable.created, &job.key.to_bytes()))
    };
    let Some(mark) = mark else {
        return Ok(());
    };
    let stamp = session.next_stamp()?;
    let claimed = store.store.claim(&mark, None, stamp, Bytes::new(), expires_in).await;
    // Stale: it is there already, and its answer was lost.
    if !is(&claimed, ErrorKind::Stale) {
        claimed?;
    }
    session.with_durable(|durable| durable.mark = Some(Box::new(mark)));
    Ok(())
}

/// Takes the mark away when a client has come back.
async fn unmark<T: Send + 'static>(
    store: &Writer<T>,
    session: &Arc<Shared<T>>,
) -> Result<(), StoreError> {
    let mark = {
        let core = session.lock();
        let stays = core.is_visitors() && core.machine.ended().is_none();
        let durable = core.durable.as_ref().filter(|_| !stays);
        durable.and_then(|durable| durable.mark.clone())
    };
    if let Some(mark) = mark {
        store.store.remove(&mark, session.next_stamp()?).await?;
        session.with_durable(|durable| durable.mark = None);
    }
    Ok(())
}

/// Puts the record, and what leads to it.
///
/// A record that has moved is there twice for a moment. The pointer says which one counts, so after a crash in
/// between exactly one does: the pointer to the old place is there first.
async fn put_all<T: Send + 'static>(
    store: &Writer<T>,
    session: &Arc<Shared<T>>,
    job: &Job,
    expires_in: Duration,
) -> Result<(), StoreError> {
    let found = session.with_durable(|durable| {
        // A snapshot from before the move still goes to the old place.
        let moved = durable.moved.as_deref_mut().filter(|moved| moved.home != job.key);
        // Whatever becomes of the put: it may be there.
        let home = moved.map(|moved| {
            moved.begins(&job.key);
            moved.home.clone()
        });
        (home, durable.pointer)
    });
    let (home, pointer) = found.unwrap_or((None, Pointer::None));
    let put_pointer = async |key: &SessionKey| {
        let pointer = IdRecord::Pointer(key.to_bytes());
        store.put_by_id(session.id(), session.next_stamp()?, &pointer, expires_in).await
    };
    let is_moving = home.is_some();
    if let Some(home) = &home {
        put_pointer(home).await?;
    } else if pointer == Pointer::Wanted {
        put_pointer(&job.key).await?;
        note_pointer(session);
    }
    put_record(store, session, &job.key, &job.bytes, expires_in).await?;
    if is_moving {
        put_pointer(&job.key).await?;
        note_pointer(session);
    }
    let strays = session.with_durable(|durable| {
        durable.moved.as_deref_mut().map_or_else(Vec::new, |moved| {
            if is_moving {
                moved.is_home(&job.key);
            }
            moved.strays.clone()
        })
    });
    let strays = strays.unwrap_or_default();
    for stray in &strays {
        vacate(store, session, stray).await?;
    }
    session.step(|core| {
        let key = &core.key;
        if let Some(durable) = &mut core.durable {
            durable.moved.take_if(|moved| {
                moved.strays.retain(|stray| !strays.contains(stray));
                // It may have moved on meanwhile.
                moved.strays.is_empty() && moved.home == *key
            });
        }
    });
    Ok(())
}

fn note_pointer<T: Send + 'static>(session: &Shared<T>) {
    session.with_durable(|durable| durable.pointer = Pointer::Saved);
}

/// Moves the expiry of a session that is in use.
async fn touch<T: Send + 'static>(store: &Writer<T>, session: &Arc<Shared<T>>) {
    if session.is_blank() {
        return;
    }
    let (key, stamp, pointer) = {
        let core = session.lock();
        let Some(durable) = core.durable.as_ref().filter(|_| !core.is_over()) else {
            return;
        };
        // A move puts everything anew.
        if durable.moved.is_some() {
            return;
        }
        (core.key.to_bytes(), durable.stamp, durable.pointer)
    };
    let Some(expires_in) = store.expires_in(session) else {
        return;
    };
    let mut touched = store.store.touch(&store.session_key(&key), stamp, expires_in).await;
    if touched.is_ok() && pointer == Pointer::Saved {
        touched = store.store.touch(&store.id_key(session.id()), stamp, expires_in).await;
    }
    match touched {
        Ok(()) => {
            session.with_durable(Durable::touched);
        }
        Err(error) if error.kind() == ErrorKind::Stale => store.taken_over(session),
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

/// Puts the outcome, under the key and under the id. Returns it if it must be tried again.
async fn put_outcome<T: Send + 'static>(
    store: &Writer<T>,
    session: &Arc<Shared<T>>,
    mut ended: Ended,
) -> Option<Ended> {
    let mut result = end_record(store, session, &ended).await;
    if result.is_ok() {
        result = unmark(store, session).await;
    }
    match result {
        Ok(()) => {
            if let Some(registry) = store.registry.upgrade() {
                registry.outcome_saved(session, ended);
            }
            None
        }
        // Another process has the session, and tells its end.
        Err(error) if error.kind() == ErrorKind::Stale => {
            store.taken_over(session);
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

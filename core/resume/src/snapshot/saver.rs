//! The task that writes: one for all sessions of a layer, so that the store can group its commits.

use std::{
    collections::VecDeque,
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt as _, stream};
use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use super::{
    Job, Pointer, Urgency,
    record::{self, IdRecord, OutcomeRecord, SessionRecord},
};
use crate::{
    observe,
    outcome::Outcome,
    outcomes::Ended,
    registry::Registry,
    session::shared::{CancelHandler, Shared},
    store::{ErrorKind, Generation, RecordKind, StoreError, StoreKey, erased::ErasedStore},
};

/// So many calls are under way at the same time; the store groups them.
const CONCURRENCY: usize = 1024;
/// After a failure the saver waits, ever longer.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// The store as the layer knows it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) store: Arc<dyn ErasedStore>,
    /// The layer's name in the store.
    pub(crate) name: Arc<str>,
}

impl Store {
    /// Returns where the session of this key is.
    ///
    /// Keys of sessions are at most 560 bytes and names are checked when they are set, so it fits.
    pub(crate) fn session_key(&self, key: &[u8]) -> StoreKey {
        StoreKey::new(RecordKind::Session, &self.name, key).expect("session keys are bounded")
    }

    /// Returns where the outcome of this session is.
    pub(crate) fn id_key(&self, id: crate::SessionId) -> StoreKey {
        StoreKey::new(RecordKind::Outcome, &self.name, id.as_uuid().as_bytes())
            .expect("session ids are 16 bytes")
    }
}

/// What waits to be written.
pub(crate) struct Saver<T> {
    queue: Mutex<Queue<T>>,
    queued: Notify,
    task: Mutex<Option<AbortHandle>>,
}

struct Queue<T> {
    items: VecDeque<Item<T>>,
    urgency: Option<Urgency>,
    /// What the store has not taken, until when it is not tried again.
    failed: VecDeque<(Instant, Item<T>)>,
    /// Sessions whose handler may be at work for longer than a flush interval, and since when.
    watched: VecDeque<(Instant, Arc<Shared<T>>)>,
}

/// Work for the store. One session has at most one [`Item::Session`] at a time, and a batch is done before the
/// next begins: so no older snapshot overtakes a newer one.
pub(crate) enum Item<T> {
    /// A session that has changed.
    Session(Arc<Shared<T>>),
    /// A session in use whose record would expire.
    Touch(Arc<Shared<T>>),
    /// A session that has ended, and what is left of it.
    Ended(Arc<Shared<T>>, Ended),
}

impl<T> Saver<T> {
    pub(crate) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue {
                items: VecDeque::new(),
                urgency: None,
                failed: VecDeque::new(),
                watched: VecDeque::new(),
            }),
            queued: Notify::new(),
            task: Mutex::new(None),
        }
    }

    pub(crate) fn push(&self, item: Item<T>, urgency: Urgency) {
        let mut queue = lock(&self.queue);
        queue.items.push_back(item);
        queue.urgency = queue.urgency.max(Some(urgency));
        drop(queue);
        self.queued.notify_one();
    }

    /// What is queued is wanted at once after all.
    pub(crate) fn hurry(&self) {
        let mut queue = lock(&self.queue);
        if queue.items.is_empty() {
            // It is being written, or waits for its next trial.
            return;
        }
        queue.urgency = Some(Urgency::Now);
        drop(queue);
        self.queued.notify_one();
    }

    /// Looks after a flush interval whether the session's handler is still at work.
    pub(crate) fn watch(&self, session: Arc<Shared<T>>) {
        let mut queue = lock(&self.queue);
        queue.watched.push_back((Instant::now(), session));
        let first = queue.watched.len() == 1;
        drop(queue);
        if first {
            self.queued.notify_one();
        }
    }

    pub(crate) fn own(&self, task: AbortHandle) {
        *lock(&self.task) = Some(task);
    }

    /// Ends the task: nobody is left to write for.
    pub(crate) fn stop(&self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }

    /// Returns until when there is nothing to do; `None` if only a new item can tell.
    fn idle_until(&self, interval: Duration, since: Instant) -> Option<Instant> {
        let queue = lock(&self.queue);
        let batch = match queue.urgency {
            Some(Urgency::Now) => Some(Instant::now()),
            Some(Urgency::Soon) => Some(since + interval),
            None => None,
        };
        let watched = queue.watched.front().map(|(since, _)| *since + interval);
        let failed = queue.failed.iter().map(|(until, _)| *until).min();
        [batch, watched, failed].into_iter().flatten().min()
    }

    fn has_items(&self) -> bool {
        lock(&self.queue).urgency.is_some()
    }

    /// Takes everything that is to be written now.
    fn take(&self) -> VecDeque<Item<T>> {
        let now = Instant::now();
        let mut queue = lock(&self.queue);
        queue.urgency = None;
        let mut items = std::mem::take(&mut queue.items);
        for (until, item) in std::mem::take(&mut queue.failed) {
            if until <= now {
                items.push_back(item);
            } else {
                queue.failed.push_back((until, item));
            }
        }
        items
    }

    fn put_back(&self, items: impl Iterator<Item = Item<T>>, until: Instant) {
        lock(&self.queue).failed.extend(items.map(|item| (until, item)));
    }

    fn take_watched(&self, since: Instant) -> Vec<Arc<Shared<T>>> {
        let mut queue = lock(&self.queue);
        let due = queue.watched.iter().take_while(|(at, _)| *at <= since).count();
        queue.watched.drain(..due).map(|(_, session)| session).collect()
    }
}

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
                    let _ = tokio::time::timeout_at(until, saver.queued.notified()).await;
                }
                None => saver.queued.notified().await,
            }
            if !had_items {
                since = Instant::now();
            }
        }
        let items = saver.take();
        let Some(registry) = registry.upgrade() else {
            return;
        };
        let Some(store) = registry.config().store.clone() else {
            return;
        };
        let total = items.len();
        let failed: Vec<_> = stream::iter(items)
            .map(|item| write(&registry, &store, item))
            .buffer_unordered(CONCURRENCY)
            .filter_map(async |failed| failed)
            .collect()
            .await;
        // After the snapshots: a handler that has come to its boundary is not at work.
        if let Some(since) = Instant::now().checked_sub(interval) {
            let marks = stream::iter(saver.take_watched(since))
                .map(async |session| mark_working(&registry, &store, &session).await);
            marks.buffer_unordered(CONCURRENCY).collect::<()>().await;
        }
        drop(registry);
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
async fn write<T: Send + 'static>(
    registry: &Arc<Registry<T>>,
    store: &Store,
    item: Item<T>,
) -> Option<Item<T>> {
    match item {
        Item::Session(session) => {
            if session.has_ended() {
                return None;
            }
            // The application's code: a panic in it is its session's, not everybody's.
            let job = std::panic::catch_unwind(AssertUnwindSafe(|| session.take_job()));
            match job {
                Err(panic) => {
                    let outcome = Outcome::panicked(&*panic, Some("snapshot"));
                    session.finish(outcome, CancelHandler::Yes);
                    None
                }
                Ok(None) => {
                    let admitted = admit_newcomers(registry, store, &session).await;
                    (!admitted).then_some(Item::Session(session))
                }
                Ok(Some(Ok(job))) => {
                    let saved = put(registry, store, &session, job).await;
                    (!saved).then_some(Item::Session(session))
                }
                Ok(Some(Err(error))) => {
                    tracing::error!(session = %session.id().short(), %error, "the state cannot be JSON");
                    session.not_saved(&error);
                    Some(Item::Session(session))
                }
            }
        }
        Item::Touch(session) => {
            touch(registry, store, &session).await;
            None
        }
        Item::Ended(session, ended) => put_outcome(registry, store, &session, ended)
            .await
            .map(|ended| Item::Ended(session, ended)),
    }
}

async fn put<T: Send + 'static>(
    registry: &Arc<Registry<T>>,
    store: &Store,
    session: &Arc<Shared<T>>,
    job: Job,
) -> bool {
    let started = Instant::now();
    let expires = registry.record_expires(session);
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
            registry.lose(session);
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
    let (moved_from, pointer) = {
        let core = session.lock();
        let durable = core.durable.as_ref();
        let moved = durable.and_then(|durable| durable.moved_from.clone());
        // A snapshot from before the move still goes to the old place.
        let moved = moved.filter(|from| *from != job.key);
        (moved, durable.map_or(Pointer::None, |durable| durable.pointer))
    };
    let key = job.key.to_bytes();
    let at = store.session_key(&key);
    let Some(from) = moved_from else {
        if pointer == Pointer::Wanted {
            store.put_pointer(session.id(), key, job.generation, expires).await?;
            note_pointer(session);
        }
        return store.store.put(&at, job.generation, job.bytes.clone(), expires).await;
    };
    let from = from.to_bytes();
    store.put_pointer(session.id(), from.clone(), job.generation, expires).await?;
    store.store.put(&at, job.generation, job.bytes.clone(), expires).await?;
    store.put_pointer(session.id(), key, job.generation, expires).await?;
    note_pointer(session);
    match store.store.remove(&store.session_key(&from), job.generation).await {
        // Stale: a new session has the old key already.
        Err(error) if error.kind() != ErrorKind::Stale => return Err(error),
        _ => {}
    }
    if let Some(durable) = &mut session.lock().durable
        && durable.moved_from.as_ref().is_some_and(|now| now.to_bytes() == from)
    {
        durable.moved_from = None;
    }
    Ok(())
}

fn note_pointer<T>(session: &Shared<T>) {
    if let Some(durable) = &mut session.lock().durable {
        durable.pointer = Pointer::Saved;
    }
}

/// Moves the expiry of a session that is in use.
async fn touch<T: Send + 'static>(
    registry: &Arc<Registry<T>>,
    store: &Store,
    session: &Arc<Shared<T>>,
) {
    let (key, generation, pointer) = {
        let core = session.lock();
        let Some(durable) = core.durable.as_ref().filter(|_| !core.is_over()) else {
            return;
        };
        // A move puts everything anew.
        if durable.moved_from.is_some() {
            return;
        }
        (core.key.to_bytes(), durable.generation, durable.pointer)
    };
    let expires = registry.record_expires(session);
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
        Err(error) if error.kind() == ErrorKind::Stale => registry.lose(session),
        Err(error) if error.kind() == ErrorKind::NotFound => session.with_core(|core, _| {
            if let Some(durable) = &mut core.durable
                && durable.pointer == Pointer::Saved
            {
                durable.pointer = Pointer::Wanted;
            }
            core.changed(Urgency::Soon);
        }),
        Err(error) => {
            tracing::warn!(session = %session.id().short(), error = %chain(&error), "expiry not moved");
        }
    }
}

/// The outcome first, then the snapshot goes: whoever finds both believes the outcome. Returns it if it must be
/// tried again.
async fn put_outcome<T: Send + 'static>(
    registry: &Arc<Registry<T>>,
    store: &Store,
    session: &Arc<Shared<T>>,
    mut ended: Ended,
) -> Option<Ended> {
    let (generation, moved_from) = {
        let core = session.lock();
        let durable = core.durable.as_ref();
        let generation = durable.map_or(Generation::new(0), |durable| durable.generation);
        (generation, durable.and_then(|durable| durable.moved_from.clone()))
    };
    let expires = record::later(ended.outcome.completed(), registry.config().outcome_lifetime);
    let bytes = record::encode(&IdRecord::Ended(OutcomeRecord::of(&ended)));
    let mut result = store.store.put(&store.id_key(session.id()), generation, bytes, expires).await;
    for key in moved_from.iter().chain([&ended.key]) {
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
            registry.outcome_saved(session, ended);
            None
        }
        // Another process has the session: its end is that one's to tell.
        Err(error) if error.kind() == ErrorKind::Stale => {
            registry.lose(session);
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

/// The handler is at work for longer than a flush interval: the record says so, for those who poll should
/// the process die.
async fn mark_working<T: Send + 'static>(
    registry: &Arc<Registry<T>>,
    store: &Store,
    session: &Arc<Shared<T>>,
) {
    {
        let mut core = session.lock();
        let works = core.machine.is_message_in_hand();
        let Some(durable) = &mut core.durable else {
            return;
        };
        durable.watched = false;
        if !works || std::mem::replace(&mut durable.marked, true) {
            return;
        }
    }
    amend(registry, store, session, |record| record.working = true).await;
}

/// A message is in hand, so no snapshot can be taken, and that may be so for long: clients whose first hello
/// waits for the record join the last boundary's. Returns whether that need not be tried again.
async fn admit_newcomers<T: Send + 'static>(
    registry: &Arc<Registry<T>>,
    store: &Store,
    session: &Arc<Shared<T>>,
) -> bool {
    let newcomers = {
        let core = session.lock();
        if core.is_over() { None } else { core.machine.newcomers() }
    };
    let Some(newcomers) = newcomers else {
        return true;
    };
    match try_amend(registry, store, session, |record| record.machine.admit(&newcomers)).await {
        Ok(true) => session.with_core(|core, _| core.machine.handle_admitted(&newcomers)),
        // Nothing of the session is there yet: the boundary brings it.
        Ok(false) => {}
        Err(error) => {
            observe::store_failed();
            tracing::error!(session = %session.id().short(), error = %chain(&error), "client not recorded");
            session.not_saved(&chain(&error));
            return false;
        }
    }
    true
}

/// Changes what the session's record says about it, the snapshot of its state stays.
pub(crate) async fn amend<T: Send + 'static>(
    registry: &Arc<Registry<T>>,
    store: &Store,
    session: &Arc<Shared<T>>,
    change: impl FnOnce(&mut SessionRecord),
) {
    if let Err(error) = try_amend(registry, store, session, change).await {
        tracing::warn!(session = %session.id().short(), error = %chain(&error), "record not amended");
    }
}

/// Returns whether there is a record of ours.
async fn try_amend<T: Send + 'static>(
    registry: &Arc<Registry<T>>,
    store: &Store,
    session: &Arc<Shared<T>>,
    change: impl FnOnce(&mut SessionRecord),
) -> Result<bool, StoreError> {
    let key = store.session_key(&session.lock().key.to_bytes());
    if let Some(stored) = store.store.load(&key).await?
        && let Ok(mut record) = record::decode::<SessionRecord>(&stored.bytes)
        && record.session == session.id()
        && Some(stored.generation) == session.generation()
    {
        change(&mut record);
        let expires = registry.record_expires(session);
        store.store.put(&key, stored.generation, record::encode(&record), expires).await?;
        return Ok(true);
    }
    Ok(false)
}

impl Store {
    async fn put_pointer(
        &self,
        id: crate::SessionId,
        key: Vec<u8>,
        generation: Generation,
        expires: SystemTime,
    ) -> Result<(), StoreError> {
        let pointer = record::encode(&IdRecord::Pointer(key));
        self.store.put(&self.id_key(id), generation, pointer, expires).await
    }
}

impl<T: Send + 'static> Shared<T> {
    /// The generation of this owner; `None` without a store.
    fn generation(&self) -> Option<Generation> {
        self.lock().durable.as_ref().map(|durable| durable.generation)
    }

    /// The handler has taken a message: whoever polls after a crash wants to know whether it was at work.
    pub(crate) fn watch_work(self: &Arc<Self>) {
        let watch = {
            let mut core = self.lock();
            let works = core.machine.is_message_in_hand();
            match &mut core.durable {
                Some(durable) => {
                    works && !durable.marked && !std::mem::replace(&mut durable.watched, true)
                }
                None => false,
            }
        };
        if watch && let Some(registry) = self.registry() {
            registry.watch(Arc::clone(self));
        }
    }
}

/// The error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> impl fmt::Display {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The task that writes: one for all sessions of a layer, so that the store can group its commits.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt as _, stream};
use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use super::{
    Job, Urgency,
    record::{self, IdRecord, OutcomeRecord, SessionRecord},
};
use crate::{
    observe,
    outcomes::Ended,
    registry::Registry,
    session::shared::Shared,
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
    /// Sessions whose handler may be at work for longer than a flush interval, and since when.
    watched: VecDeque<(Instant, Arc<Shared<T>>)>,
}

pub(crate) enum Item<T> {
    /// A session that has changed.
    Session(Arc<Shared<T>>),
    /// A snapshot that a handler has taken at its boundary.
    Job(Arc<Shared<T>>, Job),
    /// A session that has ended, and what is left of it.
    Ended(Arc<Shared<T>>, Ended),
}

impl<T> Saver<T> {
    pub(crate) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue {
                items: VecDeque::new(),
                urgency: None,
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
        lock(&self.queue).urgency = Some(Urgency::Now);
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

    fn watched_since(&self) -> Option<Instant> {
        lock(&self.queue).watched.front().map(|(since, _)| *since)
    }

    fn take_watched(&self, until: Instant) -> Vec<Arc<Shared<T>>> {
        let mut queue = lock(&self.queue);
        let due = queue.watched.iter().take_while(|(since, _)| *since <= until).count();
        queue.watched.drain(..due).map(|(_, session)| session).collect()
    }

    pub(crate) fn own(&self, task: AbortHandle) {
        *lock(&self.task) = Some(task);
    }

    fn urgency(&self) -> Option<Urgency> {
        lock(&self.queue).urgency
    }

    fn take(&self) -> VecDeque<Item<T>> {
        let mut queue = lock(&self.queue);
        queue.urgency = None;
        std::mem::take(&mut queue.items)
    }
}

impl<T> Drop for Saver<T> {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

/// Writes until the last handle of the layer is gone.
pub(crate) async fn run<T: Send + 'static>(registry: Weak<Registry<T>>, saver: Weak<Saver<T>>) {
    let mut backoff = FIRST_BACKOFF;
    loop {
        let Some(waiting) = saver.upgrade() else {
            return;
        };
        let Some(interval) = registry.upgrade().map(|registry| registry.config().flush_interval)
        else {
            return;
        };
        while waiting.urgency().is_none() {
            let Some(since) = waiting.watched_since() else {
                waiting.queued.notified().await;
                continue;
            };
            if tokio::time::timeout_at(since + interval, waiting.queued.notified()).await.is_err() {
                break;
            }
        }
        // Batched across sessions: whoever is urgent takes the others along.
        let until = Instant::now() + interval;
        while waiting.urgency() == Some(Urgency::Soon) {
            if tokio::time::timeout_at(until, waiting.queued.notified()).await.is_err() {
                break;
            }
        }
        let items = waiting.take();
        let Some(registry) = registry.upgrade() else {
            return;
        };
        let Some(store) = registry.config().store.clone() else {
            return;
        };
        let failed: usize = stream::iter(items)
            .map(|item| write(&registry, &store, item))
            .buffer_unordered(CONCURRENCY)
            .fold(0, async |failed, ok| failed + usize::from(!ok))
            .await;
        // After the snapshots: a handler that has come to its boundary is not at work.
        let marks = waiting.take_watched(Instant::now() - interval);
        let marks = stream::iter(marks)
            .map(async |session| mark_working(&registry, &store, &session).await);
        marks.buffer_unordered(CONCURRENCY).collect::<()>().await;
        drop(registry);
        if failed > 0 {
            tracing::warn!(
                failed,
                retry_ms = backoff.as_millis(),
                "the store does not take snapshots"
            );
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        } else {
            backoff = FIRST_BACKOFF;
        }
    }
}

/// Writes one item; returns whether the store took it or refused it for good.
async fn write<T: Send + 'static>(
    registry: &Arc<Registry<T>>,
    store: &Store,
    item: Item<T>,
) -> bool {
    match item {
        Item::Session(session) => {
            if session.has_ended() {
                return true;
            }
            match session.take_snapshot() {
                None => true,
                Some(Ok(job)) => put(registry, store, session, job).await,
                Some(Err(error)) => {
                    tracing::error!(session = %session.id().short(), %error, "the state cannot be JSON");
                    session.not_saved(&error);
                    false
                }
            }
        }
        Item::Job(session, job) => put(registry, store, session, job).await,
        Item::Ended(session, ended) => put_outcome(registry, store, session, ended).await,
    }
}

async fn put<T: Send + 'static>(
    registry: &Arc<Registry<T>>,
    store: &Store,
    session: Arc<Shared<T>>,
    job: Job,
) -> bool {
    let (key, pointer) = {
        let core = session.lock();
        let own = core.key.is_own();
        let saved = core.durable.as_ref().is_some_and(|durable| durable.pointer_saved);
        (core.key.to_bytes(), !own && !saved)
    };
    let expires = registry.record_expires(&session);
    if pointer {
        let record = record::encode(&IdRecord::Pointer(key.clone()));
        let id = store.id_key(session.id());
        match store.store.put(&id, job.generation, record, expires).await {
            Ok(()) => {
                if let Some(durable) = &mut session.lock().durable {
                    durable.pointer_saved = true;
                }
            }
            Err(error) => return failed(registry, &session, &error),
        }
    }
    let started = Instant::now();
    let result =
        store.store.put(&store.session_key(&key), job.generation, job.bytes.clone(), expires).await;
    match result {
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
        Err(error) => failed(registry, &session, &error),
    }
}

fn failed<T: Send + 'static>(
    registry: &Arc<Registry<T>>,
    session: &Arc<Shared<T>>,
    error: &StoreError,
) -> bool {
    if error.kind() == ErrorKind::Stale {
        registry.lose(session);
        return true;
    }
    observe::store_failed();
    tracing::error!(session = %session.id().short(), error = %chain(error), "snapshot not saved");
    session.not_saved(&chain(error));
    false
}

/// The outcome first, then the snapshot goes: whoever finds both believes the outcome.
async fn put_outcome<T: Send + 'static>(
    registry: &Arc<Registry<T>>,
    store: &Store,
    session: Arc<Shared<T>>,
    ended: Ended,
) -> bool {
    let generation = session.generation();
    let key = store.session_key(&ended.key.to_bytes());
    let expires = SystemTime::now() + registry.config().outcome_lifetime;
    let bytes = record::encode(&IdRecord::Ended(OutcomeRecord::of(&ended)));
    let put = store.store.put(&store.id_key(session.id()), generation, bytes, expires).await;
    let result = match put {
        Ok(()) => store.store.remove(&key, generation).await,
        Err(error) => Err(error),
    };
    match result {
        // Stale: a new session has taken the key already.
        Err(error) if error.kind() != ErrorKind::Stale => {
            tracing::error!(session = %session.id().short(), error = %chain(&error), "outcome not saved");
            registry.save(Item::Ended(session, ended), Urgency::Soon);
            false
        }
        _ => {
            registry.outcome_saved(&session, ended);
            true
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
    let key = {
        let mut core = session.lock();
        let works = core.machine.is_message_in_hand();
        let key = core.key.to_bytes();
        match &mut core.durable {
            Some(durable) => {
                durable.watched = false;
                if !works || std::mem::replace(&mut durable.marked, true) {
                    return;
                }
            }
            None => return,
        }
        store.session_key(&key)
    };
    let marked: Result<(), StoreError> = async {
        if let Some(stored) = store.store.load(&key).await?
            && let Ok(mut record) = record::decode::<SessionRecord>(&stored.bytes)
            && record.session == session.id()
            && stored.generation == session.generation()
        {
            record.working = true;
            let expires = registry.record_expires(session);
            store.store.put(&key, stored.generation, record::encode(&record), expires).await?;
        }
        Ok(())
    }
    .await;
    if let Err(error) = marked {
        tracing::warn!(session = %session.id().short(), error = %chain(&error), "work not marked");
    }
}

impl<T: Send + 'static> Shared<T> {
    /// The generation of this owner; zero without a store.
    fn generation(&self) -> Generation {
        self.lock().durable.as_ref().map_or(Generation::new(0), |durable| durable.generation)
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

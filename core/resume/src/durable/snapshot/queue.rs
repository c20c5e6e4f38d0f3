//! What waits to be written.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, futures::Notified},
    time::Instant,
};

use crate::{
    live::{registry::Item, session::Shared},
    words::{config::Codec, durability::Urgency},
};

/// The sessions of a layer that the saver looks after.
pub(crate) struct Saver<T> {
    pub(super) codec: Codec<T>,
    queue: Mutex<Queue<T>>,
    queued: Notify,
    /// Sessions whose messages may have killed the process try again one by one.
    pub(super) turns: Arc<Semaphore>,
}

struct Queue<T> {
    items: VecDeque<Attempt<T>>,
    urgency: Option<Urgency>,
    /// What the store has not taken, until when it is not tried again.
    failed: VecDeque<(Instant, Attempt<T>)>,
    /// Sessions whose handler may be at work for longer than a flush interval, and since when.
    watched: VecDeque<(Instant, Arc<Shared<T>>)>,
}

/// After a failure an item waits, ever longer.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// Something to be written, and how often it has failed.
pub(super) struct Attempt<T> {
    pub(super) item: Item<T>,
    pub(super) failures: u32,
}

impl<T> Saver<T> {
    /// `codec`: how states become bytes.
    pub(crate) fn new(codec: Codec<T>) -> Self {
        Self {
            codec,
            queue: Mutex::new(Queue {
                items: VecDeque::new(),
                urgency: None,
                failed: VecDeque::new(),
                watched: VecDeque::new(),
            }),
            queued: Notify::new(),
            turns: Arc::new(Semaphore::new(1)),
        }
    }

    pub(crate) fn push(&self, item: Item<T>, urgency: Urgency) {
        let mut queue = lock(&self.queue);
        queue.items.push_back(Attempt { item, failures: 0 });
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

    /// Something has come.
    pub(super) fn queued(&self) -> Notified<'_> {
        self.queued.notified()
    }

    /// Returns until when there is nothing to do; `None` if only a new item can tell.
    pub(super) fn idle_until(&self, interval: Duration, since: Instant) -> Option<Instant> {
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

    pub(super) fn has_items(&self) -> bool {
        lock(&self.queue).urgency.is_some()
    }

    /// Takes everything that is to be written now.
    pub(super) fn take(&self) -> VecDeque<Attempt<T>> {
        let now = Instant::now();
        let mut queue = lock(&self.queue);
        queue.urgency = None;
        let mut items = std::mem::take(&mut queue.items);
        for (until, attempt) in std::mem::take(&mut queue.failed) {
            if until <= now {
                items.push_back(attempt);
            } else {
                queue.failed.push_back((until, attempt));
            }
        }
        items
    }

    /// Tries something again, a while later: a store that is down must not be asked all the time.
    pub(super) fn put_back(&self, attempt: Attempt<T>) {
        let backoff = FIRST_BACKOFF.saturating_mul(1 << attempt.failures.saturating_sub(1).min(10));
        let until = Instant::now() + backoff.min(LONGEST_BACKOFF);
        lock(&self.queue).failed.push_back((until, attempt));
        self.queued.notify_one();
    }

    pub(super) fn take_watched(&self, since: Instant) -> Vec<Arc<Shared<T>>> {
        let mut queue = lock(&self.queue);
        let due = queue.watched.iter().take_while(|(at, _)| *at <= since).count();
        queue.watched.drain(..due).map(|(_, session)| session).collect()
    }
}

fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

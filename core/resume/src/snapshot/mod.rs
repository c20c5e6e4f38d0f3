//! Writes sessions to the store. With `restore`, the only module that touches it.
//!
//! A session *changes*; then it is queued, and the [`saver`] takes its snapshot at the next boundary (no
//! message in hand) and puts it. What the snapshot covers is acknowledged, and may leave, only then.

pub(crate) mod record;
pub(crate) mod saver;

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use session_resume_proto::session::Covered;
use tokio::sync::Notify;

use self::record::{Millis, SessionRecord};
use crate::{
    session::shared::{Core, Shared},
    store::Generation,
};

/// How much a crash may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Durability {
    /// State and handled messages are exact through `kill -9`. Messages to clients go out at once: a graceful
    /// drain stores those that are unacknowledged and nobody notices; after a kill clients are told a gap
    /// `restarted`.
    #[default]
    State,
    /// The outbox is part of every commit, and a message leaves only after the commit that covers it: exactly
    /// once both ways through `kill -9`, for the latency of one group commit.
    Exact,
}

/// The store did not take a snapshot; it is tried again, and nothing was acknowledged meanwhile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitError {
    text: Arc<str>,
}

impl CommitError {
    fn ended() -> Self {
        Self { text: "the session has ended".into() }
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not committed: {}", self.text)
    }
}

impl std::error::Error for CommitError {}

/// What a session with a store knows of its place there.
#[derive(Debug)]
pub(crate) struct Durable {
    pub(crate) generation: Generation,
    pub(crate) created: Millis,
    pub(crate) handler: Option<Cow<'static, str>>,
    /// Counts changes; those up to `saved` are on disk.
    version: u64,
    saved: u64,
    /// Waits for the saver already.
    queued: bool,
    /// The saver has come by while a message was in hand: the next boundary takes the snapshot.
    due: bool,
    /// The next step must be queued once the lock is free; soon, or at once.
    wants: Option<Urgency>,
    /// Told at every attempt to save.
    progress: Arc<Notify>,
    failures: u64,
    last_failure: Option<CommitError>,
    /// Its id leads to its key in the store.
    pub(crate) pointer_saved: bool,
    last_saved: SystemTime,
    /// The record says that the handler is at work.
    marked: bool,
    /// Somebody looks after a flush interval whether the handler is still at work.
    watched: bool,
    pub(crate) caution: Caution,
}

/// How urgently a session wants to be saved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Urgency {
    /// Within the flush interval.
    Soon,
    /// With the next commit.
    Now,
}

/// Whether the message that comes next may be what has killed the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Caution {
    /// It is not.
    None,
    /// The session has just been restored after a crash; so many trials have been recorded.
    Restored { trials: u32 },
    /// This trial is being recorded, at this version; nothing is handed over before it is.
    Recording { trials: u32, version: u64 },
    /// It has been handed over.
    Trying { trials: u32 },
}

/// A session whose messages have killed the process so often is given up: the crash itself and two trials.
pub(crate) const MAX_TRIALS: u32 = 2;

impl Durable {
    pub(crate) fn new(generation: Generation, created: Millis) -> Self {
        Self {
            generation,
            created,
            handler: None,
            version: 0,
            saved: 0,
            queued: false,
            due: false,
            wants: None,
            progress: Arc::default(),
            failures: 0,
            last_failure: None,
            pointer_saved: false,
            last_saved: SystemTime::now(),
            marked: false,
            watched: false,
            caution: Caution::None,
        }
    }

    fn trials(&self) -> u32 {
        match self.caution {
            Caution::None => 0,
            Caution::Restored { trials }
            | Caution::Recording { trials, .. }
            | Caution::Trying { trials } => trials,
        }
    }
}

/// A snapshot on its way to the store.
pub(crate) struct Job {
    bytes: Bytes,
    covered: Covered,
    version: u64,
    generation: Generation,
}

impl Core {
    /// The session has changed in a way that a snapshot shows.
    pub(crate) fn changed(&mut self, urgency: Urgency) {
        let Some(durable) = &mut self.durable else {
            return;
        };
        durable.version += 1;
        self.wants_saving(urgency);
    }

    /// Queues the session for the saver once the lock is free.
    pub(crate) fn wants_saving(&mut self, urgency: Urgency) {
        if let Some(durable) = &mut self.durable
            && !(durable.queued && urgency == Urgency::Soon)
        {
            durable.wants = durable.wants.max(Some(urgency));
        }
    }

    /// Returns whether the session must be queued now, and how urgently.
    pub(crate) fn take_wants(&mut self) -> Option<(Urgency, bool)> {
        let durable = self.durable.as_mut()?;
        let urgency = durable.wants.take()?;
        let first = !std::mem::replace(&mut durable.queued, true);
        Some((urgency, first))
    }

    /// The handler asks for the next message, so the one in hand is handled. Returns whether a snapshot is
    /// due here, at the boundary.
    pub(crate) fn reach_boundary(&mut self) -> bool {
        let handled = self.machine.is_message_in_hand();
        self.machine.hand_back();
        let Some(durable) = &mut self.durable else {
            return false;
        };
        if handled {
            if let Caution::Trying { .. } = durable.caution {
                durable.caution = Caution::None;
            }
            self.changed(Urgency::Soon);
        }
        self.durable.as_mut().is_some_and(|durable| std::mem::take(&mut durable.due))
    }

    /// Whether a message that may kill the process has been recorded before it is handed over.
    ///
    /// Without this, a message that does would do so again and again.
    pub(crate) fn may_hand_over(&mut self) -> bool {
        let waiting = self.machine.inbox_messages() > 0;
        let Some(durable) = self.durable.as_mut().filter(|_| waiting) else {
            return true;
        };
        match durable.caution {
            Caution::None | Caution::Trying { .. } => true,
            Caution::Restored { trials } => {
                let version = durable.version + 1;
                durable.caution = Caution::Recording { trials: trials + 1, version };
                self.changed(Urgency::Now);
                false
            }
            Caution::Recording { trials, version } => {
                let recorded = durable.saved >= version;
                if recorded {
                    durable.caution = Caution::Trying { trials };
                }
                recorded
            }
        }
    }
}

impl<T: Send + 'static> Shared<T> {
    /// Takes a snapshot; `None` if a message is in hand, then the next boundary does.
    pub(crate) fn take_snapshot(&self) -> Option<Result<Job, serde_json::Error>> {
        let registry = self.registry()?;
        let codec = registry.config().codec?;
        // State first, then core: the order in which `send_with` locks them, so that both its halves are in,
        // or neither.
        self.state.snapshot(|state, iteration, updated| {
            let mut core = self.lock();
            let frozen = core.machine.is_frozen();
            let in_hand = core.machine.is_message_in_hand();
            let key = core.key.to_bytes();
            let identity = core.identity;
            let durable = core.durable.as_mut()?;
            durable.queued = false;
            if in_hand {
                durable.due = true;
                return None;
            }
            let bytes = match (codec.encode)(state) {
                Ok(bytes) => bytes,
                Err(error) => return Some(Err(error)),
            };
            let (version, generation, trials) =
                (durable.version, durable.generation, durable.trials());
            let (handler, created) = (durable.handler.clone(), durable.created);
            let (machine, covered) = core.machine.snapshot(frozen);
            let record = SessionRecord {
                session: self.id(),
                identity,
                key,
                secure: self.is_secure(),
                handler: handler.map(Cow::into_owned),
                created,
                updated,
                iteration,
                clean: frozen,
                working: false,
                trials,
                state: bytes,
                machine,
            };
            Some(Ok(Job { bytes: record::encode(&record), covered, version, generation }))
        })
    }

    /// A snapshot is on disk.
    fn saved(&self, job: &Job) {
        let progress = self.with_core(|core, now| {
            if let Some(durable) = &mut core.durable {
                durable.saved = durable.saved.max(job.version);
                durable.last_saved = SystemTime::now();
                durable.marked = false;
                if durable.saved < durable.version && !durable.due {
                    core.wants_saving(Urgency::Soon);
                }
            }
            core.machine.handle_committed(&job.covered, now);
            core.wake_receiver();
            core.durable.as_ref().map(|durable| Arc::clone(&durable.progress))
        });
        if let Some(progress) = progress {
            progress.notify_waiters();
        }
    }

    /// A snapshot is not on disk; it is tried again.
    fn not_saved(&self, error: &dyn fmt::Display) {
        let error = CommitError { text: error.to_string().into() };
        let progress = self.with_core(|core, _| {
            let durable = core.durable.as_mut()?;
            durable.failures += 1;
            durable.last_failure = Some(error);
            let progress = Arc::clone(&durable.progress);
            core.wants_saving(Urgency::Soon);
            Some(progress)
        });
        if let Some(progress) = progress {
            progress.notify_waiters();
        }
    }

    /// Waits until all changes so far are on disk.
    pub(crate) async fn wait_saved(&self, urgency: Urgency) -> Result<(), CommitError> {
        let target = self.with_core(|core, _| {
            let durable = core.durable.as_ref()?;
            let target = (durable.version, durable.failures);
            if durable.saved < durable.version {
                core.wants_saving(urgency);
            }
            Some(target)
        });
        let Some((version, failures)) = target else {
            return Ok(());
        };
        loop {
            let progress = {
                let core = self.lock();
                let Some(durable) = &core.durable else {
                    return Ok(());
                };
                if durable.saved >= version {
                    return Ok(());
                }
                if core.removed || core.machine.ended().is_some() {
                    return Err(CommitError::ended());
                }
                if durable.failures > failures
                    && let Some(error) = &durable.last_failure
                {
                    return Err(error.clone());
                }
                Arc::clone(&durable.progress).notified_owned()
            };
            // Registered under the lock under which it was looked at: no attempt is missed.
            progress.await;
        }
    }

    /// Saves the session anew if its record has not been written for so long: in use, it must not expire.
    pub(crate) fn refresh_record(&self, after: Duration) {
        if self.is_durable() {
            self.with_core(|core, _| {
                let last = core.durable.as_ref().map(|durable| durable.last_saved);
                if last.is_some_and(|last| last.elapsed().is_ok_and(|since| since >= after)) {
                    core.changed(Urgency::Soon);
                }
            });
        }
    }

    /// Everybody who waits for a save looks again: the session is going.
    pub(crate) fn tell_savers(&self) {
        let progress = self.lock().durable.as_ref().map(|durable| Arc::clone(&durable.progress));
        if let Some(progress) = progress {
            progress.notify_waiters();
        }
    }
}

//! Writes sessions to the store. With `restore`, the only module that touches it.
//!
//! A session *changes*; then it is queued, and the [`saver`] takes its snapshot at the next boundary (no
//! message in hand) and puts it. What the snapshot covers is acknowledged, and may leave, only then.

pub(crate) mod record;
pub(crate) mod saver;

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use session_resume_proto::session::Covered;
use tokio::{sync::Notify, time::Instant};

use self::record::{Millis, SessionRecord};
use crate::{
    key::SessionKey,
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
    /// Counts changes; those up to `saved` are on disk.
    version: u64,
    saved: u64,
    /// Waits for the saver already.
    queued: bool,
    /// The saver has come by while a message was in hand: the next boundary takes the snapshot.
    due: bool,
    /// What that boundary has taken; the saver fetches it.
    ready: Option<Job>,
    /// A snapshot is on its way to the store.
    writing: bool,
    /// The next step must be queued once the lock is free; soon, or at once.
    wants: Option<Urgency>,
    /// Told at every attempt to save.
    progress: Arc<Notify>,
    failures: u64,
    last_failure: Option<CommitError>,
    pub(crate) pointer: Pointer,
    /// Where the record still is, after the identity was cycled.
    pub(crate) moved_from: Option<SessionKey>,
    last_saved: Instant,
    /// The record says that the handler is at work.
    marked: bool,
    /// Somebody looks after a flush interval whether the handler is still at work.
    watched: bool,
    pub(crate) caution: Caution,
}

/// Whether a session's id leads to its key in the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Pointer {
    /// It need not: the key is the identity's own.
    None,
    /// It must be put before the next record.
    Wanted,
    Saved,
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
    /// It is handled, and that is being recorded: a crash before would count against it.
    Clearing { version: u64 },
}

/// A session whose messages have killed the process so often is given up: the crash itself and two trials.
pub(crate) const MAX_TRIALS: u32 = 2;

impl Durable {
    pub(crate) fn new(generation: Generation, created: Millis, key: &SessionKey) -> Self {
        Self {
            generation,
            created,
            version: 0,
            saved: 0,
            queued: false,
            due: false,
            ready: None,
            writing: false,
            wants: None,
            progress: Arc::default(),
            failures: 0,
            last_failure: None,
            pointer: if key.is_own() { Pointer::None } else { Pointer::Wanted },
            moved_from: None,
            last_saved: Instant::now(),
            marked: false,
            watched: false,
            caution: Caution::None,
        }
    }

    /// Whether the record must be put anew or moved on: it is in use and must not expire.
    fn is_aging(&self, after: Duration) -> bool {
        self.last_saved.elapsed() >= after
    }

    /// Notes that the record, and what leads to it, have a new expiry.
    pub(crate) fn touched(&mut self) {
        self.last_saved = Instant::now();
    }

    /// Whether everything is on disk, and nothing on its way.
    pub(crate) fn is_settled(&self) -> bool {
        self.saved >= self.version && !self.writing
    }

    /// Whether a snapshot is on its way to the store.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing
    }

    /// Whether anything of the session is in the store.
    pub(crate) fn is_stored(&self) -> bool {
        self.saved > 0
    }

    pub(crate) fn progress(&self) -> Arc<Notify> {
        Arc::clone(&self.progress)
    }

    pub(crate) fn trials(&self) -> u32 {
        match self.caution {
            Caution::None | Caution::Clearing { .. } => 0,
            Caution::Restored { trials }
            | Caution::Recording { trials, .. }
            | Caution::Trying { trials } => trials,
        }
    }
}

/// A snapshot on its way to the store.
#[derive(Debug)]
pub(crate) struct Job {
    key: SessionKey,
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
        // At a boundary that is due it is queued anyway; a newcomer does not wait for that.
        if let Some(durable) = &mut self.durable
            && (!durable.due || urgency == Urgency::Now && self.machine.newcomers().is_some())
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
            let tried = matches!(durable.caution, Caution::Trying { .. });
            if tried {
                durable.caution = Caution::Clearing { version: durable.version + 1 };
            }
            self.changed(if tried { Urgency::Now } else { Urgency::Soon });
        }
        self.durable.as_mut().is_some_and(|durable| std::mem::take(&mut durable.due))
    }

    /// Whether a message that may kill the process has been recorded before it is handed over.
    ///
    /// Without this, a message that does would do so again and again.
    pub(crate) fn may_hand_over(&mut self) -> bool {
        let Some(durable) =
            self.durable.as_mut().filter(|durable| durable.caution != Caution::None)
        else {
            return true;
        };
        if self.machine.inbox_messages() == 0 {
            return true;
        }
        match durable.caution {
            Caution::None | Caution::Trying { .. } => true,
            Caution::Restored { trials } => {
                let version = durable.version + 1;
                durable.caution = Caution::Recording { trials: trials + 1, version };
                self.changed(Urgency::Now);
                false
            }
            Caution::Clearing { version } => {
                let cleared = durable.saved >= version;
                if cleared {
                    durable.caution = Caution::None;
                }
                cleared
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
    /// Takes a snapshot; `None` if a message is in hand, then the next boundary does, and if there is nothing
    /// to save any more.
    pub(crate) fn take_snapshot(&self) -> Option<Result<Job, serde_json::Error>> {
        let registry = self.registry()?;
        let codec = registry.config().codec?;
        // State first, then core: the order in which `send_with` locks them, so that both its halves are in,
        // or neither.
        // A panic has left a state half changed: the last good snapshot stays.
        self.state.snapshot(|state, iteration, updated| {
            let mut core = self.lock();
            if core.departed || core.machine.ended().is_some() {
                return None;
            }
            let frozen = core.machine.is_frozen();
            let in_hand = core.machine.is_message_in_hand();
            let key = core.key.clone();
            let identity = core.identity;
            let guests = core.identities();
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
            durable.writing = true;
            let created = durable.created;
            let handler = core.handler_name.clone();
            let (machine, covered) = core.machine.snapshot(frozen);
            let record = SessionRecord {
                session: self.id(),
                identity,
                guests: guests.into_iter().filter(|guest| *guest != identity).collect(),
                key: key.to_bytes(),
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
            Some(Ok(Job { key, bytes: record::encode(&record), covered, version, generation }))
        })?
    }

    /// Returns what shall be written now: what the last boundary has left, or the session as it is.
    fn take_job(&self) -> Option<Result<Job, serde_json::Error>> {
        let ready = {
            let mut core = self.lock();
            let departed = core.departed;
            let durable = core.durable.as_mut()?;
            let ready = durable.ready.take().filter(|_| !departed);
            durable.queued &= ready.is_none();
            ready
        };
        match ready {
            // What has changed since then is next.
            Some(ready) => Some(Ok(ready)),
            None => self.take_snapshot(),
        }
    }

    /// Takes the snapshot that is due at this boundary and leaves it for the saver: by the time that comes
    /// by, the next message is in hand.
    pub(crate) fn leave_snapshot(&self) {
        let job = self.take_snapshot();
        self.with_core(|core, _| {
            if let Some(durable) = &mut core.durable {
                // What cannot be a snapshot is the saver's to tell.
                if let Some(Ok(job)) = job {
                    durable.ready = Some(job);
                }
                // It has waited for a flush interval already.
                core.wants_saving(Urgency::Now);
            }
        });
    }

    /// A snapshot is on disk.
    fn saved(&self, job: &Job) {
        let progress = self.with_core(|core, now| {
            if let Some(durable) = &mut core.durable {
                durable.saved = durable.saved.max(job.version);
                durable.last_saved = Instant::now();
                durable.marked = false;
                durable.writing = false;
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
            durable.writing = false;
            durable.last_failure = Some(error);
            // Whoever has brought it brings it again, a while later.
            durable.queued = true;
            Some(Arc::clone(&durable.progress))
        });
        if let Some(progress) = progress {
            progress.notify_waiters();
        }
    }

    /// Waits until all changes so far are on disk.
    pub(crate) async fn wait_saved(&self, urgency: Urgency) -> Result<(), CommitError> {
        let target = self.with_core(|core, _| {
            let durable = core.durable.as_ref().filter(|_| !core.departed)?;
            let target = (durable.version, durable.failures);
            if durable.saved < durable.version {
                core.wants_saving(urgency);
            }
            Some(target)
        });
        let Some((version, failures)) = target else {
            // Without a store there is no disk; with one, the session is not this process's any more.
            return if self.is_durable() { Err(CommitError::ended()) } else { Ok(()) };
        };
        loop {
            let progress = {
                let core = self.lock();
                let Some(durable) = &core.durable else {
                    return Err(CommitError::ended());
                };
                if durable.saved >= version {
                    return Ok(());
                }
                if core.departed || core.removed || core.machine.ended().is_some() {
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

    /// Whether the session's record has not been written for so long: in use, it must not expire.
    pub(crate) fn is_aging(&self, after: Duration) -> bool {
        self.lock().durable.as_ref().is_some_and(|durable| durable.is_aging(after))
    }

    /// Everybody who waits for a save looks again: the session is going.
    pub(crate) fn tell_savers(&self) {
        let progress = self.lock().durable.as_ref().map(|durable| Arc::clone(&durable.progress));
        if let Some(progress) = progress {
            progress.notify_waiters();
        }
    }
}

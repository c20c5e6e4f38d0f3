//! Takes snapshots, and tells what has become of them.

use std::{borrow::Cow, sync::Arc, time::Duration};

use session_resume_proto::session::Covered;
use tokio::time::Instant;

use super::{
    CleanMark, Job,
    record::{self, KeyRecord, SessionRecord},
};
use crate::{
    live::session::shared::{CancelHandler, Shared},
    words::{
        commit_error::CommitError,
        durability::Urgency,
        key::SessionKey,
        millis::Millis,
        outcome::{Outcome, OutcomeStatus},
        panics::caught,
        store::StoreError,
    },
};

/// Which changes are worth a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unsaved {
    /// Those that are not on disk: the saver asks when nothing of the session is under way.
    Any,
    /// Those that no snapshot covers, be it on its way or not: a boundary asks.
    Untaken,
}

/// A snapshot without the application's state.
struct Draft {
    key: SessionKey,
    record: SessionRecord,
    covered: Covered,
    version: u64,
}

impl Draft {
    fn into_job(self, state: Vec<u8>) -> Job {
        let Self { key, mut record, covered, version } = self;
        record.state = state;
        let (working, clean) = (record.working, record.clean);
        let bytes = record::encode(&KeyRecord::Live(Box::new(record)));
        Job { key, bytes, covered, version, working, clean }
    }
}

impl<T: Send + 'static> Shared<T> {
    /// Takes a snapshot; `None` if a message is in hand, then the next boundary does, and if there is nothing
    /// to save (any more). A session whose state cannot be written ends.
    fn take_snapshot(&self, of: Unsaved) -> Option<Job> {
        let registry = self.registry()?;
        let codec = registry.config().codec?;
        // State first, then core: the order in which `send_with` locks them, so that both its halves are in,
        // or neither. The core is free again while the application's code writes its state: that may take long,
        // and may use the session's handle.
        // A panic has left a state half changed: the last good snapshot stays.
        let (draft, state) = self.state.snapshot(|state, iteration, updated| {
            let draft = self.draft(of, iteration, updated)?;
            Some((draft, caught(|| (codec.encode)(state))))
        })??;
        let outcome = match state {
            Ok(Ok(state)) => return Some(draft.into_job(state)),
            Ok(Err(error)) => {
                let text = format_args!("the state cannot be JSON: {error}");
                Outcome::with_error(OutcomeStatus::Panicked, text)
            }
            Err(panic) => Outcome::panicked(&panic, Some("snapshot")),
        };
        tracing::error!(session = %self.id().short(), error = outcome.error(), "a state cannot be stored");
        self.finish(outcome, CancelHandler::Yes);
        None
    }

    /// Takes everything of a snapshot but the state, which the caller has locked.
    fn draft(&self, of: Unsaved, iteration: u64, updated: Millis) -> Option<Draft> {
        let mut core = self.lock();
        if core.is_over() {
            return None;
        }
        let frozen = core.machine.is_frozen();
        let in_hand = core.machine.is_message_in_hand();
        let key = core.key.clone();
        let identity = core.identity();
        let at_work = core.machine.is_at_work();
        let durable = core.durable.as_mut()?;
        let covered = match of {
            Unsaved::Any => durable.saved,
            Unsaved::Untaken => durable.taken,
        };
        if of == Unsaved::Any {
            durable.queued = false;
        }
        if covered >= durable.version {
            // A save that was asked for meanwhile is on disk with what was under way.
            return None;
        }
        if in_hand {
            durable.due = true;
            return None;
        }
        let version = durable.version;
        durable.taken = version;
        let clean = frozen && durable.clean != CleanMark::Revoked;
        if clean {
            durable.clean = CleanMark::Taken;
        }
        // Marked before: what takes no longer than a flush interval is not worth a second write.
        let working = durable.marked && at_work;
        let created = durable.created;
        let handler = core.handler_name().cloned();
        let path = core.handler_path.stored();
        let (machine, covered) = core.machine.snapshot(clean);
        let record = SessionRecord {
            session: self.id(),
            identity,
            key: key.to_bytes(),
            secure: self.via().secure,
            handler: handler.map(Cow::into_owned),
            path,
            created,
            updated,
            iteration,
            clean,
            working,
            state: Vec::new(),
            machine,
        };
        Some(Draft { key, record, covered, version })
    }

    /// Returns what shall be written now: what the last boundary has left, or the session as it is.
    pub(super) fn take_job(&self) -> Option<Job> {
        let ready = {
            let mut core = self.lock();
            let departed = core.departed;
            let durable = core.durable.as_mut()?;
            let (saved, mark) = (durable.saved, durable.clean);
            let ready = durable.ready.take().filter(|job| {
                // One that says that nothing follows, of a session that has gone on since, is not true any more.
                let is_true = !job.clean || mark == CleanMark::Taken;
                !departed && job.version > saved && is_true
            });
            durable.queued &= ready.is_none();
            ready
        };
        // What has changed since then is next.
        ready.or_else(|| self.take_snapshot(Unsaved::Any))
    }

    /// Takes the snapshot that is due at this boundary and leaves it for the saver: by the time that comes
    /// by, the next message is in hand.
    pub(crate) fn leave_snapshot(&self) {
        let Some(job) = self.take_snapshot(Unsaved::Untaken) else {
            return;
        };
        self.step(|core| {
            if let Some(durable) = &mut core.durable {
                durable.ready = Some(job);
                // It has waited for a flush interval already.
                core.wants_saving(Urgency::Now);
            }
        });
    }

    /// A snapshot is on disk.
    pub(super) fn saved(&self, job: &Job) {
        self.with_core(|core, now| {
            if let Some(durable) = &mut core.durable {
                durable.saved = durable.saved.max(job.version);
                durable.last_saved = Instant::now();
                durable.marked &= job.working;
                if durable.saved < durable.version && !durable.due {
                    core.wants_saving(Urgency::Soon);
                }
            }
            core.machine.handle_committed(&job.covered, now);
            if !job.clean {
                core.clean_mark_is_gone(now);
            }
            core.wake_receiver();
        });
        self.tell_savers();
    }

    /// A snapshot is not on disk; it is tried again.
    pub(super) fn not_saved(&self, error: StoreError) {
        let error = CommitError::by_store(error);
        self.step(|core| {
            if let Some(durable) = &mut core.durable {
                durable.failures += 1;
                // It is in no snapshot any more.
                durable.taken = durable.saved;
                durable.last_failure = Some(error);
                // The caller that has queued it queues it again, a while later.
                durable.queued = true;
            }
        });
        self.tell_savers();
    }

    /// A snapshot that the store has not taken is tried again as it is while a message is in hand: the handler may
    /// wait for room that only this commit makes.
    pub(super) fn keep_unsaved(&self, job: Job) {
        let mut core = self.lock();
        if core.machine.is_message_in_hand()
            && let Some(durable) = &mut core.durable
        {
            durable.ready.get_or_insert(job);
        }
    }

    /// Waits until all changes so far are on disk.
    pub(crate) async fn wait_saved(&self, urgency: Urgency) -> Result<(), CommitError> {
        let target = self.step(|core| {
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

    /// Whether the session's record has not been written for `after`. While the session is in use, it must not expire.
    pub(crate) fn is_aging(&self, after: Duration) -> bool {
        self.lock().durable.as_ref().is_some_and(|durable| durable.is_aging(after))
    }

    /// Whether the message in hand keeps something from getting on disk.
    pub(crate) fn is_held_up_by_hand(&self) -> bool {
        let core = self.lock();
        let untaken = core.durable.as_ref().is_some_and(|durable| durable.taken < durable.version);
        untaken && core.machine.is_message_in_hand() && !core.is_over()
    }
}

impl<T> Shared<T> {
    /// All callers that wait for a save look again: the session is going.
    pub(crate) fn tell_savers(&self) {
        let progress = self.lock().durable.as_ref().map(|durable| Arc::clone(&durable.progress));
        if let Some(progress) = progress {
            progress.notify_waiters();
        }
    }
}

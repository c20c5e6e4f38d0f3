//! Takes snapshots, and tells what has become of them.

use std::borrow::Cow;

use session_resume_proto::session::Covered;

use super::record::{self, KeyRecord, SessionRecord};
use crate::{
    live::session::{CancelHandler, Core, Drawn, Job, Shared, Unsaved},
    words::{
        commit_error::CommitError,
        config::Codec,
        durability::Urgency,
        key::SessionKey,
        millis::Millis,
        outcome::{Outcome, OutcomeStatus},
        panics::caught,
        store::StoreError,
    },
};

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

/// What of the state is needed beyond its lock.
enum Taken<T> {
    Written(serde_json::Result<Vec<u8>>),
    Copy(T),
}

impl<T> Taken<T> {
    fn of(state: &T, codec: Codec<T>) -> Self {
        match codec.copy {
            Some(copy) => Self::Copy(copy(state)),
            None => Self::Written((codec.encode)(state)),
        }
    }

    fn written(self, codec: Codec<T>) -> serde_json::Result<Vec<u8>> {
        match self {
            Self::Written(written) => written,
            Self::Copy(state) => (codec.encode)(&state),
        }
    }
}

impl<T: Send + 'static> Shared<T> {
    /// Takes a snapshot; `None` if a message is in hand, then the next boundary does, and if there is nothing
    /// to save (any more). A session whose state cannot be written ends.
    fn take_snapshot(&self, of: Unsaved, codec: Codec<T>) -> Option<Job> {
        // State first, then core: the order in which `send_with` locks them, so that both its halves are in,
        // or neither. The core is free again while the application's code writes its state: that may take long,
        // and may use the session's handle.
        // A panic has left a state half changed: the last good snapshot stays.
        let (draft, taken) = self.state.snapshot(|state, iteration, updated| {
            let draft = self.draft(of, iteration, updated)?;
            Some((draft, caught(|| Taken::of(state, codec))))
        })??;
        // The state is free, too.
        let written = taken.and_then(|taken| caught(|| taken.written(codec)));
        let outcome = match written {
            Ok(Ok(state)) => return Some(draft.into_job(state)),
            Ok(Err(error)) => {
                let text = format_args!("the state cannot be JSON: {error}");
                Outcome::with_error(OutcomeStatus::Panicked, text)
            }
            Err(panic) => Outcome::panicked(&panic, Some("snapshot")),
        };
        tracing::error!(session = %self.id().short(), error = outcome.error(), "a state cannot be stored");
        self.end(outcome, CancelHandler::Yes);
        None
    }

    /// Takes everything of a snapshot but the state, which the caller has locked.
    fn draft(&self, of: Unsaved, iteration: u64, updated: Millis) -> Option<Draft> {
        self.step(|core| self.draw(core, of, iteration, updated))
    }

    fn draw(&self, core: &mut Core, of: Unsaved, iteration: u64, updated: Millis) -> Option<Draft> {
        if core.is_over() {
            return None;
        }
        let (in_hand, frozen) = (core.machine.is_message_in_hand(), core.machine.is_frozen());
        let at_work = core.machine.is_at_work();
        let durable = core.durable.as_mut()?;
        let Drawn { version, clean, working } =
            durable.take_snapshot(of, in_hand, frozen, at_work)?;
        let created = durable.created;
        let (key, identity) = (core.key.clone(), core.identity());
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

    /// Returns what shall be written now: what the last boundary has taken, or the session as it is.
    pub(super) fn take_job(&self, codec: Codec<T>) -> Option<Job> {
        let has_left = self.lock().life().has_left();
        let ready = self.with_durable(|durable| durable.fetch(has_left))?;
        // What has changed since then is next.
        ready.or_else(|| self.take_snapshot(Unsaved::Any, codec))
    }

    /// Takes the snapshot that is due at this boundary and keeps it for the saver: by the time that comes
    /// by, the next message is in hand.
    pub(crate) fn take_at_boundary(&self, codec: Codec<T>) {
        let Some(job) = self.take_snapshot(Unsaved::Untaken, codec) else {
            return;
        };
        self.step(|core| {
            if let Some(durable) = &mut core.durable {
                durable.taken_at_boundary(job);
                core.wants_saving(Urgency::Now);
            }
        });
    }

    /// A snapshot is on disk.
    pub(super) fn saved(&self, job: &Job) {
        self.with_core(|core, now| core.snapshot_saved(job, now));
        self.tell_savers();
    }

    /// A snapshot is not on disk; it is tried again.
    pub(super) fn not_saved(&self, error: StoreError) {
        let error = CommitError::by_store(error);
        self.step(|core| core.snapshot_not_saved(error));
        self.tell_savers();
    }

    /// A snapshot that the store has not taken is tried again as it is while a message is in hand: the handler may
    /// wait for room that only this commit makes.
    pub(super) fn keep_unsaved(&self, job: Job) {
        let in_hand = self.lock().machine.is_message_in_hand();
        if in_hand {
            self.with_durable(|durable| durable.keep(job));
        }
    }
}

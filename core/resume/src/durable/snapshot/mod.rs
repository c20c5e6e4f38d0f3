//! Writes sessions to the store. With `restore`, the only module that touches it.
//!
//! A session *changes*; then it is queued, and the [`saver`] takes its snapshot at the next boundary (no
//! message in hand) and puts it. What the snapshot covers is acknowledged, and may leave, only then.

pub(crate) mod amend;
mod aside;
mod own;
pub(crate) mod queue;
pub(crate) mod record;
pub(crate) mod saver;
mod take;
#[cfg(test)]
mod tests;
pub(crate) mod trial;
mod turn;
mod work;
pub(crate) mod writes;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use session_resume_proto::{Moment, session::Covered};
use tokio::{sync::Notify, time::Instant};

pub use self::aside::SetAside;
use crate::{
    live::session::Core,
    words::{
        commit_error::CommitError,
        durability::Urgency,
        key::SessionKey,
        millis::Millis,
        store::{Stamp, StoreKey},
    },
};

/// What a session with a store knows of its place there.
#[derive(Debug)]
pub(crate) struct Durable {
    /// The stamp of the last write.
    pub(crate) stamp: Stamp,
    pub(crate) place: Place,
    /// What the store said of its losses before the last write that has happened.
    pub(crate) losses: u64,
    pub(crate) created: Millis,
    /// Counts changes; those up to `saved` are on disk.
    version: u64,
    /// Those up to here are in a snapshot.
    taken: u64,
    saved: u64,
    /// Waits for the saver already.
    queued: bool,
    /// The saver has come by while a message was in hand: the next boundary takes the snapshot.
    due: bool,
    /// What that boundary has taken; the saver fetches it.
    ready: Option<Job>,
    /// A task writes what the store has of the session: [`turn::WriteTurn`].
    writing: bool,
    /// The next step must be queued once the lock is free; soon, or at once.
    wants: Option<Urgency>,
    /// Told at every attempt to save.
    progress: Arc<Notify>,
    failures: u64,
    last_failure: Option<CommitError>,
    pub(crate) pointer: Pointer,
    /// The mark that no client has come back to it, where it was put.
    pub(crate) mark: Option<Box<StoreKey>>,
    /// The other keys under which records of it may be, after its identity was changed.
    pub(crate) moved: Option<Box<Moved>>,
    last_saved: Instant,
    /// It was restored only to be looked at: its record expires when it would have, by our clock. Until it is
    /// used.
    pub(crate) expires_as_before: Option<SystemTime>,
    /// The record says that the handler is at work, and the next one will, unless it has come to `recv`.
    marked: bool,
    /// A task looks after a flush interval whether the handler is still at work.
    watched: bool,
    clean: CleanMark,
}

/// Whether the record in the store may be clean: that says that nothing of the session follows.
///
/// A put may have happened whatever its end, so as long as one with the mark may be there the session must be silent:
/// what it said next, and then its process died, would be a second history under the same cursors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum CleanMark {
    /// It is not.
    Absent,
    /// A clean snapshot has been taken, and may be there.
    Taken,
    /// One may be there, and the session stays in memory: it goes on once a record without the mark is there.
    Revoked,
}

/// Where a session's record is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// Nowhere: nothing of it has been written.
    Nowhere,
    /// Perhaps under this key: its claim has not been answered.
    Asked(SessionKey),
    /// Under this key.
    Ours(SessionKey),
    /// It has ended, and this final record says so where it was. Another session may have the key by now.
    Ended(Stamp),
}

/// Where the store has a session that was under another key when it was last put.
///
/// A record that moves is there twice for a moment, and a session may move again meanwhile. What is kept under its id
/// says which one counts: always the one at `home`.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    /// Where the last put has left it.
    home: SessionKey,
    /// Where other records of it may be, which must never be restored again.
    strays: Vec<SessionKey>,
}

impl From<SessionKey> for Moved {
    fn from(home: SessionKey) -> Self {
        Self { home, strays: Vec::new() }
    }
}

impl Moved {
    /// Returns every key under which a record may be.
    fn keys(&self) -> impl Iterator<Item = &SessionKey> {
        [&self.home].into_iter().chain(&self.strays)
    }

    /// A put to this key begins.
    fn begins(&mut self, key: &SessionKey) {
        if !self.strays.contains(key) {
            self.strays.push(key.clone());
        }
    }

    /// It is there, and counts.
    fn is_home(&mut self, key: &SessionKey) {
        self.strays.retain(|stray| stray != key);
        let old = std::mem::replace(&mut self.home, key.clone());
        self.begins(&old);
    }
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

impl Durable {
    pub(crate) fn new(stamp: Stamp, created: Millis, key: &SessionKey) -> Self {
        Self {
            stamp,
            place: Place::Nowhere,
            losses: 0,
            created,
            version: 0,
            taken: 0,
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
            mark: None,
            moved: None,
            last_saved: Instant::now(),
            expires_as_before: None,
            marked: false,
            watched: false,
            clean: CleanMark::Absent,
        }
    }

    /// Returns the stamp of the next write. Each has its own, also one that is tried again.
    pub(crate) fn next_stamp(&mut self) -> Stamp {
        self.stamp = self.stamp.next();
        self.stamp
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

    /// Whether nothing has ever asked to be saved.
    pub(crate) fn is_untouched(&self) -> bool {
        self.version == 0
    }

    /// Whether a snapshot, or anything else, is on its way to the store.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing || self.ready.is_some()
    }

    /// Whether the record says that the handler is at work.
    pub(crate) fn is_marked(&self) -> bool {
        self.marked
    }

    /// Whether anything of the session is in the store.
    pub(crate) fn is_stored(&self) -> bool {
        self.saved > 0
    }

    pub(crate) fn progress(&self) -> Arc<Notify> {
        Arc::clone(&self.progress)
    }
}

/// A snapshot on its way to the store.
#[derive(Debug)]
pub(crate) struct Job {
    key: SessionKey,
    bytes: Bytes,
    covered: Covered,
    version: u64,
    /// It says that the handler is at work.
    working: bool,
    /// It says that nothing follows.
    clean: bool,
}

/// Where the handler has come to a moment with no message in hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Boundary {
    /// It asks for what comes next: until then it is not at work.
    Receive,
    /// It goes on working.
    Commit,
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

    /// The session stops at its next boundary; what is put then is clean.
    pub(crate) fn freeze_for_store(&mut self) {
        self.machine.freeze_at_boundary();
        if let Some(durable) = &mut self.durable
            && durable.clean == CleanMark::Revoked
        {
            durable.clean = CleanMark::Taken;
        }
    }

    /// The session that was to leave goes on here: at once, or, if its record may be clean, once one without the
    /// mark is there.
    pub(crate) fn go_on(&mut self, now: Moment) {
        match self.durable.as_mut().map(|durable| &mut durable.clean) {
            None | Some(CleanMark::Absent) => self.machine.thaw(now),
            Some(mark @ (CleanMark::Taken | CleanMark::Revoked)) => {
                *mark = CleanMark::Revoked;
                self.changed(Urgency::Now);
            }
        }
    }

    /// A record without the clean mark is in the store, so the session may go on if it waits for that.
    fn clean_mark_is_gone(&mut self, now: Moment) {
        let mark = self
            .durable
            .as_mut()
            .map(|durable| std::mem::replace(&mut durable.clean, CleanMark::Absent));
        if mark == Some(CleanMark::Revoked) && !self.is_over() {
            self.machine.thaw(now);
        }
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

    /// The handler has come to a boundary, so the message in hand is handled. Returns whether a snapshot is
    /// due here.
    pub(crate) fn reach_boundary(&mut self, at: Boundary) -> bool {
        let handled = self.machine.is_message_in_hand();
        self.machine.hand_back();
        let Some(durable) = &mut self.durable else {
            return false;
        };
        let unmarked = at == Boundary::Receive && std::mem::take(&mut durable.marked);
        if handled || unmarked {
            // The record names what was at work for long: a crash would count against it.
            self.changed(if unmarked { Urgency::Now } else { Urgency::Soon });
        }
        // What waits for a commit must not wait for all the work on the message that is taken next.
        let waits = self.machine.has_uncommitted_output();
        self.durable.as_mut().is_some_and(|durable| std::mem::take(&mut durable.due) || waits)
    }
}

//! What a session with a store knows of its snapshot and of its place there. Nothing here writes: a session says that it
//! has changed, and is told what has become of that.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use session_resume_proto::{Moment, session::Covered};
use tokio::{sync::Notify, time::Instant};

use super::{
    core::Core,
    life::Life,
    place::{Moved, Place, Pointer},
    shared::Shared,
    thread,
};
use crate::words::{
    commit_error::CommitError,
    durability::{SavedBy, Urgency},
    key::SessionKey,
    millis::Millis,
    store::{Stamp, StoreKey},
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
    /// The next step must be queued once the lock is free; soon, or at once.
    wants: Option<Urgency>,
    at_boundary: AtBoundary,
    /// A task writes what the store has of the session.
    writing: bool,
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
    /// The session was made of its record, so it is in the store though nothing of this life is.
    pub(crate) is_restored: bool,
    /// It was restored only to be looked at: its record expires when it would have, by our clock. Until it is
    /// used.
    pub(crate) expires_as_before: Option<SystemTime>,
    work: WorkMark,
    clean: CleanMark,
    /// What was put so far is the place of a session into which nothing was put yet.
    begun: u64,
    /// The node has no lease: the session stands still until it is back.
    silenced: bool,
}

/// What the next boundary has to do with the session's snapshot.
#[derive(Debug)]
enum AtBoundary {
    /// Nothing.
    Free,
    /// The saver has come by while a message was in hand: the next boundary takes the snapshot.
    Due,
    /// The last boundary has taken it; the saver fetches it.
    Taken(Job),
}

/// Whether the record in the store says that the handler is at work. Clients that poll after a crash are told so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WorkMark {
    Absent,
    /// A task looks after a flush interval whether the handler is still at work.
    Watched,
    /// It says so, and the next one will, unless the handler has come to `recv`.
    Written,
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
            wants: None,
            at_boundary: AtBoundary::Free,
            writing: false,
            progress: Arc::default(),
            failures: 0,
            last_failure: None,
            pointer: if key.is_own() { Pointer::None } else { Pointer::Wanted },
            mark: None,
            moved: None,
            last_saved: Instant::now(),
            is_restored: false,
            expires_as_before: None,
            work: WorkMark::Absent,
            clean: CleanMark::Absent,
            begun: 0,
            silenced: false,
        }
    }

    /// Returns the stamp of the next write. Each has its own, also one that is tried again.
    pub(crate) fn next_stamp(&mut self) -> Stamp {
        self.stamp = self.stamp.next();
        self.stamp
    }

    /// Whether the record must be put anew or moved on: it is in use and must not expire.
    pub(crate) fn is_aging(&self, after: Duration) -> bool {
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

    /// Whether nothing has ever asked to be saved, but for its mere place.
    pub(crate) fn is_untouched(&self) -> bool {
        self.version == self.begun
    }

    /// Whether its record was put before anything was put into it.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun > 0
    }

    /// Whether a snapshot, or anything else, is on its way to the store.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing || matches!(self.at_boundary, AtBoundary::Taken(_))
    }

    /// Whether the record says that the handler is at work.
    pub(crate) fn is_marked(&self) -> bool {
        self.work == WorkMark::Written
    }

    /// Whether anything of the session is in the store.
    pub(crate) fn is_stored(&self) -> bool {
        self.is_restored || self.saved > 0
    }

    pub(crate) fn progress(&self) -> Arc<Notify> {
        Arc::clone(&self.progress)
    }

    /// A snapshot is taken now, if there is something to save; the next boundary takes it if a message is `in_hand`.
    /// `frozen`, `at_work`: what the machine says of the session.
    pub(crate) fn take_snapshot(
        &mut self,
        of: Unsaved,
        in_hand: bool,
        frozen: bool,
        at_work: bool,
    ) -> Option<Drawn> {
        let covered = match of {
            Unsaved::Any => {
                self.queued = false;
                self.saved
            }
            Unsaved::Untaken => self.taken,
        };
        if covered >= self.version {
            // A save that was asked for meanwhile is on disk with what was under way.
            return None;
        }
        if in_hand {
            self.at_boundary = AtBoundary::Due;
            return None;
        }
        self.taken = self.version;
        let clean = frozen && self.clean != CleanMark::Revoked;
        if clean {
            self.clean = CleanMark::Taken;
        }
        // Marked before: what takes no longer than a flush interval is not worth a second write.
        let working = self.is_marked() && at_work;
        Some(Drawn { version: self.version, clean, working })
    }

    /// The boundary has taken a snapshot. It has waited for a flush interval already.
    pub(crate) fn taken_at_boundary(&mut self, job: Job) {
        self.at_boundary = AtBoundary::Taken(job);
    }

    /// Returns the snapshot that the last boundary has taken, if that is still worth writing.
    pub(crate) fn fetch(&mut self, has_left: bool) -> Option<Job> {
        let AtBoundary::Taken(job) = self.at_boundary.take_if_taken() else {
            return None;
        };
        // One that says that nothing follows, of a session that has gone on since, is not true any more.
        let is_true = !job.clean || self.clean == CleanMark::Taken;
        if has_left || job.version <= self.saved || !is_true {
            return None;
        }
        self.queued = false;
        Some(job)
    }

    /// A snapshot that the store has not taken is tried again as it is, unless a boundary has taken another one.
    pub(crate) fn keep(&mut self, job: Job) {
        if !matches!(self.at_boundary, AtBoundary::Taken(_)) {
            self.at_boundary = AtBoundary::Taken(job);
        }
    }

    /// A snapshot is on disk; returns whether there is more to save by now, and no boundary will do that.
    fn saved(&mut self, job: &Job) -> bool {
        self.saved = self.saved.max(job.version);
        self.last_saved = Instant::now();
        if !job.working {
            self.unmark();
        }
        self.saved < self.version && !matches!(self.at_boundary, AtBoundary::Due)
    }

    /// A snapshot is not on disk. The saver that has queued it queues it again, a while later.
    fn not_saved(&mut self, error: CommitError) {
        self.failures += 1;
        // It is in no snapshot any more.
        self.taken = self.saved;
        self.last_failure = Some(error);
        self.queued = true;
    }

    /// Whether the changes up to this one are not all in a snapshot.
    fn is_untaken(&self, version: u64) -> bool {
        self.taken < version
    }

    /// A task wants to write; returns whether none does already.
    pub(crate) fn begin_writing(&mut self) -> bool {
        !std::mem::replace(&mut self.writing, true)
    }

    pub(crate) fn end_writing(&mut self) {
        self.writing = false;
    }

    /// The handler is at work; returns whether a task must look after it from now on.
    fn watch(&mut self) -> bool {
        let begins = self.work == WorkMark::Absent;
        if begins {
            self.work = WorkMark::Watched;
        }
        begins
    }

    /// The task that looked after the handler has come; returns whether the record must say that the handler is at work.
    pub(crate) fn mark(&mut self, works: bool) -> bool {
        let marks = works && self.work != WorkMark::Written;
        match self.work {
            WorkMark::Written => {}
            _ if works => self.work = WorkMark::Written,
            _ => self.work = WorkMark::Absent,
        }
        marks
    }

    /// The record does not say that the handler is at work; returns whether it did.
    pub(crate) fn unmark(&mut self) -> bool {
        let was_marked = self.is_marked();
        if was_marked {
            self.work = WorkMark::Absent;
        }
        was_marked
    }
}

impl AtBoundary {
    /// Takes what a boundary has taken; what is due stays so.
    fn take_if_taken(&mut self) -> Self {
        match self {
            Self::Taken(_) => std::mem::replace(self, Self::Free),
            Self::Free | Self::Due => Self::Free,
        }
    }

    fn take_if_due(&mut self) -> bool {
        let is_due = matches!(self, Self::Due);
        if is_due {
            *self = Self::Free;
        }
        is_due
    }
}

/// Which changes are worth a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unsaved {
    /// Those that are not on disk: the saver asks when nothing of the session is under way.
    Any,
    /// Those that no snapshot covers, be it on its way or not: a boundary asks.
    Untaken,
}

/// What a snapshot says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Drawn {
    pub(crate) version: u64,
    /// Nothing follows.
    pub(crate) clean: bool,
    /// The handler is at work.
    pub(crate) working: bool,
}

/// A snapshot on its way to the store.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) key: SessionKey,
    pub(crate) bytes: Bytes,
    pub(crate) covered: Covered,
    pub(crate) version: u64,
    /// It says that the handler is at work.
    pub(crate) working: bool,
    /// It says that nothing follows.
    pub(crate) clean: bool,
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

    /// Its record is wanted though nothing was put into it yet: it takes its place among nodes.
    pub(crate) fn takes_its_place(&mut self) {
        if let Some(durable) = &mut self.durable {
            durable.begun += u64::from(durable.version == 0);
        }
        self.changed(Urgency::Now);
    }

    /// The store may have lost what it has of the session: it is put once more, changed or not.
    pub(crate) fn put_again(&mut self) {
        if self.is_over() {
            return;
        }
        let Some(durable) = self.durable.as_mut().filter(|durable| durable.is_stored()) else {
            return;
        };
        if durable.pointer == Pointer::Saved {
            durable.pointer = Pointer::Wanted;
        }
        // If only the record's place was put, it still counts as untouched.
        durable.begun += u64::from(durable.is_untouched());
        self.changed(Urgency::Soon);
    }

    /// The node has no lease: the session stands still, and what is put of it is not clean.
    pub(crate) fn silence(&mut self) {
        if self.is_over() || self.machine.is_frozen() || self.machine.ended().is_some() {
            return;
        }
        if let Some(durable) = &mut self.durable {
            durable.silenced = true;
            self.machine.freeze();
        }
    }

    pub(crate) fn is_silenced(&self) -> bool {
        self.durable.as_ref().is_some_and(|durable| durable.silenced)
    }

    /// The lease is back.
    pub(crate) fn speak_again(&mut self, now: Moment) {
        let was = self.durable.as_mut().is_some_and(|it| std::mem::take(&mut it.silenced));
        // One that is on its way to the store stands still for that.
        if was && self.life() == Life::Live {
            self.go_on(now);
        }
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
            && (!matches!(durable.at_boundary, AtBoundary::Due)
                || urgency == Urgency::Now && self.machine.newcomers().is_some())
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
        let unmarked = at == Boundary::Receive && durable.unmark();
        if handled || unmarked {
            // The record names what was at work for long: a crash would count against it.
            self.changed(if unmarked { Urgency::Now } else { Urgency::Soon });
        }
        // What waits for a commit must not wait for all the work on the message that is taken next.
        let waits = self.machine.has_uncommitted_output();
        self.durable.as_mut().is_some_and(|durable| durable.at_boundary.take_if_due() || waits)
    }

    /// A snapshot is on disk.
    pub(crate) fn snapshot_saved(&mut self, job: &Job, now: Moment) {
        if self.durable.as_mut().is_some_and(|durable| durable.saved(job)) {
            self.wants_saving(Urgency::Soon);
        }
        self.machine.handle_committed(&job.covered, now);
        if !job.clean {
            self.clean_mark_is_gone(now);
        }
        self.wake_receiver();
    }

    /// A snapshot is not on disk; it is tried again.
    pub(crate) fn snapshot_not_saved(&mut self, error: CommitError) {
        if let Some(durable) = &mut self.durable {
            durable.not_saved(error);
        }
    }
}

impl<T: Send + 'static> Shared<T> {
    /// Waits until all changes so far are on disk.
    ///
    /// With a message in hand they get there only when the handler hands it back. So if the handler is the one that
    /// waits, this is an error. It is looked for under the lock under which a change is looked for: another task may
    /// change the state at any time.
    pub(crate) async fn wait_saved(
        &self,
        urgency: Urgency,
        by: SavedBy,
    ) -> Result<(), CommitError> {
        let target = self.step(|core| {
            let durable = core.durable.as_ref().filter(|_| !core.life().has_left())?;
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
                if !core.life().goes_on() {
                    return Err(CommitError::ended());
                }
                if durable.failures > failures
                    && let Some(error) = &durable.last_failure
                {
                    return Err(error.clone());
                }
                if durable.is_untaken(version)
                    && core.machine.is_message_in_hand()
                    && self.is_handler(by, &core)
                {
                    return Err(CommitError::message_in_hand());
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

    fn is_handler(&self, by: SavedBy, core: &Core) -> bool {
        match by {
            SavedBy::Handler => true,
            SavedBy::Layer => false,
            SavedBy::AnyHandle => core.is_handlers_task() || thread::is_handlers(self.id()),
        }
    }

    /// The handler may be at work: a client that polls after a crash is told whether it was.
    pub(crate) fn watch_work(self: &Arc<Self>) {
        let watch = {
            let mut core = self.core();
            core.machine.is_at_work() && core.durable.as_mut().is_some_and(|it| it.watch())
        };
        if watch && let Some(keeper) = self.keeper() {
            keeper.watch(Arc::clone(self));
        }
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

impl Drop for Durable {
    /// A caller that waits for what will not come any more looks again.
    fn drop(&mut self) {
        self.progress.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::identity::Identity;

    fn changed(times: u64) -> Durable {
        let key = SessionKey::own(Identity::mint([7; 16]));
        let mut durable =
            Durable::new(Stamp::first(1, 2), Millis::of(SystemTime::UNIX_EPOCH), &key);
        durable.version = times;
        durable
    }

    #[test]
    fn the_mark_of_work_changes_as_the_table_says() {
        use super::WorkMark::{Absent, Watched, Written};
        type Step = fn(&mut Durable) -> bool;
        let at_work: Step = Durable::watch;
        let looked_and_works: Step = |durable| durable.mark(true);
        let looked_and_waits: Step = |durable| durable.mark(false);
        let unmarked: Step = Durable::unmark;
        // What is told: to look after the handler, to write the mark, that the mark was written.
        let table = [
            (Absent, at_work, Watched, true),
            (Watched, at_work, Watched, false),
            (Written, at_work, Written, false),
            (Absent, looked_and_works, Written, true),
            (Watched, looked_and_works, Written, true),
            (Written, looked_and_works, Written, false),
            (Absent, looked_and_waits, Absent, false),
            (Watched, looked_and_waits, Absent, false),
            (Written, looked_and_waits, Written, false),
            (Absent, unmarked, Absent, false),
            (Watched, unmarked, Watched, false),
            (Written, unmarked, Absent, true),
        ];
        for (row, (before, step, after, told)) in table.into_iter().enumerate() {
            let mut durable = changed(0);
            durable.work = before;
            assert_eq!((step(&mut durable), durable.work), (told, after), "row {row}");
        }
    }

    #[test]
    fn a_snapshot_that_finds_a_message_in_hand_is_due_at_the_next_boundary() {
        let mut durable = changed(1);
        durable.queued = true;
        assert_eq!(durable.take_snapshot(Unsaved::Any, true, false, false), None);
        assert!(!durable.queued, "the saver does not come again by itself");
        assert!(durable.at_boundary.take_if_due());
        assert!(!durable.at_boundary.take_if_due(), "once");
        let drawn = durable.take_snapshot(Unsaved::Untaken, false, false, false);
        assert_eq!(drawn, Some(Drawn { version: 1, clean: false, working: false }));
        assert_eq!(durable.take_snapshot(Unsaved::Untaken, false, false, false), None);
        assert!(durable.take_snapshot(Unsaved::Any, false, false, false).is_some(), "not on disk");
    }

    #[test]
    fn what_is_taken_says_that_nothing_follows_only_of_a_session_that_stands_still() {
        let mut durable = changed(1);
        let take = |durable: &mut Durable, frozen| {
            durable.take_snapshot(Unsaved::Any, false, frozen, false).map(|drawn| drawn.clean)
        };
        assert_eq!((take(&mut durable, false), durable.clean), (Some(false), CleanMark::Absent));
        assert_eq!((take(&mut durable, true), durable.clean), (Some(true), CleanMark::Taken));
        // It has gone on since, and stays frozen until a record without the mark is there.
        durable.clean = CleanMark::Revoked;
        assert_eq!((take(&mut durable, true), durable.clean), (Some(false), CleanMark::Revoked));
    }

    #[test]
    fn a_failure_takes_back_what_was_taken() {
        let mut durable = changed(2);
        assert!(durable.take_snapshot(Unsaved::Untaken, false, false, false).is_some());
        assert!(!durable.is_untaken(2));
        durable.not_saved(CommitError::ended());
        assert!(durable.is_untaken(2) && durable.queued);
        assert!(!durable.is_settled() && !durable.is_stored());
        durable.is_restored = true;
        assert!(durable.is_stored(), "the record of its life before is there");
    }
}

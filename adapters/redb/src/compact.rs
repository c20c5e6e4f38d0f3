//! Gives back to the disk what a file that is mostly free does not need.
//!
//! redb reuses the pages of deleted records, and hardly ever makes the file smaller. Its compaction can, but it
//! needs the database for itself: so the store compacts when it opens the file, and when no calls come.

use std::time::{Duration, Instant};

use redb::{CompactionError, StorageBackend as _};

use crate::{caught::caught, open::Opened, records};

/// A file that is smaller than this is left alone. Smaller in our tests.
const MIN_LEN: u64 = if cfg!(test) { 256 << 10 } else { 4 << 20 };

/// A file is mostly free if it is this many times as large as what it holds. redb doubles a
/// file that grows, so one that was just filled may be twice as large.
const MOSTLY_FREE: u64 = 4;

/// What a file may hold at most to be compacted while it is open: calls wait meanwhile, and each MiB takes some 15 ms.
const MAX_WHILE_OPEN: u64 = 128 << 20;

/// Compacts a file that was just opened, if it is mostly free. Returns whether it did.
///
/// After an error the file has to be opened again.
pub(crate) fn at_open(opened: &mut Opened) -> Result<bool, String> {
    caught(|| match mostly_free(opened) {
        Ok(Some(_)) => compact(opened).map_err(|err| err.to_string()),
        Ok(None) => Ok(false),
        Err(err) => Err(err.to_string()),
    })?
}

/// Returns whether it is worth compacting this file now, while it is open.
pub(crate) fn while_open(opened: &Opened) -> Result<bool, redb::Error> {
    Ok(mostly_free(opened)?.is_some_and(|holds| holds <= MAX_WHILE_OPEN))
}

/// Makes the file as small as redb can.
pub(crate) fn compact(opened: &mut Opened) -> Result<bool, CompactionError> {
    opened.db.compact()
}

/// Returns how many bytes of the file are in use, if it is mostly free. Reads all pages of records: a
/// compaction that meets a damaged page ends in the middle of a transaction, which calls for a repair, and the repair of a
/// damaged file can fail.
fn mostly_free(opened: &Opened) -> Result<Option<u64>, redb::Error> {
    let len = opened.staged.len()?;
    if len < MIN_LEN {
        return Ok(None);
    }
    let holds = records::bytes_in_use(&opened.db)?;
    Ok((holds.saturating_mul(MOSTLY_FREE) < len).then_some(holds))
}

/// Decides when the writer looks whether the file is mostly free.
#[derive(Debug)]
pub(crate) struct Idle {
    after: Duration,
    /// When something was last done.
    since: Instant,
    /// Reads begun until `since`.
    reads: u64,
    /// Records removed since the file was last looked at.
    removed: u64,
    next: Next,
}

/// What there is to do once the store is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing was removed since the last look.
    Nothing,
    Look,
    /// A compaction has failed: no other is tried.
    GivenUp,
}

impl Idle {
    pub(crate) fn new(after: Duration) -> Self {
        Self { after, since: Instant::now(), reads: 0, removed: 0, next: Next::Nothing }
    }

    /// A commit has changed the file and removed some records.
    pub(crate) fn committed(&mut self, removed: u64) {
        self.since = Instant::now();
        self.removed = self.removed.saturating_add(removed);
        if removed > 0 && self.next == Next::Nothing {
            self.next = Next::Look;
        }
    }

    /// Returns how long to wait for a call at most; `None` means for ever.
    pub(crate) fn wait(&self) -> Option<Duration> {
        (self.next == Next::Look).then(|| self.after.saturating_sub(self.since.elapsed()))
    }

    /// Returns whether the store is idle. `reads` is the number of reads begun so far.
    pub(crate) fn is_idle(&mut self, reads: u64) -> bool {
        let read = reads != self.reads;
        if read {
            self.reads = reads;
            self.busy();
        }
        !read && self.wait() == Some(Duration::ZERO)
    }

    fn busy(&mut self) {
        self.since = Instant::now();
    }

    /// Returns whether a file with this many records is to be looked at: only if at least as many were removed. So a
    /// look costs no more than the removals did.
    pub(crate) fn take_look(&mut self, records: u64) -> bool {
        self.next = Next::Nothing;
        let look = self.removed >= records;
        if look {
            self.removed = 0;
        }
        look
    }

    /// A read was under way, so the writer looks again later.
    pub(crate) fn look_again(&mut self) {
        self.busy();
        self.next = Next::Look;
        self.removed = u64::MAX;
    }

    pub(crate) fn give_up(&mut self) {
        self.next = Next::GivenUp;
    }
}

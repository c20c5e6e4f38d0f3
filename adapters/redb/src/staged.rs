//! A redb backend that writes nothing until it is told to.
//!
//! redb writes when it opens a file: it marks the file as open, and it repairs what a crash has left. A
//! file that turns out to be damaged, newer or not a store must not be touched. So until
//! [`Staged::publish`] all writes are kept in memory, in order.

use std::{
    io,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{BackendError, StorageBackend};

/// The first bytes of a file that is being made. A process that finds them may start over: nothing in
/// such a file was ever acknowledged.
const BEING_MADE: &[u8] = b"session-resume: store being made\n";

/// redb's page, and the unit in which a new file is written.
const PAGE: usize = 4096;

/// Shared between redb, which owns its backend, and us.
#[derive(Clone, Debug)]
pub(crate) struct Staged(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: Box<dyn StorageBackend>,
    /// Once set, every call goes to `file`.
    published: AtomicBool,
    /// Set for good when a sync fails. What the disk has is unknown from then on: the operating
    /// system may have let go of the pages and will report the next sync as done.
    sync_failed: Arc<AtomicBool>,
    /// None until redb first asks for the content: it has locked the file before that, and only
    /// under the lock is what we find there the truth.
    overlay: Mutex<Option<Overlay>>,
}

#[derive(Debug)]
struct Overlay {
    /// Whether the file has no content to keep: it is new, or was left half made.
    is_new: bool,
    /// How much of the file shows through.
    file_len: u64,
    len: u64,
    log: Vec<FileChange>,
}

#[derive(Debug)]
enum FileChange {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

impl Staged {
    pub(crate) fn new(file: Box<dyn StorageBackend>, sync_failed: Arc<AtomicBool>) -> Self {
        Self(Arc::new(Inner {
            file,
            published: AtomicBool::new(false),
            sync_failed,
            overlay: Mutex::new(None),
        }))
    }

    /// Returns whether the file has nothing to keep, as found when redb opened it.
    pub(crate) fn is_new(&self) -> io::Result<bool> {
        self.with_overlay(|_, overlay| Ok(overlay.is_new))
    }

    /// Writes what has been held back, crash safe at every point, and lets later writes through.
    ///
    /// No transaction is open meanwhile.
    pub(crate) fn publish(&self) -> io::Result<()> {
        let mut guard = self.lock();
        if let Some(overlay) = guard.take() {
            let result =
                if overlay.is_new { self.write_new(&overlay) } else { self.replay(&overlay) };
            if result.is_err() {
                *guard = Some(overlay);
                return result;
            }
        }
        self.0.published.store(true, Ordering::Release);
        Ok(())
    }

    /// Writes the first page last, so that the file is ours only when it is complete.
    fn write_new(&self, overlay: &Overlay) -> io::Result<()> {
        let file = &*self.0.file;
        // At no time is there a file that is neither empty nor marked.
        file.set_len(0)?;
        file.write(0, BEING_MADE)?;
        self.sync()?;
        file.set_len(overlay.len)?;
        let mut page = [0; PAGE];
        let pages = overlay.len.div_ceil(PAGE as u64);
        for number in (1..pages).chain([0]) {
            let offset = number * PAGE as u64;
            let len = usize::try_from(overlay.len - offset).map_or(PAGE, |rest| rest.min(PAGE));
            overlay.read(file, offset, &mut page[..len])?;
            if number == 0 {
                self.sync()?;
            } else if page[..len].iter().all(|byte| *byte == 0) {
                continue;
            }
            file.write(offset, &page[..len])?;
        }
        self.sync()
    }

    /// Does what redb has done, in its order: that is what makes a repair crash safe.
    fn replay(&self, overlay: &Overlay) -> io::Result<()> {
        for change in &overlay.log {
            match change {
                FileChange::Write(offset, data) => self.0.file.write(*offset, data)?,
                FileChange::SetLen(len) => self.0.file.set_len(*len)?,
                FileChange::Sync => self.sync()?,
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.file.sync_data().inspect_err(|_| self.0.sync_failed.store(true, Ordering::Relaxed))
    }

    fn is_published(&self) -> bool {
        self.0.published.load(Ordering::Acquire)
    }

    fn with_overlay<T>(
        &self,
        f: impl FnOnce(&dyn StorageBackend, &mut Overlay) -> io::Result<T>,
    ) -> io::Result<T> {
        let file = &*self.0.file;
        let mut guard = self.lock();
        let overlay = match &mut *guard {
            Some(overlay) => overlay,
            empty => empty.insert(Overlay::new(file)?),
        };
        f(file, overlay)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Overlay>> {
        self.0.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Overlay {
    fn new(file: &dyn StorageBackend) -> io::Result<Self> {
        let len = file.len()?;
        let mut start = [0; BEING_MADE.len()];
        let is_new = len == 0
            || (len >= BEING_MADE.len() as u64
                && file.read(0, &mut start).map(|()| start == BEING_MADE)?);
        let file_len = if is_new { 0 } else { len };
        Ok(Self { is_new, file_len, len: file_len, log: Vec::new() })
    }

    /// The log is short (opening and repairing make some dozens of changes), so reading walks it.
    fn read(&self, file: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset + out.len() as u64;
        if end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Bounded by out.len(), so it fits.
        let at = |position: u64| {
            usize::try_from(position.clamp(offset, end) - offset).unwrap_or(usize::MAX)
        };
        let from_file = at(self.file_len);
        if from_file > 0 {
            file.read(offset, &mut out[..from_file])?;
        }
        out[from_file..].fill(0);
        for change in &self.log {
            match change {
                FileChange::Write(start, data) => {
                    let (from, to) = (at(*start), at(start + data.len() as u64));
                    if from < to {
                        let skip = usize::try_from(offset.saturating_sub(*start)).unwrap_or(0);
                        out[from..to].copy_from_slice(&data[skip..skip + to - from]);
                    }
                }
                FileChange::SetLen(len) => out[at(*len)..].fill(0),
                FileChange::Sync => {}
            }
        }
        Ok(())
    }
}

impl StorageBackend for Staged {
    fn len(&self) -> io::Result<u64> {
        if self.is_published() {
            return self.0.file.len();
        }
        self.with_overlay(|_, overlay| Ok(overlay.len))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.is_published() {
            return self.0.file.read(offset, out);
        }
        self.with_overlay(|file, overlay| overlay.read(file, offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.is_published() {
            return self.0.file.set_len(len);
        }
        self.with_overlay(|_, overlay| {
            overlay.len = len;
            overlay.log.push(FileChange::SetLen(len));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.is_published() {
            return self.sync();
        }
        self.with_overlay(|_, overlay| {
            overlay.log.push(FileChange::Sync);
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.is_published() {
            return self.0.file.write(offset, data);
        }
        self.with_overlay(|_, overlay| {
            overlay.len = overlay.len.max(offset + data.len() as u64);
            overlay.log.push(FileChange::Write(offset, data.to_vec()));
            Ok(())
        })
    }

    fn close(&self) -> io::Result<()> {
        self.0.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.unlock_range(start, end)
    }
}

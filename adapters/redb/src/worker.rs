//! The two threads: one writes in batches, one reads.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use redb::{Durability, StorageBackend};
use session_resume::store::{ErrorKind, StoreError, StoreKey, Versioned};
use tokio::sync::{mpsc, oneshot};

use crate::{
    caught::caught,
    census::Census,
    compact::{self, Idle},
    error::{OpenErrorKind, Reason},
    open::{self, Expect, Opened},
    queue::{Received, receive},
    records::{self, Answer, Op},
    stats::Counters,
};

/// Calls that wait for the writer or the reader. When a queue is full, callers wait.
pub(crate) const QUEUE: usize = 1024;

/// A batch ends after this many calls, or when it holds this many bytes: a commit of 8 MiB takes
/// about as long as the sync it shares.
const BATCH_CALLS: usize = QUEUE;
const BATCH_BYTES: usize = 8 << 20;

/// When the writer does what no call asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// How long recovery waits after an attempt that failed: it reads the whole file.
    pub(crate) retry_after: Duration,
    /// The store is idle after this long without a call that loads or changes something.
    pub(crate) idle_after: Duration,
}

pub(crate) struct Write {
    pub(crate) op: Op,
    pub(crate) reply: oneshot::Sender<Result<usize, StoreError>>,
}

pub(crate) enum Read {
    /// One record.
    Load { key: StoreKey, reply: oneshot::Sender<Result<Option<Versioned>, StoreError>> },
    /// The first keys that begin with `prefix`.
    First {
        prefix: Vec<u8>,
        limit: usize,
        reply: oneshot::Sender<Result<Vec<StoreKey>, StoreError>>,
    },
}

/// Opens the file (again).
pub(crate) type Source =
    Box<dyn Fn(&Expect<'_>) -> Result<Box<dyn StorageBackend>, Reason> + Send + Sync>;

/// What both threads and all handles share.
pub(crate) struct Shared {
    source: Source,
    /// None while recovery has not succeeded.
    opened: RwLock<Option<Opened>>,
    pub(crate) identity_key: [u8; 64],
    /// The record of the keys that sign identities, as it was when the store was opened.
    pub(crate) identity_keys: Option<Bytes>,
    sync_failed: Arc<AtomicBool>,
    pub(crate) counters: Counters,
    /// None if it could not be taken.
    census: Mutex<Option<Census>>,
}

impl Shared {
    pub(crate) fn open(source: Source) -> Result<Self, Reason> {
        let sync_failed = Arc::default();
        let file = source(&Expect::Any)?;
        let mut opened = open::open(file, &Expect::Any, &sync_failed)?;
        let identity_keys = open::identity_keys(&opened)?;
        let counters = Counters::default();
        match compact::at_open(&mut opened) {
            Ok(false) => {}
            Ok(true) => counters.compacted(),
            Err(cause) if sync_failed.load(Ordering::Relaxed) => {
                return Err(Reason::because(OpenErrorKind::Io, cause));
            }
            // As after a crash. What is free stays in the file until it is opened the next time.
            Err(_) => {
                counters.failed();
                let identity_key = opened.identity_key;
                let same = Expect::Same(&identity_key);
                let _ = caught(|| drop(opened));
                opened = open::open(source(&same)?, &same, &sync_failed)?;
            }
        }
        let census = Mutex::new(census_of(&opened));
        Ok(Self {
            source,
            census,
            identity_key: opened.identity_key,
            identity_keys,
            opened: RwLock::new(Some(opened)),
            sync_failed,
            counters,
        })
    }

    /// Returns how many records have keys that begin with `prefix`; `None` if damage has kept us from counting them.
    pub(crate) fn count(&self, prefix: &[u8]) -> Option<usize> {
        self.census().as_ref().map(|census| census.of(prefix))
    }

    /// Reads something. A damaged page that makes redb panic fails this call alone.
    fn look<R>(
        &self,
        read: impl FnOnce(&Opened) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let found = caught(|| match &*self.opened() {
            Some(opened) => read(opened),
            None => Err(ErrorKind::Unavailable.into()),
        });
        found.unwrap_or_else(|panic| Err(StoreError::new(ErrorKind::Corrupt, panic)))
    }

    fn census(&self) -> MutexGuard<'_, Option<Census>> {
        self.census.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) -> RwLockReadGuard<'_, Option<Opened>> {
        self.opened.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts what is there. One damaged page must not keep the rest from being used.
fn census_of(opened: &Opened) -> Option<Census> {
    caught(|| Census::take(&opened.db)).ok()?.ok()
}

/// Answers reads until all senders are gone.
pub(crate) fn read(shared: &Shared, mut queue: mpsc::Receiver<Read>) {
    while let Some(read) = queue.blocking_recv() {
        shared.counters.read_begun();
        // If no caller waits for the answer any more, the read is left out: it changes nothing.
        match read {
            Read::Load { key, reply } if !reply.is_closed() => {
                let _ = reply.send(shared.look(|opened| records::load(&opened.db, &key)));
            }
            Read::First { prefix, limit, reply } if !reply.is_closed() => {
                let first = shared.look(|opened| records::first(&opened.db, &prefix, limit));
                let _ = reply.send(first);
            }
            Read::Load { .. } | Read::First { .. } => {}
        }
    }
}

/// Applies writes in batches until all senders are gone and the queue is empty.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// Whether the last commit failed: redb then refuses everything until the file is opened again.
    failed: bool,
    retry_after: Duration,
    last_attempt: Option<Instant>,
    idle: Idle,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, timing: Timing) -> Self {
        let Timing { retry_after, idle_after } = timing;
        let idle = Idle::new(idle_after);
        Self { shared, failed: false, retry_after, last_attempt: None, idle }
    }

    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Write>) {
        let mut batch = Vec::new();
        loop {
            let first = match receive(&mut queue, self.idle.wait()) {
                Received::Call(first) => first,
                Received::TimedOut => {
                    self.compact_if_idle();
                    continue;
                }
                Received::Ended => return,
            };
            let mut bytes = first.op.size();
            batch.push(first);
            while batch.len() < BATCH_CALLS
                && bytes < BATCH_BYTES
                && let Ok(next) = queue.try_recv()
            {
                bytes += next.op.size();
                batch.push(next);
            }
            // A caller that has gone does not get its answer, but its call counts.
            match self.write(&batch) {
                Ok(answers) => {
                    for (write, answer) in batch.drain(..).zip(answers) {
                        let _ = write.reply.send(answer.map_err(StoreError::from));
                    }
                }
                Err(failure) if failure.kind == ErrorKind::Corrupt && batch.len() > 1 => {
                    // One of the writes has met a damaged page. The others must not fail for that.
                    for write in batch.drain(..) {
                        let alone = self.write(std::slice::from_ref(&write));
                        let answer = alone.map(|mut answers| answers.pop().unwrap_or(Ok(0)));
                        let _ = write.reply.send(match answer {
                            Ok(answer) => answer.map_err(StoreError::from),
                            Err(failure) => Err(failure.to_error()),
                        });
                    }
                }
                Err(failure) => {
                    for write in batch.drain(..) {
                        let _ = write.reply.send(Err(failure.to_error()));
                    }
                }
            }
        }
    }

    fn write(&mut self, batch: &[Write]) -> Result<Vec<Answer>, Failure> {
        if self.failed {
            self.recover()?;
            self.failed = false;
        }
        let committed = caught(|| match &*self.shared.opened() {
            Some(opened) => self.commit(opened, batch),
            None => unreachable!("without a failure the file is open"),
        });
        let failure = match committed {
            Ok(Ok(Ok(answers))) => {
                self.note(batch, &answers);
                return Ok(answers);
            }
            Ok(Ok(Err(panic))) => Failure::new(ErrorKind::Corrupt, panic),
            Ok(Err(err)) => {
                self.failed = true;
                Failure::new(records::kind_of(&err), err)
            }
            Err(panic) => {
                self.failed = true;
                Failure::new(ErrorKind::Corrupt, panic)
            }
        };
        self.shared.counters.failed();
        Err(failure)
    }

    /// Applies a batch in one transaction. With a damaged page that makes redb panic, the transaction is given up,
    /// and the file stays open: what would be left of a transaction that unwinds is repaired when the file is
    /// opened, and a damaged file cannot be.
    fn commit(
        &self,
        opened: &Opened,
        batch: &[Write],
    ) -> Result<Result<Vec<Answer>, String>, redb::Error> {
        let mut transaction = opened.db.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let ops = batch.iter().map(|write| &write.op);
        let (answers, changes) = match caught(|| records::apply(&transaction, ops)) {
            Ok(applied) => applied?,
            Err(panic) => {
                transaction.abort()?;
                return Ok(Err(panic));
            }
        };
        let writes = answers.iter().filter(|answer| matches!(answer, Ok(1..))).count();
        if writes == 0 {
            transaction.abort()?;
        } else {
            transaction.commit()?;
            if let Some(census) = &mut *self.shared.census() {
                census.apply(changes);
            }
            self.shared.counters.committed(writes);
        }
        Ok(Ok(answers))
    }

    fn note(&mut self, batch: &[Write], answers: &[Answer]) {
        let changes = batch.iter().zip(answers).filter_map(|(write, answer)| match answer {
            Ok(0) | Err(_) => None,
            Ok(records) => Some(if write.op.removes() { *records as u64 } else { 0 }),
        });
        if let Some(removed) = changes.reduce(|sum, removed| sum + removed) {
            self.idle.committed(removed);
        }
    }

    /// Makes the file smaller if no calls come, most of the records are gone, and the file is mostly free.
    ///
    /// A call that comes now waits until the file is compacted. A load that is under way is not waited for.
    fn compact_if_idle(&mut self) {
        if !self.idle.is_idle(self.shared.counters.reads()) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let worth_it = caught(|| match &*shared.opened() {
            Some(opened) if !self.failed => {
                let look = self.idle.take_look(records::count(&opened.db)?);
                Ok(look && compact::while_open(opened)?)
            }
            // The next write recovers first.
            _ => {
                self.idle.take_look(u64::MAX);
                Ok(false)
            }
        });
        match worth_it {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return,
            Ok(Err(err)) => {
                let kind = records::kind_of(&err);
                return self.not_compacted(kind != ErrorKind::Corrupt);
            }
            Err(_panic) => return self.not_compacted(false),
        }
        let mut slot = match shared.opened.try_write() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(slot)) => slot.into_inner(),
            Err(TryLockError::WouldBlock) => return self.idle.look_again(),
        };
        let compacted = caught(|| slot.as_mut().map(compact::compact));
        drop(slot);
        match compacted {
            Ok(Some(Ok(_))) => shared.counters.compacted(),
            Ok(None) => {}
            Ok(Some(Err(_))) | Err(_) => self.not_compacted(true),
        }
    }

    /// Goes on with a file that could not be compacted, opened again if need be.
    fn not_compacted(&mut self, reopen: bool) {
        self.idle.give_up();
        self.shared.counters.failed();
        if reopen {
            // If this fails, the next write tries again, and tells its caller.
            self.failed = self.recover().is_err();
        }
    }

    /// Opens the file anew, as after a crash: what was acknowledged is there.
    fn recover(&mut self) -> Result<(), Failure> {
        let unavailable =
            |cause: Box<dyn Error + Send + Sync>| Failure::new(ErrorKind::Unavailable, cause);
        if self.shared.sync_failed.load(Ordering::Relaxed) {
            return Err(unavailable("a sync has failed: restart the process".into()));
        }
        if self.last_attempt.is_some_and(|at| at.elapsed() < self.retry_after) {
            return Err(unavailable("the last attempt to recover has failed".into()));
        }
        let shared = &*self.shared;
        let mut slot = shared.opened.write().unwrap_or_else(PoisonError::into_inner);
        // First let go of the lock on the file, or we would find it locked.
        let _ = caught(|| drop(slot.take()));
        let same = Expect::Same(&shared.identity_key);
        let opened =
            (shared.source)(&same).and_then(|file| open::open(file, &same, &shared.sync_failed));
        // A success forgets the attempt: the next failure is another one.
        self.last_attempt = opened.is_err().then(Instant::now);
        let opened = opened.map_err(|reason| unavailable(reason.into()))?;
        // What the last batch has come to is only known now.
        *shared.census() = census_of(&opened);
        *slot = Some(opened);
        Ok(())
    }
}

/// Why a whole batch failed, for each of its callers.
struct Failure {
    kind: ErrorKind,
    cause: Arc<dyn Error + Send + Sync>,
}

impl Failure {
    fn new(kind: ErrorKind, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, cause: cause.into().into() }
    }

    fn to_error(&self) -> StoreError {
        StoreError::new(self.kind, Arc::clone(&self.cause))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

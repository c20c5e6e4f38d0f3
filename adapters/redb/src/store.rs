use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use session_resume::store::{
    ErrorKind, LayerNames, RecordKind, SnapshotStore, Stamp, StoreError, StoreKey, Versioned,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    error::{OpenError, Reason},
    open,
    records::Op,
    stats::Stats,
    worker::{self, QUEUE, Read, Shared, Source, Timing, Write, Writer},
};

/// Keeps sessions in one file, for one process at a time. See the [crate docs](crate).
///
/// Clones are handles on the same store. When the last one is dropped, what is queued is written and
/// the lock on the file released before `drop` returns: it waits for at most a few commits, or for a compaction that is
/// under way.
#[derive(Clone)]
pub struct RedbStore {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    names: LayerNames,
    shared: Arc<Shared>,
    /// Always Some before `drop`, where taking it ends the writer.
    writes: Option<mpsc::Sender<Write>>,
    /// As `writes`, for the reader.
    reads: Option<mpsc::Sender<Read>>,
    threads: Vec<JoinHandle<()>>,
}

const TIMING: Timing =
    Timing { retry_after: Duration::from_secs(1), idle_after: Duration::from_secs(10) };

impl RedbStore {
    /// Opens the store in the file at `path`, and makes the file if there is none. On Unix only its owner can read a
    /// file that is made here.
    ///
    /// Blocks while it reads the file: once, and several times after a crash. A file that is mostly free
    /// is compacted, which takes some more time. An empty file is treated as none.
    ///
    /// # Errors
    ///
    /// [`OpenError`] names the file and the reason; the records in the file have not been changed.
    ///
    /// # Security
    ///
    /// The file holds the key that signs identity cookies, and all session state.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let file = path.to_owned();
        let source: Source = Box::new(move |expect| open::file(&file, expect));
        Self::from_source(path, source, TIMING).map_err(|reason| OpenError::new(path, reason))
    }

    pub(crate) fn from_source(path: &Path, source: Source, timing: Timing) -> Result<Self, Reason> {
        let shared = Arc::new(Shared::open(source)?);
        let (writes, to_write) = mpsc::channel(QUEUE);
        let (reads, to_read) = mpsc::channel(QUEUE);
        let mut inner = Inner {
            path: path.to_owned(),
            names: LayerNames::new(),
            shared: Arc::clone(&shared),
            writes: Some(writes),
            reads: Some(reads),
            threads: Vec::new(),
        };
        let batches = Writer::new(Arc::clone(&shared), timing);
        inner.spawn("session-writer", move || batches.run(to_write))?;
        inner.spawn("session-reader", move || worker::read(&shared, to_read))?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the file this store is in, as given to [`open`](Self::open).
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Returns what has been written since the store was opened.
    pub fn stats(&self) -> Stats {
        self.inner.shared.counters.read()
    }

    async fn write(&self, op: Op) -> Result<usize, StoreError> {
        let (reply, answer) = oneshot::channel();
        send(self.inner.writes.as_ref(), Write { op, reply }).await?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl SnapshotStore for RedbStore {
    async fn load(&self, key: &StoreKey) -> Result<Option<Versioned>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let key = key.clone();
        send(self.inner.reads.as_ref(), Read::Load { key, reply }).await?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    async fn claim(
        &self,
        key: &StoreKey,
        found: Option<Stamp>,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        let (key, expires) = (key.clone(), later(expires_in));
        let op = Op::Claim { key, found, stamp, bytes, expires };
        self.write(op).await.map(drop)
    }

    async fn put(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        let (key, expires) = (key.clone(), later(expires_in));
        self.write(Op::Put { key, stamp, bytes, expires }).await.map(drop)
    }

    async fn touch(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        let (key, expires) = (key.clone(), later(expires_in));
        self.write(Op::Touch { key, stamp, expires }).await.map(drop)
    }

    async fn remove(&self, key: &StoreKey, stamp: Stamp) -> Result<(), StoreError> {
        let key = key.clone();
        self.write(Op::Remove { key, stamp }).await.map(drop)
    }

    async fn delete_expired(&self, limit: usize) -> Result<usize, StoreError> {
        self.write(Op::DeleteExpired { now: SystemTime::now(), limit }).await
    }

    fn identity_key(&self) -> Option<[u8; 64]> {
        Some(self.inner.shared.identity_key)
    }

    fn identity_keys(&self) -> Option<Bytes> {
        self.inner.shared.identity_keys.clone()
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn count(&self, kind: RecordKind, layer: &str) -> Option<usize> {
        let prefix = StoreKey::prefix(kind, layer).ok()?;
        self.inner.shared.count(&prefix)
    }

    async fn first(
        &self,
        kind: RecordKind,
        layer: &str,
        limit: usize,
    ) -> Result<Vec<StoreKey>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let prefix = StoreKey::prefix(kind, layer)?;
        send(self.inner.reads.as_ref(), Read::First { prefix, limit, reply }).await?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    fn layer_names(&self) -> Option<&LayerNames> {
        Some(&self.inner.names)
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore")
            .field("path", &self.inner.path)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop((self.writes.take(), self.reads.take()));
        for thread in self.threads.drain(..) {
            // An answer wakes its caller on our thread; an executor that runs tasks right there may
            // drop the last handle there. That thread ends by itself.
            if thread.thread().id() != thread::current().id() {
                // A panic in it has been reported where it happened, and its callers got an error.
                let _ = thread.join();
            }
        }
    }
}

/// At most a thousand years from now, for lifetimes that mean "never".
fn later(expires_in: Duration) -> SystemTime {
    const LONGEST: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);
    let now = SystemTime::now();
    now.checked_add(expires_in.min(LONGEST)).unwrap_or(now)
}

async fn send<T>(queue: Option<&mpsc::Sender<T>>, call: T) -> Result<(), StoreError> {
    let queue = queue.ok_or_else(ended)?;
    queue.send(call).await.map_err(|_| ended())
}

/// A thread has panicked: that is a bug, and this store is of no more use.
fn ended() -> StoreError {
    StoreError::new(ErrorKind::Unavailable, "the store's thread has ended")
}

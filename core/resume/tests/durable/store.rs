//! A store whose processes can be killed, and that fails, hangs and tears on demand.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use session_resume::store::{
    ErrorKind, LayerNames, MemoryStore, RecordKind, SnapshotStore, Stamp, StoreError, StoreKey,
    Versioned,
};
use tokio::sync::Semaphore;

/// What a writing call does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    None,
    /// It fails and has changed nothing.
    Fail(ErrorKind),
    /// Reading fails.
    FailToLoad(ErrorKind),
    /// It fails and has happened all the same.
    Tear,
    /// It panics.
    Panic,
}

#[derive(Clone, Debug)]
pub struct TestStore {
    disk: MemoryStore,
    process: Arc<Process>,
}

#[derive(Debug)]
pub struct Process {
    dead: AtomicBool,
    names: LayerNames,
    /// Others use the store, too.
    pub shares: AtomicBool,
    /// The store says that it has lost everything this many times.
    pub losses: AtomicU64,
    pub fault: Mutex<Fault>,
    /// Puts wait for a permit while they are gated.
    pub gated: AtomicBool,
    pub gate: Semaphore,
    /// Session records put, outcomes and pointers put, session records loaded, and the calls in order.
    pub puts: AtomicUsize,
    pub id_puts: AtomicUsize,
    pub loads: AtomicUsize,
    pub calls: Mutex<Vec<String>>,
    /// Where the last session record was put, and the last one under an id.
    pub last: Mutex<Option<StoreKey>>,
    pub last_id: Mutex<Option<StoreKey>>,
}

impl TestStore {
    pub fn new(disk: &MemoryStore) -> Self {
        let process = Process {
            dead: AtomicBool::new(false),
            names: LayerNames::new(),
            shares: AtomicBool::new(false),
            losses: AtomicU64::new(0),
            fault: Mutex::new(Fault::None),
            gated: AtomicBool::new(false),
            gate: Semaphore::new(0),
            puts: AtomicUsize::new(0),
            id_puts: AtomicUsize::new(0),
            loads: AtomicUsize::new(0),
            calls: Mutex::default(),
            last: Mutex::default(),
            last_id: Mutex::default(),
        };
        Self { disk: disk.clone(), process: Arc::new(process) }
    }

    pub fn process(&self) -> Arc<Process> {
        Arc::clone(&self.process)
    }

    async fn enter(&self, what: &str, key: &StoreKey, write: bool) -> Result<(), StoreError> {
        let kind = if is_session(key) { "session" } else { "id" };
        // The keys that sign identities are read by the clock, whatever a test does.
        if *key != StoreKey::identity_keys() {
            self.process.calls.lock().unwrap().push(format!("{what} {kind}"));
        }
        if write && self.process.gated.load(SeqCst) {
            self.process.gate.acquire().await.unwrap().forget();
        }
        self.alive().await;
        let fault = *self.process.fault.lock().unwrap();
        match fault {
            Fault::Fail(error) if write => Err(error.into()),
            Fault::FailToLoad(error) if !write => Err(error.into()),
            Fault::Panic => std::panic::resume_unwind(Box::new("boom")),
            _ => Ok(()),
        }
    }

    /// On the way to writing a record: a claim is a put, too.
    async fn put_in(&self, key: &StoreKey) -> Result<(), StoreError> {
        self.enter("put", key, true).await?;
        let counter = if is_session(key) { &self.process.puts } else { &self.process.id_puts };
        counter.fetch_add(1, SeqCst);
        let last = if is_session(key) { &self.process.last } else { &self.process.last_id };
        *last.lock().unwrap() = Some(key.clone());
        tokio::task::yield_now().await;
        self.alive().await;
        Ok(())
    }

    /// A dead process' calls never come back.
    async fn alive(&self) {
        if self.process.dead.load(SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    fn leave<R>(&self, result: Result<R, StoreError>) -> Result<R, StoreError> {
        if *self.process.fault.lock().unwrap() == Fault::Tear {
            return Err(ErrorKind::Io.into());
        }
        result
    }
}

impl Process {
    pub fn kill(&self) {
        self.dead.store(true, SeqCst);
    }

    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    pub fn hold(&self) {
        self.gated.store(true, SeqCst);
    }

    pub fn release(&self) {
        self.gated.store(false, SeqCst);
        self.gate.add_permits(1000);
    }

    pub fn puts(&self) -> usize {
        self.puts.load(SeqCst)
    }

    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

/// The kind is in the key's bytes: 1 a session, 2 what is known by its id.
fn is_session(key: &StoreKey) -> bool {
    key.as_bytes()[0] == 1
}

impl SnapshotStore for TestStore {
    async fn load(&self, key: &StoreKey) -> Result<Option<Versioned>, StoreError> {
        self.enter("load", key, false).await?;
        if is_session(key) {
            self.process.loads.fetch_add(1, SeqCst);
        }
        // Others get their turn, as with any disk.
        tokio::task::yield_now().await;
        self.disk.load(key).await
    }

    async fn claim(
        &self,
        key: &StoreKey,
        found: Option<Stamp>,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        self.put_in(key).await?;
        self.leave(self.disk.claim(key, found, stamp, bytes, expires_in).await)
    }

    async fn put(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        self.put_in(key).await?;
        self.leave(self.disk.put(key, stamp, bytes, expires_in).await)
    }

    async fn touch(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        self.enter("touch", key, true).await?;
        self.leave(self.disk.touch(key, stamp, expires_in).await)
    }

    async fn remove(&self, key: &StoreKey, stamp: Stamp) -> Result<(), StoreError> {
        self.enter("remove", key, true).await?;
        self.leave(self.disk.remove(key, stamp).await)
    }

    async fn delete_expired(&self, limit: usize) -> Result<usize, StoreError> {
        self.alive().await;
        self.process.calls.lock().unwrap().push("delete expired".to_owned());
        let fault = *self.process.fault.lock().unwrap();
        if let Fault::Fail(error) = fault {
            return Err(error.into());
        }
        self.disk.delete_expired(limit).await
    }

    fn identity_keys(&self) -> Option<Bytes> {
        self.disk.identity_keys()
    }

    fn identity_key(&self) -> Option<[u8; 64]> {
        self.disk.identity_key()
    }

    fn is_exclusive(&self) -> bool {
        !self.process.shares.load(SeqCst)
    }

    fn losses(&self) -> u64 {
        self.process.losses.load(SeqCst)
    }

    fn count(&self, kind: RecordKind, layer: &str) -> Option<usize> {
        self.disk.count(kind, layer).filter(|_| self.is_exclusive())
    }

    async fn first(
        &self,
        kind: RecordKind,
        layer: &str,
        limit: usize,
    ) -> Result<Vec<StoreKey>, StoreError> {
        self.alive().await;
        self.disk.first(kind, layer, limit).await
    }

    fn layer_names(&self) -> Option<&LayerNames> {
        Some(&self.process.names)
    }
}

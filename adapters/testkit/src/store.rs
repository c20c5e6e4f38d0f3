use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use session_resume::store::{
    LayerNames, RecordKind, SnapshotStore, Stamp, StoreError, StoreKey, Versioned,
};

/// A store as one process of a [`TestServer`](crate::TestServer) has it: after the process' end nothing more reaches
/// the store, also from code that still has this handle.
#[derive(Clone, Debug)]
pub struct ProcessStore<S> {
    store: S,
    process: Arc<Process>,
}

#[derive(Debug)]
struct Process {
    is_dead: AtomicBool,
    /// A process has names of its own: the next one may take the same.
    names: LayerNames,
}

impl<S: SnapshotStore> ProcessStore<S> {
    pub(crate) fn new(store: S) -> Self {
        let process = Process { is_dead: AtomicBool::new(false), names: LayerNames::new() };
        Self { store, process: Arc::new(process) }
    }

    /// Returns what ends the process.
    pub(crate) fn killer(&self) -> impl FnOnce() + Send + 'static {
        let process = Arc::clone(&self.process);
        move || process.is_dead.store(true, SeqCst)
    }

    /// The calls of a dead process never come back.
    async fn while_alive<R>(&self, call: impl Future<Output = R>) -> R {
        self.alive().await;
        let done = call.await;
        self.alive().await;
        done
    }

    async fn alive(&self) {
        if self.process.is_dead.load(SeqCst) {
            pending::<()>().await;
        }
    }
}

impl<S: SnapshotStore> SnapshotStore for ProcessStore<S> {
    async fn load(&self, key: &StoreKey) -> Result<Option<Versioned>, StoreError> {
        self.while_alive(self.store.load(key)).await
    }

    async fn claim(
        &self,
        key: &StoreKey,
        found: Option<Stamp>,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        self.while_alive(self.store.claim(key, found, stamp, bytes, expires_in)).await
    }

    async fn put(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        self.while_alive(self.store.put(key, stamp, bytes, expires_in)).await
    }

    async fn touch(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        self.while_alive(self.store.touch(key, stamp, expires_in)).await
    }

    async fn remove(&self, key: &StoreKey, stamp: Stamp) -> Result<(), StoreError> {
        self.while_alive(self.store.remove(key, stamp)).await
    }

    async fn delete_expired(&self, limit: usize) -> Result<usize, StoreError> {
        self.while_alive(self.store.delete_expired(limit)).await
    }

    fn identity_keys(&self) -> Option<Bytes> {
        self.store.identity_keys()
    }

    fn identity_key(&self) -> Option<[u8; 64]> {
        self.store.identity_key()
    }

    fn is_exclusive(&self) -> bool {
        self.store.is_exclusive()
    }

    fn losses(&self) -> u64 {
        self.store.losses()
    }

    fn count(&self, kind: RecordKind, layer: &str) -> Option<usize> {
        self.store.count(kind, layer)
    }

    async fn first(
        &self,
        kind: RecordKind,
        layer: &str,
        limit: usize,
    ) -> Result<Vec<StoreKey>, StoreError> {
        self.while_alive(self.store.first(kind, layer, limit)).await
    }

    fn layer_names(&self) -> Option<&LayerNames> {
        Some(&self.process.names)
    }
}

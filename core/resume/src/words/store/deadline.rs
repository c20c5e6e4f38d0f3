use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;

use super::{ErrorKind, RecordKind, Stamp, StoreError, StoreKey, Versioned, erased::ErasedStore};
use crate::words::{observe, panics::run_caught};

/// A store whose calls have a deadline: the one place where the layer waits for its store.
///
/// A call past it is dropped and [`Unavailable`](ErrorKind::Unavailable). It is not known whether the call has
/// happened, or will. A call that panics is an error, too: it concerns its key alone.
#[derive(Clone, Debug)]
pub(crate) struct Punctual {
    store: Arc<dyn ErasedStore>,
    timeout: Duration,
}

impl Punctual {
    pub(crate) fn new(store: Arc<dyn ErasedStore>, timeout: Duration) -> Self {
        Self { store, timeout }
    }

    fn within<'a, R: Send + 'a>(
        &'a self,
        name: &'static str,
        call: impl FnOnce(&'a dyn ErasedStore) -> BoxFuture<'a, Result<R, StoreError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<R, StoreError>> {
        let timeout = self.timeout;
        let call = run_caught(async move { call(&*self.store).await });
        async move {
            let begun = Instant::now();
            let answer = tokio::time::timeout(timeout, call).await;
            observe::nodes::engine_call(name, begun.elapsed());
            match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(panic)) => {
                    Err(StoreError::new(ErrorKind::Io, format!("the store has panicked: {panic}")))
                }
                Err(_) => {
                    let text = format!("no answer within {timeout:?} (with_store_timeout)");
                    Err(StoreError::new(ErrorKind::Unavailable, text))
                }
            }
        }
        .boxed()
    }
}

impl ErasedStore for Punctual {
    fn load<'a>(
        &'a self,
        key: &'a StoreKey,
    ) -> BoxFuture<'a, Result<Option<Versioned>, StoreError>> {
        self.within("load", move |store| store.load(key))
    }

    fn claim<'a>(
        &'a self,
        key: &'a StoreKey,
        found: Option<Stamp>,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.within("claim", move |store| store.claim(key, found, stamp, bytes, expires_in))
    }

    fn put<'a>(
        &'a self,
        key: &'a StoreKey,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.within("put", move |store| store.put(key, stamp, bytes, expires_in))
    }

    fn touch<'a>(
        &'a self,
        key: &'a StoreKey,
        stamp: Stamp,
        expires_in: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.within("touch", move |store| store.touch(key, stamp, expires_in))
    }

    fn remove<'a>(
        &'a self,
        key: &'a StoreKey,
        stamp: Stamp,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.within("remove", move |store| store.remove(key, stamp))
    }

    fn delete_expired(&self, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.within("delete_expired", move |store| store.delete_expired(limit))
    }

    fn count(&self, kind: RecordKind, layer: &str) -> Option<usize> {
        self.store.count(kind, layer)
    }

    fn first<'a>(
        &'a self,
        kind: RecordKind,
        layer: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoreKey>, StoreError>> {
        self.within("first", move |store| store.first(kind, layer, limit))
    }

    fn is_exclusive(&self) -> bool {
        self.store.is_exclusive()
    }

    fn losses(&self) -> u64 {
        self.store.losses()
    }
}

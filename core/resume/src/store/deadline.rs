use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;

use super::{ErrorKind, Generation, StoreError, StoreKey, Versioned, erased::ErasedStore};
use crate::panics::run_caught;

/// A store whose calls have a deadline: the one place where the layer waits for its store.
///
/// A call past it is dropped and [`Unavailable`](ErrorKind::Unavailable); whether it has happened, or will, nobody
/// knows. A call that panics is an error, too: it is its key's matter alone.
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
        call: impl FnOnce(&'a dyn ErasedStore) -> BoxFuture<'a, Result<R, StoreError>> + Send + 'a,
    ) -> BoxFuture<'a, Result<R, StoreError>> {
        let timeout = self.timeout;
        let call = run_caught(async move { call(&*self.store).await });
        async move {
            match tokio::time::timeout(timeout, call).await {
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
        self.within(move |store| store.load(key))
    }

    fn put<'a>(
        &'a self,
        key: &'a StoreKey,
        generation: Generation,
        bytes: Bytes,
        expires: SystemTime,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.within(move |store| store.put(key, generation, bytes, expires))
    }

    fn touch<'a>(
        &'a self,
        key: &'a StoreKey,
        generation: Generation,
        expires: SystemTime,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.within(move |store| store.touch(key, generation, expires))
    }

    fn remove<'a>(
        &'a self,
        key: &'a StoreKey,
        generation: Generation,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.within(move |store| store.remove(key, generation))
    }

    fn delete_expired(
        &self,
        now: SystemTime,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.within(move |store| store.delete_expired(now, limit))
    }

    fn identity_key(&self) -> Option<[u8; 64]> {
        self.store.identity_key()
    }

    fn is_exclusive(&self) -> bool {
        self.store.is_exclusive()
    }
}

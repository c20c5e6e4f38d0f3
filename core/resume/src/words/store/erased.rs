use std::{fmt, time::Duration};

use bytes::Bytes;
use futures_core::future::BoxFuture;

use super::{RecordKind, SnapshotStore, Stamp, StoreError, StoreKey, Versioned};

/// [`SnapshotStore`] as an object: boxes one future per call, so that the layer has no type
/// parameter for its store. Every store is one; made by `Arc::new(store) as Arc<dyn ErasedStore>`.
pub(crate) trait ErasedStore: fmt::Debug + Send + Sync + 'static {
    fn load<'a>(
        &'a self,
        key: &'a StoreKey,
    ) -> BoxFuture<'a, Result<Option<Versioned>, StoreError>>;

    fn claim<'a>(
        &'a self,
        key: &'a StoreKey,
        found: Option<Stamp>,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    fn put<'a>(
        &'a self,
        key: &'a StoreKey,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    fn touch<'a>(
        &'a self,
        key: &'a StoreKey,
        stamp: Stamp,
        expires_in: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    fn remove<'a>(
        &'a self,
        key: &'a StoreKey,
        stamp: Stamp,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    fn delete_expired(&self, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>>;

    fn count(&self, kind: RecordKind, layer: &str) -> Option<usize>;

    fn first<'a>(
        &'a self,
        kind: RecordKind,
        layer: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoreKey>, StoreError>>;

    fn is_exclusive(&self) -> bool;

    fn losses(&self) -> u64;
}

impl<S: SnapshotStore> ErasedStore for S {
    fn load<'a>(
        &'a self,
        key: &'a StoreKey,
    ) -> BoxFuture<'a, Result<Option<Versioned>, StoreError>> {
        Box::pin(SnapshotStore::load(self, key))
    }

    fn claim<'a>(
        &'a self,
        key: &'a StoreKey,
        found: Option<Stamp>,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(SnapshotStore::claim(self, key, found, stamp, bytes, expires_in))
    }

    fn put<'a>(
        &'a self,
        key: &'a StoreKey,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(SnapshotStore::put(self, key, stamp, bytes, expires_in))
    }

    fn touch<'a>(
        &'a self,
        key: &'a StoreKey,
        stamp: Stamp,
        expires_in: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(SnapshotStore::touch(self, key, stamp, expires_in))
    }

    fn remove<'a>(
        &'a self,
        key: &'a StoreKey,
        stamp: Stamp,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(SnapshotStore::remove(self, key, stamp))
    }

    fn delete_expired(&self, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(SnapshotStore::delete_expired(self, limit))
    }

    fn count(&self, kind: RecordKind, layer: &str) -> Option<usize> {
        SnapshotStore::count(self, kind, layer)
    }

    fn first<'a>(
        &'a self,
        kind: RecordKind,
        layer: &'a str,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoreKey>, StoreError>> {
        Box::pin(SnapshotStore::first(self, kind, layer, limit))
    }

    fn is_exclusive(&self) -> bool {
        SnapshotStore::is_exclusive(self)
    }

    fn losses(&self) -> u64 {
        SnapshotStore::losses(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::words::store::{MemoryStore, contract};

    /// Back from the object to the trait, so that the contract can check the way through it.
    #[derive(Debug)]
    struct Wrapped(Arc<dyn ErasedStore>);

    impl SnapshotStore for Wrapped {
        async fn load(&self, key: &StoreKey) -> Result<Option<Versioned>, StoreError> {
            self.0.load(key).await
        }
        async fn claim(
            &self,
            key: &StoreKey,
            found: Option<Stamp>,
            stamp: Stamp,
            bytes: Bytes,
            expires_in: Duration,
        ) -> Result<(), StoreError> {
            self.0.claim(key, found, stamp, bytes, expires_in).await
        }
        async fn put(
            &self,
            key: &StoreKey,
            stamp: Stamp,
            bytes: Bytes,
            expires_in: Duration,
        ) -> Result<(), StoreError> {
            self.0.put(key, stamp, bytes, expires_in).await
        }
        async fn touch(
            &self,
            key: &StoreKey,
            stamp: Stamp,
            expires_in: Duration,
        ) -> Result<(), StoreError> {
            self.0.touch(key, stamp, expires_in).await
        }
        async fn remove(&self, key: &StoreKey, stamp: Stamp) -> Result<(), StoreError> {
            self.0.remove(key, stamp).await
        }
        async fn delete_expired(&self, limit: usize) -> Result<usize, StoreError> {
            self.0.delete_expired(limit).await
        }
    }

    #[tokio::test]
    async fn an_erased_store_keeps_the_contract() {
        let store = MemoryStore::new();
        let erased: Arc<dyn ErasedStore> = Arc::new(store);
        assert!(!erased.is_exclusive());
        contract::check(&Wrapped(erased)).await;
    }
}

//! Where things are in the store.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::record::{self, IdRecord};
use crate::store::{
    Generation, RecordKind, StoreError, StoreKey, deadline::Punctual, erased::ErasedStore,
};

/// The store as the layer knows it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) store: Arc<dyn ErasedStore>,
    /// The application's own, without a deadline.
    bare: Arc<dyn ErasedStore>,
    /// The layer's name in the store.
    pub(crate) name: Arc<str>,
}

impl Store {
    /// A store whose calls have this deadline.
    pub(crate) fn new(store: Arc<dyn ErasedStore>, name: Arc<str>, timeout: Duration) -> Self {
        Self { store: Arc::new(Punctual::new(Arc::clone(&store), timeout)), bare: store, name }
    }

    /// The same store with another deadline.
    pub(crate) fn with_timeout(&self, timeout: Duration) -> Self {
        Self::new(Arc::clone(&self.bare), Arc::clone(&self.name), timeout)
    }

    /// Returns where the session of this key is.
    ///
    /// Keys of sessions are at most 560 bytes and names are checked when they are set, so it fits.
    pub(crate) fn session_key(&self, key: &[u8]) -> StoreKey {
        StoreKey::new(RecordKind::Session, &self.name, key).expect("session keys are bounded")
    }

    /// Returns where the outcome of this session is.
    pub(crate) fn id_key(&self, id: crate::SessionId) -> StoreKey {
        StoreKey::new(RecordKind::Outcome, &self.name, id.as_uuid().as_bytes())
            .expect("session ids are 16 bytes")
    }

    /// Puts what leads from a session's id to its key.
    pub(super) async fn put_pointer(
        &self,
        id: crate::SessionId,
        key: Vec<u8>,
        generation: Generation,
        expires: SystemTime,
    ) -> Result<(), StoreError> {
        let pointer = record::encode(&IdRecord::Pointer(key));
        self.store.put(&self.id_key(id), generation, pointer, expires).await
    }
}

/// The error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> impl fmt::Display {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

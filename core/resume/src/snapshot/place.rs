//! Where things are in the store.

use std::{fmt, sync::Arc, time::SystemTime};

use super::record::{self, IdRecord};
use crate::store::{Generation, RecordKind, StoreError, StoreKey, erased::ErasedStore};

/// The store as the layer knows it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) store: Arc<dyn ErasedStore>,
    /// The layer's name in the store.
    pub(crate) name: Arc<str>,
}

impl Store {
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

//! The store of a layer, and where things are in it.

use std::{sync::Arc, time::Duration};

use super::{ErrorKind, RecordKind, StoreError, StoreKey, deadline::Punctual, erased::ErasedStore};
use crate::words::{id::SessionId, millis::Millis};

/// The store as the layer knows it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_field_names, reason = "the store that the layer's name is in")]
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
    pub(crate) fn id_key(&self, id: SessionId) -> StoreKey {
        StoreKey::new(RecordKind::Outcome, &self.name, id.as_uuid().as_bytes())
            .expect("session ids are 16 bytes")
    }

    /// Returns where the mark is on a session to which no client has come back, made at this time.
    pub(crate) fn visitor_key(&self, created: Millis, key: &[u8]) -> StoreKey {
        let id = [&created.get().to_be_bytes(), key].concat();
        StoreKey::new(RecordKind::Visitor, &self.name, &id).expect("session keys are bounded")
    }

    /// Returns where the record of this session is kept if its state cannot be read.
    pub(crate) fn aside_key(&self, id: SessionId) -> StoreKey {
        StoreKey::new(RecordKind::Unreadable, &self.name, id.as_uuid().as_bytes())
            .expect("session ids are 16 bytes")
    }

    /// Returns how many records are kept aside; `None` if the store cannot tell.
    pub(crate) fn count_aside(&self) -> Option<usize> {
        self.store.count(RecordKind::Unreadable, &self.name)
    }

    /// Returns how many sessions are stored, and to how many of these no client has come back; `None` if the store
    /// cannot tell.
    pub(crate) fn census(&self) -> Option<(usize, usize)> {
        let count = |kind| self.store.count(kind, &self.name);
        Some((count(RecordKind::Session)?, count(RecordKind::Visitor)?))
    }
}

/// Whether a call was refused like this.
pub(crate) fn is<R>(result: &Result<R, StoreError>, kind: ErrorKind) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == kind)
}

/// Returns the session key in a [mark](Store::visitor_key).
pub(crate) fn marked(mark: &StoreKey) -> &[u8] {
    mark.id().get(size_of::<u64>()..).unwrap_or_default()
}

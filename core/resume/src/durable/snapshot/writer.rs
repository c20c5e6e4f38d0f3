//! What writing takes.

use std::{
    ops::Deref,
    sync::{Arc, Weak},
    time::Duration,
};

use crate::{
    live::{registry::Registry, session::Shared},
    words::{config::Codec, store::named::Store},
};

/// The store of a layer, and the registry whose sessions are written to it.
pub(crate) struct Writer<T> {
    of_layer: Store,
    pub(super) codec: Codec<T>,
    pub(super) registry: Weak<Registry<T>>,
}

impl<T: Send + 'static> Registry<T> {
    /// Returns what writes this layer's sessions; `None` without a store.
    pub(crate) fn writer(&self) -> Option<Writer<T>> {
        let (of_layer, codec) = (self.config().store.clone()?, self.config().codec?);
        Some(Writer { of_layer, codec, registry: self.weak().clone() })
    }
}

impl<T: Send + 'static> Writer<T> {
    /// For how long what is put now is kept; `None` if the layer is gone.
    pub(super) fn expires_in(&self, session: &Shared<T>) -> Option<Duration> {
        self.registry.upgrade().map(|registry| registry.record_expires_in(session))
    }

    /// Another process owns the record.
    pub(super) fn taken_over(&self, session: &Arc<Shared<T>>) {
        if let Some(registry) = self.registry.upgrade() {
            registry.taken_over(session);
        }
    }
}

impl<T> Deref for Writer<T> {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.of_layer
    }
}

impl<T> Clone for Writer<T> {
    fn clone(&self) -> Self {
        Self {
            of_layer: self.of_layer.clone(),
            codec: self.codec,
            registry: Weak::clone(&self.registry),
        }
    }
}

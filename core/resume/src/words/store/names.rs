use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The names under which layers use a store, so that two layers do not take each other's sessions.
///
/// A store keeps one for all its handles and returns it from
/// [`SnapshotStore::layer_names`](super::SnapshotStore::layer_names). A clone is the same list. A layer takes its
/// name when it is validated or put to use, and gives it back when it is gone.
#[derive(Clone, Debug, Default)]
pub struct LayerNames {
    taken: Arc<Mutex<BTreeSet<Arc<str>>>>,
}

impl LayerNames {
    /// Creates an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a name until what this returns is dropped; `None` if another layer has it.
    pub(crate) fn take(&self, name: &Arc<str>) -> Option<LayerName> {
        let name = Arc::clone(name);
        let free = self.lock().insert(Arc::clone(&name));
        free.then(|| LayerName { names: self.clone(), name })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Arc<str>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name that a layer has taken.
#[derive(Debug)]
pub(crate) struct LayerName {
    names: LayerNames,
    name: Arc<str>,
}

impl Drop for LayerName {
    fn drop(&mut self) {
        self.names.lock().remove(&self.name);
    }
}

use std::ops::{Deref, DerefMut};

/// A list that is mostly empty: one word then, where a `Vec` takes three in every session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[expect(clippy::box_collection, reason = "that is the point")]
pub(super) struct Few<T>(
    /// Never empty.
    Option<Box<Vec<T>>>,
);

impl<T> Few<T> {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    pub(super) fn push(&mut self, item: T) {
        let items = self.0.get_or_insert_default();
        items.reserve_exact(1);
        items.push(item);
    }

    /// Removes and returns the item at this index.
    ///
    /// # Panics
    ///
    /// Panics if there is none, as [`Vec::remove`].
    pub(super) fn remove(&mut self, at: usize) -> T {
        let items = self.0.as_mut().expect("the index is of an item");
        let item = items.remove(at);
        self.0.take_if(|items| items.is_empty());
        item
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.0.take_if(|items| {
            items.retain(keep);
            items.is_empty()
        });
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_ref().map_or(&[], |items| items)
    }
}

impl<T> DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.0.as_mut().map_or(&mut [], |items| items)
    }
}

//! How a session is kept small, and why.
//!
//! Most sessions of a server are suspended at any time: a page is hidden, a laptop is shut. A server keeps 100,000 of them
//! by default, so one session is to take at most 1 KiB of heap, key, identity and table entries included
//! (`load -- memory` in `benches` counts it, and a test there fails when it is more). And a request costs little more
//! than the cache lines that it fetches: with many sessions each line comes from memory. Five measures serve these two
//! ends. All other code may ignore them.
//!
//! 1. **What a session rarely has is one box.** [`Rare`] is one word while there is nothing. A `Vec`, a `String` and an
//!    `Option<Arc>` side by side would be seven. Each struct that is in every session has one such box: the core's
//!    `Rarities` (tasks, a handler's name, waiting sends, offered states, the outcome), the machine's (an overflow,
//!    messages that kill the process, identities that were changed), the outbox's (binaries, a checkpoint) and a
//!    client's. A new field that most sessions do not need belongs there. The box goes as soon as it says nothing, so
//!    what each message would make anew does not belong there.
//! 2. **A list that is mostly empty is one word.** `Few` costs an allocation more where there is an item, and saves two
//!    words in every session where there is none. It grows by one item at a time: two transports are already many.
//! 3. **A queue that is not in use is one word.** `Queue` has its buffer in a box while messages go through it. The
//!    inbox lets go of both when its last event is taken. The outbox does when nothing is in the inbox either, or the
//!    session is suspended: while messages come and go, they cost no buffer.
//! 4. **What is small lies with what is small.** Flags of a `Clients` or `Lives` would take a word there; beside the
//!    machine's other flags they take a byte. A number that is read seldom can be bytes (`Unaligned`, `Serial`), which
//!    fit in anywhere. What can be told from other fields is not kept.
//! 5. **What a request touches lies together.** `session::Session` and its `Usage` here, `Shared` and `Core` in
//!    `session-resume`, are `repr(C)`: laid out as written, with what each request reads or writes first. Rust would
//!    order the fields by their size, and a request would fetch more lines. A new field belongs behind what is asked
//!    more often than it is.
//!
//! The types here allocate and free by themselves and have the methods that the rules need, no more.

use std::{
    collections::VecDeque,
    hash::{Hash, Hasher},
    ops::{Deref, DerefMut},
};

/// What is mostly not there: one word then.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rare<T>(Option<Box<T>>);

impl<T> Rare<T> {
    /// Nothing.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Something.
    pub fn new(value: T) -> Self {
        Self(Some(Box::new(value)))
    }

    /// Returns what is there.
    pub fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    /// Returns what is there, to change it. After a change that may leave it empty call [`Self::drop_if`].
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// Returns what is there; makes it if there is nothing.
    pub fn get_or_default(&mut self) -> &mut T
    where
        T: Default,
    {
        self.0.get_or_insert_default()
    }

    /// Returns what is there; makes it with `make` if there is nothing.
    pub fn get_or_insert_with(&mut self, make: impl FnOnce() -> T) -> &mut T {
        self.0.get_or_insert_with(|| Box::new(make()))
    }

    /// Drops what is there if it says nothing any more.
    pub fn drop_if(&mut self, is_empty: impl FnOnce(&T) -> bool) {
        self.0.take_if(|value| is_empty(value));
    }
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self::none()
    }
}

/// A list that is mostly empty: one word then, where a `Vec` takes three in every session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[expect(clippy::box_collection, reason = "that is the point")]
pub(crate) struct Few<T>(
    /// Never empty.
    Option<Box<Vec<T>>>,
);

impl<T> Few<T> {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    pub(crate) fn push(&mut self, item: T) {
        let items = self.0.get_or_insert_default();
        items.reserve_exact(1);
        items.push(item);
    }

    /// Removes and returns the item at this index.
    ///
    /// # Panics
    ///
    /// Panics if there is none, as [`Vec::remove`].
    pub(crate) fn remove(&mut self, at: usize) -> T {
        let items = self.0.as_mut().expect("the index is of an item");
        let item = items.remove(at);
        self.0.take_if(|items| items.is_empty());
        item
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
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

/// A queue that is one word while it is not in use, where a `VecDeque` takes four.
///
/// Once used it keeps its buffer, as a `VecDeque` does, until [`Self::let_go`]: no item costs an allocation.
#[derive(Clone, Debug)]
#[expect(clippy::box_collection, reason = "that is the point")]
pub(crate) struct Queue<T>(Option<Box<VecDeque<T>>>);

impl<T> Queue<T> {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// Lets go of the buffer, if nothing is in it.
    pub(crate) fn let_go(&mut self) {
        self.0.take_if(|items| items.is_empty());
    }

    /// The queue to work on. After that it is in use.
    pub(crate) fn used(&mut self) -> &mut VecDeque<T> {
        self.0.get_or_insert_default()
    }

    /// The queue to take from, if it is in use.
    pub(crate) fn get_mut(&mut self) -> Option<&mut VecDeque<T>> {
        self.0.as_deref_mut()
    }

    /// Whether it has a buffer.
    pub(crate) fn is_in_use(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        self.0.as_mut()?.pop_front()
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.0.as_ref()?.get(at)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |items| items.len())
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.iter().flat_map(|items| items.iter())
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// By its items: whether there is a buffer makes no difference.
impl<T: PartialEq> PartialEq for Queue<T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: Eq> Eq for Queue<T> {}

impl<T: Hash> Hash for Queue<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        self.iter().for_each(|item| item.hash(state));
    }
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use super::*;

    #[test]
    fn nothing_takes_one_word() {
        let word = size_of::<usize>();
        assert_eq!(size_of::<Few<[u64; 9]>>(), word);
        assert_eq!(size_of::<Rare<[u64; 9]>>(), word);
        assert_eq!(size_of::<Queue<[u64; 9]>>(), word);
    }

    #[test]
    fn a_queue_is_what_is_in_it() {
        let hash = |queue: &Queue<u8>| {
            let mut hasher = DefaultHasher::new();
            queue.hash(&mut hasher);
            hasher.finish()
        };
        let (unused, mut used) = (Queue::new(), Queue::new());
        used.used().extend([1, 2]);
        used.let_go();
        assert_eq!(used.iter().copied().collect::<Vec<u8>>(), [1, 2], "nothing is lost");
        assert_ne!(used, unused);
        assert_eq!(
            (used.pop_front(), used.pop_front(), used.pop_front()),
            (Some(1), Some(2), None)
        );
        assert!(used.0.is_some(), "the buffer stays for the next one");
        assert_eq!((&used, hash(&used)), (&unused, hash(&unused)));
        used.let_go();
        assert!(used.0.is_none());
    }

    #[test]
    fn what_says_nothing_any_more_is_dropped() {
        let mut rare = Rare::<Vec<u8>>::none();
        rare.get_or_default().push(1);
        rare.drop_if(Vec::is_empty);
        assert_eq!(rare.get(), Some(&vec![1]));
        rare.get_mut().unwrap().clear();
        rare.drop_if(Vec::is_empty);
        assert_eq!(rare, Rare::none());
        let mut few = Few::new();
        few.push(1);
        assert_eq!((few.remove(0), few.0), (1, None));
    }
}

//! Memory that a worker thread lends to one poll of one connection at a time.

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
};

/// The most that is written in one call, and room for what is read in one. What a call costs is mostly the call.
pub(super) const SIZE: usize = 256 << 10;

thread_local! {
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// The scratch memory of this thread. What is in it is left over from other connections.
///
/// It is taken out of its place meanwhile: a connection that is polled within the poll of another one gets its own.
pub(super) struct Scratch(Option<Box<[u8]>>);

impl Scratch {
    pub(super) fn take() -> Self {
        // There is none when this thread has had none yet, and none any more when the thread is ending.
        let kept = SCRATCH.try_with(Cell::take).ok().flatten();
        Self(Some(kept.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = SCRATCH.try_with(|scratch| scratch.set(self.0.take()));
    }
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_at_once_are_two_and_one_is_kept() {
        let (mut first, mut second) = (Scratch::take(), Scratch::take());
        first[0] = 1;
        second[SIZE - 1] = 2;
        assert_eq!((first[SIZE - 1], second[0]), (0, 0));
        drop(first);
        drop(second);
        let kept = Scratch::take();
        assert_eq!(kept.len(), SIZE);
        assert_eq!(kept[SIZE - 1], 2, "the same memory again");
    }
}

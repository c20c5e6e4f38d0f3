//! The typed state under its own mutex.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
};

use session_resume_proto::wire::StateOffer;

use crate::words::{
    merge::{MergePolicy, Versions},
    millis::Millis,
    panics::caught,
};

/// The state of one session, counting its changes.
#[derive(Debug)]
pub(crate) struct StateCell<T> {
    /// Whether it is no longer as it was when the session was started.
    changed: AtomicBool,
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    /// Always there until the cell is dropped.
    value: Option<T>,
    /// Changed since the last boundary.
    dirty: bool,
    /// A change has begun and not ended: it is under way, or it has panicked.
    half_changed: bool,
    /// How many boundaries have seen changes.
    iteration: Unaligned,
    /// When a boundary last saw changes: [`Millis`].
    updated: Unaligned,
}

/// A number as bytes: so it fits in beside the flags, and a session with a small state is 16 bytes smaller.
#[derive(Clone, Copy, Debug)]
struct Unaligned([u8; 8]);

impl Unaligned {
    const fn new(number: u64) -> Self {
        Self(number.to_ne_bytes())
    }

    const fn get(self) -> u64 {
        u64::from_ne_bytes(self.0)
    }
}

impl<T> Inner<T> {
    fn value(&self) -> &T {
        self.value.as_ref().expect("a state is there until it is dropped")
    }

    fn change<R>(&mut self, f: impl FnOnce(&mut T) -> R) -> R {
        self.half_changed = true;
        let result = f(self.value.as_mut().expect("a state is there until it is dropped"));
        self.half_changed = false;
        result
    }

    fn step(&mut self) {
        if std::mem::take(&mut self.dirty) {
            self.iteration = Unaligned::new(self.iteration.get() + 1);
            self.updated = Unaligned::new(Millis::now().get());
        }
    }

    fn updated(&self) -> Millis {
        Millis::new(self.updated.get())
    }
}

/// No cell's address.
const NOWHERE: usize = 0;

thread_local! {
    /// The address of the cell that this thread is inside of.
    static INSIDE: Cell<usize> = const { Cell::new(NOWHERE) };
    /// The addresses of further cells that it is inside of. There is rarely one.
    static DEEPER: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

impl<T> StateCell<T> {
    pub(crate) fn new(value: T) -> Self {
        let cell = Self::restored(value, 0, Millis::now());
        cell.changed.store(false, Ordering::Relaxed);
        cell
    }

    pub(crate) fn restored(value: T, iteration: u64, updated: Millis) -> Self {
        let value = Some(value);
        let inner = Inner {
            value,
            dirty: false,
            half_changed: false,
            iteration: Unaligned::new(iteration),
            updated: Unaligned::new(updated.get()),
        };
        Self { changed: AtomicBool::new(true), inner: Mutex::new(inner) }
    }

    pub(crate) fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        let _inside = self.enter();
        f(self.lock().value())
    }

    pub(crate) fn update<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let _inside = self.enter();
        let mut inner = self.lock();
        self.has_been_changed(&mut inner);
        inner.change(f)
    }

    /// As [`Self::update`], for a closure that says whether it has changed anything.
    pub(crate) fn update_if<R>(&self, f: impl FnOnce(&mut T) -> (R, bool)) -> (R, bool) {
        let _inside = self.enter();
        let mut inner = self.lock();
        let (result, changed) = inner.change(f);
        if changed {
            self.has_been_changed(&mut inner);
        }
        (result, changed)
    }

    /// A boundary has come: changes so far are one step.
    pub(crate) fn step(&self) {
        // Not while an HTTP handler is in the middle of a change: that belongs to the next step. A busy
        // lock is no reason to make the handler's task wait.
        match self.inner.try_lock() {
            Ok(mut inner) => inner.step(),
            Err(TryLockError::Poisoned(inner)) => inner.into_inner().step(),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    /// Looks at the state as a snapshot of this boundary; with its iteration and when it changed.
    ///
    /// `None` once a change has panicked: the state may be half changed.
    pub(crate) fn snapshot<R>(&self, f: impl FnOnce(&T, u64, Millis) -> R) -> Option<R> {
        let _inside = self.enter();
        let mut inner = self.lock();
        if inner.half_changed {
            return None;
        }
        inner.step();
        Some(f(inner.value(), inner.iteration.get(), inner.updated()))
    }

    /// Replaces the state by a client's copy, if the policy says so; returns whether it does.
    pub(crate) fn merge(
        &self,
        offer: &StateOffer,
        policy: &MergePolicy<T>,
        read: impl FnOnce(&[u8]) -> serde_json::Result<T>,
    ) -> bool {
        let _inside = self.enter();
        let mut inner = self.lock();
        inner.step();
        let versions = Versions::of(inner.iteration.get(), inner.updated(), offer);
        if !policy.wants(versions) {
            return false;
        }
        // Whole or not at all.
        let Ok(client) = read(offer.value.get().as_bytes()) else {
            return false;
        };
        let Some(merged) = policy.merge(versions, inner.value(), client) else {
            return false;
        };
        let before = inner.value.replace(merged);
        let iteration = inner.iteration.get().max(versions.client_iteration);
        inner.iteration = Unaligned::new(iteration);
        self.has_been_changed(&mut inner);
        drop(inner);
        drop_caught(before);
        true
    }

    fn has_been_changed(&self, inner: &mut Inner<T>) {
        inner.dirty = true;
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Returns whether the state is no longer as it was when the session was started. Never waits.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    pub(crate) fn iteration(&self) -> u64 {
        let _inside = self.enter();
        let inner = self.lock();
        inner.iteration.get() + u64::from(inner.dirty)
    }

    /// A panic in a read has changed nothing, and one in a change has ended the session; what is left can still be
    /// looked at.
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> Inside {
        let address = std::ptr::from_ref(self).addr();
        let outermost = INSIDE.get();
        if outermost == NOWHERE {
            INSIDE.set(address);
        } else {
            DEEPER.with_borrow_mut(|deeper| {
                assert!(
                    outermost != address && !deeper.contains(&address),
                    "read or update of a session inside another read or update of the same session: \
                     return what you need from the outer closure instead"
                );
                deeper.push(address);
            });
        }
        Inside { address }
    }
}

impl<T> Drop for StateCell<T> {
    /// The last handle may be dropped anywhere: a panic in the state's own `Drop` must not end what runs there.
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop_caught(inner.value.take());
    }
}

/// Drops the application's state.
fn drop_caught<T>(state: T) {
    if let Err(panic) = caught(|| drop(state)) {
        tracing::error!(%panic, "a session's state has panicked when it was dropped");
    }
}

/// This thread is inside a cell while this lives.
struct Inside {
    address: usize,
}

impl Drop for Inside {
    fn drop(&mut self) {
        if INSIDE.get() == self.address {
            INSIDE.set(NOWHERE);
            return;
        }
        // `try_with`: a thread may be on its way out.
        let _ = DEEPER.try_with(|deeper| {
            if let Ok(mut deeper) = deeper.try_borrow_mut() {
                deeper.retain(|&address| address != self.address);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn changes_are_counted_by_boundary() {
        let cell = StateCell::new(1);
        cell.step();
        assert_eq!(cell.iteration(), 0);
        cell.update(|n| *n += 1);
        cell.update(|n| *n += 1);
        assert_eq!(cell.iteration(), 1, "told as it will be");
        cell.step();
        cell.step();
        assert_eq!((cell.iteration(), cell.read(|n| *n)), (1, 3));
    }

    #[test]
    fn a_panic_in_a_read_changes_nothing() {
        let cell = StateCell::new(1);
        cell.update(|n| *n += 1);
        let read =
            || cell.read(|_| -> () { std::panic::resume_unwind(Box::new("index out of bounds")) });
        assert!(catch_unwind(AssertUnwindSafe(read)).is_err());
        assert_eq!(cell.snapshot(|n, iteration, _| (*n, iteration)), Some((2, 1)));
        cell.update(|n| *n += 1);
        cell.step();
        assert_eq!(cell.snapshot(|n, iteration, _| (*n, iteration)), Some((3, 2)));
    }

    #[test]
    fn what_a_panic_has_half_changed_is_never_stored() {
        let cell = StateCell::new(1);
        let change = || cell.update(|_| -> () { std::panic::resume_unwind(Box::new("half-way")) });
        assert!(catch_unwind(AssertUnwindSafe(change)).is_err());
        assert_eq!(cell.snapshot(|n, _, _| *n), None);
        assert_eq!(cell.read(|n| *n), 1, "what is left can still be looked at");
    }

    #[test]
    fn a_state_whose_drop_panics_goes_quietly() {
        struct Loud(bool);
        impl Drop for Loud {
            fn drop(&mut self) {
                if self.0 {
                    std::panic::resume_unwind(Box::new("drop"));
                }
            }
        }
        let cell = StateCell::new(Loud(true));
        drop(cell);
        // Also while the thread unwinds already.
        let unwinds = || {
            let _cell = StateCell::new(Loud(true));
            std::panic::resume_unwind(Box::new("first"));
        };
        assert!(catch_unwind(AssertUnwindSafe(unwinds)).is_err());
    }

    #[test]
    fn nesting_panics_with_a_reason_and_leaves_the_cell_usable() {
        let cell = StateCell::new(1);
        let other = StateCell::new(2);
        let error =
            catch_unwind(AssertUnwindSafe(|| cell.update(|_| cell.read(|n| *n)))).unwrap_err();
        let text = error.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| error.downcast_ref::<String>().cloned()).unwrap();
        assert!(text.contains("inside another"), "{text}");
        assert_eq!(
            cell.read(|n| *n + other.read(|n| *n)),
            3,
            "another session's state is no nesting"
        );
    }

    #[test]
    fn nesting_is_seen_however_deep() {
        let [a, b, c] = [1, 2, 3].map(StateCell::new);
        for again in [&a, &b, &c] {
            let nested = || a.read(|_| b.read(|_| c.read(|_| again.read(|n| *n))));
            assert!(catch_unwind(AssertUnwindSafe(nested)).is_err());
            assert_eq!(a.read(|x| b.read(|y| c.read(|z| x + y + z))), 6, "and leaves no trace");
        }
    }
}

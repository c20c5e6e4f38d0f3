//! The typed state under its own mutex.

use std::{
    cell::RefCell,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The state of one session, counting its changes.
#[derive(Debug)]
pub(crate) struct StateCell<T> {
    inner: Mutex<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    value: T,
    /// Changed since the last boundary.
    dirty: bool,
    /// How many boundaries have seen changes.
    iteration: u64,
}

thread_local! {
    /// The cells that this thread is inside of, by address.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

impl<T> StateCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { inner: Mutex::new(Inner { value, dirty: false, iteration: 0 }) }
    }

    pub(crate) fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        let _inside = self.enter();
        f(&self.lock().value)
    }

    pub(crate) fn update<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let _inside = self.enter();
        let mut inner = self.lock();
        inner.dirty = true;
        f(&mut inner.value)
    }

    /// As [`Self::update`], for a closure that says whether it has changed anything.
    pub(crate) fn update_if<R>(&self, f: impl FnOnce(&mut T) -> (R, bool)) -> R {
        let _inside = self.enter();
        let mut inner = self.lock();
        let (result, changed) = f(&mut inner.value);
        inner.dirty |= changed;
        result
    }

    /// A boundary has come: changes so far are one step.
    pub(crate) fn step(&self) {
        // Not while an HTTP handler is in the middle of a change: that belongs to the next step. A busy
        // lock is no reason to make the handler's task wait.
        if let Ok(mut inner) = self.inner.try_lock()
            && inner.dirty
        {
            inner.dirty = false;
            inner.iteration += 1;
        }
    }

    pub(crate) fn iteration(&self) -> u64 {
        let _inside = self.enter();
        let inner = self.lock();
        inner.iteration + u64::from(inner.dirty)
    }

    /// A panic in an update has ended the session; what is left can still be looked at.
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> Inside {
        let address = std::ptr::from_ref(self).addr();
        INSIDE.with_borrow_mut(|inside| {
            assert!(
                !inside.contains(&address),
                "read or update of a session inside another read or update of the same session: \
                 return what you need from the outer closure instead"
            );
            inside.push(address);
        });
        Inside { address }
    }
}

/// This thread is inside a cell while this lives.
struct Inside {
    address: usize,
}

impl Drop for Inside {
    fn drop(&mut self) {
        // `try_with`: a thread may be on its way out.
        let _ = INSIDE.try_with(|inside| {
            if let Ok(mut inside) = inside.try_borrow_mut() {
                inside.retain(|&address| address != self.address);
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
}

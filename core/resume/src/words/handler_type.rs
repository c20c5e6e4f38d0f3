//! Which handler a session runs.

use std::any::TypeId;

/// Which handler it is, while it lives: the type of its closure.
#[derive(Clone, Copy)]
pub(crate) struct HandlerType(fn() -> TypeId);

impl HandlerType {
    pub(crate) const fn of<F: 'static>() -> Self {
        Self(TypeId::of::<F>)
    }
}

impl PartialEq for HandlerType {
    fn eq(&self, other: &Self) -> bool {
        // Not the functions: one may have several addresses.
        (self.0)() == (other.0)()
    }
}

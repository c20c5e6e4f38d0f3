//! Which threads are handlers'.

use std::cell::Cell;

use crate::words::id::SessionId;

thread_local! {
    /// The session whose handler this thread runs.
    static HANDLES: Cell<Option<SessionId>> = const { Cell::new(None) };
}

/// This thread runs the handler of this session, and nothing else.
pub(crate) fn runs_handler_of(id: SessionId) {
    HANDLES.set(Some(id));
}

/// Whether this thread runs the handler of this session.
pub(super) fn is_handlers(id: SessionId) -> bool {
    HANDLES.get() == Some(id)
}

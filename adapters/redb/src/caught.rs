//! Panics of redb.

use std::panic::{self, AssertUnwindSafe};

/// Runs what reads pages: redb panics on some damage. That is this call's failure, and not the end of the thread.
pub(crate) fn caught<R>(call: impl FnOnce() -> R) -> Result<R, String> {
    panic::catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        format!("reading the file has panicked: {}", text.unwrap_or_default())
    })
}

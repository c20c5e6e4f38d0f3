//! What a drain tells.

use super::id::SessionId;

/// What a drain has done.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DrainReport {
    /// Sessions that stopped at a boundary, no message in hand; with a store, they are in it, whole.
    pub drained: usize,
    /// Sessions whose handler was still busy with a message at the deadline, or that the store did not take:
    /// with a store, their last boundary is in it.
    pub cut: Vec<SessionId>,
}

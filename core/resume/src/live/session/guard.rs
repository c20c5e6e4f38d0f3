use std::{fmt, sync::Arc, time::Duration};

use session_resume_proto::session::GuardId;

use super::shared::Shared;

/// Holds off a session's expiry while it lives.
///
/// Guards are counted per session; when the last one ends, the session's clock starts anew. A guard held
/// by a task that panics ends with it.
#[must_use = "expiry is held off only while the guard lives"]
pub struct ExpirationGuard {
    held: Option<(Arc<dyn Guarded>, GuardId)>,
}

impl ExpirationGuard {
    pub(super) fn new<T: Send + 'static>(session: Arc<Shared<T>>, id: Option<GuardId>) -> Self {
        Self { held: id.map(|id| (session as Arc<dyn Guarded>, id)) }
    }

    /// Makes the guard end by itself after `timeout`, from now. One that has ended so already stays ended.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        if let Some((session, id)) = &self.held {
            session.limit(*id, timeout);
        }
        self
    }

    /// Returns whether the guard holds anything: not if as many were held already as
    /// [`Limits::guards`](crate::Limits::guards) allows, which is logged, too.
    pub fn is_active(&self) -> bool {
        self.held.is_some()
    }
}

impl Drop for ExpirationGuard {
    fn drop(&mut self) {
        if let Some((session, id)) = self.held.take() {
            session.release(id);
        }
    }
}

impl fmt::Debug for ExpirationGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpirationGuard").field("active", &self.is_active()).finish_non_exhaustive()
    }
}

/// A session, its state type erased.
trait Guarded: Send + Sync {
    fn limit(&self, id: GuardId, timeout: Duration);
    fn release(&self, id: GuardId);
}

impl<T: Send + 'static> Guarded for Shared<T> {
    fn limit(&self, id: GuardId, timeout: Duration) {
        self.with_core(|core, now| core.machine.set_guard_deadline(id, now + timeout, now));
    }

    fn release(&self, id: GuardId) {
        self.with_core(|core, now| core.machine.release_guard(id, now));
    }
}

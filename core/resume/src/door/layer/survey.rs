//! What operators ask of all sessions: see the crate `session-resume-monitor`.

use std::sync::Arc;

use super::SessionResume;
use crate::{
    SessionId,
    live::{minutes::Minute, session::SessionInfo},
    words::{key::SessionKey, outcome::Outcome},
};

/// A session that has ended, and whose outcome is kept: see [`SessionResume::recent_ends`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndedSession {
    /// Its public id.
    pub id: SessionId,
    /// The key that it had. It shows as a short hash.
    pub key: SessionKey,
    /// How it ended.
    pub outcome: Arc<Outcome>,
}

impl<T: Send + 'static> SessionResume<T> {
    /// Describes every session in memory to `see`, in no particular order.
    ///
    /// One pass: it takes each session's lock once, for a moment, and nothing else is locked meanwhile. It lets other
    /// tasks run after each part of about a sixty-fourth, so that it may be called on a runtime's thread with a hundred
    /// thousand sessions. A session that starts or ends during the pass may be described or not.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only looks.
    ///
    /// # Example
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let resume = session_resume::SessionResume::new();
    /// let mut bytes = 0;
    /// resume.survey(|session| bytes += session.outbox_bytes).await;
    /// assert_eq!(bytes, 0);
    /// # }
    /// ```
    pub async fn survey(&self, mut see: impl FnMut(SessionInfo) + Send) {
        let registry = self.registry();
        for part in registry.parts() {
            let sessions = registry.part(part);
            let now = registry.clock().now();
            for session in sessions {
                see(session.info(now));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Returns the sessions that have ended last, the latest first, at most `count`.
    ///
    /// They are those whose outcomes are kept: [`Limits::outcomes`](crate::Limits::outcomes) of them, for
    /// [`with_outcome_lifetime`](Self::with_outcome_lifetime). With a store, a session is among them once its outcome is
    /// stored.
    pub fn recent_ends(&self, count: usize) -> Vec<EndedSession> {
        let registry = self.registry();
        let now = registry.clock().now();
        let outcomes = registry.outcomes();
        let newest = outcomes.newest(now).take(count).map(|(id, ended)| {
            let (key, outcome) = (ended.key.clone(), Arc::clone(&ended.outcome));
            EndedSession { id, key, outcome }
        });
        newest.collect()
    }

    /// Returns what has happened in each of the last 60 minutes at this layer, the present minute last.
    ///
    /// Minutes are counted from when the layer was put to use; while the process stands still they do not pass.
    pub fn last_minutes(&self) -> Vec<Minute> {
        let registry = self.registry();
        registry.last_minutes.all(registry.clock().now())
    }
}

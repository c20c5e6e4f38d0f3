//! The only clock read of this crate: paused tokio time drives everything.

use std::time::Duration;

use session_resume_proto::Moment;
use tokio::time::Instant;

/// Counts from its own start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::ZERO + self.start.elapsed()
    }

    /// Returns when `moment` comes; `None` if it is too far away to ever come.
    pub(crate) fn instant(&self, moment: Moment) -> Option<Instant> {
        // tokio keeps a deadline of a few hundred years at most; a deadline of a hundred is never reached.
        const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);
        let after = moment.since(Moment::ZERO);
        (after < NEVER).then(|| self.start + after)
    }
}

//! Whether the layer drains: it takes nothing new then.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::OnceCell, time::Instant};

use crate::words::{drain_report::DrainReport, random};

/// Clients are told to come back after this time at the earliest, and after twice this at the latest:
/// spread, so that a restarted server is not met by all of them at once.
const RETRY: Duration = Duration::from_millis(500);
/// How far the drain is.
#[derive(Debug, Default)]
pub(crate) struct Draining {
    pub(crate) begun: AtomicBool,
    /// Until when the drain waits for busy sessions; set before `begun` is.
    pub(crate) until: OnceLock<Instant>,
    pub(crate) report: OnceCell<DrainReport>,
}

impl Draining {
    pub(crate) fn is_draining(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Returns until when the drain waits for a session that is busy; `None` if the layer does not drain.
    #[cfg(feature = "http")]
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until.get().copied().filter(|_| self.is_draining())
    }

    /// Returns when a client is to come back: another delay for each client.
    #[expect(clippy::unused_self, reason = "only a draining layer has a reason to ask")]
    pub(crate) fn retry(&self) -> Duration {
        RETRY + RETRY * u32::from(random::bytes::<1>()[0]) / 256
    }
}

/// Returns when a client of a session that has moved is to come back, up to 250 ms: another delay for each client.
pub(crate) fn soon() -> Duration {
    Duration::from_millis(u64::from(u16::from_be_bytes(random::bytes())) % 250)
}

//! Points in time, as they are stored.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::wall::{self, later};

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Millis(u64);

impl Millis {
    pub(crate) fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) const fn new(since_1970: u64) -> Self {
        Self(since_1970)
    }

    pub(crate) fn now() -> Self {
        Self::of(wall::now())
    }

    pub(crate) const fn get(self) -> u64 {
        self.0
    }

    pub(crate) fn time(self) -> SystemTime {
        later(SystemTime::UNIX_EPOCH, Duration::from_millis(self.0))
    }

    /// Returns the time that is later by `by`.
    pub(crate) fn later(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Returns the time from `self` to `now`; zero if the clock went back.
    pub(crate) fn age(self, now: Self) -> Duration {
        Duration::from_millis(now.0.saturating_sub(self.0))
    }
}

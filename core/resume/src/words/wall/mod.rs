//! The wall clock: for what is stored. It may jump, so it is watched.

#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Returns the time to store and to compare with what is stored. The only look at the wall clock.
pub(crate) fn now() -> SystemTime {
    let now = SystemTime::now();
    #[cfg(test)]
    let now = now + shift::get();
    now
}

/// Returns the time that is later by `by`; at most a thousand years, for lifetimes that mean "never".
pub(crate) fn later(time: SystemTime, by: Duration) -> SystemTime {
    const LONGEST: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);
    time.checked_add(by.min(LONGEST)).unwrap_or(time)
}

/// Returns how long it is from now to `time`; zero if that has passed.
pub(crate) fn until(time: SystemTime) -> Duration {
    time.duration_since(now()).unwrap_or_default()
}

/// How the wall clock goes, compared with one that only ever moves forward.
#[derive(Debug)]
pub(crate) struct Trust {
    /// The start of the process, or the last jump.
    since: Instant,
    /// What both clocks said at the last look.
    seen: (SystemTime, Instant),
    /// There was a jump that has not been handled yet.
    jumped: bool,
}

impl Trust {
    /// Daylight saving does not change the clock, and steps of NTP are shorter.
    const TOLERATED: Duration = Duration::from_secs(60);

    pub(crate) fn new(wall: SystemTime, now: Instant) -> Self {
        Self { since: now, seen: (wall, now), jumped: false }
    }

    /// Looks at both clocks; if the wall's has jumped since the last look, trust starts anew.
    pub(crate) fn look(&mut self, wall: SystemTime, now: Instant) {
        let (last_wall, last) = std::mem::replace(&mut self.seen, (wall, now));
        let expected = last_wall + now.saturating_duration_since(last);
        let off = wall.duration_since(expected).or_else(|_| expected.duration_since(wall));
        if off.is_ok_and(|off| off > Self::TOLERATED) {
            self.since = now;
            self.jumped = true;
            tracing::warn!("the clock has jumped: nothing stored expires for a while");
        }
    }

    /// Whether there was no jump for `long`, nor the start of the process.
    pub(crate) fn has_lasted(&self, long: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= long
    }

    /// Returns whether there was a jump since this was last asked.
    pub(crate) fn take_jump(&mut self) -> bool {
        std::mem::take(&mut self.jumped)
    }
}

/// The wall clock that tests set, each in its own thread.
#[cfg(test)]
pub(crate) mod shift {
    use std::{cell::Cell, time::Duration};

    thread_local! {
        static SHIFT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// Returns by how much the wall clock shows more than the time.
    pub(crate) fn get() -> Duration {
        SHIFT.get()
    }

    /// Makes the wall clock show `shift` more than the time.
    pub(crate) fn set(shift: Duration) {
        SHIFT.set(shift);
    }
}

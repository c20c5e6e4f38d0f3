//! The one clock: monotonic, and standing still while the process does.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use session_resume_proto::Moment;
use tokio::time::Instant;

/// Tells the time that sessions live by.
///
/// If the process itself was stopped or stalled for longer than a check interval (a suspended machine, a
/// debugger, a starved runtime), that time does not count: no client could have come back during it. So all
/// deadlines, which are moments of this clock, move by as much. The sweeper ticks it.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: Instant,
    /// How often the sweeper ticks, in microseconds.
    interval: u64,
    /// The last tick, in microseconds since the origin; 0 while no sweeper ticks.
    last_tick: AtomicU64,
    /// How long the clock has stood still, in microseconds.
    stalled: AtomicU64,
    /// Held by the caller that takes a stall out.
    noticing: Mutex<()>,
}

impl Clock {
    /// A sweeper that comes a little late is normal: timers are coarse and the machine may be busy.
    const TOLERATED_LATENESS: u64 = 10_000;

    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            origin: Instant::now(),
            interval: micros(interval),
            last_tick: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
            noticing: Mutex::new(()),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        let raw = self.raw();
        let last = self.last_tick.load(Ordering::Acquire);
        if last != 0 && raw.saturating_sub(last) > self.longest_gap() {
            self.notice_stall(raw);
        }
        Moment::from_micros(raw.saturating_sub(self.stalled.load(Ordering::Acquire)))
    }

    /// The sweeper has come by: the process is running.
    pub(crate) fn tick(&self) {
        self.now();
        self.last_tick.store(self.raw().max(1), Ordering::Release);
    }

    /// Returns when the clock last ticked. To compare two of these tells, at nearly no cost, whether time has passed.
    pub(crate) fn last_tick(&self) -> u64 {
        self.last_tick.load(Ordering::Relaxed)
    }

    /// Says that no sweeper ticks from now on.
    pub(crate) fn stop_ticking(&self) {
        self.last_tick.store(0, Ordering::Release);
    }

    /// Returns when, on tokio's clock, `moment` will come if the process does not stall until then.
    pub(crate) fn instant(&self, moment: Moment) -> Instant {
        Instant::now() + moment.since(self.now())
    }

    fn raw(&self) -> u64 {
        micros(self.origin.elapsed()).saturating_add(1)
    }

    fn longest_gap(&self) -> u64 {
        self.interval + self.interval / 4 + Self::TOLERATED_LATENESS
    }

    /// The first caller that sees a stall takes it out. The other callers wait until it is out.
    #[cold]
    fn notice_stall(&self, raw: u64) {
        let _one = self.noticing.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.last_tick.load(Ordering::Acquire);
        let stall = raw.saturating_sub(last).saturating_sub(self.interval);
        if last == 0 || raw.saturating_sub(last) <= self.longest_gap() {
            return;
        }
        // The order matters: a thread that sees the new tick also sees that the stall is taken out.
        self.stalled.fetch_add(stall, Ordering::AcqRel);
        self.last_tick.store(raw, Ordering::Release);
        tracing::info!(stalled_ms = stall / 1000, "the process stood still, deadlines move");
    }
}

/// What has the clock, whatever else it has.
#[cfg(feature = "http")]
pub(crate) trait Time: Send + Sync {
    fn clock(&self) -> &Clock;
}

fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(duration.subsec_micros().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn it_tells_the_time_that_passes() {
        let clock = Clock::new(INTERVAL);
        let start = clock.now();
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(
            clock.now().since(start),
            Duration::from_secs(100),
            "nobody ticks: nothing is a stall"
        );
        assert_eq!(clock.instant(clock.now() + INTERVAL), Instant::now() + INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_does_not_count() {
        let clock = Clock::new(INTERVAL);
        clock.tick();
        let start = clock.now();
        tokio::time::advance(Duration::from_secs(1005)).await;
        assert_eq!(clock.now().since(start), INTERVAL);
        clock.tick();
        tokio::time::advance(INTERVAL).await;
        assert_eq!(clock.now().since(start), 2 * INTERVAL, "punctual ticks are no stall");
        clock.stop_ticking();
        tokio::time::advance(Duration::from_secs(1000)).await;
        assert_eq!(clock.now().since(start), 2 * INTERVAL + Duration::from_secs(1000));
    }
}

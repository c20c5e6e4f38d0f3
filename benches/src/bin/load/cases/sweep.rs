//! Sweeping a million sessions, on a clock that we move: the sweeper's CPU time, and the longest time without a
//! yield. No lock is held across a yield, so no lock is held for longer.

use std::time::Duration;

use session_resume_benches::{
    measure::{self, Samples},
    services::{self, Subject},
};

use crate::report::{Bound, Report};

const SESSIONS: usize = 1_000_000;
/// The default check interval.
const TICK: Duration = Duration::from_secs(5);
/// The default unused lifetime is 24 ticks.
const TICKS_BEFORE_USE: u32 = 20;
const TICKS_UNTIL_LOOKED_AT: u32 = 6;
const TICKS_UNTIL_EXPIRED: u32 = 22;

pub(super) fn run(report: &mut Report) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let layer = services::our_layer();
        let sessions = services::our_read_behind(&layer);
        let cookies = sessions.visits(SESSIONS);
        let mut idle = Vec::new();
        for _ in 0..TICKS_BEFORE_USE {
            idle.push(tick().await);
        }
        visit_all(&sessions, &cookies);
        let mut looked_at = Vec::new();
        for _ in 0..TICKS_UNTIL_LOOKED_AT {
            looked_at.push(tick().await);
        }
        assert_eq!(layer.sessions().len(), SESSIONS, "all have been used since");
        let mut expired = Vec::new();
        for _ in 0..TICKS_UNTIL_EXPIRED {
            expired.push(tick().await);
        }
        assert_eq!(layer.sessions().len(), 0, "none has been used since");
        tell(report, &idle, &looked_at, &expired);
    });
}

fn tell(report: &mut Report, idle: &[Sweep], looked_at: &[Sweep], expired: &[Sweep]) {
    let total = |sweeps: &[Sweep]| {
        let mut samples = Samples::default();
        sweeps.iter().for_each(|sweep| samples.push(sweep.total));
        samples
    };
    // All sessions are due in one tick: that one is the row.
    let longest = |sweeps: &[Sweep]| {
        let stretches = sweeps.iter().map(|sweep| sweep.stretch);
        stretches.fold(0.0_f64, f64::max)
    };
    let (idle_total, looked_total) = (total(idle), total(looked_at));
    report.target(
        "sweep of 1 M sessions, nothing due",
        "ms",
        idle_total.median(),
        Bound::AtMost(7.0),
    );
    let stretch = longest(idle).max(longest(looked_at));
    report.target("its longest stretch without a yield", "ms", stretch, Bound::AtMost(0.3));
    report.add("sweep of 1 M", "nothing due", "ms CPU", idle_total);
    report.add("sweep of 1 M", "each looked at, since used", "ms CPU", looked_total.max().into());
    report.add("sweep of 1 M", "all expire at once", "ms CPU", total(expired).max().into());
    report.add("longest stretch", "nothing due", "ms CPU", longest(idle).into());
    report.add(
        "longest stretch",
        "each looked at, since used",
        "ms CPU",
        longest(looked_at).into(),
    );
    report.add("longest stretch", "all expire at once", "ms CPU", longest(expired).into());
}

fn visit_all(sessions: &Subject, cookies: &[http::HeaderValue]) {
    let mut call = sessions.caller();
    for cookie in cookies {
        drop(call(services::request(Some(cookie))));
    }
}

/// One run of the sweeper, in milliseconds.
struct Sweep {
    total: f64,
    stretch: f64,
}

async fn tick() -> Sweep {
    /// After this many turns in a row that took no time, the other tasks have nothing left to do.
    const QUIET: usize = 100;
    /// The longest time of a turn in which nothing was done. The clock counts microseconds.
    const NOTHING: Duration = Duration::from_micros(5);
    let mut sweep = Sweep { total: 0.0, stretch: 0.0 };
    let mut quiet = 0;
    let mut before = measure::thread_cpu();
    tokio::time::advance(TICK).await;
    while quiet < QUIET {
        let after = measure::thread_cpu();
        let stretch = after.saturating_sub(before);
        quiet = if stretch <= NOTHING { quiet + 1 } else { 0 };
        if stretch > NOTHING {
            let milliseconds = stretch.as_secs_f64() * 1e3;
            sweep.total += milliseconds;
            sweep.stretch = sweep.stretch.max(milliseconds);
        }
        before = measure::thread_cpu();
        tokio::task::yield_now().await;
    }
    sweep
}

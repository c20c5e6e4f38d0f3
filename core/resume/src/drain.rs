//! Ends a layer's work so that a restart is just another drop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use session_resume_proto::wire::Close;
use tokio::{
    sync::OnceCell,
    time::{Instant, timeout_at},
};

use crate::{SessionId, random, registry::Registry, session::shared::Shared, snapshot::Urgency};

/// Clients are told to come back after this time at the earliest, and after twice this at the latest:
/// spread, so that a restarted server is not met by all of them at once.
const RETRY: Duration = Duration::from_millis(500);
/// So many transports are closed before others get a turn.
const BATCH: usize = 256;

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

/// How far the drain is.
#[derive(Debug, Default)]
pub(crate) struct DrainState {
    draining: AtomicBool,
    report: OnceCell<DrainReport>,
}

impl DrainState {
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Returns when a client shall come back; its own each time.
    #[expect(clippy::unused_self, reason = "only a draining layer has a reason to ask")]
    pub(crate) fn retry(&self) -> Duration {
        RETRY + RETRY * u32::from(random::bytes::<1>()[0]) / 256
    }
}

pub(crate) async fn drain<T: Send + 'static>(
    registry: &Arc<Registry<T>>,
    deadline: Duration,
) -> DrainReport {
    registry.drain.draining.store(true, Ordering::Relaxed);
    let registry = Arc::clone(registry);
    let state = Arc::clone(&registry);
    state
        .drain
        .report
        .get_or_init(|| async move {
            // In a task of its own: whoever drops the future does not stop a drain half-way.
            let draining = tokio::spawn(async move { run(&registry, deadline).await });
            draining.await.unwrap_or_default()
        })
        .await
        .clone()
}

async fn run<T: Send + 'static>(registry: &Arc<Registry<T>>, deadline: Duration) -> DrainReport {
    let until = Instant::now() + deadline;
    let mut report = DrainReport::default();
    let mut open = registry.all();
    for session in &open {
        session.with_core(|core, _| core.machine.freeze_at_boundary());
    }
    // A handler with a message in hand comes to its boundary when it asks for the next.
    while Instant::now() < until && open.iter().any(|session| !is_still(session)) {
        tokio::time::sleep(Duration::from_millis(5).min(until - Instant::now())).await;
    }
    // What is still is put into the store, whole, before anybody is told to come back.
    let saved = futures_util::future::join_all(open.iter().map(async |session| {
        if !is_still(session) {
            return false;
        }
        session.with_core(|core, _| core.changed(Urgency::Now));
        settled(session, until).await
            || matches!(timeout_at(until, session.wait_saved(Urgency::Now)).await, Ok(Ok(())))
    }))
    .await;
    let mut open: Vec<_> = open.drain(..).zip(saved).collect();
    for batch in open.chunks_mut(BATCH) {
        for (session, saved) in batch {
            if *saved {
                report.drained += 1;
            } else {
                report.cut.push(session.id());
            }
            session.with_core(|core, now| {
                core.machine.freeze();
                core.machine.close_transports(
                    &Close::RESTARTING,
                    || Some(registry.drain.retry()),
                    now,
                );
            });
            session.tell_end();
        }
        tokio::task::yield_now().await;
    }
    // The close frames must leave before the process does.
    while Instant::now() < until
        && open.iter().any(|(session, _)| session.lock().machine.has_sockets())
    {
        tokio::time::sleep(Duration::from_millis(5).min(until - Instant::now())).await;
    }
    tracing::info!(drained = report.drained, cut = report.cut.len(), "drained");
    report
}

/// Waits until the outcome of a session that has ended is on disk; `false` for one that goes on.
async fn settled<T>(session: &Shared<T>, until: Instant) -> bool {
    loop {
        {
            let core = session.lock();
            if core.removed || core.machine.is_end_committed() {
                return true;
            }
            if core.machine.ended().is_none() || Instant::now() >= until {
                return false;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether nothing happens in the session any more.
fn is_still<T>(session: &Shared<T>) -> bool {
    let core = session.lock();
    core.machine.is_frozen() || core.machine.ended().is_some()
}

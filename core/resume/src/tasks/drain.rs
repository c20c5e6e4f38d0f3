//! Ends a layer's work so that a restart is just another drop.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{
    FutureExt as _, StreamExt as _,
    stream::{self, FuturesUnordered},
};
use session_resume_proto::wire::Close;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{
    live::{
        registry::Registry,
        session::{Core, Shared},
    },
    words::{
        drain_report::DrainReport,
        durability::{SavedBy, Urgency},
    },
};

/// This many transports are closed before other tasks get a turn.
const BATCH: usize = 256;
/// The number of sessions that were cut off and are cleared at the same time.
const AT_ONCE: usize = 256;
/// How often sessions that are busy are looked at.
const ROUND: Duration = Duration::from_millis(5);

pub(crate) async fn drain<T: Send + 'static>(
    registry: &Arc<Registry<T>>,
    deadline: Duration,
) -> DrainReport {
    // First: code that sees the drain also sees how long it lasts.
    let _ = registry.drain.until.set(Instant::now() + deadline);
    registry.drain.begun.store(true, Ordering::Release);
    let registry = Arc::clone(registry);
    let state = Arc::clone(&registry);
    state
        .drain
        .report
        .get_or_init(|| async move {
            // In a task of its own: a caller that drops the future does not stop a drain half-way.
            let draining = tokio::spawn(async move { run(&registry, deadline).await });
            draining.await.unwrap_or_default()
        })
        .await
        .clone()
}

async fn run<T: Send + 'static>(registry: &Arc<Registry<T>>, deadline: Duration) -> DrainReport {
    let until = Instant::now() + deadline;
    #[cfg(feature = "http")]
    registry.pipes.drain();
    if let Some(node) = registry.node() {
        node.cut_relays(Instant::now() + deadline / 2);
    }
    let mut report = DrainReport::default();
    // An idle session is put into the store, whole, before its clients are told to come back. A busy session
    // holds up no other session.
    let mut saving = FuturesUnordered::new();
    let (mut told, mut cut) = (Vec::new(), Vec::new());
    let mut busy = registry.all();
    for session in &busy {
        session.step(Core::freeze_for_store);
        session.wake_watchers();
    }
    loop {
        let (still, rest) = busy.into_iter().partition::<Vec<_>, _>(|session| is_still(session));
        busy = rest;
        saving.extend(still.into_iter().map(|session| async move {
            let saved = save(&session, until).await;
            (session, saved)
        }));
        let now = Instant::now();
        if now >= until || (busy.is_empty() && saving.is_empty()) {
            break;
        }
        let round = until.min(now + ROUND);
        let mut closed = 0;
        while let Ok(Some((session, saved))) = timeout_at(round, saving.next()).await {
            close(registry, &session, saved, &mut report);
            if saved { &mut told } else { &mut cut }.push(session);
            closed += 1;
            if closed % BATCH == 0 {
                tokio::task::yield_now().await;
            }
        }
        sleep_until(round).await;
    }
    // What the store has taken by now counts.
    while let Some(Some((session, saved))) = saving.next().now_or_never() {
        close(registry, &session, saved, &mut report);
        if saved { &mut told } else { &mut cut }.push(session);
    }
    drop(saving);
    // Those that have been restored meanwhile.
    let seen = told.iter().chain(&cut).chain(&busy);
    let late = others(registry.all(), seen, |session| Arc::as_ptr(session).addr());
    busy.extend(late);
    for session in &busy {
        close(registry, session, false, &mut report);
    }
    cut.append(&mut busy);
    // The close frames must leave before the process ends. What the store is told of the sessions that are cut off
    // may get there in this time, but the drain does not wait longer for it.
    let until = until.max(Instant::now() + ROUND * 20);
    let clearing: Vec<_> = cut.iter().map(|session| clear(registry, session, until)).collect();
    let clearing = stream::iter(clearing).buffer_unordered(AT_ONCE).collect::<()>();
    let _ = timeout_at(until, clearing).await;
    told.append(&mut cut);
    while Instant::now() < until && told.iter().any(|session| session.lock().machine.has_sockets())
    {
        sleep_until(until.min(Instant::now() + ROUND)).await;
    }
    retire(registry).await;
    tracing::info!(drained = report.drained, cut = report.cut.len(), "drained");
    report
}

/// A node of several lets go of its lease: what is left of its sessions waits for no other node.
async fn retire<T: Send + 'static>(registry: &Registry<T>) {
    let Some(node) = registry.node() else {
        return;
    };
    let Some(incarnation) = node.retire() else {
        return;
    };
    let retired = node.config().store.retire(&registry.config().name, incarnation);
    match tokio::time::timeout(node.config().lease / 4, retired).await {
        Ok(Ok(())) => {}
        // Its lease ends by itself.
        Ok(Err(error)) => tracing::warn!(%error, "the node's lease was not ended"),
        Err(_) => tracing::warn!("the node's lease was not ended in time"),
    }
}

/// Returns those of `all` that are not among `seen`. Each is looked at once.
fn others<'a, S: 'a>(
    all: Vec<S>,
    seen: impl Iterator<Item = &'a S>,
    id: impl Fn(&S) -> usize,
) -> Vec<S> {
    let seen: HashSet<_> = seen.map(&id).collect();
    all.into_iter().filter(|session| !seen.contains(&id(session))).collect()
}

/// Puts a session that is still into the store; returns whether it is there.
async fn save<T: Send + 'static>(session: &Arc<Shared<T>>, until: Instant) -> bool {
    // The session has nothing that is worth a record.
    if session.is_blank() {
        return true;
    }
    session.step(|core| core.changed(Urgency::Now));
    loop {
        if settled(session, until).await {
            return true;
        }
        match timeout_at(until, session.wait_saved(Urgency::Now, SavedBy::Layer)).await {
            Ok(Ok(())) => return true,
            Err(_) => return false,
            // A store that has failed once may do better the next time: the saver tries again.
            Ok(Err(_)) if session.lock().life().has_left() => return false,
            Ok(Err(_)) => sleep_until(until.min(Instant::now() + ROUND)).await,
        }
    }
}

/// Counts a session, and tells its clients to come back.
fn close<T: Send + 'static>(
    registry: &Registry<T>,
    session: &Arc<Shared<T>>,
    saved: bool,
    report: &mut DrainReport,
) {
    if saved {
        report.drained += 1;
    } else {
        report.cut.push(session.id());
    }
    session.with_core(|core, now| {
        // The clients of a session that has ended are told its end instead.
        if !core.machine.is_end_committed() {
            core.machine.freeze();
            let retry = || Some(registry.drain.retry());
            core.machine.close_transports(&Close::RESTARTING, retry, now);
        }
    });
}

/// The record of a session that was cut off may name the message that was in hand. The end of the process is not that
/// message's doing.
async fn clear<T: Send + 'static>(
    registry: &Arc<Registry<T>>,
    session: &Arc<Shared<T>>,
    until: Instant,
) {
    // By now all of them stand still.
    if session.lock().machine.is_message_in_hand() {
        registry.forgive(session).await;
    } else if !settled(session, until).await {
        // The message is handled, and the snapshot that says so is on its way.
        let _ = session.wait_saved(Urgency::Now, SavedBy::Layer).await;
    }
}

/// Waits until the outcome of a session that has ended is on disk; `false` for one that goes on.
async fn settled<T>(session: &Shared<T>, until: Instant) -> bool {
    loop {
        {
            let core = session.lock();
            if core.life().has_left() || core.machine.is_end_committed() {
                return true;
            }
            if core.machine.ended().is_none() || Instant::now() >= until {
                return false;
            }
        }
        tokio::time::sleep(ROUND).await;
    }
}

/// Whether nothing happens in the session any more.
fn is_still<T>(session: &Shared<T>) -> bool {
    let core = session.lock();
    core.machine.is_frozen() || core.machine.ended().is_some()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn sessions_are_not_compared_with_each_other() {
        const MANY: usize = 10_000;
        let looks = Cell::new(0);
        let id = |session: &usize| {
            looks.set(looks.get() + 1);
            *session
        };
        let seen: Vec<_> = (0..MANY).collect();
        let late = others((0..MANY + 3).collect(), seen.iter(), id);
        assert_eq!(late, [MANY, MANY + 1, MANY + 2]);
        assert!(looks.get() <= 2 * MANY + 3, "{} looks", looks.get());
    }
}
